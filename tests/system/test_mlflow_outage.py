"""A study goes on while MLflow and its database are away, and afterwards MLflow shows every record exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import FaultTable, Outcome, References
from tune_bn.records.record import Record

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.system
def test_a_study_outlives_its_tracking_server_which_then_shows_everything_once(
    run_sandboxed: Callable[..., Path], fault_table: FaultTable, undisturbed: References
) -> None:
    run = run_sandboxed("mlflow_outage.sh", tools=["setpriv", "chromium"], REPOSITORY=str(REPOSITORY))
    outcome = json.loads((run / "outage.json").read_text(encoding="utf-8"))
    records = tuple(Record(**record) for record in outcome["records"])
    disturbed = Outcome(records, outcome["steps"])
    row = fault_table.add("MLflow killed, away, its database away", 3, undisturbed(outcome["content"]), disturbed)

    assert outcome["returncode"] == 0, outcome["said"]
    assert (row.lost, row.duplicates, row.extra_work_percent) == (0, 0, 0)
    assert outcome["tries"] >= 2, "it was away for longer than the pause between two attempts"
    assert outcome["outages"] >= 2
    assert outcome["missing"] == []

    seen = json.loads((run / "seen.json").read_text(encoding="utf-8"))
    shown = [line for line in seen["tree"].splitlines() if line.startswith(("search-", "select-", "confirm-"))]
    assert sorted(shown) == sorted(record.key for record in records), "unfolded below their parent"
    assert "Step" in seen["curve"]["text"]
    assert seen["curve"]["points"] == outcome["content"]["train"]["epochs"]
    assert "paired t-test" in seen["report"]
