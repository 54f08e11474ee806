"""The oracle of the load test of many users: a study of the plan as it would have been undisturbed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.load import many_users_network
from benchmarks.load.many_users_plan import LONG_SHAPE, Left, StudyPlan, faults_of, space_of, step_row
from benchmarks.load.mlflow_load import missing
from tune_bn.data.dataset import load_dataset
from tune_bn.front.wiring import sampler_of
from tune_bn.protocols.observer import Observer
from tune_bn.protocols.runner import Point
from tune_bn.records.record import Record
from tune_bn.runners.local import LocalRunner
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.versions import commit


class Nobody(Observer):
    """Follows a study and keeps silent."""

    def study_started(self, info: Any, records: Sequence[Record]) -> None: ...
    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None: ...
    def task_started(self, task: Any) -> None: ...
    def task_progress(self, task: Any, curves: Any) -> None: ...
    def task_killed(self, task: Any) -> None: ...
    def early_order_seen(self, line: str) -> None: ...
    def plan_locked(self, plan: Any) -> None: ...
    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None: ...
    def artifacts_changed(self, paths: Sequence[Path]) -> None: ...
    def study_finished(self, status: str, summary: Any) -> None: ...


def undisturbed(plan: StudyPlan, seeds: int | None = None) -> list[Record]:
    """The records of a study in this process, without Ray, without haste and without disturbance.

    Args:
        plan: of the study.
        seeds: of a long claim that was left before its end; None: all.
    """
    sys.path.append(str(Path(many_users_network.__file__).parent))
    os.environ[many_users_network.PACE] = "0"
    torch.set_num_threads(1)
    space = parse_space(space_of(plan, seeds), "space.yaml")
    dataset = load_dataset(space.data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = StudyFolder(Path(temporary) / plan.name).created(space)
        study = Study(
            folder,
            space,
            runner=LocalRunner(BuiltinTrainer(dataset)),
            make_sampler=lambda arm, outcomes: sampler_of(space, folder, arm, outcomes),
            observer=Nobody(),
            trainer=BuiltinTrainer(dataset, archs=space.archs),
            commit=commit(),
        )
        study.run()
        return list(folder.records.read())


def judged(left: Left, home: Path) -> dict[str, Any]:
    """The row of a study, with what is wrong with it."""
    plan = left.plan
    try:
        wrong = _wrong(left, home / "studies" / plan.name)
    # Whatever cannot be compared is a fault of this study, and the others are still to be looked at.
    except Exception as error:
        wrong = [f"cannot be compared: {type(error).__name__}: {error}"]
    return {
        "study": plan.words,
        "shape": plan.shape,
        "pace": plan.pace,
        "how": "job" if plan.as_job else "shell",
        "acts": [act.kind for act in plan.acts],
        "told": plan.told,
        "records": len(left.records),
        "steps": [step_row(step) for step in left.steps],
        "wrong": wrong,
    }


def _wrong(left: Left, folder: Path) -> list[str]:
    plan, last = left.plan, max((record.seed for record in left.records), default=0)
    # Of a long study that was left before its end, as many seeds as it came to.
    seeds = max(3, last - 1000) if plan.shape == LONG_SHAPE and not left.has_verdict else None
    wrong = faults_of(left, undisturbed(plan, seeds) if left.records else [])
    if left.has_verdict:
        wrong += [f"MLflow: {line}" for line in missing(f"sqlite:///{folder.parent / 'mlflow.db'}", folder)]
    return wrong
