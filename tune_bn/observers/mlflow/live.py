"""Runs that are being trained, as far as the store has not been told of them. Loads no MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tune_bn.observers.mlflow.system import SystemMetrics
from tune_bn.protocols.runner import Point, Task

if TYPE_CHECKING:
    from tune_bn.observers.mlflow.store import MlflowStore

Sample = tuple[int, int, Mapping[str, float]]
"""Of the machine: the time (ms), the seconds since the run started, and the metrics."""


@dataclass
class LiveRun:
    """A run that is being trained, with what the store has not been told of it."""

    task: Task
    seed: int
    started: int
    points: list[tuple[Point, int]] = field(default_factory=list)
    killed: bool = False
    samples: list[Sample] = field(default_factory=list)


class Machine:
    """What the machine of this process does, for each run that is trained on it.

    Args:
        asked: whether anybody wants to know.
    """

    def __init__(self, asked: bool) -> None:
        self._asked = asked
        self._metrics: SystemMetrics | None = None

    def look(self, runs: Iterable[LiveRun], now: int) -> None:
        """A sample for each of these runs, as of ``now`` (ms)."""
        runs = list(runs)
        if not self._asked or not runs:
            return
        if self._metrics is None:
            self._metrics = SystemMetrics()
        sample = self._metrics.sample()
        for run in runs:
            if not run.samples or run.samples[-1][2] is not sample:
                run.samples.append((now, max(0, now - run.started) // 1000, sample))


def deliver_live(store: MlflowStore, key: str, run: LiveRun) -> None:
    """Show what is new of it."""
    store.start_run(run.task, run.seed, run.started)
    if run.points:
        store.log_points(run.task, run.seed, run.points)
    if run.samples:
        store.log_system(key, run.samples)
    if run.killed:
        store.kill_run(key)
