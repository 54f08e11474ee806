"""driver.json: what a driver counts, what it keeps over drivers, and what makes it stop."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tune_bn.cli.common import resume_line
from tune_bn.errors import ClusterLost, Interrupted, RecordError, StudyError
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.records.curves import Point
from tune_bn.records.files import write_json
from tune_bn.records.record import SEARCH, SELECT
from tune_bn.records.score import MIN, Score
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.driver import (
    BROKEN,
    FINISHED,
    LOST,
    STOPPED,
    TO_GO_ON_VARIABLE,
    WORKING,
    Driver,
    DriverState,
    checked_driver_state,
    read_driver_state,
)
from tune_bn.study.folder import StudyFolder


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def space_with(**sections: Any) -> Space:
    return parse_space({"name": "x", "search": {"gamma": {"log_uniform": [0.1, 1]}}, **sections}, "x")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "one").created(space_with())


def driver_of(folder: StudyFolder, clock: Clock, stop: StopRequest | None = None, **sections: Any) -> Driver:
    space = space_with(**sections)
    return Driver(folder, space.budget, space.resources, stop=stop or StopRequest(), clock=clock)


def task_of(trial: int, seeds: tuple[int, ...] = (101, 102)) -> Task:
    return Task(SEARCH, "candidate", trial, {}, space_with().run_config({}), seeds)


def test_device_time_is_that_for_which_tasks_hold_devices_over_all_drivers(
    folder: StudyFolder, synthetic_study: Callable[..., Any]
) -> None:
    record = next(r for r in synthetic_study().records if r.stage == SEARCH)
    clock = Clock()
    first = driver_of(folder, clock, resources={"gpu": 0.5})
    with suppress(KeyboardInterrupt), first.watching():
        first.stage_started(SEARCH, 10, 2)
        clock.now += 5
        one, other = task_of(record.trial, (record.seed,)), task_of(99)
        first.task_started(one)
        first.task_started(other)
        clock.now += 10
        first.run_recorded(record, ())
        clock.now += 10
        assert (first.state.running, first.state.done, first.state.planned) == (1, 3, 10)
        first.task_killed(other)
        clock.now += 100
        first.stage_started(SELECT, 4, 0)
        clock.now += 7
        raise KeyboardInterrupt
    state = read_driver_state(folder)
    assert state is not None
    assert state.device_seconds == pytest.approx(0.5 * (10 + 10 + 10))
    assert (state.seconds, state.search_seconds, state.state) == (132, 125, STOPPED)

    second = driver_of(folder, clock)
    with second.watching():
        second.stage_started(SEARCH, 10, 3)
        clock.now += 8
    state = read_driver_state(folder)
    assert state is not None
    assert (state.seconds, state.search_seconds, state.state) == (140, 133, FINISHED)


def test_a_loss_that_is_not_finite_any_more_ends_the_course_that_is_told(folder: StudyFolder) -> None:
    driver, task = driver_of(folder, Clock()), task_of(0)
    info = StudyInfo("one", "x", folder.path, "0" * 64, None, {}, score=Score("val_loss", "test_loss", MIN))
    with driver.watching():
        driver.study_started(info, ())
        driver.task_started(task)
        losses = {101: [2.0, 1.0, 0.5], 102: [3.0, math.nan]}
        found = {seed: [Point(n, {"val_loss": v}) for n, v in enumerate(own, 1)] for seed, own in losses.items()}
        driver.task_progress(task, found)
        # A report that brings nothing new takes nothing away.
        driver.task_progress(task, {101: (), 102: ()})
        (live,) = driver._live()
    assert live["scores"] == [2.5]


@pytest.mark.parametrize(
    ("error", "state"),
    [(KeyboardInterrupt, STOPPED), (Interrupted, STOPPED), (ClusterLost, LOST), (StudyError, BROKEN)],
)
def test_how_a_driver_ended_is_told(folder: StudyFolder, error: type[Exception], state: str) -> None:
    driver = driver_of(folder, Clock())
    with suppress(error), driver.watching():
        assert read_driver_state(folder).state == WORKING  # type: ignore[union-attr]
        raise error("so")
    assert read_driver_state(folder).state == state  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("limits", "resources", "hours"),
    [({"total_hours": 2}, {}, 2), ({"cost": 3}, {"price_per_device_hour": 0.5, "gpu": 2}, 3)],
)
def test_a_limit_stops_the_study_once_it_is_reached(
    folder: StudyFolder, limits: dict[str, Any], resources: dict[str, Any], hours: float
) -> None:
    clock = Clock()
    driver = driver_of(folder, clock, budget=limits, resources=resources)
    driver.task_started(task_of(1))
    clock.now += 3600 * hours - 1
    assert driver.reason_to_stop() == ""
    clock.now += 1
    ((key, value),) = limits.items()
    assert driver.reason_to_stop().startswith(f"budget.{key} = {value} is used up")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


@pytest.mark.long
def test_who_asks_for_a_stop_gets_it_from_this_driver_alone(folder: StudyFolder) -> None:
    folder.stop_file.touch()
    folder.forget_stop()
    stop = StopRequest()
    with suppress(Interrupted), driver_of(folder, Clock(), stop).watching():
        assert not stop.asked, "a request to the driver before"
        with folder.locked():
            folder.request_stop()
            folder.forget_stop()
        wait_for(lambda: stop.asked)
        raise Interrupted("so")
    assert not folder.stop_file.exists()
    state = read_driver_state(folder)
    assert state is not None
    assert (state.state, state.reason) == (STOPPED, "tune_bn stop asked for it")


def test_a_driver_that_begins_sees_a_request_and_a_limit_before_anything_is_trained(folder: StudyFolder) -> None:
    stop = StopRequest()
    folder.request_stop(expected=True)
    with driver_of(folder, Clock(), stop).watching():
        assert stop.reason == "tune_bn stop asked for it"
    write_json(folder.driver_file, asdict(DriverState(started_at="2026-01-01T00:00:00+00:00", seconds=3600.0)))
    stop = StopRequest()
    with pytest.raises(Interrupted), driver_of(folder, Clock(), stop, budget={"total_hours": 1}).watching():
        stop.check()
    state = read_driver_state(folder)
    assert state is not None
    assert (state.state, state.reason) == (STOPPED, "budget.total_hours = 1 is used up")


def test_a_request_stays_where_the_driver_cannot_write_that_it_saw_it(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody knows of it: whoever looks next takes the driver for one that was killed, and starts another."""

    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with suppress(Interrupted), driver_of(folder, Clock(), stop := StopRequest()).watching():
        monkeypatch.setattr("tune_bn.study.driver.write_json", full)
        folder.request_stop(expected=True)
        wait_for(lambda: stop.asked)
        raise Interrupted("so")
    state = read_driver_state(folder)
    assert state is not None
    assert (state.state, state.reason) == (WORKING, ""), "it could not say so"
    assert folder.stop_file.exists()


@pytest.mark.long
@pytest.mark.parametrize("end", [None, ClusterLost, StudyError])
def test_one_that_is_killed_while_it_stops_was_told_to_stop(folder: StudyFolder, end: type[Exception] | None) -> None:
    stop = StopRequest()

    def told() -> bool:
        state = read_driver_state(folder)
        return state is not None and state.state == WORKING and state.reason == "interrupted by SIGTERM" and state.ended

    with suppress(ClusterLost, StudyError), driver_of(folder, Clock(), stop).watching():
        before = read_driver_state(folder)
        assert before is not None
        assert not before.ended
        stop.ask("interrupted by SIGTERM")
        wait_for(told)
        if end is not None:
            raise end("so")
    state = read_driver_state(folder)
    assert state is not None
    # Without an error it came to its end.
    assert (state.state, state.reason) == ((FINISHED, "") if end is None else (STOPPED, "interrupted by SIGTERM"))


def test_nobody_can_be_asked_to_stop_where_no_driver_works(folder: StudyFolder) -> None:
    with pytest.raises(StudyError, match="no driver works on"):
        folder.request_stop()
    assert not folder.stop_file.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"host": 3}', "\ud800"])
def test_a_spoilt_file_says_nothing(folder: StudyFolder, content: str) -> None:
    folder.driver_file.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert read_driver_state(folder) is None


def test_a_value_of_another_type_says_nothing(folder: StudyFolder) -> None:
    with driver_of(folder, Clock()).watching():
        pass
    content = json.loads(folder.driver_file.read_text())
    folder.driver_file.write_text(json.dumps(content | {"seconds": "many"}))
    assert read_driver_state(folder) is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("{}", "host: got 'nothing'; accepted: exactly host, pid, .*"),
        ('{"host": 3}', "host: got 3; accepted: str"),
        ('{"host": "a", "pid": 1}', "started_at: got 'nothing'; accepted: exactly host, pid, .*"),
        ('{"seconds": "many"}', "seconds: got 'many'; accepted: int or float"),
        ("[]", "content: got \\[\\]; accepted: an object"),
        ("", r"no state of a driver \(.*\); accepted: the file as it was written"),
    ],
)
def test_a_spoilt_file_is_told_of_with_its_key_and_value(folder: StudyFolder, content: str, line: str) -> None:
    folder.driver_file.write_text(content)
    with pytest.raises(RecordError, match=rf"driver\.json: {line}$"):
        checked_driver_state(folder)


def test_of_no_driver_nothing_is_told(folder: StudyFolder) -> None:
    assert checked_driver_state(folder) is None


def test_a_cost_limit_needs_a_price() -> None:
    with pytest.raises(Exception, match=r"budget\.cost: got 3.*price_per_device_hour"):
        space_with(budget={"cost": 3})


@pytest.mark.parametrize("address", ["10.0.0.1:6379", ""])
def test_the_command_that_goes_on_names_the_cluster_that_the_driver_was_given(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.delenv(TO_GO_ON_VARIABLE, raising=False)
    space = space_with()
    with Driver(folder, space.budget, space.resources, stop=StopRequest(), address=address).watching():
        pass
    words = resume_line(folder.path, None).split()
    assert words[-1] == "--resume"
    assert ("--address" in words) == bool(address)
    assert not address or words[words.index("--address") + 1] == address
