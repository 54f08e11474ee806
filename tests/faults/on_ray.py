"""A study on a Ray of the test's own, of which something is broken: who watches it, and where it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.faults.harness import (
    SPACE,
    FaultRow,
    Workplace,
    run_in_process,
    survivors,
)
from tests.study.local_studies import Follower
from tune_bn.method.user_network import source_trees
from tune_bn.protocols.runner import Point, Task
from tune_bn.protocols.trainer import Trainer
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.study.folder import StudyFolder

EPOCHS = SPACE["train"]["epochs"]


class Watcher(Follower):
    """Knows what runs, and may break something whenever a task has made progress."""

    def __init__(self, disturb: Callable[[Watcher, Task], None] | None = None) -> None:
        super().__init__()
        self.disturb = disturb
        self.running: set[str] = set()
        self.killed: list[str] = []
        self.started: list[tuple[str, frozenset[str]]] = []
        """Each start, with what ran then."""
        self.epochs: dict[str, int] = {}
        """How far each running task has come."""
        self.times = 0
        """Faults injected."""

    def task_started(self, task: Task) -> None:
        self.running.add(task.key)
        self.epochs[task.key] = 0
        self.started.append((task.key, frozenset(self.running)))

    @property
    def two_began(self) -> bool:
        """Whether two trials run that are seen to train and have most of their way before them, wherever they are."""
        return len(self.running) == 2 and all(1 <= self.epochs[key] <= EPOCHS // 3 for key in self.running)

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        reached = [points[-1].step for points in curves.values() if points]
        self.epochs[task.key] = max([self.epochs[task.key], *reached])
        if self.disturb is not None:
            self.disturb(self, task)

    def task_killed(self, task: Task) -> None:
        self.running.discard(task.key)
        self.killed.append(task.key)

    def run_recorded(self, record: Any, curve: Sequence[Point]) -> None:
        super().run_recorded(record, curve)
        self.running.discard(record.key)


def connected(place: Workplace, **options: Any) -> RayOptions:
    model = place.content.get("model")
    code = () if model is None else source_trees(model["arch"])
    made = RayOptions(**{"max_concurrent": 2, "checkpoint_seconds": 0.2, "code": code, **options})
    connect(made)
    return made


def disturbed(
    place: Workplace, options: RayOptions, watcher: Watcher, warn: Callable[[str], None] | None = None
) -> None:
    """The study, through all its stages."""
    run_in_process(place, lambda trainer, folder: on_ray(trainer, options, folder, warn=warn), watcher)


def on_ray(trainer: Trainer, options: RayOptions, folder: StudyFolder, **given: Any) -> RayTuneRunner:
    """As a study has it: with a folder for its checkpoints, and one for each run."""
    return RayTuneRunner(trainer, options, folder.checkpoints, runs=folder.runs, **given)


def check(place: Workplace, row: FaultRow, watcher: Watcher, *, most_extra: float) -> None:
    assert survivors(place.study) == []
    assert row.times == watcher.times > 0, f"nothing was broken: {watcher.started}"
    assert (row.lost, row.duplicates) == (0, 0)
    assert 0 <= row.extra_work_percent <= most_extra
