"""The verdict on a table of scores, as ``tune_bn verify --scores --json`` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_bn.records.reading import as_json, from_json
from tune_bn.records.verdict import AnyVerdict, Arm, Compared, json_of
from tune_bn.records.verdict_details import Look, OtherTests, RankTests, Welch


@dataclass(frozen=True, kw_only=True)
class TableArm(Arm):
    """The baseline of a table."""

    n: int
    """Its scores."""

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        return json_of(self, _ARM)


@dataclass(frozen=True, kw_only=True)
class TableCandidate(Compared):
    """Another arm of a table."""

    sensitivity: OtherTests | RankTests | None = None
    welch: Welch | None = None
    """Welch's test beside the paired one; None where it cannot be made."""
    doubt: str | None = None
    """What speaks against the pairs."""
    df: float | None = None
    """Degrees of freedom, of runs that are no pairs."""
    uncorrected_p_value: float | None = None
    """Of the plain paired t-test over folds, as the next one."""
    test_to_train: float | None = None
    decision: str | None = None
    """Of the last look, where there are any."""
    looks: tuple[Look, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is printed: what only one kind of test has stands there where it has it."""
        further = [key for key in ("df", "uncorrected_p_value", "test_to_train", "decision") if self._has(key)]
        return json_of(self, [*_ARM, *_CANDIDATE, *further, *(["looks"] if self._has("decision") else [])])

    def _has(self, key: str) -> bool:
        return getattr(self, key) is not None


@dataclass(frozen=True, kw_only=True)
class ScoreVerdict(AnyVerdict):
    """The verdict on a table."""

    source: str
    """The table's name."""
    goal: str
    """``max`` or ``min``."""
    goal_from: str
    """``name`` of the score, or ``stated``."""
    mode: str
    """How the runs were made; see :mod:`tune_bn.analysis.score_words`."""
    paired_by: str
    """The columns whose values make a pair."""
    pairs: tuple[str, ...] = ()
    threshold: float | None = None
    folds: int | None = None
    looks: tuple[int, ...] | None = None
    baseline: TableArm | None = None
    """None where the arms are compared with a threshold."""
    candidates: tuple[TableCandidate, ...] = ()

    @property
    def first_baseline(self) -> Arm | None:
        return self.baseline

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        return {key: as_json(getattr(self, key)) for key in _VERDICT}


_ARM = ("arm", "n", "scores", "mean", "std")
_CANDIDATE = (
    *("effect", "difference", "std_difference", "ci_low", "ci", "p_value", "p_two_sided", "p_worse", "p_adjusted"),
    *("p_worse_adjusted", "ci_adjusted", "adjusted_levels", "simultaneous_low", "d_z", "correlation", "sensitivity"),
    *("welch", "doubt", "supported", "worse", "outcome", "not_tested"),
)
_VERDICT = (
    *("schema_version", "source", "verdict", "headline", "reason", "problems", "remarks", "metric", "goal"),
    *("goal_from", "mode", "test", "alpha", "correction", "kind", "margin", "n", "paired_by", "pairs", "threshold"),
    *("folds", "looks", "baseline", "candidates", "worse", "ci_confidence", "selection"),
)


def score_verdict_from(content: Mapping[str, Any]) -> ScoreVerdict:
    """What was printed as a verdict on a table. Raises :class:`tune_bn.records.reading.Refused` where it is none."""
    return from_json(ScoreVerdict, dict(content))
