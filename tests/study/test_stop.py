"""``tune_bn stop`` and the limits of a driver that hears no signals, and what `stop` says happened."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.cli.test_search_command import COMMAND, SPACE, wait_for_records
from tune_bn.cli import app
from tune_bn.errors import ClusterLost, Interrupted, StudyError
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.records.files import write_json
from tune_bn.space.loading import parse_space
from tune_bn.study.driver import Driver, DriverState
from tune_bn.study.folder import StudyFolder


def deaf() -> None:
    """What Ray's jobs, `nohup` and background jobs of a script do to the processes that they start."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    os.close(0)


def test_a_driver_that_hears_no_signal_is_stopped_and_keeps_its_limits(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(COMMAND, cwd=tmp_path, preexec_fn=deaf, **streams)
    wait_for_records(tmp_path, 2, process)
    stop = [sys.executable, "-m", "tune_bn", "stop", "one"]
    done = subprocess.run(stop, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    _, err = process.communicate(timeout=200)
    assert done.stdout.startswith("one stopped. To go on: tune_bn search"), done
    assert process.returncode == 130
    assert err.startswith("tune_bn stop asked for it; nothing that finished is lost."), err
    assert read(tmp_path) == ("stopped", "tune_bn stop asked for it")

    # What the study has used already would be refused at the door.
    used = json.loads((tmp_path / "studies/one/driver.json").read_text())["seconds"] / 3600
    limit = ["--resume", "--set", f"budget.total_hours={used + 0.0001:.6g}"]
    process = subprocess.Popen([*COMMAND, *limit], cwd=tmp_path, preexec_fn=deaf, **streams)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert read(tmp_path) == ("stopped", f"budget.total_hours = {used + 0.0001:.6g} is used up")
    assert not (tmp_path / "studies/one/plan.json").exists()


def read(workplace: Path) -> tuple[str, str]:
    state = json.loads((workplace / "studies/one/driver.json").read_text())
    return state["state"], state["reason"]


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (Interrupted, 0, "one stopped. To go on: tune_bn search"),
        (None, 0, "one came to its end before it could be stopped"),
        (
            ClusterLost,
            2,
            "one: its driver ended by itself (lost) before it could be stopped; tune_bn logs one says more",
        ),
        (StudyError, 2, "one: its driver ended by itself (failed) before it could be stopped"),
    ],
)
def test_stop_says_what_happened(
    end: type[Exception] | None, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = parse_space(SPACE, "tiny.yaml")
    folder = StudyFolder(tmp_path / "studies/one").created(space)
    stop, at_work = StopRequest(), threading.Event()

    def drive() -> None:
        driver = Driver(folder, space.budget, space.resources, stop=stop)
        with folder.locked():
            try:
                with driver.watching():
                    at_work.set()
                    while not (stop.asked if end in (None, Interrupted) else folder.stop_file.exists()):
                        time.sleep(0.01)
                    if end is not None:
                        # One that fails does so before it sees the request.
                        driver._ended.set()
                        stop._reason = stop._reason if end is Interrupted else ""
                        raise end("so")
            except (Interrupted, ClusterLost, StudyError):
                pass

    thread = threading.Thread(target=drive)
    thread.start()
    assert at_work.wait(60)
    result = CliRunner().invoke(app, ["stop", "one"])
    thread.join()
    said = result.stdout if code == 0 else str(result.exception)
    assert (0 if result.exception is None else 2) == code
    assert said.startswith(words), said
    if end is None:
        assert json.loads(folder.driver_file.read_text())["reason"] == "", "it was not stopped"


def test_stop_says_that_a_driver_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder(tmp_path / "studies/one").created(parse_space(SPACE, "tiny.yaml"))
    write_json(folder.driver_file, DriverState(state="working", started_at="2026-11-29T12:00:00+00:00").__dict__)
    monkeypatch.setattr(StudyFolder, "request_stop", lambda self, expected: None)
    result = CliRunner().invoke(app, ["stop", "one"])
    assert str(result.exception).startswith("one: its driver was killed before it could be stopped; ")
    with monkeypatch.context() as full:
        full.setattr(StudyFolder, "writing_problem", lambda self: "No space left on device")
        result = CliRunner().invoke(app, ["stop", "one"])
    assert str(result.exception).startswith(
        "one: its driver has ended, and could not write how (No space left on device); "
    )
    told = DriverState(state="working", started_at="2026-11-29T12:00:00+00:00", reason="tune_bn stop asked for it")
    write_json(folder.driver_file, told.__dict__)
    result = CliRunner().invoke(app, ["stop", "one"])
    assert result.stdout.startswith("one stopped: its driver was killed while it ended. To go on: tune_bn search")


def test_a_full_disk_is_seen(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "one").created(parse_space(SPACE, "tiny.yaml"))
    assert folder.writing_problem() == ""
    assert StudyFolder("/dev/full").writing_problem() == "Not a directory"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert folder.writing_problem() == "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_stop_says_that_a_driver_is_suspended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder(tmp_path / "studies/one").created(parse_space(SPACE, "tiny.yaml"))
    program = """
import sys
from tune_bn.study.folder import StudyFolder
with StudyFolder(sys.argv[1]).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"locked\n"
        write_json(folder.driver_file, DriverState(host=socket.gethostname(), pid=driver.pid).__dict__)
        driver.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, driver.pid, os.WSTOPPED)
        try:
            result = CliRunner().invoke(app, ["stop", "one"])
        finally:
            driver.send_signal(signal.SIGCONT)
    assert str(result.exception) == (
        "one: its driver was told to stop, but is suspended (as by Ctrl-Z), and stops once it goes on; accepted: fg in "
        f"its shell, or kill -CONT {driver.pid}"
    )
    assert folder.stop_file.exists()


@pytest.mark.parametrize("closed", [(0,), (0, 1), (0, 1, 2), (2,)])
def test_a_verb_works_where_streams_are_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    shut = " ".join(f"{number}>&-" for number in closed)
    command = f"'{sys.executable}' -m tune_bn validate --no-measure --space tiny.yaml {shut}; echo $? > status"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "status").read_text() == "0\n"
