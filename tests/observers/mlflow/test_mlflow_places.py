"""The real MLflow in folders of any name, and a study that is tracked elsewhere than before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.observers.mlflow.followed_studies import Study, make_curve, make_task
from tune_bn.observers.mlflow.uri import default_tracking_uri

NAME = 'My%20Pr?ject #1&;=ü "q" [red]x[.] ~ -$HOME \\ @:\n\''


def follow(study: Study) -> str:
    """A run, its record and a file, delivered; the key of the run."""
    task = make_task(0, 101)
    observer = study.observer()
    (study.folder / "report.md").write_text("here")
    observer.task_started(task)
    observer.artifacts_changed([study.folder / "report.md"])
    study.finish(observer, task, make_curve(2))
    observer.study_finished("FINISHED", {})
    return task.key


@pytest.mark.parametrize("name", [NAME, "%3F", "a?mode=ro"])
def test_store_and_artifacts_of_a_folder_are_in_it_whatever_its_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    study = Study(folder / "one", default_tracking_uri(folder))
    key = follow(study)
    parent, children = study.runs()
    assert list(children) == [key]
    assert children[key].info.status == "FINISHED"
    assert Path(study.client.download_artifacts(parent.info.run_id, "report.md")).read_text() == "here"
    assert study.warnings == []
    assert [path.name for path in tmp_path.iterdir()] == [name], "something was put beside it"
    assert sorted(path.name for path in folder.iterdir()) == ["artifacts", "mlflow.db", "mlflow.db.lock", "one"]


def test_a_study_that_goes_on_elsewhere_is_there_in_whole_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    first, second = (default_tracking_uri(tmp_path / name) for name in ("here", "there"))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    key = follow(Study(folder, first))
    study = Study(folder, second)
    study.observer().study_finished("FINISHED", {})
    assert study.statuses() == {key: "FINISHED"}
    assert study.warnings == [f"MLflow: this study was tracked at {first} until now; all of its runs go to {second}"]
    assert json.loads((folder / "study.json").read_text())["store"] == second

    # A database that went with the studies to another folder is the same one.
    (tmp_path / "there").rename(tmp_path / "moved")
    study = Study(folder, default_tracking_uri(tmp_path / "moved"))
    study.observer().study_finished("FINISHED", {})
    assert study.statuses() == {key: "FINISHED"}
    assert study.warnings == []
