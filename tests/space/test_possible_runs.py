"""Batch sizes that a search may propose, and what is said of those that leave a last batch of one image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tune_bn.errors import DataError, MethodError
from tune_bn.front.surroundings import check_surroundings
from tune_bn.space.loading import parse_space
from tune_bn.space.possible_runs import BatchSizes, possible_runs
from tune_bn.space.space import Space

OWN = """
from torch import nn

def head(in_channels, num_classes):
    body = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
    return nn.Sequential(*body, nn.BatchNorm1d(6), nn.Linear(6, num_classes))

class Halves(nn.Sequential):
    def forward(self, x):
        first, second = x.view(2, len(x) // 2, *x.shape[1:])
        return super().forward(x)

def halves(in_channels, num_classes):
    return Halves(*head(in_channels, num_classes))
"""
GAMMA = {"log_uniform": [0.05, 1.0]}
CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits", "train_size": 300, "val_size": 40, "test_size": 40},
    "train": {"epochs": 2, "batch_size": 20},
    "model": {"arch": "users_own_batches:head"},
    "search": {"gamma": GAMMA},
    "budget": {"trials": 9, "finalists": 2},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3, 4]},
}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_own_batches.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("users_own_batches", None)


def space_with(images: int = 300, **sections: Any) -> Space:
    return parse_space({**CONTENT, "data": {**CONTENT["data"], "train_size": images}, **sections}, "tiny")


def searching(batch_size: Any, images: int = 300, **sections: Any) -> Space:
    return space_with(images, **{"search": {"gamma": GAMMA, "batch_size": batch_size}, **sections})


def problem_of(space: Space) -> str:
    with pytest.raises((DataError, MethodError)) as caught:
        check_surroundings(space)
    assert "; accepted: " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_sizes_that_leave_one_are_found_as_by_trying_each() -> None:
    for images in (1, 2, 3, 4, 5, 41, 65, 97, 300, 301):
        for low, high in ((2, 3), (2, 400), (7, 60), (40, 41)):
            sizes = BatchSizes("search.batch_size", (low, high), ((low, high),))
            stated, inside = sizes.leaving_one(images)
            assert stated == [size for size in (low, high) if images % size == 1]
            expected = [size for size in range(low + 1, high) if images % size == 1]
            assert inside == (expected if images > 1 else [])


def test_a_range_of_any_width_is_looked_through_quickly() -> None:
    sizes = BatchSizes("search.batch_size", (2, 2**53), ((2, 2**53),))
    stated, inside = sizes.leaving_one(45_000)
    assert (stated, inside) == ([], [17, 2647, 44_999])


@pytest.mark.parametrize(
    "batch_size",
    [
        {"int": [22, 24]},
        {"log_int": [20, 30]},
        {"int": [2, 500]},
        {"cases": [{"lr": 0.1, "int": [22, 24]}, {"lr": 0.2, "choice": [30]}]},
    ],
)
def test_a_size_between_the_ends_is_refused_where_the_network_cannot_take_it(batch_size: dict[str, Any]) -> None:
    search = {"gamma": GAMMA, "lr": {"choice": [0.1, 0.2]}, "batch_size": batch_size}
    text = problem_of(space_with(search=search))
    assert text.startswith("search.batch_size: got ")
    assert "23" in text
    assert "leaves a last batch of one of 300 images" in text
    assert "users_own_batches:head raised ValueError: Expected more than 1 value per channel" in text


def test_the_remedy_that_is_named_is_one() -> None:
    assert "; or data.train_size=299" in problem_of(searching({"int": [22, 24]}))
    check_surroundings(searching({"int": [22, 24]}, images=299))
    assert "; or data.train_size=298" in problem_of(searching({"choice": [299, 149]}, images=300))
    check_surroundings(searching({"choice": [299, 149]}, images=298))


@pytest.mark.parametrize("batch_size", [{"int": [24, 45]}, {"log_int": [24, 90]}, {"choice": [22, 24]}])
def test_other_ranges_are_accepted(batch_size: dict[str, Any]) -> None:
    remarks: list[str] = []
    check_surroundings(searching(batch_size), remarks.append)
    assert remarks == []


def test_a_network_that_takes_one_image_is_remarked_on() -> None:
    remarks: list[str] = []
    check_surroundings(searching({"int": [22, 24]}, model={"arch": "resnet8"}), remarks.append)
    assert remarks == [
        "search.batch_size: 23 leaves a last batch of one of 300 images, which batch norm normalizes alone; or "
        "data.train_size=299"
    ]


@pytest.mark.parametrize(("arch", "refused"), [("users_own_batches:head", True), ("resnet8", False)])
def test_each_network_is_asked_about_its_own_sizes(arch: str, refused: bool) -> None:
    other = "resnet8" if refused else "users_own_batches:head"
    batch_size = {"cases": [{"arch": arch, "int": [22, 24]}, {"arch": other, "int": [30, 40]}]}
    space = space_with(search={"gamma": GAMMA, "arch": {"choice": [arch, other]}, "batch_size": batch_size})
    if refused:
        assert f"on which {arch} raised" in problem_of(space)
    else:
        check_surroundings(space)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_networks_that_ship_are_asked_too(arch: str, stem: str) -> None:
    """Eight pixels are one after three halvings, and more than one after two."""
    space = searching({"int": [22, 24]}, model={"arch": arch, "stem": stem})
    assert f"on which {arch} raised ValueError" in problem_of(space)


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ({"train": {"epochs": 2, "batch_size": 23}}, "train.batch_size: got 23"),
        ({"claim": {"baseline": {"batch_size": 13}}}, "claim.baseline.batch_size: got 13"),
        (
            {"search": {}, "claim": {"arms": {"a": {"gamma": 0.1}, "b": {"gamma": 0.1, "batch_size": 23}}}},
            "claim.arms.b.batch_size: got 23",
        ),
        ({"claim": {"across": {"a": {"lr": 0.1}, "b": {"batch_size": 299}}}}, "claim.across.b.batch_size: got 299"),
        ({"search": {"gamma": GAMMA, "batch_size": {"choice": [22, 23]}}}, "search.batch_size: got 23"),
        ({"search": {"gamma": GAMMA, "batch_size": {"int": [13, 20]}}}, "search.batch_size: got 13"),
        ({"search": {"gamma": GAMMA, "batch_size": {"log_int": [20, 23]}}}, "search.batch_size: got 23"),
    ],
)
def test_a_size_that_is_stated_anywhere_is_refused_by_its_place(sections: dict[str, Any], place: str) -> None:
    text = problem_of(space_with(**sections))
    assert text.startswith(f"{place}, which leaves a last batch of one of 300 images; accepted: a size that")


def test_last_batches_of_every_stated_size_are_tried() -> None:
    model = {"arch": "users_own_batches:halves"}
    check_surroundings(space_with(model=model))
    # 300 images in batches of 27 leave three.
    assert "on a batch of 27 images" in problem_of(space_with(model=model, train={"batch_size": 27}))
    text = problem_of(searching({"choice": [20, 42, 37]}, model=model))
    assert "on a batch of 37 images" in text
    # Validation and test images come in other numbers.
    data = {**CONTENT["data"], "test_size": 41}
    assert "in evaluation mode on a batch of 41 images" in problem_of(space_with(model=model, data=data))


def test_the_runs_that_may_come_are_arms_and_proposals_in_each_setting() -> None:
    search = {"gamma": GAMMA, "arch": {"choice": ["resnet8", "resnet20"]}}
    space = space_with(search=search, claim={"across": {"a": {"batch_size": 30}, "b": {"batch_size": 50}}})
    found = {(runs.config.model.arch, runs.config.train.batch_size, runs.sizes.place) for runs in possible_runs(space)}
    assert {(size, place) for arch, size, place in found if arch == "resnet20"} == {
        (20, "train.batch_size"),
        (30, "claim.across.a.batch_size"),
        (50, "claim.across.b.batch_size"),
    }


def test_where_it_is_searched_the_fixed_network_is_no_run_of_the_study() -> None:
    search = {"gamma": GAMMA, "arch": {"choice": ["resnet8", "resnet20"]}, "batch_size": {"choice": [22, 30]}}
    # 300 images in batches of 299 leave one.
    space = space_with(search=search, train={"batch_size": 299})
    assert {runs.config.model.arch for runs in possible_runs(space)} == {"resnet8", "resnet20"}
    check_surroundings(space)
    # But `train` and `inspect` take it.
    with pytest.raises(DataError, match=r"train\.batch_size: got 299, which leaves a last batch of one"):
        check_surroundings(space, single=space.run_config({}))
