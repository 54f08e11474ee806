"""What MLflow's own pages are told of a study, and the address at which they show it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tune_bn.observers.mlflow import compat
from tune_bn.observers.mlflow.view import datasets, description, page_of, parameters, view_state
from tune_bn.protocols.observer import StudyInfo

SPLIT = {"count": 40, "images": "a" * 64, "labels": "b" * 64}


def test_sections_are_parameters_by_their_path_and_what_is_not_set_is_none() -> None:
    fixed = {"train": {"lr": 0.1, "schedule": "cosine", "compile": False}, "claim": {"looks": None, "arms": {}}, "x": 3}
    expected = {"train.lr": "0.1", "train.schedule": "cosine", "train.compile": "false", "x": "3"}
    assert parameters(fixed) == expected
    assert len(parameters({"seeds": list(range(10_000))})["seeds"]) == 6000


def test_each_split_is_a_dataset_whose_digest_follows_its_content() -> None:
    info = StudyInfo("one", "digits", Path("one"), "a" * 64, None, {}, data={"classes": {"count": 10}, "train": SPLIT})
    (found,) = datasets(replace(info, fixed={"data": {"source": "digits"}}))
    assert (found["name"], found["context"], found["profile"]) == ("digits train", "training", '{"num_rows": 40}')
    (other,) = datasets(replace(info, data={"train": SPLIT | {"images": "c" * 64}}))
    assert found["digest"] != other["digest"]
    assert datasets(replace(info, data={"tokens": "5", "train": "a hash"})) == []


def test_the_view_shows_the_runs_of_the_study_with_what_was_searched() -> None:
    state = json.loads(view_state("f00", ["gamma", "lr"], ["last_val_loss", "test_loss"]))
    assert state["searchFilter"] == "tags.study_id = 'f00'"
    assert state["orderByKey"] == "metrics.`last_val_loss`"
    assert {"params.`gamma`", "params.`lr`", "metrics.`test_loss`"} <= set(state["selectedColumns"])


def test_the_description_is_the_verdict_in_words() -> None:
    told = {"verdict": "not_supported", "headline": "not_supported, and worse", "reason": "γ = 0.1 lowers it."}
    assert description(told) == "**Not supported, and worse**\n\nγ = 0.1 lowers it."
    assert description({"verdict": "supported"}) == description({}) == ""


def test_the_page_names_the_saved_view_or_else_the_filter() -> None:
    saved = "#/experiments/7/runs?viewStateShareKey=f00&workflowType=machine_learning"
    assert page_of("7", "f00", saved=True) == saved
    path, _, query = page_of("7", "f00", saved=False).partition("?")
    assert path == "#/experiments/7/runs"
    assert parse_qs(query) == {"searchFilter": ["tags.study_id = 'f00'"], "workflowType": ["machine_learning"]}


@pytest.mark.parametrize("saved", [True, False])
def test_the_experiment_of_a_study_is_found_in_the_store_itself(tmp_path: Path, saved: bool) -> None:
    database = tmp_path / "a #1?.db"
    with closing(sqlite3.connect(database)) as store, store:
        store.execute("CREATE TABLE runs (run_uuid, experiment_id INTEGER, lifecycle_stage)")
        store.execute("CREATE TABLE tags (run_uuid, key, value)")
        store.execute("CREATE TABLE experiment_tags (experiment_id INTEGER, key, value)")
        store.execute("INSERT INTO runs VALUES ('r', 7, 'active'), ('d', 8, 'deleted')")
        store.execute("INSERT INTO tags VALUES ('r', 'study_id', 'f00'), ('d', 'study_id', 'f01')")
        if saved:
            store.execute("INSERT INTO experiment_tags VALUES (7, ?, '{}')", (compat.SHARED_VIEW + "f00",))
    assert compat.experiment_of(database, "f00") == ("7", saved)
    assert compat.experiment_of(database, "f01") is None
    assert compat.experiment_of(database, "none") is None


@pytest.mark.parametrize("content", [None, b"", b"no database at all"])
def test_what_is_no_store_has_no_study(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    assert compat.experiment_of(tmp_path / "mlflow.db", "f00") is None
    assert (tmp_path / "mlflow.db").exists() == (content is not None)
