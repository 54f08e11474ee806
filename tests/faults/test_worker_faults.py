"""Workers that are killed under a study on Ray: it ends with the records of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import (
    ONE_STAGE,
    SPACE,
    TRAINERS,
    FaultTable,
    References,
    Workplace,
    named,
    run_in_process,
    trained_by,
)
from tests.faults.on_ray import Watcher, check, connected, disturbed, on_ray
from tune_bn.protocols.runner import Point, Task
from tune_bn.protocols.trainer import Trainer
from tune_bn.records.record import CONFIRM, SEARCH
from tune_bn.runners.checkpoint import LATEST, PREVIOUS
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.script.folder import CHECKPOINT, MARK
from tune_bn.study.folder import StudyFolder

pytestmark = pytest.mark.usefixtures("one_thread")


def trainers() -> list[int]:
    """Processes below this one that train."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    mine = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= grown
    return sorted(pid for pid in mine if b"Trainable" in names.get(pid, b""))


def saves(mark: Path) -> list[Path]:
    """The checkpoints that the mark of a script's run names, newest first."""
    try:
        return [mark.parent / save["name"] for save in json.loads(mark.read_text())["saves"]]
    except (OSError, ValueError):
        return []


def saved_twice(study: Path, task: Task) -> bool:
    """Whether a task has a checkpoint, and one before."""
    if not (study / "runs").exists():
        return (study / "checkpoints" / task.key / PREVIOUS).exists()
    return all(len(saves(study / "runs" / task.run_key(seed) / CHECKPOINT / MARK)) > 1 for seed in task.seeds)


def newest(study: Path) -> list[Path]:
    """The newest checkpoint of each run."""
    if not (study / "runs").exists():
        return list(study.glob(f"checkpoints/*/{LATEST}"))
    return [one for mark in study.glob(f"runs/*/{CHECKPOINT}/{MARK}") for one in saves(mark)[:1]]


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("fault", ["worker killed", "checkpoint truncated", "checkpoints blocked"])
def test_the_process_of_a_trial_is_killed(
    tmp_path: Path,
    counting: Path,
    one_machine: None,
    undisturbed: References,
    fault_table: FaultTable,
    fault: str,
    trainer: str,
) -> None:
    # A search and a confirmation, or the confirmation alone.
    stages, whole = ((SEARCH, CONFIRM), SPACE) if fault == "worker killed" else ((CONFIRM,), ONE_STAGE)
    content = trained_by(trainer, whole)
    place = Workplace(tmp_path, content, pace=0.02, counting=counting)
    warnings: list[str] = []

    def kill(watcher: Watcher, task: Task) -> None:
        ready = fault == "checkpoints blocked" or saved_twice(place.study, task)
        # Once in each stage.
        if ready and task.stage == dict(enumerate(stages)).get(watcher.times) and (pids := trainers()):
            watcher.times += 1
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            if fault == "checkpoint truncated":
                for latest in newest(place.study):
                    os.truncate(latest, latest.stat().st_size // 2)

    options = connected(place, init={"num_cpus": 2})
    watcher = Watcher(kill)

    def make(trained: Trainer, folder: StudyFolder) -> RayTuneRunner:
        if fault == "checkpoints blocked":
            folder.checkpoints.touch()
            (counting / "blocked").touch()
        return on_ray(trained, options, folder, warn=warnings.append)

    run_in_process(place, make, watcher)
    (counting / "blocked").unlink(missing_ok=True)
    names = {"worker killed": "SIGKILL of workers", "checkpoint truncated": "SIGKILL, latest checkpoint truncated"}
    name = names.get(fault, "SIGKILL, checkpoints cannot be written")
    row = fault_table.add(named(name, trainer), watcher.times, undisturbed(content), place.outcome())
    # Two workers lose what they did since their last checkpoint, or all of it.
    check(place, row, watcher, most_extra=100 * 2 * len(stages) / (11 if whole is SPACE else 8))
    assert watcher.times == len(stages)
    # A run may be given to the other of two workers that were killed at once, and then to a third.
    assert {1, 2} <= {record.attempts for record in place.records()} <= {1, 2, 3}
    assert set(watcher.killed) <= {record.key for record in place.records() if record.attempts > 1}
    if fault == "checkpoints blocked":
        (warning,) = warnings
        assert warning.startswith(f"checkpoints cannot be written to {place.study / 'checkpoints'} (")
    else:
        assert warnings == []


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_warm_worker_is_killed_between_two_runs(
    tmp_path: Path, counting: Path, one_machine: None, undisturbed: References, fault_table: FaultTable, trainer: str
) -> None:
    content = trained_by(trainer, ONE_STAGE)
    place = Workplace(tmp_path, content, pace=0, counting=counting)
    options = connected(place, max_concurrent=1, max_failures=1, init={"num_cpus": 1})

    class Killer(Watcher):
        def run_recorded(self, record: Any, curve: Sequence[Point]) -> None:
            super().run_recorded(record, curve)
            if len(self.recorded) in (1, 6):
                (pid,) = trainers()
                os.kill(pid, signal.SIGKILL)
                self.times += 1

    watcher = Killer()
    disturbed(place, options, watcher)
    name = named("SIGKILL of a warm worker", trainer)
    row = fault_table.add(name, watcher.times, undisturbed(content), place.outcome())
    check(place, row, watcher, most_extra=0)
    assert watcher.times == 2
