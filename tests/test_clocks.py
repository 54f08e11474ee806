"""A wall clock that jumps, and a time zone that changes, move no limit, no duration and no interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tune_bn.records.times
from tests.study.local_studies import CONTENT, tiny_dataset
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.records.record import SEARCH
from tune_bn.runners.checkpoint import CheckpointStore, CheckpointWriter
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.driver import Driver
from tune_bn.study.feeds import SearchFeed
from tune_bn.study.folder import StudyFolder
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun

DAYS = 400


@pytest.fixture(params=[DAYS, -DAYS], ids=["forwards", "backwards"])
def jump(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Moves the wall clock by more than a year, and the time zone by half a day."""
    offset = timedelta()
    real_time, real_ns = time.time, time.time_ns

    class JumpingDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + offset

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real_time() + offset.total_seconds())
        patch.setattr(time, "time_ns", lambda: real_ns() + int(offset.total_seconds()) * 10**9)
        patch.setattr(tune_bn.records.times, "datetime", JumpingDatetime)

        def move() -> None:
            nonlocal offset
            offset += timedelta(days=request.param)
            patch.setenv("TZ", "XXX-12" if request.param > 0 else "XXX+12")
            time.tzset()

        yield move
    time.tzset()


def space_with(**budget: float) -> Space:
    return parse_space({**CONTENT, "budget": {**CONTENT["budget"], **budget}}, "tiny")


def ignored() -> None:
    """A driver's request to stop, where nothing runs."""


class Endless:
    """A sampler that has proposed nothing yet."""

    proposed = 0


def search_feed(hours: float, seconds_before: float) -> SearchFeed:
    samplers: Any = {"candidate": Endless()}
    recorder: Any = SimpleNamespace(
        folder=StudyFolder(Path("one")), records=[], trainer=ScriptedTrainer(), score=ScriptedTrainer().score
    )
    return SearchFeed(space_with(hours=hours), samplers, {"candidate": 4}, recorder, seconds_before=seconds_before)


@pytest.mark.parametrize(("seconds_before", "over"), [(0.0, False), (3000.0, False), (3601.0, True)])
def test_the_hours_of_a_search_are_no_matter_of_the_wall_clock(
    jump: Callable[[], None], seconds_before: float, over: bool
) -> None:
    feed = search_feed(1.0, seconds_before)
    jump()
    assert feed.exhausted is over
    assert search_feed(1.0, seconds_before).exhausted is over


def test_the_hours_of_a_search_end_by_the_clock_that_only_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = search_feed(1.0, 3000.0)
    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now + 590.0)
        early = feed.exhausted
        patch.setattr(time, "monotonic", lambda: now + 601.0)
        late = feed.exhausted
    assert (early, late) == (False, True)


def test_a_driver_counts_by_its_own_clock_alone(jump: Callable[[], None], tmp_path: Path) -> None:
    space = space_with(total_hours=1.0)
    now = 0.0
    driver = Driver(
        StudyFolder(tmp_path / "one").created(space),
        space.budget,
        space.resources,
        stop=StopRequest(),
        clock=lambda: now,
    )
    driver.stage_started(SEARCH, 4, 0)
    before = driver.state
    now += 10
    jump()
    state = driver.state
    assert (state.seconds, state.search_seconds) == (10, 10)
    assert state.updated_at[:4] != before.updated_at[:4], "the times that it tells are those of the wall clock"
    assert state.updated_at.endswith("+00:00")
    assert driver.reason_to_stop() == ""
    now += 3600
    assert "total_hours" in driver.reason_to_stop()


def test_a_driver_is_given_a_clock_that_only_grows(jump: Callable[[], None], tmp_path: Path) -> None:
    space = space_with(total_hours=1.0)
    driver = Driver(StudyFolder(tmp_path / "one").created(space), space.budget, space.resources, stop=StopRequest())
    jump()
    assert 0 <= driver.state.seconds < 3600
    assert driver.reason_to_stop() == ""


def test_the_duration_of_a_run_is_not_that_of_the_wall_clock(jump: Callable[[], None]) -> None:
    space = space_with()
    run = TrainingRun(space.run_config({}), DeviceData(tiny_dataset(), torch.device("cpu")), seed=1)
    train = run.engine.train_epoch

    def train_and_jump(*inputs: Any) -> Any:
        jump()
        return train(*inputs)

    run.engine.train_epoch = train_and_jump  # type: ignore[method-assign]
    run.train_epoch()
    assert 0 < run.seconds < 86_400
    assert 0 <= run.setup_seconds < 86_400
    assert datetime.fromisoformat(run.started_at).utcoffset() == UTC.utcoffset(None)


def test_checkpoints_are_due_by_the_clock_that_only_grows(jump: Callable[[], None], tmp_path: Path) -> None:
    for seconds, due in ((86_400.0, False), (0.0, True)):
        writer = CheckpointWriter(CheckpointStore(tmp_path / "task"), seconds)
        jump()
        assert writer.due is due
