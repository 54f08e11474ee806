"""The harness itself: a study on Ray, by the command line, equals its undisturbed reference and costs the same work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from faults.harness import FaultTable, Outcome, References, Workplace, essence

RUNS, STEPS_OF_A_RUN = 11, 50


def test_a_study_from_the_command_line_is_as_the_reference(tmp_path: Path, undisturbed: References) -> None:
    place = Workplace(tmp_path / "place", pace=0)
    ended = place.search()
    assert ended.returncode in (0, 1), ended.stderr
    row = FaultTable().add("none", 0, undisturbed(), place.outcome())
    assert (row.lost, row.duplicates, row.extra_work_percent) == (0, 0, 0.0)
    assert len(essence(place.records())) == RUNS
    assert place.steps == RUNS * STEPS_OF_A_RUN


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
