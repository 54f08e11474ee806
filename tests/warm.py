"""``python -m tune_bn …`` in a process of its own, without the many seconds in which each one loads the libraries.

The processes are forked from one that has loaded them and done nothing else: no threads, no Ray, nothing of any test.
Each has the folder, variables, streams, signals and process group that it is given, and ends as one that a shell
started. What a cold start is about (what is loaded, and when; streams and signals before Python runs; packages that
add to this one) is no matter for these: ``test_process.py``, ``test_extras.py`` and ``test_extensions.py`` start cold.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

LOADED = (
    *("torch", "torch._dynamo", "torch.optim", "scipy.stats", "pandas", "ray", "ray.tune", "mlflow", "optuna"),
    *("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.figure", "sqlalchemy", "alembic"),
    *("tune_bn.cli", "tune_bn.front.wiring", "tune_bn.runners.ray.runner", "tune_bn.observers.mlflow.observer"),
    *("tune_bn.trainers.builtin", "tune_bn.training.network_check", "tune_bn.samplers.optuna.journal"),
)


def _child(arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str, group: bool) -> None:
    # It may have children of its own.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    if group:
        os.setpgid(0, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        opened = os.open(path, flags | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["tune_bn", *arguments]
    # Ray read its variables when it was loaded, and an earlier test may have set one since (ray.init: RAY_AUTH_MODE).
    from ray._raylet import Config

    Config.initialize("")
    if threads := environment.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(int(threads))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        runpy.run_module("tune_bn", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    # As at the end of any process, which one that was forked does not come to.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 120
    os._exit(status)


class Warm:
    """Such a process, as :class:`subprocess.Popen` with text."""

    def __init__(
        self, arguments: list[str], *, cwd: Path, env: Mapping[str, str] | None = None, process_group: bool = False
    ) -> None:
        self.args = arguments
        self._folder = Path(tempfile.mkdtemp(prefix="warm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._streams = [self._folder / name for name in ("out", "err")]
        for path in self._streams:
            path.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(LOADED))
        environment = dict(os.environ if env is None else env)
        paths = [str(path) for path in self._streams]
        self._process = context.Process(
            target=_child,
            args=(list(arguments), str(cwd), environment, *paths, process_group),
            # One that a failed test leaves behind ends with the tests.
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of :class:`subprocess.Popen`: negative where a signal ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """To it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
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
