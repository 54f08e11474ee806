"""The paper's tables on the console: as it prints them, and ours beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tune_bn.analysis.wording import spread_words
from tune_bn.observers.console.plain import plain_console
from tune_bn.paper.reproduction import (
    Column,
    compare,
    deviation_words,
    difference_words,
    diverged_words,
    heading,
    ours_words,
    overlap_words,
)
from tune_bn.paper.tables import ALPHA, LAYOUT, READINGS, SEEDS, Cell, above_base, base_of, cells, group_words, welch
from tune_bn.records.verdict import Verdict

MARK = "†"
_WIDEST_TEXT, _NARROWEST_TABLE = 100, 72
_HEADINGS = {"gamma": "γ", "method": "method", "network": "network", "dataset": "data set"}
_MEANING = f"Test accuracy in %, mean ± standard deviation over {len(SEEDS)} runs with different seeds."
_MARKED = (
    f"{MARK} above BASE of the same network, data set and α by Welch's one-sided t-test, p ≤ {ALPHA:g}, not adjusted "
    "for the number of cells."
)
_PAIRED = (
    "The paper's own test is paired over seeds. It cannot be recomputed from these tables: it needs the correlation of "
    f"the two arms over the seeds, which is not published. A cell without {MARK} may be significant in it, and the "
    "other way round."
)


def as_rows(tables: Sequence[str]) -> list[dict[str, Any]]:
    """The tables as plain values; the help of the verb describes them."""
    return [
        {
            "table": name,
            "title": LAYOUT[name].title,
            "readings": list(READINGS[name]),
            "cells": [_cell_row(cell) for cell in cells(name)],
        }
        for name in tables
    ]


def _cell_row(cell: Cell) -> dict[str, Any]:
    base = base_of(cell)
    row = {key: value for key, value in asdict(cell).items() if key != "table"}
    return row | {"welch_p": None if cell is base else welch(cell, base), "above_base": above_base(cell)}


def as_text(tables: Sequence[str]) -> str:
    """The tables for people, at most as wide as the terminal."""
    return "\n\n".join([wrapped(_MEANING), *map(_described, tables), wrapped(_PAIRED)])


def _described(name: str) -> str:
    layout = LAYOUT[name]
    rates = list(dict.fromkeys(cell.lr for cell in cells(name)))
    labels = [_HEADINGS[key] for key in layout.keys if key != "lr"]
    table = new_table([*labels, *(f"α = {rate:g}" for rate in rates)])
    for group, members in groupby(cells(name), key=group_words):
        for index, (row, along) in enumerate(groupby(members, key=lambda cell: cell.row)):
            head = [] if layout.group is None else ["" if index else group]
            table.add_row(*head, row, *map(_number, along))
        table.add_section()
    return "\n".join([wrapped(layout.title), "", rendered(table), "", wrapped(_MARKED), *map(bullet, READINGS[name])])


def _number(cell: Cell) -> str:
    return f"{spread_words(cell.mean, cell.std)}{f' {MARK}' if above_base(cell) else ''}"


def new_table(columns: Sequence[str]) -> Table:
    """An empty table, no cell of which is broken over lines. Its numbers have equal widths, so they align as text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def rendered(table: Table) -> str:
    """A table without colours and without spaces at the ends of its lines: the same in a pipe as on a terminal."""
    console = _console()
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().rstrip("\n").split("\n"))


def wrapped(text: str, indent: str = "") -> str:
    """A remark, wrapped at the width of the terminal or at a readable one."""
    width = min(_console().width, _WIDEST_TEXT)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=" " * len(indent))


def bullet(text: str) -> str:
    """A remark as an item of a list."""
    return wrapped(text, "- ")


def announcement(column: Column) -> str:
    """What is about to be run, before it takes its hours."""
    seeds = len(column.space.seeds.confirm)
    arms = ", ".join(["BASE", *(cell.row for cell in column.cells)])
    runs = f"{heading(column)}: {arms} on {seeds} seeds, {(1 + len(column.cells)) * seeds} runs"
    return f"{wrapped(runs)}\n{wrapped(deviation_words(column))}"


def comparison_text(column: Column, verdict: Verdict) -> str:
    """Ours beside the published values of a column."""
    table = new_table([_HEADINGS[LAYOUT[column.cells[0].table].by], "published", "ours", "difference", "overlap"])
    for row in compare(column, verdict):
        table.add_row(
            row.cell.row,
            spread_words(row.cell.mean, row.cell.std),
            ours_words(row),
            difference_words(row),
            overlap_words(row),
        )
    runs = f"{len(column.space.seeds.confirm)} seeds; published: {len(SEEDS)}"
    lines = [f"{heading(column)} (study {verdict.study}; {runs})", deviation_words(column), *diverged_words(verdict)]
    return "\n".join([*map(wrapped, lines), "", rendered(table)])


def _console() -> Console:
    return plain_console(colours=False, least_width=_NARROWEST_TABLE)
