"""Several comparisons that share one claim: which are gains, which are losses, and the interval that says the same.

Gains and losses are two families. In each, Holm's procedure keeps the chance of any false word ≤ alpha, whatever the
dependence between the comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_bn.analysis.paired import holm
from tune_bn.analysis.rounding import Array
from tune_bn.analysis.t_result import TResult, agreeing

Bounds = Callable[[float], tuple[float | None, float | None]]
"""From a level to the lower and the upper one-sided bound of the effect; None where an end is open."""


@dataclass(frozen=True)
class Comparison:
    """What one comparison of a family says by itself."""

    p_value: float
    """One-sided, for a gain."""
    p_value_less: float
    """One-sided, for a loss."""
    bounds: Bounds


@dataclass(frozen=True)
class Judged:
    """What a comparison says within its family."""

    p_adjusted: float
    """``p_value`` after Holm's procedure."""
    supported: bool
    """Better than its baseline: ``p_adjusted`` ≤ alpha."""
    p_adjusted_less: float
    """``p_value_less`` after Holm's procedure."""
    worse: bool
    """Worse than its baseline: ``p_adjusted_less`` ≤ alpha."""
    interval: tuple[float | None, float | None]
    """The bounds at the levels of the comparison's own Holm steps: the lower end is ≥ 0 exactly where the comparison is
    supported, the upper end ≤ 0 exactly where it is worse. It speaks of this comparison alone: that all intervals of a
    family hold at once has no stated confidence."""
    levels: tuple[float, float]
    """The one-sided levels of the two ends; ``alpha`` both where the family has one comparison."""


def comparison(result: TResult) -> Comparison:
    """A t-test as a comparison of a family."""
    return Comparison(result.p_value, result.p_value_less, result.bounds)


def judge_family(comparisons: Mapping[str, Comparison], *, alpha: float) -> dict[str, Judged]:
    """Holm's procedure over all comparisons, for gains and, mirrored, for losses.

    The level of a rejected comparison's step is alpha / (m − i + 1), i its place in the order of the p-values; of one
    that stands it is that of the first step that failed, alpha / (m − r) after r rejections.

    Args:
        comparisons: by name; all that share the claim, also those that look hopeless.
        alpha: family-wise level, below 0.5.
    """
    sides = []
    for p_values in (
        [one.p_value for one in comparisons.values()],
        [one.p_value_less for one in comparisons.values()],
    ):
        adjusted = holm(p_values)
        sides.append((adjusted, _step_levels(np.asarray(p_values), adjusted <= alpha, alpha)))
    (gains, gain_levels), (losses, loss_levels) = sides
    found = {}
    for i, (name, one) in enumerate(comparisons.items()):
        supported, worse = bool(gains[i] <= alpha), bool(losses[i] <= alpha)
        low, high = one.bounds(float(gain_levels[i]))[0], one.bounds(float(loss_levels[i]))[1]
        found[name] = Judged(
            p_adjusted=float(gains[i]),
            supported=supported,
            p_adjusted_less=float(losses[i]),
            worse=worse,
            interval=(
                None if low is None else agreeing(low, rejected=supported),
                None if high is None else 0.0 - agreeing(-high, rejected=worse),
            ),
            levels=(float(gain_levels[i]), float(loss_levels[i])),
        )
    return found


def family_fields(comparisons: Mapping[str, Comparison], *, alpha: float) -> dict[str, dict[str, Any]]:
    """What a verdict states of each comparison of a family, as JSON can hold it; null is an end that is open.

    Returns:
        By name: ``ci_low`` and ``ci``, the bounds at ``alpha`` (``ci`` is two-sided at 1 − 2·alpha, and ``ci_low`` its
        lower end), and ``p_value``, ``p_two_sided`` and ``p_worse``, all three not adjusted; ``p_adjusted``,
        ``supported``, ``p_worse_adjusted`` and ``worse`` after Holm's procedure; ``ci_adjusted``, the interval that
        says what ``supported`` and ``worse`` say, and the one-sided levels of its ends, ``adjusted_levels``.
    """
    found = {}
    for name, judged in judge_family(comparisons, alpha=alpha).items():
        one = comparisons[name]
        ci = list(map(_finite, one.bounds(alpha)))
        found[name] = {
            "ci_low": ci[0],
            "ci": ci,
            "p_value": one.p_value,
            "p_two_sided": min(1.0, 2 * min(one.p_value, one.p_value_less)),
            "p_worse": one.p_value_less,
            "p_adjusted": judged.p_adjusted,
            "supported": judged.supported,
            "p_worse_adjusted": judged.p_adjusted_less,
            "worse": judged.worse,
            "ci_adjusted": list(map(_finite, judged.interval)),
            "adjusted_levels": list(judged.levels),
        }
    return found


FIELDS = (
    *("ci_low", "ci", "p_value", "p_two_sided", "p_worse", "p_adjusted", "p_worse_adjusted"),
    *("ci_adjusted", "adjusted_levels"),
)
"""Keys of :func:`family_fields` that are null where nothing could be judged; ``supported`` and ``worse`` are false."""


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _step_levels(p_values: Array, rejected: np.ndarray[tuple[int], np.dtype[np.bool_]], alpha: float) -> Array:
    m, found = p_values.size, np.empty(p_values.size)
    order = np.argsort(p_values, kind="stable")
    found[order] = alpha / np.arange(m, 0, -1)
    found[~rejected] = alpha / max(1, m - int(np.sum(rejected)))
    return found
