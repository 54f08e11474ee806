"""What is forked from the warm server is to its starter as a process that Python was started for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm

PRINTS = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["GIVEN"], sys.path[0], "torch" in sys.modules)
print("aside", file=sys.stderr)
sys.exit(int(os.environ["STATUS"]))
"""


def stand_in(folder: Path, code: str) -> list[str]:
    (folder / "script.py").write_text(code)
    return [sys.executable, "-S", "-E", str(warm.server() / "stand_in.py"), str(folder / "script.py")]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("status", [0, 3])
def test_it_has_arguments_folder_variables_streams_and_status(status: int, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    environment = {"GIVEN": "this", "STATUS": str(status), "PATH": os.environ["PATH"]}
    command = [*stand_in(tmp_path, PRINTS), "a b", "-c"]
    done = subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)
    assert done.stdout == f"['a b', '-c'] {tmp_path / 'here'} this {tmp_path} True\n"
    assert (done.stderr, done.returncode) == ("aside\n", status)


@pytest.mark.parametrize("killed", ["the one that stands in", "the process"])
def test_one_of_the_two_does_not_outlive_the_other(killed: str, tmp_path: Path) -> None:
    code = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    process = subprocess.Popen(stand_in(tmp_path, code), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert pid != process.pid
    os.kill(pid if killed == "the process" else process.pid, signal.SIGKILL)
    assert process.wait(60) == (128 + signal.SIGKILL if killed == "the process" else -signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_there(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_two_processes_draw_the_same_names(tmp_path: Path) -> None:
    code = "from ray._raylet import ActorClassID, ObjectRef\n"
    code += "print(ObjectRef.from_random().hex(), ActorClassID.from_random().hex())\n"
    command = stand_in(tmp_path, code)
    names = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    assert len({name for both in names for name in both}) == 6


def test_workers_of_a_ray_are_forked_and_have_what_was_loaded(warm_ray: None) -> None:
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:

        @ray.remote
        def look() -> tuple[int, bool]:
            return os.getppid(), "tune_bn.trainers.builtin" in sys.modules

        parent, loaded = ray.get(look.remote())
    finally:
        ray.shutdown()
    assert loaded
    assert b"tests.warm.server" in Path(f"/proc/{parent}/cmdline").read_bytes()
