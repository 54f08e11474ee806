"""``pytest --quick``: the tests that load no torch, Ray or MLflow, start no process and open no server.

The folders of rooms that train are not looked into. Which tests of the others these are is found while they run:
whatever asks for one of them is skipped there. So no list has to be kept, and a test that begins to need more leaves
the quick ones by itself. What computes for a second or more bears the mark ``long``.
"""

from __future__ import annotations

import inspect
import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Generator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NoReturn

import pytest

HERE = Path(__file__).parent
HEAVY = frozenset(("torch", "torchvision", "ray", "mlflow"))
TRAIN = frozenset(
    ("benchmarks", "data", "faults", "method", "observers/mlflow", "runners", "system", "trainers", "training")
)
"""Folders of tests in which nearly everything loads one of these."""


def leave(what: str) -> NoReturn:
    """Skip the test, or the module, that does this; no handler of the code under test takes it for an error."""
    # A module that is left while it loads must not stay half loaded: others that import it have to leave too.
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"].startswith("tests."):
            sys.modules.pop(frame.f_globals["__name__"], None)
        frame = frame.f_back
    raise pytest.skip.Exception(f"not quick: {what}", allow_module_level=True)


class NoHeavyImports:
    """First on ``sys.meta_path``."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in HEAVY:
            leave(f"loads {name}")
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only what needs no torch, Ray, MLflow, process or server")


def pytest_configure(config: pytest.Config) -> None:
    # The process that hands tests out to others runs none, and has to start those.
    hands_out = bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
    if not config.getoption("--quick") or hands_out:
        return
    sys.meta_path.insert(0, NoHeavyImports)  # type: ignore[arg-type]
    start_program, start_python, listen = (
        subprocess.Popen.__init__,
        multiprocessing.process.BaseProcess.start,
        socket.socket.listen,
    )

    def no_program(*given: Any, **named: Any) -> None:
        if _tests:
            leave("starts a process")
        start_program(*given, **named)

    def no_python(self: Any) -> None:
        if _tests:
            leave("starts a process")
        start_python(self)

    def no_server(*given: Any) -> None:
        if _tests:
            leave("opens a server")
        listen(*given)

    subprocess.Popen.__init__ = no_program  # type: ignore[method-assign]
    multiprocessing.process.BaseProcess.start = no_python  # type: ignore[method-assign]
    socket.socket.listen = no_server  # type: ignore[method-assign]


_tests: list[str] = []
"""What is collected or run now; what pytest does besides is its own matter."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    _tests.append(collector.nodeid)
    try:
        return (yield)
    finally:
        _tests.pop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _tests.append(item.nodeid)
    try:
        return (yield)
    finally:
        _tests.pop()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even looked into; what is named on the command line is."""
    return True if config.getoption("--quick") and collection_path in {HERE / name for name in TRAIN} else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        left = [item for item in items if any(item.iter_markers("long")) or any(item.iter_markers("system"))]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
