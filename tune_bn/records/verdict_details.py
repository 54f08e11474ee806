"""What a verdict states of a comparison beside the decision on it: other tests, looks, luck, divergence, test images.

Each is what a function of :mod:`tune_bn.analysis` found; formula and source stand there. Numbers are in the unit of the
scores where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from tune_bn.errors import ConfigError
from tune_bn.records.reading import MoreKeys, ReadBy

Ends = tuple[float | None, float | None]
"""Of an interval; None is an end that is open."""


class Decision(StrEnum):
    """What a candidate is told at a look."""

    CONTINUE = "continue"
    EFFICACY = "efficacy"
    FUTILITY = "futility"
    LAST_LOOK = "last_look"
    """The last look has passed and nothing was shown."""


def _decision(value: object) -> Decision:
    found = next((one for one in Decision if one == value), None)
    if found is None:
        raise ConfigError("decision", value, " or ".join(Decision))
    return found


@dataclass(frozen=True)
class Look(MoreKeys):
    """What one look at one candidate gave. Scores in percent give percentage points."""

    n: int
    """Pairs."""
    effect: float
    """Mean of the differences candidate − baseline."""
    std: float
    """Standard deviation of the differences (ddof = 1)."""
    t: float | None
    """The paired t statistic; None where the differences are all the same, and then the look decides nothing."""
    nominal_p: float
    """P(T ≥ t) as in a fixed test on these pairs; not evidence by itself. 1 where t is None."""
    efficacy: float
    """Boundary of efficacy at this look, for a single candidate."""
    futility: float | None
    """Bound of futility at this look."""
    p_value: float
    """Repeated p-value, valid at all looks together, not adjusted for the number of candidates; 1 where t is None."""
    ci_low: float | None
    """One-sided lower confidence bound of the mean difference at level 1 − alpha, valid at all looks together, not
    adjusted for the number of candidates; None where t is."""
    decision: Annotated[Decision, ReadBy(_decision)]


@dataclass(frozen=True)
class Opponent(MoreKeys):
    """One of several tunings of the baseline, against each of which a claim has to hold."""

    arm: str
    """Its name."""
    effect: float
    """Mean gain over it."""
    ci: Ends
    """Two-sided at 1 − 2·alpha."""
    p_value: float
    """One-sided, for the claim; the largest of them is the candidate's."""


@dataclass(frozen=True)
class SignedRank(MoreKeys):
    """Outcome of :func:`tune_bn.analysis.sensitivity.wilcoxon_signed_rank`."""

    statistic: float
    """W⁺, the sum of the ranks of the positive differences."""
    n: int
    """Differences that are not zero."""
    zeros: int
    """Differences that are zero, and were dropped."""
    ties: int
    """Differences that share their rank with another."""
    exact: bool
    p_value: float


@dataclass(frozen=True)
class SignFlip(MoreKeys):
    """Outcome of :func:`tune_bn.analysis.sensitivity.sign_flip_test`."""

    flips: int
    """Assignments of signs that the p-value counts: all 2ⁿ, or those that were drawn."""
    exact: bool
    p_value: float


@dataclass(frozen=True)
class OtherTests(MoreKeys):
    """The same paired differences under other tests and intervals, by
    :func:`tune_bn.analysis.sensitivity.sensitivity_analysis`."""

    wilcoxon: SignedRank
    sign_flip: SignFlip
    t_interval: Ends
    bootstrap_interval: Ends
    confidence: float
    """Of both intervals."""


@dataclass(frozen=True)
class RankSum(MoreKeys):
    """Outcome of :func:`tune_bn.analysis.unpaired.rank_sum_test`."""

    statistic: float
    """U, the pairs (one of each arm) in which the first is higher; a tie counts ½."""
    ties: int
    """Scores that share their rank with another."""
    exact: bool
    p_value: float
    """One-sided, for a first arm that is higher."""
    p_value_less: float
    """One-sided, for a first arm that is lower."""


@dataclass(frozen=True)
class Shift(MoreKeys):
    """Outcome of :func:`tune_bn.analysis.unpaired.hodges_lehmann`."""

    estimate: float
    """Median of the differences of all pairs, one score of each arm."""
    low: float | None
    """One-sided lower bound of the shift at 1 − alpha; None where so few scores bound nothing."""
    high: float | None
    """One-sided upper bound at 1 − alpha."""
    ties: int
    """Scores that share their rank with another. With ties the confidence is approximate, mostly higher."""
    exact: bool
    """Whether the bounds are from the exact distribution of U, not its normal approximation."""


@dataclass(frozen=True)
class RankTests(MoreKeys):
    """The same scores of two arms that are no pairs, by tests of their ranks."""

    rank_sum: RankSum
    hodges_lehmann: Shift


@dataclass(frozen=True)
class Welch(MoreKeys):
    """Welch's test beside the paired one, adjusted for the same family; see
    :func:`tune_bn.analysis.score_tests.add_doubts`."""

    df: float
    p_value: float
    p_adjusted: float
    p_two_sided: float
    ci: Ends
    supported: bool
    worse: bool


@dataclass(frozen=True)
class StageMean(MoreKeys):
    """Mean validation score of a configuration in one stage."""

    mean: float
    n: int
    """Seeds."""


@dataclass(frozen=True)
class Shrinkage(MoreKeys):
    """How much of a gain was luck, by :func:`tune_bn.analysis.shrinkage.shrinkage`; gains are positive where better."""

    metric: str
    search: StageMean
    select: StageMean | None
    """None without a selection, as the gain in it."""
    confirm: StageMean
    baseline: StageMean
    searched_gain: float
    selected_gain: float | None
    confirmed_gain: float
    luck: float
    """What the searched gain lost on fresh seeds."""


@dataclass(frozen=True)
class Divergence(MoreKeys):
    """How often a candidate may diverge, for all that is known; see :func:`tune_bn.analysis.about.divergence`."""

    runs: int
    """Whole runs of its configuration, in whatever stage."""
    diverged: int
    upper: float
    """One-sided bound of the rate at 1 − alpha."""
    undoing: float | None
    """Rate at which the mean gain would be no more than was claimed; None where none would do that."""


@dataclass(frozen=True)
class TwoWay(MoreKeys):
    """Outcome of :func:`tune_bn.analysis.images.two_way_interval`, in percentage points."""

    effect: float
    """Mean difference over all seeds and images."""
    low: float
    high: float
    df: float
    seeds: int
    images: int
    sd_seeds: float
    """σ_a: how much the effect itself differs between seeds, on all images that there could be."""
    sd_images: float
    """σ_b: how much it differs between images, over all seeds that there could be."""
    sd_rest: float
    """σ_e: of a single image under a single seed."""
    share_images: float
    """Share of the variance of the mean that the drawing of the test images has; the test over seeds leaves it out."""


@dataclass(frozen=True)
class OverImages(TwoWay):
    """The same with the confidence of the interval."""

    confidence: float


@dataclass(frozen=True)
class RanksOfSettings(MoreKeys):
    """Signed-rank test over the effects of several settings; see :mod:`tune_bn.analysis.pooled`."""

    statistic: float
    n: int
    p_value: float


@dataclass(frozen=True)
class Described(MoreKeys):
    """What is described beside the score, over seeds."""

    mean: float
    std: float
    n: int
