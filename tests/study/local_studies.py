"""Studies in this process: real training, real Optuna, real records; only Ray is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.errors import Interrupted
from tune_bn.front.wiring import sampler_of
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.plan import Plan
from tune_bn.records.record import Record
from tune_bn.runners.local import LocalRunner
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.trainers.builtin import BuiltinTrainer, words_of
from tune_bn.training.versions import commit

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 2, "batch_size": 20},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}, "c": {"log_uniform": [1, 100]}},
    "sampler": {"points": "none"},
    "scheduler": {"name": "none"},
    "budget": {"trials": 4, "finalists": 2},
    "seeds": {"search": [101, 102], "select": [201, 202], "confirm": [1, 2, 3]},
}


class Follower:
    """An observer that can pull the plug after a number of records."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left = stop_after
        self.stages: list[tuple[str, int, int]] = []
        self.recorded: list[Record] = []

    def study_started(self, info: Any, records: Sequence[Record]) -> None: ...

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        self.stages.append((stage, planned_runs, done_runs))

    def task_started(self, task: Task) -> None: ...

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None: ...

    def task_killed(self, task: Task) -> None: ...

    def early_order_seen(self, line: str) -> None: ...

    def plan_locked(self, plan: Plan) -> None: ...

    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        self.recorded.append(record)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Interrupted("the power went out")

    def artifacts_changed(self, paths: Sequence[Path]) -> None: ...

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None: ...


def tiny_dataset() -> Dataset:
    torch.set_num_threads(1)
    return load_dataset(parse_space(CONTENT, "tiny").data)


def study_in(folder: Path, dataset: Dataset, space: Space, follower: Follower | None = None) -> Study:
    where = StudyFolder(folder)
    where.resumed(space) if where.exists else where.created(space)
    return Study(
        where,
        space,
        runner=LocalRunner(BuiltinTrainer(dataset), checkpoints=where.checkpoints),
        make_sampler=lambda arm, outcomes: sampler_of(space, where, arm, outcomes),
        observer=follower or Follower(),
        trainer=BuiltinTrainer(dataset, archs=space.archs, data_words=words_of(space.data)),
        commit=commit(),
    )


def essence(study: Study) -> dict[str, tuple[Any, ...]]:
    """What must not depend on how often the study was interrupted."""
    return {r.key: (r.status, r.config, r.scores, r.epochs, r.space_sha256) for r in study.folder.records}
