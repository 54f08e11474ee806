"""The table of faults itself: what it takes for lost, and what for a duplicate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.harness import FaultTable, Outcome, References


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda records: records, (0, 0)),
        (lambda records: records[1:], (1, 0)),
        (lambda records: [*records, records[0]], (0, 1)),
        (lambda records: [replace(records[0], status="failed"), *records], (0, 0)),
        (lambda records: [replace(records[0], scores={"val_accuracy": 0.5}), *records[1:]], (1, 0)),
        (lambda records: [*records, replace(records[0], seed=99)], (1, 0)),
    ],
    ids=["nothing", "a lost run", "a run twice", "a failed run that was run again", "another score", "a run too many"],
)
def test_the_table_sees(undisturbed: References, change, expected) -> None:  # type: ignore[no-untyped-def]
    reference = undisturbed()
    row = FaultTable().add(
        "a fault", 1, reference, Outcome(tuple(change(list(reference.records))), reference.steps * 2)
    )
    assert (row.lost, row.duplicates) == expected
    assert row.extra_work_percent == 100.0
