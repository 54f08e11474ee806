"""``python -m tune_bn …``, and Ray's workers, without the many seconds in which each process loads the libraries.

The processes are forked from one that has loaded them (:mod:`tests.warm.server`). Each has the folder, variables,
streams, signals and process group that it is given, and ends as one that a shell started. What a cold start is about
(what is loaded, and when; streams and signals before Python runs; packages that add to this one) is no matter for
these: ``test_process.py``, ``test_extras.py`` and ``test_extensions.py`` start cold, and so do the system tests.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def server() -> Path:
    """The folder with the socket of this process's server, and with the script that stands in for Python."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    shutil.copy(Path(__file__).with_name("stand_in.py"), folder)
    path = folder / "socket"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }
    command = [sys.executable, "-m", "tests.warm.server", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE)
    atexit.register(_end, process, folder)
    # Ray gives its processes half a minute, in which they have to be there and not only to be asked for.
    while not path.exists():
        assert process.poll() is None, "the warm server does not start"
        time.sleep(0.01)
    return folder


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def python() -> Path:
    """A ``python`` that the server forks, for scripts whose training is the point and not their start."""
    path = server() / "python"
    program = (server() / "stand_in.py").read_text(encoding="utf-8")
    path.write_text(f"#!{sys.executable} -SE\n{program}", encoding="utf-8")
    path.chmod(0o755)
    return path


def use_for_ray() -> None:
    """Let every Ray that this process starts from now on have its workers and agents from the server."""
    from tests.warm import ray_starts

    ray_starts.patch(str(server() / "stand_in.py"))


class Warm:
    """Such a process, as :class:`subprocess.Popen` with text."""

    def __init__(
        self, arguments: list[str], *, cwd: Path, env: Mapping[str, str] | None = None, process_group: bool = False
    ) -> None:
        self.args = arguments
        self.returncode: int | None = None
        """As of :class:`subprocess.Popen`: negative where a signal ended it."""
        self._folder = Path(tempfile.mkdtemp(prefix="warm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._streams = [self._folder / name for name in ("out", "err")]
        request = {
            "arguments": ["-m", "tune_bn", *arguments],
            "folder": str(cwd),
            "environment": dict(os.environ if env is None else env),
            "group": 0 if process_group else os.getpgid(0),
        }
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.connect(str(server() / "socket"))
        opened = [os.open(os.devnull, os.O_RDONLY)]
        opened += [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for path in self._streams]
        socket.send_fds(self._server, [json.dumps(request).encode()], opened)
        for descriptor in opened:
            os.close(descriptor)
        self.pid = int(self._server.recv(64))

    def poll(self) -> int | None:
        """None while it runs."""
        if self.returncode is None:
            try:
                self.wait(0.0)
            except subprocess.TimeoutExpired:
                return None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its status."""
        if self.returncode is None:
            # A timeout of nothing would make it one that gives no answer at once, and another error.
            self._server.settimeout(timeout or (None if timeout is None else 1e-6))
            try:
                self.returncode = int(self._server.recv(64) or -signal.SIGKILL)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self._server.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed, once it has ended."""
        self.wait(timeout)
        out, err = (path.read_text(encoding="utf-8") for path in self._streams)
        return out, err


def run(
    arguments: list[str], *, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 400
) -> subprocess.CompletedProcess[str]:
    """Such a process from its start to its end."""
    process = Warm(arguments, cwd=cwd, env=env, process_group=True)
    try:
        out, err = process.communicate(timeout)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(arguments, process.wait(), out, err)
