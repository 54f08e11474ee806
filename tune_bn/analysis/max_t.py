"""Step-down max-t by sign flips: a correction that knows that all candidates meet one baseline on the same seeds.

Westfall and Young's procedure (Resampling-Based Multiple Testing, 1993, algorithm 4.1), with Fisher's sign flips in
place of resamples. Each flip turns the signs of whole seeds, of all candidates at once, so that what they share (the
baseline's luck) stays shared; t is computed anew for each. With t₁ ≥ t₂ ≥ … the p-value of step k is the share of flips
in which the largest t of candidates k, k + 1, … reaches t_k, and no adjusted p is below that of the step before.

Null: given their sizes, the signs of each seed's vector of differences are one fair coin (its joint distribution is
symmetric about the null). It then keeps the family-wise level exactly, whatever the dependence. Not for fewer than five
seeds (the least p is 1/2ⁿ), nor as a test of means where differences are skewed, as where one arm sometimes diverges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tune_bn.analysis.rounding import Array
from tune_bn.analysis.sensitivity import FLIPS, flip_signs

EXACT_UP_TO = 16
"""Seeds up to which all 2ⁿ flips are counted."""
FEWEST_SEEDS = 5
"""Seeds from which on a p-value can reach 0.05."""


@dataclass(frozen=True)
class StepDown:
    """Outcome of :func:`step_down`, in the order of the candidates."""

    p_adjusted: Array
    levels: Array
    """The one-sided level of the t-test whose critical value is that of the candidate's step; after the first step that
    failed, of that step."""


def step_down(differences: Array, alpha: float, tested: NDArray[np.bool_] | None = None) -> StepDown:
    """Adjusted p-values of m candidates that share n seeds.

    Args:
        differences: candidate − baseline − null, shape (m, n), n ≥ 2, none that is tested without spread.
        alpha: family-wise level, at which ``levels`` are.
        tested: which candidates are, shape (m,); None: all. The others are never rejected, and count in every step.
    """
    m, n = differences.shape
    exact = n <= EXACT_UP_TO
    # One scale for each candidate: t does not depend on it, and no square leaves the range.
    largest_of = np.max(np.abs(differences), axis=1, keepdims=True)
    scaled = differences / np.where(largest_of > 0, largest_of, 1.0)
    squares = np.sum(scaled**2, axis=1)
    observed = _t(np.sum(scaled, axis=1), squares, n)
    if tested is not None:
        # Last, so that no step is taken past them.
        observed = np.where(tested, observed, -np.inf)
    sums = np.zeros((2**n if exact else FLIPS, m))
    for signs, column in zip(flip_signs(n, exact=exact), scaled.T, strict=True):
        sums += signs[:, None] * column
    flipped = _t(sums, squares, n)
    order = np.argsort(-observed, kind="stable")
    # Of this candidate and all below it, in each flip.
    largest = np.maximum.accumulate(flipped[:, order[::-1]], axis=1)[:, ::-1]
    place = observed[order]
    reach = np.where(np.isfinite(place), place - 1e-9 * (1 + np.abs(place)), place)
    hits = np.sum(largest >= reach, axis=0)
    count = len(flipped)
    steps = hits / count if exact else (1 + hits) / (1 + count)
    adjusted = np.maximum.accumulate(steps)
    rank = int(np.floor(alpha * count + 1e-9)) if exact else int(np.floor(alpha * (1 + count) + 1e-9)) - 1
    critical = np.full(m, np.inf) if rank < 1 else -np.sort(-largest, axis=0)[rank - 1]
    rejected = int(np.sum(adjusted <= alpha))
    critical[rejected:] = critical[min(rejected, m - 1)]
    p_adjusted, levels = np.empty(m), np.empty(m)
    p_adjusted[order], levels[order] = adjusted, special.stdtr(n - 1, -critical)
    return StepDown(p_adjusted, levels)


def _t(sums: Array, squares: Array, n: int) -> Array:
    """t statistics from sums; the sum of squares is the same for all flips."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(0.0, squares - sums**2 / n) / (n - 1))
        t = sums / np.sqrt(n) / spread
    return np.where(np.isnan(t), 0.0, t)
