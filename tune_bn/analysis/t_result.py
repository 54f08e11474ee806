"""What every t-test of this package answers, and why some scores cannot be tested.

A test is one-sided, for a gain. Its mirror, for a loss, comes with it, and so does the interval that belongs to both:
[``ci_low``, ``ci_high``], two-sided at 1 − 2·alpha. Its lower end is at or above 0 exactly where ``p_value`` ≤ alpha,
its upper end at or below 0 exactly where ``p_value_less`` ≤ alpha.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from enum import StrEnum

from scipy import special

from tune_bn.analysis.claims import agreeing
from tune_bn.errors import TuneBNError

LARGEST_SCORE = 1e300
"""Beyond it the ends of an interval could not be computed."""
SMALLEST_SPREAD = 1e-305
"""Below it a standard error would have lost its digits."""


class PairsProblem(StrEnum):
    """Why scores cannot be judged by a t-test."""

    UNPAIRED = "unpaired"
    TOO_FEW = "too_few"
    NOT_FINITE = "not_finite"
    IDENTICAL = "identical"
    CONSTANT = "constant_difference"


class PairsError(TuneBNError, ValueError):
    """Scores cannot be judged; ``problem`` says why. A test statistic would be NaN or infinite."""

    def __init__(self, problem: PairsProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem

    @property
    def without_spread(self) -> bool:
        """Whether the scores are sound, and only do not vary: among several arms that is no fault of the others."""
        return self.problem in (PairsProblem.IDENTICAL, PairsProblem.CONSTANT)


@dataclass(frozen=True, kw_only=True)
class TResult:
    """Outcome of a t-test, in the unit of the scores; every number is finite but at levels below 1e-7."""

    effect: float
    """Estimate of what is tested against 0."""
    se: float
    """Its standard error."""
    t: float
    """effect / se."""
    df: float
    """Degrees of freedom."""
    alpha: float
    """Level of the one-sided test, and of its mirror."""
    p_value: float
    """P(T ≥ t) without an effect: one-sided, for a gain; in (0, 1]."""
    p_value_less: float
    """P(T ≤ t): one-sided, for a loss."""

    @property
    def p_value_two_sided(self) -> float:
        """P(|T| ≥ |t|), twice the smaller of the two one-sided p-values."""
        return min(1.0, 2 * min(self.p_value, self.p_value_less))

    @property
    def ci_low(self) -> float:
        """One-sided lower confidence bound of the effect at 1 − alpha; ≥ 0 exactly where ``p_value`` ≤ alpha."""
        return self.bounds(self.alpha)[0]

    @property
    def ci_high(self) -> float:
        """One-sided upper confidence bound at 1 − alpha; ≤ 0 exactly where ``p_value_less`` ≤ alpha."""
        return self.bounds(self.alpha)[1]

    def bounds(self, level: float) -> tuple[float, float]:
        """The lower and the upper one-sided bound at 1 − level, together a two-sided interval at 1 − 2·level.

        effect ∓ t(1 − level, df)·se. At levels too small for a quantile they are infinite.
        """
        reach = -float(special.stdtrit(self.df, level)) * self.se
        if math.isnan(reach):
            reach = math.inf
        low = agreeing(self.effect - reach, rejected=self.p_value <= level)
        high = 0.0 - agreeing(-self.effect - reach, rejected=self.p_value_less <= level)
        return low, high


def t_result(*, effect: float, se: float, df: float, alpha: float, t: float | None = None) -> TResult:
    """The outcome for an estimate with its standard error; ``t`` where it is known more exactly than effect / se."""
    statistic = effect / se if t is None else t
    statistic = min(max(statistic, -sys.float_info.max), sys.float_info.max)
    return TResult(
        effect=effect,
        se=se,
        t=statistic,
        df=df,
        alpha=alpha,
        p_value=tail(df, -statistic),
        p_value_less=tail(df, statistic),
    )


def tail(df: float, t: float) -> float:
    """P(T ≤ t) with ``df`` degrees of freedom. A probability below the smallest double is not zero."""
    return min(1.0, max(float(special.stdtr(df, t)), sys.float_info.min))
