"""One study in an MLflow store: a parent run, and below it one run per run of the study.

Importing this module loads MLflow, so :mod:`tune_bn.observers.mlflow.observer` does it late and on its own thread.
Every method may raise whatever the store, the database driver or the network raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
)
from mlflow.utils.time import get_current_time_millis

from tune_bn.observers.mlflow.compat import SHARED_VIEW, TRAINING_EXPERIMENT
from tune_bn.observers.mlflow.models import TrainedModel, log_model
from tune_bn.observers.mlflow.uri import is_server
from tune_bn.observers.mlflow.view import datasets, description, parameters, view_state
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.record import COMPLETED, DIVERGED, FAILED, PRUNED, Record

_MODEL = "model_id"
"""Tag of a run whose network is a logged model."""
RUNNING, FINISHED, KILLED = "RUNNING", "FINISHED", "KILLED"
RUN_STATUS = {COMPLETED: FINISHED, PRUNED: FINISHED, DIVERGED: FINISHED, FAILED: "FAILED"}

# MLflow takes 1000 items a call, tags and params included.
_METRICS_PER_CALL = 850
_PARAMS_PER_CALL = 100
_RUNS_PER_PAGE = 1000
_NOT_ACCEPTED = re.compile(r"[^A-Za-z0-9_.\-/ ]|\.{2,}|/{2,}|(?<=/)\.(?=/)")
_LONGEST_NAME = 250
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}


@dataclass
class _StoredRun:
    run_id: str
    status: str
    epochs: int
    """Epochs whose points are in the store; kept in the tag ``epochs``."""
    record_sha256: str
    """Hash of the record that this run shows; empty as long as the run is not finished."""
    has_params: bool
    has_model: bool = False


class MlflowStore:
    """The runs of one study in a store. Opening it finds what an earlier process left there."""

    def __init__(self, uri: str, info: StudyInfo, study_id: str, artifact_root: Path | None) -> None:
        self._client = MlflowClient(uri)
        self._info = info
        self._experiment_id = self._open_experiment(None if is_server(uri) else artifact_root)
        self._runs: dict[str, _StoredRun] = {}
        self._common_tags = {"study": info.name, "study_id": study_id, "space_sha256": info.space_sha256} | _source(
            info
        )
        self._parent_id = self._open_runs(study_id)
        self._describe(study_id)

    def _open_experiment(self, artifact_root: Path | None) -> str:
        name = self._info.space_name
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = None if artifact_root is None else artifact_root.resolve().as_uri()
            try:
                return str(
                    self._client.create_experiment(name, artifact_location=location, tags=dict([TRAINING_EXPERIMENT]))
                )
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                # Another study of the same space was quicker.
                experiment = self._client.get_experiment_by_name(name)
        elif experiment.lifecycle_stage == "deleted":
            # MLflow keeps the name of a deleted experiment, so a new one of that name cannot be made.
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _open_runs(self, study_id: str) -> str:
        """Find the runs of this study, and the id of their parent; a parent that is missing is made."""
        parent_id = None
        self._parent_params: set[str] = set()
        self._has_data = False
        self._has_own_words = False
        for run in self._search(f"tags.study_id = '{study_id}'"):
            tags, key = run.data.tags, run.data.tags.get("run_key")
            if key is None:
                parent_id = run.info.run_id
                self._parent_params = set(run.data.params)
                self._has_data = bool(run.inputs and run.inputs.dataset_inputs)
                # What somebody has written on the page stays.
                self._has_own_words = tags.get(MLFLOW_RUN_NOTE, "") not in ("", description(tags))
                if run.info.status != RUNNING:
                    self._client.update_run(parent_id, status=RUNNING)
            elif key in self._runs:
                # A creation whose answer was lost was sent again by the HTTP layer.
                self._client.delete_run(run.info.run_id)
            else:
                self._runs[key] = _StoredRun(
                    run_id=run.info.run_id,
                    status=run.info.status,
                    epochs=int(tags.get("epochs", 0)),
                    record_sha256=tags.get("record_sha256", ""),
                    has_params=bool(run.data.params),
                    has_model=_MODEL in tags,
                )
        if parent_id is None:
            tags = self._common_tags | {f"versions.{name}": text for name, text in self._info.versions.items()}
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=self._info.folder.name)
            parent_id = run.info.run_id
        return str(parent_id)

    def _describe(self, study_id: str) -> None:
        """What MLflow's own pages ask for: the fixed configuration, the data, and the columns of the study's table."""
        # A later version may have more keys; those that are there cannot be changed.
        fixed = parameters(self._info.fixed)
        lacking = [Param(name, text) for name, text in sorted(fixed.items()) if name not in self._parent_params]
        for start in range(0, len(lacking), _PARAMS_PER_CALL):
            self._client.log_batch(self._parent_id, params=lacking[start : start + _PARAMS_PER_CALL])
        if not self._has_data and (found := datasets(self._info)):
            inputs = []
            for arguments in found:
                tag = InputTag(MLFLOW_DATASET_CONTEXT, arguments.pop("context"))
                inputs.append(DatasetInput(Dataset(**arguments), [tag]))
            self._client.log_inputs(self._parent_id, inputs)
        shown = [self._metric_of(name) for name in (self._info.score.validation, self._info.score.test)]
        state = view_state(study_id, self._info.searched, shown, ascending=not self._info.score.higher_is_better)
        self._client.set_experiment_tag(self._experiment_id, SHARED_VIEW + study_id, state)

    def _search(self, condition: str) -> Iterable[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], condition, max_results=_RUNS_PER_PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def shows(self, record: Record) -> bool:
        """True where the store holds this very record, finished."""
        run = self._runs.get(record.key)
        return run is not None and run.record_sha256 == record.sha256 and run.status == RUN_STATUS[record.status]

    def foreign(self, own: Collection[str]) -> bool:
        """Whether a run of this study shows a record that is none of these: that of a copy which went on elsewhere."""
        return any(run.record_sha256 and run.record_sha256 not in own for run in self._runs.values())

    def running(self) -> set[str]:
        """Keys of the runs that the store shows as running."""
        return {key for key, run in self._runs.items() if run.status == RUNNING}

    def start_run(self, task: Task, seed: int, started: int) -> None:
        """Show the run of one seed as running, from ``started`` (ms); an interrupted or failed one goes on."""
        key = task.run_key(seed)
        run = self._runs.get(key)
        if run is None:
            self._create_run(key, _task_tags(task, seed), started)
        elif run.status != RUNNING:
            self._client.update_run(run.run_id, status=RUNNING)
            run.status, run.record_sha256 = RUNNING, ""

    def log_points(self, task: Task, seed: int, points: Sequence[tuple[Point, int]]) -> None:
        """Add points of the learning curve, each with its time (ms), to a started run.

        Points that the store has are skipped. After a gap, points wait for the record: it brings the whole curve.
        """
        run = self._runs[task.run_key(seed)]
        fresh = [(point, at) for point, at in points if point.step > run.epochs]
        if fresh and fresh[0][0].step == run.epochs + 1:
            self._log(run, _curve_metrics(fresh), task.overrides, {}, epochs=fresh[-1][0].step)

    def finish_run(self, record: Record, curve: Sequence[Point]) -> None:
        """Show a run as its record says, with its whole curve."""
        tags, (start, end) = _record_tags(record), _times(record)
        run = self._runs.get(record.key)
        if run is None:
            run, tags = self._create_run(record.key, tags, start), {}
        # No one saw when an epoch ended: spread them evenly. Equal times let the store drop a point that is sent twice.
        step = (end - start) / max(record.epochs, 1)
        points = [(point, start + round(step * point.step)) for point in curve if point.step > run.epochs]
        scores = self._scores(record)
        epochs = max([run.epochs, *(point.step for point, _ in points)])
        tags["record_sha256"] = record.sha256
        self._log(run, _curve_metrics(points) + scores, record.config, tags, epochs=epochs)
        self._terminate(run, RUN_STATUS[record.status], end)
        run.record_sha256 = record.sha256

    def log_system(self, key: str, samples: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Add samples of the machine to a run that was started: each with its time (ms) and its step."""
        if (run := self._runs.get(key)) is None:
            return
        metrics = [
            Metric(_accepted(name), value, at, step)
            for at, step, sample in samples
            for name, value in sample.items()
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self._client.log_batch(run.run_id, metrics=metrics[start : start + _METRICS_PER_CALL])

    def lacks_model(self, record: Record) -> bool:
        """Whether the store shows this record without a model."""
        return self.shows(record) and not self._runs[record.key].has_model

    def log_model(self, record: Record, model: TrainedModel) -> None:
        """Make a logged model of the network of a run that is shown, with the run's scores."""
        run = self._runs[record.key]
        tags = {name: text for name, text in _record_tags(record).items() if name not in ("reason", "attempts")}
        made = log_model(self._client, self._experiment_id, run.run_id, record, model, {**self._common_tags, **tags})
        # The run has them already, at this time, so that they stay single there.
        self._client.log_batch(run.run_id, metrics=self._scores(record, made))
        self._client.set_tag(run.run_id, _MODEL, made)
        run.has_model = True

    def _scores(self, record: Record, model_id: str | None = None) -> list[Metric]:
        _, end = _times(record)
        return [
            Metric(self._metric_of(name), value, end, 0, model_id=model_id)
            for name, value in sorted(record.scores.items())
        ]

    def _metric_of(self, score: str) -> str:
        """The metric of a score: ``best_val_accuracy``. It and the curve would otherwise share one, and the score would
        show up as a further step."""
        own = self._info.score
        return _accepted(f"{own.at.partition('(')[0]}_{score}" if score == own.validation else score)

    def kill_run(self, key: str) -> None:
        """Show a run that is not running any more, and has no record, as killed."""
        run = self._runs.get(key)
        if run is not None and run.status == RUNNING:
            self._terminate(run, KILLED, get_current_time_millis())

    def update_study(self, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Set tags and metrics of the parent run; those of a verdict are said on its page too."""
        if (words := description(tags)) and not self._has_own_words:
            tags = {**tags, MLFLOW_RUN_NOTE: words}
        now = get_current_time_millis()
        self._client.log_batch(
            self._parent_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items() if math.isfinite(value)],
            tags=[RunTag(name, text) for name, text in tags.items()],
        )

    def upload(self, path: Path) -> None:
        """Copy a file or folder of the study folder to the parent run, at the same relative path."""
        path, folder = path.resolve(), self._info.folder.resolve()
        inside = path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
        if path.is_dir():
            self._client.log_artifacts(self._parent_id, str(path), inside.as_posix())
        elif path.exists():
            below = None if inside.parent == Path() else inside.parent.as_posix()
            self._client.log_artifact(self._parent_id, str(path), below)

    @staticmethod
    def is_refusal(error: Exception) -> bool:
        """True where the store answered and refused what it was sent, False where it could not be asked."""
        return isinstance(error, MlflowException) and error.error_code in _REFUSALS

    def ping(self) -> None:
        """Raise where the store cannot be asked."""
        self._client.get_run(self._parent_id)

    def finish_study(self, status: str) -> None:
        """End the parent run."""
        self._client.set_terminated(self._parent_id, status)

    def _create_run(self, key: str, tags: Mapping[str, str], start: int) -> _StoredRun:
        tags = {**self._common_tags, **tags, "run_key": key, MLFLOW_PARENT_RUN_ID: self._parent_id}
        created = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=key)
        run = _StoredRun(created.info.run_id, RUNNING, epochs=0, record_sha256="", has_params=False)
        self._runs[key] = run
        return run

    def _log(
        self, run: _StoredRun, metrics: list[Any], config: Mapping[str, Any], tags: Mapping[str, str], *, epochs: int
    ) -> None:
        while len(metrics) > _METRICS_PER_CALL:
            self._client.log_batch(run.run_id, metrics=metrics[:_METRICS_PER_CALL])
            metrics = metrics[_METRICS_PER_CALL:]
        params = [] if run.has_params else [Param(name, str(value)) for name, value in sorted(config.items())]
        all_tags = {**tags, "epochs": str(epochs)}
        self._client.log_batch(
            run.run_id, metrics=metrics, params=params, tags=[RunTag(name, text) for name, text in all_tags.items()]
        )
        run.has_params, run.epochs = True, epochs

    def _terminate(self, run: _StoredRun, status: str, end: int) -> None:
        self._client.set_terminated(run.run_id, status, end)
        run.status = status


def _source(info: StudyInfo) -> dict[str, str]:
    source = {MLFLOW_SOURCE_NAME: "tune_bn"}
    return source if info.commit is None else source | {"commit": info.commit, MLFLOW_GIT_COMMIT: info.commit}


def _task_tags(task: Task, seed: int) -> dict[str, str]:
    return _run_tags(task.stage, task.arm, task.trial, seed, task.overrides)


def _record_tags(record: Record) -> dict[str, str]:
    tags = _run_tags(record.stage, record.arm, record.trial, record.seed, record.config) | {
        "status": record.status,
        "reason": record.reason,
        "attempts": str(record.attempts),
        "device": record.device,
        "space_sha256": record.space_sha256,
    }
    optional = {"plan_sha256": record.plan_sha256, "commit": record.commit}
    return tags | {name: text for name, text in optional.items() if text is not None}


def _run_tags(stage: str, arm: str, trial: int | None, seed: int, config: Mapping[str, Any]) -> dict[str, str]:
    tags = {"stage": stage, "arm": arm, "seed": str(seed)}
    if trial is not None:
        tags["trial"] = str(trial)
    return tags | {name: str(value) for name, value in config.items() if name.partition(".")[0] in ("gamma", "c")}


def _curve_metrics(points: Sequence[tuple[Point, int]]) -> list[Any]:
    """Metrics of a curve. A value that is not finite is left out: charts cannot draw it, and the status tag says it."""
    return [
        Metric(_accepted(name), float(value), at, point.step)
        for point, at in points
        for name, value in point.metrics.items()
        if math.isfinite(value)
    ]


def _accepted(name: str) -> str:
    """A metric's name with ``_`` for whatever MLflow does not take: one odd name would cost the whole curve."""
    return _NOT_ACCEPTED.sub("_", name)[:_LONGEST_NAME].strip("/ ") or "_"


def _times(record: Record) -> tuple[int, int]:
    """When a run began and ended, in milliseconds."""
    start = _to_milliseconds(record.started_at)
    return start, start + round(1000 * record.duration_seconds)


def _to_milliseconds(iso: str) -> int:
    moment = datetime.fromisoformat(iso)
    return round(1000 * (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
