"""A search that no person's shell started: by a user without name and home, as process 1, with closed streams."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_bn.host.process import is_suspended
from tune_bn.records.log import RecordLog

STRANGER = 100_000 + os.getpid()
SPACE: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 30, "batch_size": 20},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "scheduler": {"name": "none"},
    "budget": {"trials": 40, "finalists": 1},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2]},
    "resources": {"max_concurrent": 1},
}
SEARCH = ["-P", "-m", "tune_bn", "search", "--space", "tiny.yaml", "--study", "one"]
# It may read where Python is installed, which may be root's home.
AS_STRANGER = [
    *(
        "setpriv",
        f"--reuid={STRANGER}",
        f"--regid={STRANGER}",
        "--clear-groups",
        "--bounding-set=-all,+dac_read_search",
    ),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"),
]
AS_PROCESS_1 = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc"]
WITHOUT_STREAMS = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]


def deaf_and_private() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.umask(0o077)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, f"ended too early: {process.returncode}"
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)


def running_as_stranger() -> str:
    return subprocess.run(["pgrep", "-u", str(STRANGER), "-a"], capture_output=True, text=True, check=False).stdout


@pytest.mark.system
def test_a_search_ends_cleanly_wherever_it_was_started(tmp_path: Path) -> None:
    tools = ["unshare", "setpriv", "pgrep"]
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in tools):
        pytest.skip("needs root, util-linux and procps")
    workplace, scratch = tmp_path / "γ", Path(f"/tmp/odd-{os.getpid()}")
    study = workplace / "studies" / "one"
    for folder in (workplace, scratch):
        folder.mkdir()
        os.chown(folder, STRANGER, STRANGER)
    (workplace / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    (workplace / "tiny.yaml").chmod(0o644)

    def records() -> int:
        path = study / "records.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def state() -> tuple[str, str]:
        content = json.loads((study / "driver.json").read_text())
        return content["state"], content["reason"]

    bare = ["env", "-i", f"RAY_TMPDIR={scratch}", "OMP_NUM_THREADS=1"]
    try:
        command = [*AS_PROCESS_1, *AS_STRANGER, *bare, *WITHOUT_STREAMS, sys.executable, *SEARCH]
        process = subprocess.Popen(command, cwd=workplace, preexec_fn=deaf_and_private)
        wait_for(lambda: records() >= 1, process)
        first = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
        os.kill(int(first), signal.SIGTERM)
        assert process.wait(400) == 130
        assert state() == ("stopped", "interrupted by SIGTERM")
        files = {path.name: path.stat() for path in study.rglob("*") if path.is_file()}
        assert {"space.yaml", "records.jsonl", "driver.json", "data.json"} <= set(files)
        assert {name for name, found in files.items() if found.st_mode & 0o077 or found.st_uid != STRANGER} == set()

        # A terminal that closes signals everybody in the group, Ray's processes among them.
        before = records()
        command = [*AS_STRANGER, *bare, sys.executable, *SEARCH, "--resume"]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=workplace, process_group=0, **streams)
        wait_for(lambda: records() > before, process)
        # Ctrl-Z halts the driver alone, and what Ray does for it goes on until it is back.
        os.killpg(process.pid, signal.SIGTSTP)
        wait_for(lambda: is_suspended(process.pid), process)
        others = {int(line.split()[0]) for line in running_as_stranger().splitlines()} - {process.pid}
        assert others
        assert not any(map(is_suspended, others))
        halted = records()
        os.killpg(process.pid, signal.SIGCONT)
        wait_for(lambda: records() > halted, process)
        os.killpg(process.pid, signal.SIGHUP)
        _, err = process.communicate(timeout=400)
        assert (process.returncode, err) == (
            130,
            "interrupted by SIGHUP; nothing that finished is lost. To go on: tune_bn search --study one --resume\n",
        )
        assert state() == ("stopped", "interrupted by SIGHUP")
        found = [record.key for record in RecordLog(study / "records.jsonl").read()]
        assert len(set(found)) == len(found) > before
        deadline = time.monotonic() + 60
        while running_as_stranger() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running_as_stranger() == ""
        assert list(scratch.iterdir()) == []
    finally:
        subprocess.run(["pkill", "-KILL", "-u", str(STRANGER)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.system
@pytest.mark.parametrize(
    ("limit", "named"),
    [
        ("--nproc=20", "; ulimit -u: 20 processes and threads of this user)"),
        ("--fsize=1024", "; ulimit -f: 1024 bytes of a file)"),
    ],
)
def test_a_ray_that_a_limit_lets_not_start_says_which(limit: str, named: str, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("prlimit") is None or shutil.which("setpriv") is None:
        pytest.skip("needs root and util-linux")
    user, scratch = STRANGER + 1, Path(f"/tmp/odd-limit-{os.getpid()}")
    for folder in (tmp_path / "place", scratch):
        folder.mkdir()
        os.chown(folder, user, user)
    (tmp_path / "place" / "tiny.yaml").write_text(yaml.safe_dump(SPACE))
    stranger = [word.replace(str(STRANGER), str(user)) for word in AS_STRANGER]
    bare = ["env", "-i", f"RAY_TMPDIR={scratch}", "OMP_NUM_THREADS=1"]
    command = [*stranger, *bare, "prlimit", limit, sys.executable, *SEARCH]
    try:
        done = subprocess.run(command, cwd=tmp_path / "place", capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 2, done
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: Ray cannot be started on this machine (")
        assert named in line
        assert list(scratch.iterdir()) == []
        assert not (tmp_path / "place" / "studies").exists()
    finally:
        subprocess.run(["pkill", "-KILL", "-u", str(user)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
