"""Many short runs at once against one MLflow server on PostgreSQL: is every record and every point of a curve there?

    python -m benchmarks.load.mlflow_load [--runs 64] [--processes 4] [--epochs 20]

Starts the services of a head in a folder of its own, lets ``--runs`` studies of one run each log at the same time
through the observers that real studies have, and compares their folders with what the server holds. Needs PostgreSQL.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from benchmarks.load.made_up import COMMIT, VERSIONS
from benchmarks.measure import hardware, hardware_words
from benchmarks.results import RESULTS, markdown, save, stamp
from tune_bn.method.config import ModelConfig
from tune_bn.observers.mlflow.observer import MlflowObserver
from tune_bn.observers.mlflow.store import RUN_STATUS
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Task
from tune_bn.records.curves import CurveLog
from tune_bn.records.identity import identity_of
from tune_bn.records.log import RecordLog
from tune_bn.records.record import COMPLETED, SEARCH, Record
from tune_bn.service.head import ADMINISTRATOR, Head, uri_of
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.points import epoch_point

SPACE, SHA256 = "load", "5" * 64
METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
EPOCH_SECONDS = 0.1


def missing(uri: str, folder: Path) -> list[str]:
    """What an MLflow server does not show exactly once and right of a study's records and curves, in words."""
    client = MlflowClient(uri)
    study_id = identity_of(folder).study_id
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.study_id = '{study_id}'", max_results=5000)
    children = [run for run in runs if "run_key" in run.data.tags]
    counts = Counter(run.data.tags["run_key"] for run in children)
    shown = {run.data.tags["run_key"]: run for run in children}
    records = {record.key: record for record in RecordLog(folder / "records.jsonl").read()}
    curves = CurveLog(folder / "curves.jsonl").read()

    wrong = [] if len(runs) - len(children) == 1 else [f"{folder.name}: {len(runs) - len(children)} parents"]
    wrong += [f"{key}: shown {counts[key]} times" for key in records if counts[key] != 1]
    wrong += [f"{key}: {run.info.status}, and no record" for key, run in shown.items() if key not in records]
    for key in records.keys() & shown.keys():
        record, run = records[key], shown[key]
        if run.info.status != RUN_STATUS[record.status] or run.data.tags.get("record_sha256") != record.sha256:
            wrong.append(f"{key}: {run.info.status}, recorded as {record.status}")
        expected = [point.step for point in curves.get(key, ())]
        for metric in METRICS:
            steps = sorted(point.step for point in client.get_metric_history(run.info.run_id, metric))
            if steps != expected:
                wrong.append(f"{key}: {metric} has steps {steps[:3]}…, {len(steps)} instead of {len(expected)}")
    return wrong


@contextmanager
def own_head(folder: Path) -> Iterator[str]:
    """The services of a head in a folder, with this process logged in: their URI."""
    head = Head(folder / "head")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folder / "home"
    home.mkdir()
    head.start(home, print, port=port)
    os.environ["MLFLOW_TRACKING_USERNAME"] = ADMINISTRATOR
    os.environ["MLFLOW_TRACKING_PASSWORD"] = head.password_file.read_text(encoding="utf-8")
    try:
        yield uri_of(head.settings())
    finally:
        head.stop()


def follow_studies(given: tuple[str, Path, range, int]) -> list[str]:
    """Let so many made-up studies of one run each train and log at once; returns what their observers warned of."""
    uri, folder, numbers, epochs = given
    warnings: list[str] = []
    studies = [(number, folder / f"study-{number}") for number in numbers]
    observers = {}
    for number, path in studies:
        path.mkdir()
        observers[number] = MlflowObserver(uri, artifact_root=None, warn=warnings.append)
        observers[number].study_started(StudyInfo(path.name, SPACE, path, SHA256, COMMIT, VERSIONS), [])
        observers[number].task_started(_task(number, epochs))
    points = [epoch_point(n, 2.3 / n, 100 - 90 / n, 2.4 / n, 97 - 80 / n, 0.1 / n) for n in range(1, epochs + 1)]
    for point in points:
        time.sleep(EPOCH_SECONDS)
        for number, observer in observers.items():
            observer.task_progress(_task(number, epochs), {1: [point]})
    for number, path in studies:
        record = _record(path.name, _task(number, epochs))
        CurveLog(path / "curves.jsonl").append(record.key, points)
        observers[number].run_recorded(RecordLog(path / "records.jsonl").append(record), points)
    with ThreadPoolExecutor(len(observers)) as pool:
        list(pool.map(lambda observer: observer.study_finished("FINISHED", {}), observers.values()))
    return warnings


def load(uri: str, folder: Path, runs: int, processes: int, epochs: int) -> tuple[float, list[str]]:
    """Seconds that it took, and what went wrong."""
    started = time.monotonic()
    parts = [(uri, folder, range(first, runs, processes), epochs) for first in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        wrong = [line for warnings in pool.map(follow_studies, parts) for line in warnings]
    seconds = time.monotonic() - started
    for number in range(runs):
        wrong += missing(uri, folder / f"study-{number}")
    return seconds, wrong


def _task(number: int, epochs: int) -> Task:
    overrides = {"gamma": 0.2, "c": 100.0}
    config = RunConfig(model=ModelConfig(gamma=0.2), train=TrainConfig(c=100, epochs=epochs))
    return Task(SEARCH, "candidate", number, overrides, config, (1,))


def _record(study: str, task: Task) -> Record:
    fields: dict[str, Any] = {
        "epochs": task.config.train.epochs,
        "epochs_planned": task.config.train.epochs,
        "scores": {"val_accuracy": 93.0, "best_epoch": 3.0},
        "started_at": "2026-01-01T00:00:00+00:00",
        "duration_seconds": 2.0,
    }
    return Record(
        study=study,
        stage=task.stage,
        arm=task.arm,
        trial=task.trial,
        seed=task.seeds[0],
        config=task.overrides,
        status=COMPLETED,
        reason="made up",
        attempts=1,
        device="cpu",
        versions=VERSIONS,
        commit=COMMIT,
        space_sha256=SHA256,
        **fields,
    )


def main() -> None:
    """Run the load and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # where this user is root, PostgreSQL runs as another one
        with own_head(folder) as uri:
            seconds, wrong = load(uri, folder, options.runs, options.processes, options.epochs)
    for line in wrong:
        print(line)
    machine = hardware()
    row = {"runs": options.runs, "epochs": options.epochs, "seconds": round(seconds, 1), "wrong": len(wrong)}
    table = markdown([list(row), [str(value) for value in row.values()]])
    title = f"Runs that log to one MLflow server at the same time, on {hardware_words(machine)}"
    save("mlflow_load", [row], {**stamp(started), **machine}, {title: table}, options.results)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
