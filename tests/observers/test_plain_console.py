"""Tables that a verb prints: as wide as a terminal, and whole in a pipe."""

from __future__ import annotations

import sys

import pytest
from rich.table import Table

from tests.observers.standard_output import StandardOutput
from tune_bn.observers.console.plain import rendered


@pytest.mark.parametrize(
    ("terminal", "environment", "whole"),
    [(False, {}, True), (False, {"FORCE_COLOR": "1"}, True), (True, {"TERM": "xterm", "COLUMNS": "40"}, False)],
)
def test_a_pipe_gets_the_whole_text_of_a_column_whatever_is_said_of_colours(
    terminal: bool, environment: dict[str, str], whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", StandardOutput(terminal))
    table = Table()
    table.add_column("a")
    table.add_row("x" * 200)
    assert ("x" * 200 in rendered(table)) is whole
