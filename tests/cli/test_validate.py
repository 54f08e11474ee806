"""What ``tune_bn validate`` counts, and what it refuses before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tune_bn.cli.validate import describe, planned
from tune_bn.errors import DataError, MethodError, TrackingError
from tune_bn.front.surroundings import check_surroundings
from tune_bn.method.config import ModelConfig
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.training.config import RunConfig

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits", "train_size": 41, "val_size": 40, "test_size": 40},
    "train": {"epochs": 2, "batch_size": 20},
    "model": {"arch": "resnet8"},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "budget": {"trials": 9, "finalists": 2},
    "seeds": {"search": [101, 102], "select": [201, 202, 203], "confirm": [1, 2, 3, 4]},
}


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, **sections}, "tiny")


@pytest.mark.parametrize("train", [{"batch_size": 20}, {"batch_size": 40}])
def test_a_last_batch_of_one_image_is_refused(train: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"train\.batch_size: got \d+, which leaves a last batch of one of 41 images"):
        check_surroundings(space_with(train={"epochs": 2, **train}))


def test_a_searched_batch_size_is_checked_too() -> None:
    search = {**CONTENT["search"], "batch_size": {"choice": [21, 8]}}
    with pytest.raises(DataError, match="got 8, which"):
        check_surroundings(space_with(search=search))


def test_a_short_last_batch_is_kept() -> None:
    assert check_surroundings(space_with(train={"epochs": 2, "batch_size": 39})) == ()


D = {"uniform": [0.1, 1]}
ARMS = {"a": {"arch": "torchvision/vgg11", "gamma": 0.5}}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"model": {"arch": "torchvision/resnet19"}},
            r"model\.arch: got 'torchvision/resnet19'; accepted: .*did you mean",
        ),
        ({"model": {"arch": "torchvision/inception_v3"}}, r"model\.arch: .* on images of 1×8×8; accepted: "),
        (
            {"search": {"gamma": D, "arch": {"choice": ["resnet8", "torchvision/alexnet"]}}},
            "AlexNet without batch norm",
        ),
        ({"search": {}, "claim": {"arms": ARMS}}, r"model\.arch: got 'torchvision/vgg11': VGG without batch norm"),
        (
            {"model": {"arch": "torchvision/resnet18"}, "search": {"gamma": {"per_stage": [D, D]}}},
            r"model\.gamma\.per_stage: got \[0\.1, 0\.1\]; accepted: 4 values, one for each of the stages layer1,",
        ),
        (
            {
                "search": {
                    "gamma": D,
                    "gamma_branch_end": {"choice": [0.0]},
                    "arch": {"choice": ["torchvision/vgg11_bn"]},
                }
            },
            r"model\.gamma_branch_end: got 0\.0; accepted: None for a network where no residual branch ends",
        ),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(MethodError, match=words):
        check_surroundings(space_with(train={"batch_size": 39}, **sections))


def test_every_kind_of_network_that_may_come_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[ModelConfig] = []

    def check(config: RunConfig, *_: object, gpu: bool) -> list[str]:
        checked.append(config.model)
        return []

    monkeypatch.setattr("tune_bn.training.network_check.check_network", check)
    search = {"gamma": D, "arch": {"choice": ["resnet8", "resnet20"]}, "norm": {"choice": ["scaled", "rbn"]}}
    check_surroundings(space_with(train={"batch_size": 39}, search=search))
    kinds = [(model.arch, model.norm) for model in checked]
    assert sorted(kinds) == [(arch, norm) for arch in ("resnet20", "resnet8") for norm in ("rbn", "scaled")]


def test_a_tracking_store_that_mlflow_refuses_is_refused() -> None:
    with pytest.raises(TrackingError, match="gopher"):
        check_surroundings(space_with(train={"batch_size": 39}, tracking={"uri": "gopher://x"}))


def test_runs_are_counted_by_stage() -> None:
    plan = planned(space_with())
    assert (plan.trials, plan.search, plan.select, plan.confirm) == (9, 9 * 2, 2 * 3, 2 * 4)
    # With a nuisance key the baseline is searched and selected as well, on the same budget of trials, and the candidate
    # meets both tunings of it.
    plan = planned(space_with(search={**CONTENT["search"], "lr": {"choice": [0.1, 0.01]}}))
    assert (plan.trials, plan.search, plan.select, plan.confirm) == (9, 9 * 2, 4 * 3, 3 * 4)


def test_the_answer_names_the_space_and_its_cost() -> None:
    text = describe(space_with(train={"epochs": 2, "batch_size": 39}), Path("tiny.yaml"))
    assert text.startswith("tiny.yaml: valid")
    assert "41 train, 40 validation, 40 test" in text
    assert f"at most {18 + 6 + 8} runs" in text


@pytest.mark.parametrize(
    ("precision", "gpu", "capability", "slow"),
    [
        ("bf16", 0, "AVX2", True),
        ("bf16", 0, "AVX512", False),
        ("bf16", 1, "AVX2", False),
        ("fp32", 0, "AVX2", False),
    ],
)
def test_a_precision_that_the_cpu_must_emulate_is_remarked(
    precision: str, gpu: int, capability: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    space = space_with(train={"epochs": 2, "batch_size": 39, "precision": precision}, resources={"cpu": 1, "gpu": gpu})
    assert ("no bfloat16 arithmetic" in describe(space, Path("tiny.yaml"))) == slow


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "4 optimizer steps may be too few for γ = 0.05"),
        ({"search": {"gamma": {"log_uniform": [0.2, 1.0]}}}, ""),
        ({"train": {"epochs": 601, "batch_size": 20}}, ""),
        (
            {"search": {"gamma": {"uniform": [0.1, 1.0]}, "epochs": {"choice": [7, 900]}}},
            "14 optimizer steps may be too few for γ = 0.1",
        ),
        (
            {"search": {}, "claim": {"arms": {"ours": {"gamma": 0.1, "c": 100}}}},
            "4 optimizer steps may be too few for γ = 0.1",
        ),
    ],
)
def test_a_course_that_may_end_before_a_small_gamma_begins_is_told(change: dict[str, Any], told: str) -> None:
    text = describe(space_with(**{"data": {**CONTENT["data"], "train_size": 40}, **change}), Path("tiny.yaml"))
    assert told in text
    assert ("may be too few" in text) == bool(told)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"val_size": 36, "test_size": 120}, "36 validation images choose: one of them is 2.8 points\n"),
        ({"val_size": 120, "test_size": 30}, "30 test images decide: one of them is 3.3 points\n"),
        (
            {"val_size": 50, "test_size": 99},
            "50 validation images choose: one of them is 2 points; 99 test images decide",
        ),
        ({"val_size": 100, "test_size": 100}, ""),
    ],
)
def test_images_of_which_one_is_more_than_a_point_are_told(sizes: dict[str, Any], told: str) -> None:
    text = describe(space_with(data={"source": "digits", "train_size": 40, **sizes}), Path("tiny.yaml"))
    assert told in text
    assert ("one of them is" in text) == bool(told)
