"""The process that has loaded the libraries and done nothing else: no threads, no Ray, nothing of any test.

Whoever connects to its socket sends what ``python ARGUMENTS`` is to be, with its folder, variables and three streams,
and is told the process's id and later its status. A connection that closes before takes its process with it, and all
end with the tests, which hold the server's standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

from tests.warm import ray_starts

LOADED = (
    *(
        "torch",
        "torch._dynamo",
        "torch.optim",
        "sklearn.datasets",
        "scipy.stats",
        "pandas",
        "ray",
        "ray.tune",
        "mlflow",
        "optuna",
    ),
    *("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.figure", "sqlalchemy", "alembic"),
    *("ray.cluster_utils", "ray.dashboard.agent", "ray._private.runtime_env.agent.runtime_env_agent"),
    *("tune_bn.cli", "tune_bn.front.wiring", "tune_bn.runners.ray.runner", "tune_bn.observers.mlflow.observer"),
    *("tune_bn.trainers.builtin", "tune_bn.training.network_check", "tune_bn.samplers.optuna.journal"),
    *("tune_bn.runners.ray.trainable",),
)
FOLDERS = list(sys.path)
"""What any Python here finds modules in, and the repository."""
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """In a process of its own: what a shell would have started."""
    with contextlib.suppress(OSError):  # Of another session: a group of its own.
        os.setpgid(0, request["group"])
    os.chdir(request["folder"])
    environment = request["environment"]
    os.environ.clear()
    os.environ.update(environment)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, max(streams) + 1)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    if environment.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1, closefd=False)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    # Ray read its variables when it was loaded.
    from ray._raylet import Config

    Config.initialize("")
    import numpy
    import torch

    numpy.random.seed()  # noqa: NPY002 - what libraries draw from without asking for a seed
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = [argument for argument in request["arguments"] if argument not in ("-u", "-S", "-s")]
    status = 1
    try:
        run(arguments, environment)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
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


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """``python ARGUMENTS``: a module, one of Ray's own scripts, or a user's."""
    paths = list(filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)))
    if arguments[0] == "-m":
        sys.path[:0] = [os.getcwd(), *paths]
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    arguments = ray_starts.set_up(arguments)
    paths = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    sys.path[:] = [os.path.dirname(os.path.abspath(arguments[0])), *paths, *FOLDERS]
    sys.argv = arguments
    if importlib.machinery.PathFinder.find_spec("sitecustomize", paths):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    runpy.run_path(arguments[0], run_name="__main__")


def serve(path: str) -> NoReturn:
    """Fork what is asked for, until standard input ends."""
    # Ray reads these two once and for all when it is loaded. The raylet is who must outlive its workers.
    os.environ.update({"RAY_JOB_ID": ray_starts.JOB, "RAY_RAYLET_PID": str(os.getpid())})
    with ray_starts.own_chance():
        for name in LOADED:
            importlib.import_module(name)
    ray_starts.patch(os.path.join(os.path.dirname(path), "stand_in.py"))
    assert len(os.listdir("/proc/self/task")) == 1, "a library has started a thread, which no fork would have"
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{path}.new")
    listener.listen(128)
    os.rename(f"{path}.new", path)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    connections: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                for pid in connections:
                    os.kill(pid, signal.SIGKILL)
                # Without the words of libraries that count what they leave behind.
                os._exit(0)
            if key.fileobj is listener:
                connection, _address = listener.accept()
                message, streams, *_rest = socket.recv_fds(connection, 2**20, 3)
                if not message:  # It was killed before it could ask.
                    connection.close()
                    continue
                parent = os.getpid()
                pid = os.fork()
                if not pid:
                    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
                    if os.getppid() != parent:
                        os._exit(1)
                    selector.close()
                    for opened in (listener, connection, *connections.values()):
                        opened.close()
                    become(json.loads(message), streams)
                for descriptor in streams:
                    os.close(descriptor)
                connections[pid] = connection
                selector.register(connection, selectors.EVENT_READ, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                with contextlib.suppress(OSError):
                    connection.send(str(pid).encode())
            elif isinstance(key.fileobj, socket.socket):
                selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)
            else:
                pid, code = os.waitpid(key.data, 0)
                selector.unregister(key.fileobj)
                os.close(key.fd)
                connection = connections.pop(pid)
                with contextlib.suppress(KeyError):
                    selector.unregister(connection)
                with contextlib.suppress(OSError):
                    connection.send(str(os.waitstatus_to_exitcode(code)).encode())
                connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
