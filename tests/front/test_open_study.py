"""tune_bn.open_study: what a study's folder holds, in Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tune_bn
from tests.conftest import make_study
from tune_bn.analysis.verdict import verify_study
from tune_bn.errors import RecordError, StudyError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_study(trials=8).write(tmp_path / "made")


def test_what_a_study_holds(folder: Path) -> None:
    study = tune_bn.open_study(folder)
    assert study.name == "made"
    assert study.plan is not None
    assert study.plan["stopping"] == "fixed"
    assert study.verdict == verify_study(folder)
    assert study.verdict is not None
    assert study.verdict.supported
    confirmed = study.runs.where(stage="confirm", arm="baseline")
    assert confirmed.column("seed") == list(range(1, 16))
    assert all(score > 90 for score in confirmed.column("scores.test_accuracy"))
    assert len(study.runs) == len(study.records)
    assert study.space["name"]
    assert repr(study).startswith("<Study made: 8 runs of search")


def test_curves_have_a_row_for_each_epoch(folder: Path) -> None:
    study = tune_bn.open_study(folder)
    assert len(study.curves) == sum(record.epochs for record in study.records)
    first = study.curves[0]
    assert (first["stage"], first["seed"], first["step"]) == ("search", 101, 1)
    assert {"train_loss", "val_accuracy", "lr"} <= set(study.curves.columns)


def test_tables_become_frames(folder: Path) -> None:
    frame = tune_bn.open_study(str(folder)).runs.to_pandas()
    assert str(frame["trial"].dtype) == "Int64"
    assert frame["trial"].isna().sum() == 15
    assert set(frame["stage"]) == {"search", "select", "confirm"}
    assert len(tune_bn.open_study(folder).runs.where(stage="none").to_pandas()) == 0


def test_rows_are_a_sequence(folder: Path) -> None:
    runs = tune_bn.open_study(folder).runs
    assert [run["seed"] for run in runs[-2:]] == [14, 15]
    assert runs[0]["status"] in ("completed", "pruned")
    with pytest.raises(KeyError, match="sedd"):
        runs.where(sedd=1)
    html = runs._repr_html_()
    assert html.count("<tr>") == 21
    assert f"{len(runs) - 20} more rows" in html


def test_a_study_that_has_just_begun(folder: Path) -> None:
    for name in ("plan.json", "records.jsonl", "curves.jsonl"):
        (folder / name).unlink()
    study = tune_bn.open_study(folder)
    assert (study.plan, study.verdict, len(study.runs), len(study.curves)) == (None, None, 0, 0)
    assert "no runs yet" in repr(study)


def test_what_was_changed_is_never_passed_over(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "verdict.json").write_text(json.dumps({"verdict": "supported", "headline": "supported"}))
    (folder / "plan.json").write_text(json.dumps(plan | {"alpha": 0.2}))
    verdict = tune_bn.open_study(folder).verdict
    assert verdict is not None
    assert verdict.invalid
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join([*lines[:3], *lines[4:]]))
    with pytest.raises(RecordError, match=r"records.jsonl:4"):
        _ = tune_bn.open_study(folder).runs


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_study_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match=r"^path: got .*; accepted: a folder with space.yaml and records.jsonl$"):
        tune_bn.open_study(tmp_path / name)


@pytest.mark.long
def test_a_report_is_written_on_request_alone(folder: Path) -> None:
    study = tune_bn.open_study(folder)
    before = sorted(path.name for path in folder.iterdir())
    _ = study.verdict, study.curves, study.space, repr(study), study._repr_html_()
    assert sorted(path.name for path in folder.iterdir()) == before
    page = study.report()
    assert page == folder / "report.html"
    assert page.is_file()


@pytest.mark.long
@pytest.mark.parametrize("form", [lambda runs: runs, lambda runs: runs.to_pandas(), list])
def test_its_runs_are_a_table_of_scores(folder: Path, form: Callable[[Any], Any]) -> None:
    study = tune_bn.open_study(folder)
    assert study.verdict is not None
    judged = tune_bn.verify_scores(form(study.runs))
    assert (judged["baseline"]["arm"], judged["metric"]) == ("baseline", "test_accuracy")
    assert judged["candidates"][0]["effect"] == pytest.approx(study.verdict["candidates"][0]["effect"])


@pytest.mark.long
def test_opening_loads_numpy_alone(folder: Path) -> None:
    code = (
        "import json, sys, tune_bn\nstudy = tune_bn.open_study(sys.argv[1])\nrepr(study), study.runs, study.curves\n"
        "light = {name.partition('.')[0] for name in sys.modules}\nassert study.verdict.supported\n"
        "print(json.dumps([sorted(light), sorted({name.partition('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    opened, judged = map(set, json.loads(done.stdout))
    heavy = {"torch", "ray", "mlflow", "pydantic", "pandas", "matplotlib", "optuna", "typer", "rich", "yaml"}
    assert not opened & (heavy | {"scipy"})
    assert not judged & heavy
