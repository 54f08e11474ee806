"""A copied study beside its original, both mirrored into one MLflow: neither writes into the other's runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.observers.mlflow.followed_studies import Study, make_curve, make_task
from tune_bn.records.files import write_json
from tune_bn.records.identity import identity_of


def run_of(client: MlflowClient, study_id: str, key: str) -> Any:
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.study_id = '{study_id}' and tags.run_key = '{key}'")
    return run


def begun(study: Study) -> None:
    observer = study.observer()
    study.finish(observer, make_task(0, 101), make_curve(3))
    observer.study_finished("KILLED", {})


def goes_on(study: Study, score: float) -> str:
    observer = study.observer()
    study.finish(observer, make_task(1, 101), make_curve(3), scores={"val_accuracy": score, "best_epoch": 2.0})
    observer.study_finished("FINISHED", {})
    assert study.warnings == []
    return identity_of(study.folder).study_id


@pytest.mark.parametrize("known", [True, False], ids=["the original is seen", "as from another machine"])
def test_a_copy_and_its_original_have_runs_of_their_own(study: Study, tmp_path: Path, known: bool) -> None:
    begun(study)
    copy = Study(Path(shutil.copytree(study.folder, tmp_path / "copy")), study.uri)
    first = goes_on(study, 90.0)
    if not known:
        # Where the original cannot be seen, MLflow shows records that are not the copy's.
        path = copy.folder / "study.json"
        write_json(path, {"study_id": first, "name": "first", "host": "", "path": "", "copied_from": None})
    second = goes_on(copy, 10.0)
    assert first != second
    assert identity_of(study.folder).study_id == first
    key = make_task(1, 101).key
    assert run_of(study.client, first, key).data.metrics["best_val_accuracy"] == 90.0
    assert run_of(study.client, second, key).data.metrics["best_val_accuracy"] == 10.0
    # The copy is mirrored whole, with what it was copied with.
    assert run_of(study.client, second, make_task(0, 101).key).info.status == "FINISHED"
    assert goes_on_again(study) == first
    assert goes_on_again(copy) == second


def goes_on_again(study: Study) -> str:
    observer = study.observer()
    observer.study_finished("FINISHED", {})
    return identity_of(study.folder).study_id


def test_a_renamed_study_goes_on_in_its_own_runs(study: Study, tmp_path: Path) -> None:
    begun(study)
    before = identity_of(study.folder).study_id
    renamed = Study(study.folder.rename(tmp_path / "renamed"), study.uri)
    assert goes_on(renamed, 50.0) == before
    assert run_of(study.client, before, make_task(1, 101).key).info.status == "FINISHED"
