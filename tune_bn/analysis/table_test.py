"""What is asked of a table of scores, and which of it goes together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_bn.analysis.claims import NO_LOOKS, Claim, claim_of
from tune_bn.analysis.doorman import KINDS
from tune_bn.analysis.score_words import FOLDS, LOOKS, PAIRED, THRESHOLD, UNPAIRED
from tune_bn.errors import ConfigError
from tune_bn.records.plan import HOLM


@dataclass(frozen=True, kw_only=True)
class TableTest:
    """How a table is judged.

    Raises:
        ConfigError: one of these is out of range, or does not go with another.
    """

    baseline: str | None = None
    """The arm to compare with; None where the table itself names it, and beside ``threshold``."""
    alpha: float = 0.05
    """Family-wise level, between 0 and 0.5."""
    goal: str | None = None
    """``"max"`` or ``"min"``; None where the name of the score says it."""
    unpaired: bool = False
    """Welch's test instead of the paired one; no run of one arm belongs to a run of another."""
    threshold: float | None = None
    """Compare every arm with this number instead of a baseline."""
    folds: int | None = None
    """The pairs are the folds of one or several cross-validations with so many folds."""
    looks: Sequence[int] | None = None
    """The table was, or is to be, judged after so many pairs each."""
    accept: Sequence[str] = ()
    """Kinds of findings (:data:`tune_bn.analysis.doorman.KINDS`) that are said instead of refused."""
    kind: str | None = None
    """``superior``, ``noninferior`` or ``equivalent``; None: superior."""
    margin: float | None = None
    """In the unit of the score; see :mod:`tune_bn.analysis.claims`."""
    correction: str = HOLM
    """For several arms; ``max_t`` where they are paired (:mod:`tune_bn.analysis.max_t`)."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            # From there on an arm that is worse could be called better.
            raise ConfigError("alpha", self.alpha, "a number between 0 and 0.5")
        for accepted in self.accept:
            if accepted not in KINDS:
                raise ConfigError("accept", accepted, ", ".join(KINDS))
        if self.claim.ceiling is not None and self.looks is not None:
            raise ConfigError("kind", self.kind, f"superior or noninferior beside looks; {NO_LOOKS}")
        if len(self._ways) > 1:
            one, other, *_ = self._ways
            raise ConfigError(other, self._ways[other], f"one of {one} and {other}, not both")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError("threshold", self.threshold, "a finite number")
        if self.threshold is not None and self.baseline is not None:
            raise ConfigError(
                "baseline", self.baseline, "no baseline beside a threshold, which is compared with every arm"
            )

    @property
    def _ways(self) -> dict[str, Any]:
        """By mode what asks for it; at most one is accepted."""
        ways = {UNPAIRED: self.unpaired or None, THRESHOLD: self.threshold, FOLDS: self.folds, LOOKS: self.looks}
        return {mode: value for mode, value in ways.items() if value is not None}

    @property
    def claim(self) -> Claim:
        """What has to be shown of an arm."""
        return claim_of(self.kind, self.margin)

    @property
    def mode(self) -> str:
        """How the runs were made, as :mod:`tune_bn.analysis.score_words` names it."""
        return next(iter(self._ways), PAIRED)

    @property
    def is_paired(self) -> bool:
        """Whether a run of one arm belongs to a run of another."""
        return self.mode in (PAIRED, FOLDS, LOOKS)
