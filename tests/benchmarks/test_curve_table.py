"""A table of learning curves grows over many sittings: nothing is lost, doubled or trained twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.statistics import curve_table
from benchmarks.statistics.curve_table import Cell, Table, name_of, pack, train
from tune_bn.data.config import DataConfig

CELLS = [Cell(0.1, gamma, 10.0, 1) for gamma in (1.0, 0.5, 0.1)]


@pytest.fixture
def few_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A table of three runs of one epoch, trained by nobody: the names of those that were asked for."""
    asked: list[str] = []

    def train_run(table: Table, data: Any, cell: Cell, seed: int) -> dict[str, Any]:
        asked.append(name_of(cell, seed))
        row = {"seed": seed, "lr": cell.lr, "gamma": cell.gamma, "c": cell.c, "epochs": cell.epochs}
        return row | {"val_accuracy": [50.0], "test_accuracy_final": 49.0, "test_correct_final": "ff"}

    data = DataConfig(source="digits", train_size=300)
    table = Table(data, 64, lambda: ((cell, 1) for cell in CELLS))
    monkeypatch.setattr(curve_table, "train_run", train_run)
    monkeypatch.setattr(curve_table, "table_of", lambda name, root: table)
    monkeypatch.setattr(curve_table, "RUNS", tmp_path / "runs")
    return asked


def test_a_second_sitting_trains_what_is_missing_and_adds_it(
    few_runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    train("digits", None, 60, "1/2", results)  # the first and the third
    pack("digits", results)
    first = pd.read_parquet(results / "curve_table/digits.parquet")
    assert sorted(first.gamma) == [0.1, 1.0]

    monkeypatch.setattr(curve_table, "RUNS", tmp_path / "another machine")
    train("digits", None, 60, "1/1", results)
    assert few_runs == [name_of(CELLS[0], 1), name_of(CELLS[2], 1), name_of(CELLS[1], 1)]
    pack("digits", results)
    both = pd.read_parquet(results / "curve_table/digits.parquet")
    assert sorted(both.gamma) == [0.1, 0.5, 1.0]
    assert json.loads((results / "curve_table/digits.json").read_text())["runs"] == 3
    kept = both.set_index("gamma").loc[first.gamma]
    pd.testing.assert_frame_equal(kept.reset_index()[list(first.columns)], first)


def test_runs_on_other_data_are_not_mixed(few_runs: list[str], tmp_path: Path) -> None:
    train("digits", None, 60, "1/1", tmp_path)
    pack("digits", tmp_path)
    path = tmp_path / "curve_table/digits.json"
    told = json.loads(path.read_text())
    told["made"][0]["data_sha256"] = "0" * 64
    path.write_text(json.dumps(told))
    with pytest.raises(SystemExit, match="other data"):
        train("digits", None, 60, "1/1", tmp_path)
    with pytest.raises(SystemExit, match="2 different data sets"):
        pack("digits", tmp_path)
