"""The paper's test, one-sided and paired over seeds, and Holm's correction for several candidates.

Scores are arrays with the seeds on the last axis; the same index is the same seed in both arms.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tune_bn.errors import TuneBNError

Array = NDArray[np.float64]

# Subtracting two scores leaves a rounding error near 1e-16 of their size; a spread below this fraction is such noise.
# The smallest real step of an accuracy, one image in a million, is ten thousand times wider.
ROUNDING = 1e-10


class PairsProblem(StrEnum):
    """Why two arms cannot be compared by a paired t-test."""

    UNPAIRED = "unpaired"
    TOO_FEW = "too_few"
    NOT_FINITE = "not_finite"
    IDENTICAL = "identical"
    CONSTANT = "constant_difference"


class PairsError(TuneBNError, ValueError):
    """Two arms cannot be compared; ``problem`` says why. A test statistic would be NaN or infinite."""

    def __init__(self, problem: PairsProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class PairedResult:
    """A one-sided paired comparison; every number is finite. Scores in percent give percentage points."""

    n: int
    """Pairs (seeds)."""
    effect: float
    """Mean of the differences candidate − baseline."""
    std: float
    """Standard deviation of the differences (ddof = 1)."""
    ci_low: float
    """One-sided lower confidence bound of the effect at level 1 − alpha."""
    t: float
    df: int
    p_value: float
    """P(T ≥ t) under no effect, T with n − 1 degrees of freedom; in (0, 1]."""
    d_z: float
    """Effect size effect / std (Cohen's d_z)."""
    correlation: float | None
    """Pearson correlation of the arms over seeds; None where an arm does not vary."""


def paired_t_statistics(candidate: ArrayLike, baseline: ArrayLike, *, alpha: float) -> tuple[Array, Array, Array]:
    """One-sided paired t-test over the last axis, many studies at once, without any check of the input.

    t = mean(d) / (std(d) / √n) with d = candidate − baseline, std with ddof = 1.

    Args:
        candidate: scores, shape (..., n).
        baseline: scores, broadcast against ``candidate``.
        alpha: level of the test.

    Returns:
        ``t``, ``p_value`` and ``ci_low``, each of shape (...).
    """
    first, second = np.broadcast_arrays(np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float))
    result = stats.ttest_rel(first, second, axis=-1, alternative="greater")
    interval = result.confidence_interval(confidence_level=1 - alpha)
    return np.asarray(result.statistic), np.asarray(result.pvalue), np.asarray(interval.low)


def paired_t_test(candidate: ArrayLike, baseline: ArrayLike, *, alpha: float = 0.05) -> PairedResult:
    """Is the candidate better? One-sided paired t-test over seeds, as in Davis & Frank (ECCV 2022).

    Args:
        candidate: scores, shape (n,).
        baseline: scores of the same seeds, shape (n,).
        alpha: level of the test; the lower bound ``ci_low`` has confidence 1 − alpha.

    Raises:
        PairsError: the arms are unpaired, too short, not finite, identical, or differ by a constant.
    """
    first, second = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise PairsError(
            PairsProblem.UNPAIRED, f"scores of shapes {first.shape} and {second.shape}; accepted: two of shape (n,)"
        )
    n = first.size
    if n < 2:
        raise PairsError(PairsProblem.TOO_FEW, f"{n} pairs of scores; accepted: two or more")
    with np.errstate(over="ignore", invalid="ignore"):
        differences = first - second
        std = float(np.std(differences, ddof=1))
    if not np.isfinite(std):
        raise PairsError(PairsProblem.NOT_FINITE, "scores that are not finite, or too large to subtract")
    if np.array_equal(first, second):
        raise PairsError(PairsProblem.IDENTICAL, "its scores are identical to the baseline's on every seed")
    if std == 0 or np.ptp(differences) <= ROUNDING * _largest(first, second):
        raise PairsError(
            PairsProblem.CONSTANT,
            f"its scores differ from the baseline's by the same {differences[0]:.6g} on every seed, "
            "which no t-test can judge",
        )
    t, p_value, ci_low = paired_t_statistics(first, second, alpha=alpha)
    effect = float(np.mean(differences))
    return PairedResult(
        n=n,
        effect=effect,
        std=std,
        ci_low=float(ci_low),
        t=float(t),
        df=n - 1,
        # A probability below the smallest double is not zero.
        p_value=max(float(p_value), sys.float_info.min),
        d_z=effect / std,
        correlation=_correlation(first, second),
    )


def holm(p_values: ArrayLike) -> Array:
    """Adjusted p-values of Holm's step-down procedure; rejecting those ≤ α keeps the family-wise error rate ≤ α.

    With p sorted upwards, p̃ᵢ = min(1, max over j ≤ i of (m − j + 1)·pⱼ) (Holm, Scand. J. Statist. 6, 1979).

    Args:
        p_values: shape (..., m), the m hypotheses of a family on the last axis.

    Returns:
        Adjusted p-values in the order of the input, shape (..., m).

    Raises:
        ValueError: a value is not a probability.
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim < 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p_values: got {p_values!r}; accepted: an array of probabilities in [0, 1]")
    order = np.argsort(p, axis=-1, kind="stable")
    stepped = np.take_along_axis(p, order, axis=-1) * np.arange(p.shape[-1], 0, -1)
    monotone = np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, monotone, axis=-1)
    return adjusted


def _largest(*arrays: Array) -> float:
    return max(float(np.max(np.abs(array))) for array in arrays)


def _correlation(first: Array, second: Array) -> float | None:
    if any(np.ptp(scores) <= ROUNDING * _largest(scores) for scores in (first, second)):
        return None
    return float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))
