"""A real disk that is full, read-only, or has no room for Ray: one line each, and a resume that lacks nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import FaultTable, Outcome, References
from tune_bn.records.log import RecordLog

TESTS = Path(__file__).parents[1]

PROBLEMS = {
    "full": "cannot be written (No space left on device); what finished is kept",
    "read-only": "cannot be written (Read-only file system)",
    "no room for Ray": "No space left on device",
}


@pytest.mark.system
def test_a_study_outlives_its_disk(
    run_sandboxed: Callable[..., Path], undisturbed: References, fault_table: FaultTable
) -> None:
    run = run_sandboxed("full_disk.sh", tools=["mount"], TESTS=str(TESTS))
    seen = json.loads((run / "seen.json").read_text(encoding="utf-8"))
    for what, expected in PROBLEMS.items():
        assert seen[what]["code"] == 2, seen[what]
        assert "Traceback" not in seen[what]["said"]
        (error,) = [line for line in seen[what]["said"].splitlines() if line.startswith("error: ")]
        assert error == seen[what]["said"].splitlines()[-1]
        assert expected in error
        assert seen[what]["records"] >= seen["full"]["records"]
    records = tuple(RecordLog(run / "home" / "study" / "records.jsonl").read())
    reference = undisturbed()
    row = fault_table.add("disk full, on a real disk", 1, reference, Outcome(records, seen["end"]["steps"]))
    assert seen["end"]["code"] in (0, 1), seen["end"]
    assert (row.lost, row.duplicates) == (0, 0)
