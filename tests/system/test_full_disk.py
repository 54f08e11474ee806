"""A real disk that is full, read-only, or too small for Ray: one line each time, and a resume that lacks nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.harness import FaultTable, Outcome, References

from tune_bn.records import RecordLog

TESTS = Path(__file__).parents[1]


@pytest.mark.system
def test_a_study_outlives_its_disks(
    run_sandboxed: Callable[..., Path], undisturbed: References, fault_table: FaultTable
) -> None:
    run = run_sandboxed("full_disk.sh", tools=["mount"], timeout=280, TESTS=str(TESTS))
    seen = json.loads((run / "seen.json").read_text(encoding="utf-8"))
    for name, reason in (("full", "No space left on device"), ("read-only", "Read-only file system")):
        last = seen[name]["said"].splitlines()[-1]
        assert seen[name]["code"] == 2, seen[name]
        assert last.startswith("error: ")
        assert f"cannot be written ({reason})" in last
        assert "Traceback" not in seen[name]["said"]
    assert seen["still full"]["code"] == 2
    assert "Traceback" not in seen["still full"]["said"] + seen["no room for ray"]["said"]
    records = tuple(RecordLog(run / "home" / "study" / "records.jsonl").read())
    reference = undisturbed()
    row = fault_table.add("disk full, read-only, no room for Ray", 4, reference, Outcome(records, seen["end"]["steps"]))
    assert seen["end"]["code"] in (0, 1), seen["end"]
    assert (row.lost, row.duplicates) == (0, 0)
