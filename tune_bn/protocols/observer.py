"""The contract between a study and whoever follows it: the console, and the experiment tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tune_bn.protocols.runner import Listener, Point
from tune_bn.records.plan import Plan
from tune_bn.records.record import Record
from tune_bn.records.score import Score, accuracy


def _never(config: Mapping[str, Any]) -> bool:
    return False


@dataclass(frozen=True)
class StudyInfo:
    """What identifies a study to those who follow it."""

    name: str
    """The name of its beginning, which its records bear; the folder may be called otherwise by now."""
    space_name: str
    folder: Path
    space_sha256: str
    commit: str | None
    versions: Mapping[str, str]
    study_id: str = ""
    """What tells it from another study of the same name; empty: as :mod:`tune_bn.records.identity` finds it."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The identity of its data, as :mod:`tune_bn.records.provenance` has it."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What is the same in all of its runs: the sections of its space, without what is searched."""
    searched: Sequence[str] = ()
    """The keys that its search proposes."""
    score: Score = field(default_factory=accuracy)
    """What its runs are scored by."""
    is_baseline: Callable[[Mapping[str, Any]], bool] = _never
    """Whether a configuration is the baseline at its own nuisance values, and so no candidate."""


class Observer(Listener, Protocol):
    """Follows a study from its start to its verdict.

    An observer mirrors; it decides nothing. It must not raise, and must not hold the study up: slow work goes to a
    thread of its own, and what could not be delivered is caught up from ``records.jsonl`` and ``curves.jsonl``.
    """

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        """The study begins, or goes on with these records already in its folder."""

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        """A stage begins: so many runs are planned (an upper bound), so many of them done before."""

    def early_order_seen(self, line: str) -> None:
        """A look at the whole trials of the search says, in one line, from which epoch on stopping is safe, or that it
        is not; ``early_order.json`` says it in numbers."""

    def plan_locked(self, plan: Plan) -> None:
        """The confirmation begins, or goes on, under this plan."""

    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        """One run is finished and on disk."""

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """Files of the study folder are new or changed: space, plan, records, verdict, report, plots."""

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        """The study ends: ``FINISHED``, ``KILLED`` (interrupted by the user) or ``FAILED``; flush, then let go.

        ``summary`` holds the verdict in flat keys: ``verdict`` (text), ``effect``, ``p_value``, … where they exist.
        """
