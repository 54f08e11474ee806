"""Several observers as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.plan import Plan
from tune_bn.records.record import Record


class Observers:
    """An :class:`tune_bn.protocols.observer.Observer` that passes everything on, in order."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.study_started(info, records)

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.stage_started(stage, planned_runs, done_runs)

    def task_started(self, task: Task) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.task_started(task)

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.task_progress(task, curves)

    def task_killed(self, task: Task) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.task_killed(task)

    def early_order_seen(self, line: str) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.early_order_seen(line)

    def plan_locked(self, plan: Plan) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.plan_locked(plan)

    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.run_recorded(record, curve)

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.artifacts_changed(paths)

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        """See the protocol."""
        for observer in self.observers:
            observer.study_finished(status, summary)
