"""Fixtures of the fault tests, here and in ``tests/system``: ``tests/conftest.py`` makes them known."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import asdict
from typing import Any

import pytest

from tests.faults.harness import FaultRow, FaultTable, References

_TABLE = pytest.StashKey[FaultTable]()


@pytest.fixture(scope="session")
def fault_table(request: pytest.FixtureRequest) -> FaultTable:
    """The table of faults that is printed when the session ends."""
    return request.config.stash.setdefault(_TABLE, FaultTable())


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> References:
    """``undisturbed(space)`` is what the study leaves behind when nothing goes wrong."""
    return References(tmp_path_factory.mktemp("undisturbed"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several hands its rows to the one that prints."""
    output = getattr(session.config, "workeroutput", None)
    table = session.config.stash.get(_TABLE, None)
    if output is not None and table is not None:
        output["faults"] = [asdict(row) for row in table.rows]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes the rows of a process that is through."""
    table = node.config.stash.setdefault(_TABLE, FaultTable())
    table.rows += [FaultRow(**row) for row in getattr(node, "workeroutput", {}).get("faults", [])]
    if error is not None:
        # What it printed last lies in a file of its own that went with it; a signal or a status is at least a trace.
        with contextlib.suppress(AttributeError, subprocess.TimeoutExpired):
            status = node.gateway._io.popen.wait(5)
            node.config.get_terminal_writer().line(f"\n{node.gateway.id}: ended with status {status} ({error})")


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    table = config.stash.get(_TABLE, None)
    if table is not None and table.rows:
        terminalreporter.section("faults")
        for line in table.lines():
            terminalreporter.write_line(line)
