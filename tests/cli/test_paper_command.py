"""``tune_bn paper``: the tables as a reader and as a program see them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tune_bn.cli import main
from tune_bn.paper.tables import BASE, LAYOUT, TABLES, above_base, cells
from tune_bn.paper.text import MARK, as_text

NUMBER = re.compile(r"(\d+\.\d\d) ± (\d\.\d\d)( †)?")


@pytest.fixture(params=[40, 80, 120])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_is_printed_in_its_place_with_its_mark(table: str, width: int) -> None:
    text = as_text([table])
    printed = [(float(mean), float(std), bool(mark)) for mean, std, mark in NUMBER.findall(text)]
    assert printed == [(cell.mean, cell.std, above_base(cell)) for cell in cells(table)]
    labels = [line.split("  ")[0] for line in text.splitlines() if NUMBER.search(line)]
    rows = [cell.row for cell in cells(table) if cell.lr == 0.1]
    if LAYOUT[table].group is None:
        assert labels == rows
    else:
        assert len(list(filter(None, labels))) == rows.count(BASE)
    assert max(map(len, text.splitlines())) <= max(width, 72)
    assert LAYOUT[table].title in " ".join(text.split())


def test_the_mark_and_the_paired_test_are_explained() -> None:
    words = " ".join(as_text(["table1a"]).split())
    assert f"{MARK} above BASE of the same network, data set and α by Welch's one-sided t-test, p ≤ 0.05" in words
    assert "It cannot be recomputed from these tables" in words


@pytest.mark.long
def test_a_pipe_gets_the_tables_without_escape_codes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tune_bn", "paper"],
        cwd=tmp_path,
        env=os.environ | {"FORCE_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert len(NUMBER.findall(done.stdout)) == sum(len(cells(table)) for table in TABLES)
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


def test_a_program_gets_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["paper", "--json"])
    assert ended.value.code == 0
    tables = json.loads(capsys.readouterr().out)
    assert [table["table"] for table in tables] == list(TABLES)
    for table in tables:
        for row, cell in zip(table["cells"], cells(table["table"]), strict=True):
            keys = ("network", "dataset", "method", "gamma", "lr", "mean", "std", "n")
            assert {key: row[key] for key in keys} == {key: getattr(cell, key) for key in keys}
            assert (row["welch_p"] is None) == (cell.method == BASE)
            assert row["above_base"] == (row["welch_p"] is not None and row["welch_p"] <= 0.05)


def test_an_unknown_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["paper", "table3"])
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "error: TABLE: got 'table3'; accepted: table1a, table2a, table2b\n")
