"""Runs that came to nothing: when to end a stage over them, and how to say what became of trials."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_bn.analysis.validity import shortened
from tune_bn.errors import StudyError
from tune_bn.protocols.runner import RunResult, Task
from tune_bn.records.record import COMPLETED, DIVERGED, FAILED, PRUNED, SEARCH, Record

FIRST = 3
"""Tasks in a row that fail alike before any other end: what is broken there is broken for all of them."""
LATER = 10
"""The same once others have ended well. A few in a row may be the fault of their configurations."""


@dataclass
class _Row:
    """Tasks that failed alike, one after the other."""

    kind: str = ""
    first: str = ""
    length: int = 0
    well: int = 0
    """Tasks that ended otherwise, whenever."""

    def take(self, reason: str | None) -> bool:
        """Whether this failure, or None for another end, is the one that makes it enough."""
        if reason is None:
            self.well, self.length = self.well + 1, 0
            return False
        kind = kind_of(reason)
        if kind != self.kind or not self.length:
            self.kind, self.first, self.length = kind, reason, 0
        self.length += 1
        return self.length >= (LATER if self.well else FIRST)


class FailingAlike:
    """Ends a stage in which one task after the other fails with the same error, instead of spending its budget on it.

    It counts what comes back in this process, over all arms and for each arm by itself. A worker that was lost is not
    the study's fault and counts for nothing.

    Args:
        place: the study's folder, for the error.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._rows: dict[str, _Row] = {}

    def take(self, task: Task, results: Sequence[RunResult]) -> None:
        """A task came back.

        Raises:
            StudyError: it is one too many that failed alike.
        """
        failed = [result for result in results if result.status == FAILED]
        if any(result.lost for result in failed):
            return
        reason = failed[0].reason if failed else None
        # Both hear of it, before either ends the stage.
        enough = [arm for arm in (task.arm, "") if self._rows.setdefault(arm, _Row()).take(reason)]
        if enough:
            row = self._rows[enough[0]]
            which = "last" if row.well else "first"
            what = f"{enough[0]} " if enough[0] else ""
            raise StudyError(
                f"{self.place}: the {which} {row.length} {what}{'trials' if task.stage == SEARCH else 'runs'} of the "
                f"stage {task.stage} all raised the same error: {shortened(row.first)}; what finished is kept; "
                "accepted: --resume once its cause is mended, which tries them again"
            )


def kind_of(reason: str) -> str:
    """What errors that are alike have in common: class and message, but for their numbers and addresses."""
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "N", reason)


def raised_words(records: Iterable[Record]) -> str:
    """``3 raised (the first: ERROR)``, of failed runs; empty where none failed."""
    reasons = [record.reason for record in records if record.status == FAILED]
    return f"{len(reasons)} raised (the first: {shortened(reasons[0])})" if reasons else ""


def trial_words(records: Iterable[Record], arm: str) -> tuple[str, str]:
    """What became of the trials of an arm, none of which ran to its end on every seed, and what would help."""
    trials: dict[int | None, dict[int, Record]] = {}
    for record in records:
        if record.stage == SEARCH and record.arm == arm:
            trials.setdefault(record.trial, {})[record.seed] = record
    if not trials:
        return "none was begun", "--resume, with more budget.hours where there is such a limit"
    found: dict[str, list[Record]] = {}
    for runs in trials.values():
        statuses = {run.status: run for run in runs.values()}
        worst = next(status for status in (FAILED, DIVERGED, PRUNED, COMPLETED) if status in statuses)
        found.setdefault(worst, []).append(statuses[worst])
    parts = [
        raised_words(found.get(FAILED, ())),
        *(
            f"{len(found[status])} {words}"
            for status, words in (
                (DIVERGED, "diverged"),
                (PRUNED, "stopped early"),
                (COMPLETED, "equal to the baseline or not run on every seed"),
            )
            if status in found
        ),
    ]
    ways = {
        FAILED: "--resume once the cause of the error is mended",
        DIVERGED: "values that train, such as smaller learning rates",
        PRUNED: "a scheduler that stops later",
        COMPLETED: "more budget.trials",
    }
    words = ", ".join(part for part in parts if part)
    alike = len(found) == 1 and len(trials) > 1
    return f"all {words}" if alike else words, " or ".join(ways[status] for status in ways if status in found)
