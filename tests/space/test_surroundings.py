"""What the environment of a shell names, by the verbs: who counts first, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tune_bn.cli import app
from tune_bn.cli.jobs import setting_for_job
from tune_bn.errors import RunnerError, TrackingError
from tune_bn.space.loading import load_space

SERVER = "http://me:secret@127.0.0.1:1"


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "search": {"gamma": {"log_uniform": [0.1, 1]}}}))
    return path


def line(kind: str, *options: str, **environment: str) -> str:
    # What a run takes is not asked here.
    command = ["validate", "--no-measure", "--space", "tiny.yaml", *options]
    result = CliRunner().invoke(app, command, env=environment)
    assert result.exception is None, result.exception
    (found,) = [text for text in result.stdout.splitlines() if text.startswith(f"{kind} ")]
    return found.removeprefix(kind).strip()


@pytest.mark.usefixtures("space")
def test_validate_says_which_store_tracks_and_who_says_so() -> None:
    own = ["--set", "tracking.uri=http://mine:5000"]
    beside = (
        "SQLite beside the studies, mlflow.db (neither tracking.uri nor MLFLOW_TRACKING_URI is set); experiment tiny"
    )
    assert line("tracking") == beside
    assert line("tracking", MLFLOW_TRACKING_URI="") == beside
    shown = "http://me:***@127.0.0.1:1 (by MLFLOW_TRACKING_URI); experiment tiny"
    assert line("tracking", MLFLOW_TRACKING_URI=SERVER) == shown
    assert line("tracking", *own) == "http://mine:5000 (by tracking.uri); experiment tiny"
    assert line("tracking", *own, MLFLOW_TRACKING_URI=SERVER, MLFLOW_EXPERIMENT_NAME="theirs") == (
        "http://mine:5000 (by tracking.uri); experiment tiny; not used: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME"
    )


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize("verb", [["validate"], ["search"], ["search", "--job"], ["ui"]])
@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "databricks", "ftp://host", "sqlite:///"])
def test_a_bad_store_of_the_environment_is_one_line_that_names_the_variable(verb: list[str], uri: str) -> None:
    arguments = verb if verb == ["ui"] else [*verb, "--space", "tiny.yaml"]
    result = CliRunner().invoke(app, arguments, env={"MLFLOW_TRACKING_URI": uri})
    assert isinstance(result.exception, TrackingError)
    assert str(result.exception).startswith(f"MLFLOW_TRACKING_URI: got {uri!r}: ")
    assert not Path("studies").exists()


def test_the_ui_of_a_server_is_at_the_server(space: Path) -> None:
    result = CliRunner().invoke(app, ["ui"], env={"MLFLOW_TRACKING_URI": SERVER})
    assert result.exit_code == 0
    assert "the studies are tracked by the server http://me:***@127.0.0.1:1, which has its own page" in result.stdout


def test_a_job_keeps_the_store_of_the_shell_that_submits_it(space: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting_for_job(None) is None
    Path("My Project").mkdir()
    for uri in ("http://mlflow:5000", f"sqlite:///{space.parent}/My%20Project/m.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        setting = setting_for_job(None)
        assert setting is not None
        loaded = load_space(space, [setting])
        assert loaded.tracking.uri == uri.replace("%20", " ")
        assert setting_for_job(loaded.tracking.uri) is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SERVER)
    with pytest.raises(TrackingError) as caught:
        setting_for_job(None)
    assert "secret" not in str(caught.value)
    assert "would be written into the study's space.yaml" in str(caught.value)


@pytest.mark.usefixtures("space")
def test_validate_says_what_of_this_machine_may_be_used() -> None:
    assert line("here", TUNE_BN_CORES="1").startswith("1 CPU core of this machine may be used: 1 trial at a time, ")
    six = line("here", "--set", "resources.cpu=2", TUNE_BN_CORES="6")
    assert six.startswith("6 CPU cores of this machine may be used: 3 trials at a time, ")
    most = line("here", "--set", "resources.max_concurrent=2", TUNE_BN_CORES="6")
    assert "2 trials at a time" in most
    few = line("here", "--set", "resources.cpu=4", TUNE_BN_CORES="3")
    assert few.startswith("resources.cpu = 4 per trial, and 3 CPU cores may be used; ")
    assert "--address" in few
    result = CliRunner().invoke(app, ["validate", "--space", "tiny.yaml"], env={"TUNE_BN_CORES": "many"})
    assert isinstance(result.exception, RunnerError)


def test_a_module_of_the_current_folder_does_not_come_before_the_package_itself(space: Path) -> None:
    for name in ("typer", "yaml", "numpy", "torch", "random", "timeit"):
        Path(f"{name}.py").write_text("raise RuntimeError('a file of the current folder was imported')")
    command = [sys.executable, "-m", "tune_bn", "validate", "--space", "tiny.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
