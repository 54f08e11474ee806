"""Fixtures of the fault tests, here and in ``tests/system``: ``tests/conftest.py`` makes them known."""

from __future__ import annotations

from typing import Any

import pytest
from faults.harness import FaultTable, References

_TABLE = pytest.StashKey[FaultTable]()


@pytest.fixture(scope="session")
def fault_table(request: pytest.FixtureRequest) -> FaultTable:
    """The table of faults that is printed when the session ends."""
    return request.config.stash.setdefault(_TABLE, FaultTable())


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> References:
    """``undisturbed(space)`` is what the study leaves behind when nothing goes wrong."""
    return References(tmp_path_factory.mktemp("undisturbed"))


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    table = config.stash.get(_TABLE, None)
    if table is not None and table.rows:
        terminalreporter.section("faults")
        for line in table.lines():
            terminalreporter.write_line(line)
