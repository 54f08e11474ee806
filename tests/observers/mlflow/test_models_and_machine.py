"""What is shown beside the runs where it is asked for: the machine that trains them, and their networks as models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch

from tests.observers.mlflow.followed_studies import Study, make_curve, make_task
from tune_bn.errors import SpecError, TrackingError
from tune_bn.observers.mlflow import system
from tune_bn.observers.mlflow.models import TrainedModel
from tune_bn.observers.mlflow.observer import MlflowObserver
from tune_bn.records.record import CONFIRM, SEARCH, Record
from tune_bn.space.loading import parse_space


@pytest.fixture
def study(tmp_path: Path, fresh_database: Path) -> Study:
    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    return Study(tmp_path / "first", f"sqlite:///{tmp_path}/mlflow.db")


def following(study: Study, **asked: Any) -> MlflowObserver:
    artifacts, warn = study.folder.parent / "artifacts", study.warnings.append
    observer = MlflowObserver(
        study.uri, artifact_root=artifacts, warn=warn, retry_seconds=0.2, flush_seconds=0.05, **asked
    )
    observer.study_started(study.info, study.log.read())
    return observer


@pytest.mark.parametrize("asked", [True, False])
def test_each_run_shows_the_machine_on_which_it_was_trained(study: Study, asked: bool) -> None:
    observer = following(study, system_metrics=asked)
    task = make_task(0, 101)
    observer.task_started(task)
    observer.task_progress(task, {101: make_curve(3)})
    study.finish(observer, task, make_curve(3))
    observer.study_finished("FINISHED", {})
    _, children = study.runs()
    run = children[task.key]
    found = {name for name in run.data.metrics if name.startswith("system/")}
    if not asked:
        assert found == set()
        return
    assert found >= {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"}
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] < 100
    assert study.steps(task.key) == [1, 2, 3]
    assert study.warnings == []


def test_what_cannot_be_measured_is_said_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "installed", lambda module: module != "pynvml")
    assert list(system.check_system_metrics(0)) == []
    (line,) = system.check_system_metrics(0.5)
    assert "pynvml is not installed" in line
    monkeypatch.setattr(system, "installed", lambda module: False)
    with pytest.raises(TrackingError, match=r"tracking.system_metrics: got True, but psutil is not installed"):
        list(system.check_system_metrics(0))


def network_of(record: Record) -> TrainedModel:
    torch.manual_seed(record.seed)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    example = np.ones((2, 3, 2, 2), np.float32)
    return TrainedModel(network, example, network(torch.from_numpy(example)).detach().numpy(), 3)


def test_confirmed_runs_become_models_once_and_others_do_not(study: Study) -> None:
    tasks = [make_task(0, 1, stage=CONFIRM), make_task(0, 2, stage=CONFIRM), make_task(0, 101, stage=SEARCH)]
    observer = following(study, model_of=network_of)
    for task in tasks:
        study.finish(observer, task, make_curve(3))
    observer.study_finished("FINISHED", {})
    again = following(study, model_of=lambda record: pytest.fail("it has a model"))
    again.study_finished("FINISHED", {})
    assert study.warnings == []
    experiment = study.client.get_experiment_by_name("digits")
    models = study.client.search_logged_models([experiment.experiment_id])
    assert sorted(model.name for model in models) == sorted(task.key for task in tasks[:2])
    _, children = study.runs()
    for model in models:
        run = children[model.name]
        assert (model.source_run_id, model.status.name) == (run.info.run_id, "READY")
        assert (model.params["gamma"], model.tags["study"]) == ("0.2", "first")
        assert run.data.tags["model_id"] == model.model_id
        scores = {metric.key: metric.value for metric in model.metrics}
        assert scores
        assert scores.items() <= run.data.metrics.items()
        # What the model has of a score is no second point of the run's.
        assert all(len(study.client.get_metric_history(run.info.run_id, name)) == 1 for name in scores)
    task = tasks[0]
    mlflow.set_tracking_uri(study.uri)
    try:
        place = children[task.key].data.tags["model_id"]
        loaded = mlflow.pytorch.load_model(f"models:/{place}")
        info = mlflow.models.get_model_info(f"models:/{place}")
    finally:
        mlflow.set_tracking_uri(None)
    torch.manual_seed(1)
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    images = torch.rand(5, 3, 2, 2)
    torch.testing.assert_close(loaded(images), plain(images))
    assert [field.shape for field in info.signature.inputs] == [(-1, 3, 2, 2)]
    assert info.saved_input_example_info is not None


def test_a_study_that_was_stopped_has_no_models_and_its_resume_makes_them(study: Study) -> None:
    observer = following(study, model_of=network_of)
    task = make_task(0, 1, stage=CONFIRM)
    study.finish(observer, task, make_curve(3))
    observer.study_finished("KILLED", {})
    assert "model_id" not in study.runs()[1][task.key].data.tags
    following(study, model_of=network_of).study_finished("FINISHED", {})
    assert "model_id" in study.runs()[1][task.key].data.tags


def test_a_network_that_cannot_be_had_costs_a_line_and_nothing_else(study: Study) -> None:
    def damaged(record: Record) -> TrainedModel | None:
        if record.seed == 1:
            raise ValueError("no such layer")
        return None

    observer = following(study, model_of=damaged)
    for seed in (1, 2):
        study.finish(observer, make_task(0, seed, stage=CONFIRM), make_curve(3))
    observer.study_finished("FINISHED", {})
    assert set(study.statuses().values()) == {"FINISHED"}
    (line,) = study.warnings
    assert "no model of confirm-candidate-t00000-s1 (ValueError: no such layer)" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "none, or resources.keep_weights: confirmed beside it"),
        (
            {
                "trainer": {
                    "command": ["python", "a.py"],
                    "steps": 3,
                    "score": {"validation": "a", "test": "b", "goal": "max"},
                },
                "resources": {"keep_weights": "confirmed"},
            },
            "none with a trainer of your own",
        ),
    ],
)
def test_models_are_asked_for_where_there_are_weights(changes: dict[str, Any], words: str) -> None:
    content = {"name": "x", "search": {"gamma": {"log_uniform": [0.1, 1]}}, "tracking": {"log_models": "confirmed"}}
    if "trainer" in changes:
        content["claim"] = {"baseline": {"gamma": 1}}
    with pytest.raises(SpecError) as error:
        parse_space(content | changes, "x.yaml")
    assert str(error.value).startswith("x.yaml: tracking.log_models: got 'confirmed'; accepted: ")
    assert words in str(error.value)
