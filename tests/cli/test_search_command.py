"""The main job as a user types it: Ray, Optuna and MLflow on SQLite, all real, killed and interrupted from outside."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tests.warm import Warm
from tune_bn.records.log import RecordLog
from tune_bn.records.record import SELECT
from tune_bn.space.loading import load_space
from tune_bn.study.folder import StudyFolder

SPACE: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 3, "batch_size": 20},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}, "c": {"log_uniform": [1, 100]}},
    # One trial at a time and none stopped early: what is proposed then depends on nothing but the seed.
    "scheduler": {"name": "none"},
    "budget": {"trials": 6, "finalists": 2},
    "seeds": {"search": [101], "select": [201, 202], "confirm": [1, 2, 3, 4]},
    "resources": {"max_concurrent": 1},
}
RUNS = 6 + 2 * 2 + 2 * 4
COMMAND = [sys.executable, "-m", "tune_bn", "search", "--space", "tiny.yaml", "--study", "one"]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path


def start(workplace: Path, *options: str) -> Warm:
    return Warm([*COMMAND[3:], *options], cwd=workplace, process_group=True)


def wait_for_records(workplace: Path, count: int, process: Warm | subprocess.Popen[str]) -> None:
    path, deadline = workplace / "studies/one/records.jsonl", time.monotonic() + 300
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)


def essence(workplace: Path) -> dict[str, Any]:
    records = RecordLog(workplace / "studies/one/records.jsonl").read()
    assert len({record.key for record in records}) == len(records), "a run was recorded twice"
    return {record.key: (record.status, record.config, record.scores, record.epochs) for record in records}


def mlflow_runs(workplace: Path) -> list[Any]:
    client = MlflowClient(f"sqlite:///{workplace / 'studies/mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny"]
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def check_mlflow(workplace: Path) -> None:
    """One parent, one finished child per record, all with curves."""
    runs = mlflow_runs(workplace)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert [parent.info.status for parent in parents] == ["FINISHED"]
    assert Counter(child.info.run_name for child in children) == Counter(essence(workplace).keys())
    assert {child.info.status for child in children} == {"FINISHED"}
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parents[0].info.run_id}
    assert all("train_loss" in child.data.metrics for child in children)


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(workplace: Path) -> None:
    process = start(workplace)
    wait_for_records(workplace, 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    (line,) = [line for line in err.splitlines() if "To go on:" in line]
    before = essence(workplace)
    statuses = Counter(run.info.status for run in mlflow_runs(workplace))
    assert statuses["RUNNING"] == 0
    assert statuses["KILLED"] >= 1, statuses
    assert statuses["FINISHED"] == len(before)

    resume = line.partition("To go on: ")[2].split()
    assert resume[0] == "tune_bn"
    done = subprocess.run(
        [sys.executable, "-m", *resume], cwd=workplace, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    after = essence(workplace)
    assert len(after) == RUNS
    assert {key: after[key] for key in before} == before
    check_mlflow(workplace)


def test_a_search_begins_with_the_best_of_another_and_keeps_it(
    workplace: Path, synthetic_study: Callable[..., Any]
) -> None:
    other = synthetic_study()
    folder = other.write(workplace / "studies" / "digits-1")
    means: dict[int, list[float]] = {}
    for record in other.records:
        if record.stage == SELECT:
            means.setdefault(record.trial, []).append(record.scores["val_accuracy"])
    best = sorted(means, key=lambda trial: -sum(means[trial]))
    configs = {record.trial: record.config for record in other.records if record.stage == SELECT}
    expected = [configs[trial] for trial in best if configs[trial]["gamma"] >= 0.05 and 1 <= configs[trial]["c"] <= 100]
    assert expected

    process = start(workplace, "--warm-start", "digits-1", "--set", "seeds.confirm={from: 16, to: 19}")
    wait_for_records(workplace, 1, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    (line,) = [line for line in err.splitlines() if line.startswith("warm start: ")]
    assert "start point" in line
    assert " from digits-1, best first (" in line

    # The study keeps what it was given: a resume needs no other study.
    shutil.rmtree(folder)
    study = StudyFolder(workplace / "studies/one")
    study.check_resume(load_space(study.space_file))
    assert study.space().sampler.points[: len(expected)] == expected
    assert study.records.read()[0].config == expected[0]
