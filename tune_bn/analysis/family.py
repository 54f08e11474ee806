"""Several comparisons that share one claim: which are gains, which are losses, and the interval that says the same.

Gains and losses are two families. In each, Holm's procedure keeps the chance of any false word ≤ alpha, whatever the
dependence between the comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tune_bn.analysis.claims import NOT_TESTED, PLAIN, Claim, agreeing, outcome_by
from tune_bn.analysis.max_t import FEWEST_SEEDS, step_down
from tune_bn.analysis.paired import holm
from tune_bn.analysis.rounding import Array
from tune_bn.analysis.t_result import TResult, tail
from tune_bn.errors import ConfigError
from tune_bn.records.plan import CORRECTIONS, HOLM, MAX_T, NONE
from tune_bn.records.verdict import Finding

Bounds = Callable[[float], tuple[float | None, float | None]]
"""From a level to the lower and the upper one-sided bound of the effect; None where an end is open."""


@dataclass(frozen=True)
class Comparison:
    """What one comparison of a family says by itself."""

    p_value: float
    """One-sided, for the claim: a gain, where nothing else is claimed."""
    p_value_less: float
    """One-sided, for a loss of whatever size."""
    bounds: Bounds
    """Of the effect itself, wherever the margin lies."""
    claim: Claim = PLAIN
    differences: Array | None = None
    """Candidate − baseline by seed, where all comparisons of the family share the seeds."""
    p_value_greater: float | None = None
    """One-sided, for a gain of whatever size; None: ``p_value`` is."""
    tested: bool = True
    """False: see :func:`untested`."""
    no_loss: bool = False
    """Whether it may show no loss, since scores were put in against a gain."""

    @property
    def p_value_two_sided(self) -> float:
        """For a difference of whatever size and sign."""
        greater = self.p_value if self.p_value_greater is None else self.p_value_greater
        return min(1.0, 2 * min(greater, self.p_value_less))


@dataclass(frozen=True)
class Judged:
    """What a comparison says within its family."""

    p_adjusted: float
    """``p_value`` after Holm's procedure."""
    supported: bool
    """Its claim holds, for a plain one that it is better than its baseline: ``p_adjusted`` ≤ alpha."""
    p_adjusted_less: float
    """``p_value_less`` after Holm's procedure."""
    worse: bool
    """Worse than its baseline: ``p_adjusted_less`` ≤ alpha."""
    interval: tuple[float | None, float | None]
    """The bounds at the levels of the comparison's own Holm steps: the lower end is ≥ the claim's null (0 for a plain
    claim) exactly where the comparison is supported, the upper end ≤ 0 exactly where it is worse. For equivalence both
    ends are at the level of its own step, and lie within the margin exactly where it is supported. It speaks of this
    comparison alone: that all intervals of a family hold at once has no stated confidence."""
    levels: tuple[float, float]
    """The one-sided levels of the two ends; ``alpha`` both where the family has one comparison."""
    simultaneous: float | None = None
    """Lower bound that holds for all comparisons of the family at once, with confidence 1 − alpha: ≥ the claim's null
    exactly where the comparison is supported. None: open, or none is computed (equivalence, and claims that all hold
    together)."""


def comparison(result: TResult, claim: Claim = PLAIN, differences: Array | None = None) -> Comparison:
    """A t-test as a comparison of a family, moved by the claim's margin: t = (effect − null) / se."""
    if claim.is_plain:
        return Comparison(result.p_value, result.p_value_less, result.bounds, differences=differences)
    p_value = p_above(result, claim.null)
    if claim.ceiling is not None:
        p_value = max(p_value, tail(result.df, (result.effect - claim.ceiling) / result.se))
    return Comparison(p_value, result.p_value_less, result.bounds, claim, differences, result.p_value)


def against_each(comparisons: Sequence[Comparison]) -> Comparison:
    """A claim that has to hold against each of k opponents, as one comparison of a family.

    It is about the gain over the best of them. Its p-value is the largest of theirs, which needs no correction
    (intersection–union: Berger, Technometrics 24, 1982), and its lower bound the lowest of theirs. A loss is one to any
    of them, so it takes a correction (Bonferroni): the p-value is k times the smallest of theirs, and the upper bound
    the lowest of those at a k-th of the level. Of equivalence, which has to hold against each as well, the upper bound
    is the highest.
    """
    k = len(comparisons)
    if k == 1:
        return comparisons[0]
    equivalence = comparisons[0].claim.ceiling is not None

    def bounds(level: float) -> tuple[float | None, float | None]:
        lows = [one.bounds(level)[0] for one in comparisons]
        highs = [one.bounds(level if equivalence else level / k)[1] for one in comparisons]
        known = [high for high in highs if high is not None]
        low = None if None in lows else min(low for low in lows if low is not None)
        if equivalence:
            return low, max(known) if len(known) == k else None
        return low, min(known, default=None)

    greater = [one.p_value if one.p_value_greater is None else one.p_value_greater for one in comparisons]
    return replace(
        max(comparisons, key=lambda one: one.p_value),
        p_value_less=min(1.0, k * min(one.p_value_less for one in comparisons)),
        bounds=bounds,
        p_value_greater=max(greater),
        tested=all(one.tested for one in comparisons),
        no_loss=any(one.no_loss for one in comparisons),
    )


def untested(claim: Claim = PLAIN, differences: Array | None = None) -> Comparison:
    """A comparison that no test can judge: never supported and never worse, yet one of its family.

    The others are corrected for it too. Whether differences vary is known only afterwards, and a family that shrinks by
    what came out would let too much pass.
    """
    return Comparison(1.0, 1.0, lambda _: (None, None), claim, differences, tested=False)


def p_above(result: TResult, null: float) -> float:
    """P(T ≥ t) where the effect is ``null``: one-sided, for an effect above it."""
    return result.p_value if null == 0 else tail(result.df, -(result.effect - null) / result.se)


def check_correction(correction: str, claim: Claim, *, seeds: int, fixed: bool = True) -> None:
    """Raises :class:`ConfigError` where the correction is not known, or does not go with the claim."""
    if correction not in CORRECTIONS:
        raise ConfigError("correction", correction, " | ".join(CORRECTIONS))
    if correction == MAX_T and (not fixed or claim.ceiling is not None or seeds < FEWEST_SEEDS):
        why = f"max_t goes with {FEWEST_SEEDS} or more pairs, no looks, and no claim of equivalence"
        raise ConfigError("correction", correction, f"{HOLM}; {why}")


def judge_family(comparisons: Mapping[str, Comparison], *, alpha: float, correction: str = HOLM) -> dict[str, Judged]:
    """Holm's procedure over all comparisons, for gains and, mirrored, for losses; or step-down max-t instead.

    The level of a rejected comparison's step is alpha / (m − i + 1), i its place in the order of the p-values; of one
    that stands it is that of the first step that failed, alpha / (m − r) after r rejections.

    Args:
        comparisons: by name; all that share the claim, also those that look hopeless.
        alpha: family-wise level, below 0.5.
        correction: ``max_t`` where each has its ``differences``, see :mod:`tune_bn.analysis.max_t`.
    """
    if correction == MAX_T and len(comparisons) > 1:
        sides = _by_max_t(list(comparisons.values()), alpha)
    else:
        shown = np.array([one.p_value for one in comparisons.values()])
        free = (shown, np.full_like(shown, alpha))
        sides = [
            free if correction == NONE else _by_holm(shown, alpha),
            _by_holm(np.array([one.p_value_less for one in comparisons.values()]), alpha),
        ]
    (gains, gain_levels), (losses, loss_levels) = sides
    losses = np.where([one.no_loss for one in comparisons.values()], 1.0, losses)
    found = {}
    all_shown = bool(np.all(gains <= alpha))
    for i, (name, one) in enumerate(comparisons.items()):
        supported, worse = bool(gains[i] <= alpha), bool(losses[i] <= alpha)
        ceiling = one.claim.ceiling
        # Equivalence has its other end from the same two tests, whatever is known of a loss.
        levels = float(gain_levels[i]), float((loss_levels if ceiling is None else gain_levels)[i])
        low, high = one.bounds(levels[0])[0], one.bounds(levels[1])[1]
        if ceiling is None:
            interval = (
                None if low is None else agreeing(low, rejected=supported, null=one.claim.null),
                None if high is None else 0.0 - agreeing(-high, rejected=worse),
            )
        else:
            interval = _within(low, high, ceiling, supported=supported)
        found[name] = Judged(
            p_adjusted=float(gains[i]),
            supported=supported,
            p_adjusted_less=float(losses[i]),
            worse=worse,
            interval=interval,
            levels=levels,
            simultaneous=None
            if ceiling is not None or correction == NONE
            else _simultaneous(
                one,
                supported=supported,
                all_shown=all_shown,
                level=min(alpha / len(comparisons), *map(float, gain_levels)),
                own=interval[0],
            ),
        )
    return found


def _simultaneous(
    one: Comparison, *, supported: bool, all_shown: bool, level: float, own: float | None
) -> float | None:
    """The lower bound of a comparison that goes with a step-down procedure and holds for the whole family at once.

    One that is not shown has the bound at the level of the step that failed. One that is shown has its null, since a
    step-down procedure spends all that it has on showing it, and no more can be said while another stands; where all
    are shown, the larger of its null and Bonferroni's bound. The level of a step of max-t is no such bound: it comes
    from sign flips about the null, which is far from where effects are that all are shown. Source: Strassburger &
    Bretz, Stat. Med. 27, 2008; Guilbaud, Biom. J. 50, 2008.

    Args:
        one: the comparison.
        supported: whether it is shown.
        all_shown: whether all are.
        level: of a bound that holds with those of all others.
        own: its bound at the level of its own step.
    """
    if not supported:
        return own
    low = one.bounds(level)[0] if all_shown else None
    return one.claim.null if low is None else max(one.claim.null, low)


def _by_holm(p_values: Array, alpha: float) -> tuple[Array, Array]:
    """Adjusted p-values and the levels of their steps."""
    adjusted = holm(p_values)
    return adjusted, _step_levels(p_values, adjusted <= alpha, alpha)


def _by_max_t(comparisons: Sequence[Comparison], alpha: float) -> list[tuple[Array, Array]]:
    """Adjusted p-values and levels for gains, then for losses."""
    found = []
    for sign in (1, -1):
        rows = []
        for one in comparisons:
            if one.differences is None:
                raise ConfigError("correction", MAX_T, f"{HOLM}, where arms share no seeds")
            rows.append(sign * one.differences - (one.claim.null if sign == 1 else 0.0))
        stepped = step_down(np.stack(rows), alpha, np.array([one.tested for one in comparisons]))
        found.append((stepped.p_adjusted, stepped.levels))
    return found


def findings_of(comparisons: Mapping[str, Comparison], *, alpha: float, correction: str = HOLM) -> dict[str, Finding]:
    """What a verdict states of each comparison of a family, by name.

    ``ci_low`` and ``ci`` are the bounds at ``alpha`` (``ci`` is two-sided at 1 − 2·alpha, ``ci_low`` its lower end);
    ``p_value``, ``p_two_sided`` and ``p_worse`` are not adjusted; ``p_adjusted``, ``supported``, ``p_worse_adjusted``
    and ``worse`` come after the correction; ``ci_adjusted`` is the interval that says what ``supported`` and ``worse``
    say, and ``adjusted_levels`` are the one-sided levels of its ends.
    """
    found: dict[str, Finding] = {}
    for name, judged in judge_family(comparisons, alpha=alpha, correction=correction).items():
        one = comparisons[name]
        if not one.tested:
            found[name] = Finding(outcome=NOT_TESTED)
            continue
        low, high = map(_finite, one.bounds(alpha))
        adjusted_low, adjusted_high = map(_finite, judged.interval)
        found[name] = Finding(
            ci_low=low,
            ci=(low, high),
            p_value=one.p_value,
            p_two_sided=one.p_value_two_sided,
            p_worse=one.p_value_less,
            p_adjusted=judged.p_adjusted,
            supported=judged.supported,
            p_worse_adjusted=judged.p_adjusted_less,
            worse=judged.worse,
            ci_adjusted=(adjusted_low, adjusted_high),
            adjusted_levels=judged.levels,
            simultaneous_low=_finite(judged.simultaneous),
            outcome=outcome_by(supported=judged.supported, worse=judged.worse),
        )
    return found


def _within(
    low: float | None, high: float | None, ceiling: float, *, supported: bool
) -> tuple[float | None, float | None]:
    """The interval of a claim of equivalence, on the side of the margin on which its tests put it."""
    if low is None or high is None:
        return low, high
    if supported:
        return max(low, -ceiling), min(high, ceiling)
    if -ceiling <= low and high <= ceiling:
        # Rounding alone: the end that is nearer to its margin is the one that failed.
        return (
            (math.nextafter(-ceiling, -math.inf), high)
            if ceiling + low < ceiling - high
            else (
                low,
                math.nextafter(ceiling, math.inf),
            )
        )
    return low, high


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _step_levels(p_values: Array, rejected: np.ndarray[tuple[int], np.dtype[np.bool_]], alpha: float) -> Array:
    m, found = p_values.size, np.empty(p_values.size)
    order = np.argsort(p_values, kind="stable")
    found[order] = alpha / np.arange(m, 0, -1)
    found[~rejected] = alpha / max(1, m - int(np.sum(rejected)))
    return found
