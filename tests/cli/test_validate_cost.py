"""What ``tune_bn validate`` says of time: measured here, learned from studies, or guessed; what this machine lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_validate import space_with
from tests.study.scripted_runner import scripted_study
from tune_bn.cli.cost import cost_of_a_run
from tune_bn.cli.validate import describe
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import describe_data
from tune_bn.trainers.door import door_of
from tune_bn.training.measure import Pace

SPACE = space_with(train={"epochs": 2, "batch_size": 39})
PATH = Path("tiny.yaml")


def forbidden(*_: object) -> None:
    raise AssertionError("nothing was to be measured")


def test_a_few_steps_are_timed_and_give_a_range(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = [Pace(0.001, 0.0001), Pace(0.002, 0.0002), Pace(0.0015, 0.0001)]
    monkeypatch.setattr("tune_bn.training.measure.measured", lambda *_: paces)
    cost = cost_of_a_run(door_of(SPACE), None, None)
    least = 2 * (41 * 0.001 + 40 * 0.0001) + 40 * 0.0001
    assert cost.low == pytest.approx(least)
    assert cost.high == pytest.approx(1.3 * (2 * (41 * 0.002 + 40 * 0.0002) + 40 * 0.0002))
    assert "(measured here)" in describe(SPACE, PATH, measure=None)


def test_a_real_measurement_is_of_the_size_of_a_run() -> None:
    cost = cost_of_a_run(door_of(SPACE), None, True)
    assert cost.source == "measured here"
    assert 0 < cost.low <= cost.high < 600


def test_what_takes_long_is_timed_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_bn.training.measure.measured", forbidden)
    monkeypatch.setattr("tune_bn.trainers.builtin_cost.run_seconds", lambda *_: 1e6)
    cost = cost_of_a_run(door_of(SPACE), None, None)
    assert (cost.low, cost.high) == (1e6 / 3, 3e6)
    assert cost.source == "a guess from 60 GFLOP/s per core; --measure times a few steps here"
    assert cost_of_a_run(door_of(SPACE), None, False).source == "a guess from 60 GFLOP/s per core"


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({}, True),
        ({"train": {"epochs": 8, "batch_size": 39, "lr": 0.01}}, True),
        ({"search": {"gamma": {"uniform": [0.1, 1]}, "c": {"log_uniform": [1, 10]}}}, True),
        ({"train": {"epochs": 2, "batch_size": 20}, "data": {"source": "digits", "train_size": 40}}, False),
        ({"model": {"arch": "resnet20"}}, False),
        ({"model": {"arch": "resnet8", "norm": "rbn"}}, False),
        ({"resources": {"cpu": 2}}, False),
    ],
)
def test_finished_studies_say_it_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], known: bool
) -> None:
    study, _ = scripted_study(tmp_path / "tiny-1", SPACE, lambda task, seed: 90.0)
    study.search()
    space = space_with(**({"train": {"epochs": 2, "batch_size": 39}} | change))
    if known:
        monkeypatch.setattr("tune_bn.training.measure.measured", forbidden)
    cost = cost_of_a_run(door_of(space), tmp_path, None if known else False)
    assert (cost.source == "as 18 runs of tiny-1 took") == known
    if known:
        # A scripted run takes a second for its two epochs.
        assert (cost.low, cost.high) == pytest.approx((space.train.epochs / 2,) * 2)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"gpu": 1}, "resources.gpu = 1 per trial, and it has 0 GPUs"),
        ({"gpu": 0.5}, "resources.gpu = 0.5 per trial, and it has 0 GPUs"),
        ({"cpu": 4096}, "resources.cpu = 4096 per trial, and "),
    ],
)
def test_what_this_machine_lacks_stands_in_the_first_line(
    monkeypatch: pytest.MonkeyPatch, resources: dict[str, float], words: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    first, *_, here, _ = describe(space_with(train={"batch_size": 39}, resources=resources), PATH).splitlines()
    assert f"but not for this machine: {words}" in first
    assert words in here
    assert "--address" in here


def test_data_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("cifar10", "cifar100"):
        (line,) = describe_data(DataConfig(source=name, root=str(tmp_path), train_size=100)).remarks
        assert line.startswith(f"{name} is not in {tmp_path} yet; a search downloads it first, from https://")
        assert line.endswith("which was not tried")


def test_what_was_not_tried_is_named() -> None:
    *_, last = describe(SPACE, PATH).splitlines()
    assert last == "not tried  the whole course of a run; whether Ray starts"
    server = space_with(train={"batch_size": 39}, tracking={"uri": "http://127.0.0.1:5999"})
    assert "whether the tracking server answers" in describe(server, PATH).splitlines()[-1]
