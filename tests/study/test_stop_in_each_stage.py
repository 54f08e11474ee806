"""Whatever asks for a stop, in whatever stage: the study stops there, says why, and goes on to the end that it had."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT, Follower
from tune_bn.errors import Interrupted
from tune_bn.front.wiring import sampler_of
from tune_bn.observers.fanout import Observers
from tune_bn.protocols.runner import Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.runners.local import LocalRunner
from tune_bn.space.loading import parse_space
from tune_bn.study import driver as driver_module
from tune_bn.study.driver import Driver, read_driver_state
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.testing.scripted import ScriptedTrainer

LIMITS = {"total_hours": 100.0, "cost": 100.0}
TRAINER = ScriptedTrainer(
    measured=lambda config, seed, step: {"val_accuracy": 50.0 + seed % 7 + step},
    tested=lambda config, seed: 60.0 + seed,
)
REASONS = {
    "stop": "tune_bn stop asked for it",
    "total_hours": "budget.total_hours = 100 is used up",
    "cost": "budget.cost = 100 is used up",
    "SIGTERM": "interrupted by SIGTERM",
}


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Stopping(Follower):
    """Lets something ask for a stop as soon as a stage has a task at work."""

    def __init__(self, stage: str, cause: str, folder: StudyFolder, stop: StopRequest, clock: Clock) -> None:
        super().__init__()
        self.stage, self.cause, self.folder, self.stop, self.clock = stage, cause, folder, stop, clock

    def task_started(self, task: Task) -> None:
        if task.stage != self.stage:
            return
        if self.cause == "stop":
            self.folder.stop_file.touch()
        elif self.cause == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            # A device costs an hour what it costs: both limits are a matter of time.
            self.clock.now += 101 * 3600
        deadline = time.monotonic() + 60
        while not self.stop.asked and time.monotonic() < deadline:
            time.sleep(0.005)


def carried_out(path: Path, stage: str = "", cause: str = "") -> tuple[Study, str]:
    """A study, begun or gone on with; and why it was interrupted."""
    budget = {**CONTENT["budget"], **({cause: LIMITS[cause]} if cause in LIMITS else {})}
    content: dict[str, Any] = CONTENT | {"budget": budget, "resources": {"price_per_device_hour": 1.0}}
    space, folder, stop, clock = parse_space(content, "tiny"), StudyFolder(path), StopRequest(), Clock()
    folder.resumed(space) if folder.exists else folder.created(space)
    driver = Driver(folder, space.budget, space.resources, stop=stop, clock=clock)
    study = Study(
        folder,
        space,
        runner=LocalRunner(TRAINER, checkpoints=folder.checkpoints, stop=stop),
        make_sampler=lambda arm, outcomes: sampler_of(space, folder, arm, outcomes),
        observer=Observers(driver, Stopping(stage, cause, folder, stop, clock)),
        trainer=TRAINER,
    )
    try:
        with folder.locked(), stop.on_signals(), driver.watching():
            study.run()
    except Interrupted as error:
        return study, str(error)
    return study, ""


def outcome(study: Study) -> dict[str, Any]:
    """What a stop must not change."""
    records = list(study.folder.records)
    assert len({record.key for record in records}) == len(records), "none twice"
    return {record.key: (record.status, record.config, record.scores) for record in records}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "LISTEN_SECONDS", 0.01)
    monkeypatch.setattr(driver_module, "_LOOK_SECONDS", 0.01)


@pytest.mark.parametrize("cause", REASONS)
@pytest.mark.parametrize("stage", ["search", "select", "confirm"])
def test_a_study_stops_where_it_is_and_goes_on(stage: str, cause: str, tmp_path: Path) -> None:
    whole, reason = carried_out(tmp_path / "whole")
    assert reason == ""
    stopped, reason = carried_out(tmp_path / "stopped", stage, cause)
    state = read_driver_state(stopped.folder)
    assert state is not None
    assert reason.startswith(REASONS[cause]), reason
    assert (state.state, state.reason, state.stage) == ("stopped", reason, stage)
    assert not stopped.folder.stop_file.exists()
    assert not stopped.folder.is_locked
    some = outcome(stopped)
    assert some.items() < outcome(whole).items()
    assert {record.stage for record in stopped.folder.records} <= {"search", "select", "confirm"}
    again, reason = carried_out(tmp_path / "stopped")
    assert reason == ""
    assert outcome(again) == outcome(whole)
    state = read_driver_state(again.folder)
    assert state is not None
    assert (state.state, state.reason) == ("finished", "")
