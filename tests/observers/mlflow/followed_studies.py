"""Study folders whose runs are made up, followed by real observers of MLflow."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tune_bn.observers.mlflow.observer import MlflowObserver
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.curves import CurveLog
from tune_bn.records.log import RecordLog
from tune_bn.records.record import SEARCH, Record
from tune_bn.training.config import ModelConfig, RunConfig, TrainConfig
from tune_bn.training.points import epoch_point


class Study:
    """A study folder whose runs are made up, followed by real observers."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri = folder, uri
        self.warnings: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.log = RecordLog(folder / "records.jsonl")
        self.info = StudyInfo(folder.name, "digits", folder, "a" * 64, "c0ffee", {"torch": "2.15"})

    def observer(self) -> MlflowObserver:
        observer = MlflowObserver(
            self.uri,
            artifact_root=self.folder.parent / "artifacts",
            warn=self.warnings.append,
            retry_seconds=0.2,
            flush_seconds=0.05,
        )
        observer.study_started(self.info, self.log.read())
        return observer

    def write(self, task: Task, curve: Sequence[Point], **changes: Any) -> Record:
        """What a study puts on disk for the first seed of a finished task."""
        CurveLog(self.folder / "curves.jsonl").append(task.key, curve)
        record = Record(
            study=self.info.name,
            stage=task.stage,
            arm=task.arm,
            trial=task.trial,
            seed=task.seeds[0],
            config=task.overrides,
            status="completed",
            reason="all epochs",
            epochs=len(curve),
            epochs_planned=3,
            scores={"val_accuracy": 90.0, "best_epoch": 2.0},
            attempts=1,
            started_at="2030-01-01T00:00:00+00:00",
            duration_seconds=6.0,
            device="cpu",
            versions={"torch": "2.15"},
            commit="c0ffee",
            space_sha256="a" * 64,
        )
        return self.log.append(dataclasses.replace(record, **changes))

    def finish(self, observer: MlflowObserver, task: Task, curve: Sequence[Point], **changes: Any) -> Record:
        record = self.write(task, curve, **changes)
        observer.run_recorded(record, curve)
        return record

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self) -> tuple[Any, dict[str, Any]]:
        """Parent and children of this study; fails where there are several of one name."""
        experiment = self.client.get_experiment_by_name("digits")
        assert experiment is not None
        found = [
            run
            for run in self.client.search_runs([experiment.experiment_id], max_results=1000)
            if run.data.tags["study"] == self.info.name
        ]
        (parent,) = (run for run in found if "mlflow.parentRunId" not in run.data.tags)
        children = {run.info.run_name: run for run in found if run is not parent}
        assert len(children) == len(found) - 1
        assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children.values())
        return parent, children

    def shows(self, key: str) -> bool:
        """True once the store has a run of this key with a first point of its curve."""
        experiment = self.client.get_experiment_by_name("digits")
        found = experiment and self.client.search_runs([experiment.experiment_id], f"tags.run_key = '{key}'")
        return bool(found) and all("lr" in run.data.metrics for run in found)

    def statuses(self) -> dict[str, str]:
        return {name: run.info.status for name, run in self.runs()[1].items()}

    def steps(self, name: str, metric: str = "val_loss") -> list[int]:
        run = self.runs()[1][name]
        return sorted(point.step for point in self.client.get_metric_history(run.info.run_id, metric))


def make_task(trial: int | None, *seeds: int, stage: str = SEARCH, gamma: float = 0.2, c: float = 100) -> Task:
    config = RunConfig(model=ModelConfig(gamma=gamma), train=TrainConfig(c=c, epochs=3))
    return Task(stage, "candidate", trial, {"gamma": gamma, "c": c}, config, seeds)


def make_curve(epochs: int, start: int = 1) -> tuple[Point, ...]:
    return tuple(
        epoch_point(epoch, 2.0 / epoch, 10.0 * epoch, 3.0 / epoch, 20.0 + epoch, 0.1 / epoch)
        for epoch in range(start, epochs + 1)
    )


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)
