"""A server that is away, or comes late: the study goes on, and everything arrives in the end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.observers.mlflow.followed_studies import Study, make_curve, make_task, wait_for


def test_a_fresh_database_is_made_without_a_word_on_the_console(tmp_path: Path) -> None:
    script = f"""
import pathlib
from tune_bn.protocols.observer import StudyInfo
from tune_bn.observers.mlflow.observer import MlflowObserver, default_tracking_uri
root = pathlib.Path({str(tmp_path)!r})
folder = root / "studies" / "first"
folder.mkdir(parents=True)
observer = MlflowObserver(default_tracking_uri(folder.parent), artifact_root=root / "artifacts", warn=print)
observer.study_started(StudyInfo("first", "digits", folder, "a" * 64, None, {{}}), [])
observer.study_finished("FINISHED", {{}})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["studies"]
    assert (tmp_path / "studies" / "mlflow.db").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(home: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    command += ["--artifacts-destination", str(home / "served"), "--host", "127.0.0.1", "--port", str(port)]
    # The server's job workers are of no use here, and are seven processes.
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1"], stdout=log, stderr=log, cwd=home, env=environment, start_new_session=True
        )
    try:
        wait_for(lambda: process.poll() is None and _answers(port))
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_study_that_ends_while_the_server_is_down_says_so_and_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_bn.observers.mlflow.observer._FINAL_SECONDS_DOWN", 1.0)
    study = Study(tmp_path / "first", f"http://127.0.0.1:{free_port()}")
    observer = study.observer()
    study.finish(observer, make_task(0, 101), make_curve(1))
    observer.study_finished("FINISHED", {})
    assert len(study.warnings) == 2
    assert "Connection refused" in study.warnings[0]
    assert "--resume" in study.warnings[1]
    assert len(study.log.read()) == 1


@pytest.mark.system
def test_a_server_that_comes_late_and_dies_in_the_middle_ends_up_with_everything(
    tmp_path: Path, fresh_database: Path
) -> None:
    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    port = free_port()
    study = Study(tmp_path / "first", f"http://127.0.0.1:{port}")
    early, middle, late, last = (make_task(trial, 101) for trial in range(4))
    observer = study.observer()
    study.finish(observer, early, make_curve(3))
    wait_for(lambda: len(study.warnings) == 1)
    assert "cannot be used now" in study.warnings[0]

    with server(tmp_path, port):
        wait_for(lambda: len(study.warnings) == 2)
        assert "finished runs caught up: 1" in study.warnings[1]
        assert study.statuses() == {early.key: "FINISHED"}
        observer.task_started(middle)
        observer.task_progress(middle, {101: make_curve(1)})
        wait_for(lambda: study.shows(middle.key))
    observer.task_progress(middle, {101: make_curve(2, start=2)})
    study.finish(observer, late, make_curve(3))
    (study.folder / "space.yaml").write_text("name: digits")
    observer.artifacts_changed([study.folder / "space.yaml"])
    wait_for(lambda: len(study.warnings) == 3)
    study.finish(observer, middle, make_curve(3))

    with server(tmp_path, port):
        study.finish(observer, last, make_curve(3))
        observer.study_finished("FINISHED", {"verdict": "supported"})
        parent, _ = study.runs()
        assert parent.info.status == "FINISHED"
        assert study.statuses() == {task.key: "FINISHED" for task in (early, middle, late, last)}
        for task in (early, middle, late, last):
            assert study.steps(task.key) == [1, 2, 3]
        assert [file.path for file in study.client.list_artifacts(parent.info.run_id)] == ["space.yaml"]
    assert len(study.warnings) == 4
