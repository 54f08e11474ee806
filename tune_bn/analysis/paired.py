"""The paper's test, one-sided and paired over seeds, and Holm's correction for several candidates.

Scores are arrays with the seeds on the last axis; the same index is the same seed in both arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tune_bn.analysis.rounding import Array, difference_error, scale_of, score_error, vanishes, varies
from tune_bn.analysis.t_result import (
    LARGEST_SCORE,
    SMALLEST_SPREAD,
    PairsError,
    PairsProblem,
    TResult,
    t_result,
)

__all__ = ["Array", "PairedResult", "PairsError", "PairsProblem", "holm", "paired_t_statistics", "paired_t_test"]


@dataclass(frozen=True, kw_only=True)
class PairedResult(TResult):
    """A paired comparison; ``effect`` is the mean of the differences candidate − baseline. Scores in percent give
    percentage points.
    """

    n: int
    """Pairs (seeds)."""
    std: float
    """Standard deviation of the differences (ddof = 1)."""
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
    d = first - second
    n = d.shape[-1]
    mean = np.mean(d, axis=-1, keepdims=True)
    # The variance as scipy's ttest_rel computes it, to the last bit: verdicts of earlier versions keep their numbers.
    se = np.sqrt(np.mean((d - mean) ** 2, axis=-1) * (n / (n - 1)) / n)
    mean = mean[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = mean / se
    # The lower tail: one minus a small p-value would lose its digits.
    return np.asarray(t), special.stdtr(n - 1, -t), mean + special.stdtrit(n - 1, alpha) * se


def paired_t_test(candidate: ArrayLike, baseline: ArrayLike, *, alpha: float = 0.05) -> PairedResult:
    """Is the candidate better? One-sided paired t-test over seeds, as in Davis & Frank (ECCV 2022).

    Its mirror, whether the candidate is worse, and the interval that belongs to both come with it
    (:mod:`tune_bn.analysis.t_result`).

    Args:
        candidate: scores, shape (n,).
        baseline: scores of the same seeds, shape (n,).
        alpha: level of the test; the lower bound ``ci_low`` has confidence 1 − alpha.

    Raises:
        PairsError: the arms are unpaired, too short, not finite, identical, or differ by a constant.
    """
    first, second = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    differences, exponent = paired_differences(first, second)
    n = differences.size
    t, _, _ = paired_t_statistics(differences, 0.0, alpha=alpha)
    mean, std = float(np.mean(differences)), float(np.std(differences, ddof=1))
    result = t_result(
        effect=math.ldexp(mean, exponent),
        se=math.ldexp(std / math.sqrt(n), exponent),
        t=float(t),
        df=n - 1,
        alpha=alpha,
    )
    return PairedResult(
        **vars(result),
        n=n,
        std=math.ldexp(std, exponent),
        d_z=mean / std,
        correlation=_correlation(first, second),
    )


def paired_differences(first: Array, second: Array) -> tuple[Array, int]:
    """The differences first − second of two arms, shape (n,), divided by 2ᵉ so that no square leaves the range; and e.

    Raises:
        PairsError: as :func:`paired_t_test`.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise PairsError(
            PairsProblem.UNPAIRED, f"scores of shapes {first.shape} and {second.shape}; accepted: two of shape (n,)"
        )
    n = first.size
    if n < 2:
        raise PairsError(PairsProblem.TOO_FEW, f"{n} pairs of scores; accepted: two or more")
    check_finite(first, second)
    differences, error = first - second, difference_error(first, second)
    if vanishes(differences, error):
        exactly = "" if np.array_equal(first, second) else " up to rounding"
        raise PairsError(PairsProblem.IDENTICAL, f"its scores are identical to the baseline's on every seed{exactly}")
    if not varies(differences, error):
        raise PairsError(
            PairsProblem.CONSTANT,
            f"its scores differ from the baseline's by the same {differences[0]:.6g} on every seed, "
            "which no t-test can judge",
        )
    exponent = scale_of(differences)
    check_not_too_small(differences)
    return np.ldexp(differences, -exponent), exponent


def check_finite(*arrays: Array) -> None:
    """Refuse scores that are NaN, infinite or beyond :data:`tune_bn.analysis.t_result.LARGEST_SCORE`.

    Raises:
        PairsError: one is.
    """
    for values in arrays:
        # NaN compares false.
        if not np.all(np.abs(values) <= LARGEST_SCORE):
            raise PairsError(
                PairsProblem.NOT_FINITE, f"scores that are not finite, or too large (beyond {LARGEST_SCORE:g})"
            )


def check_not_too_small(values: Array) -> None:
    """Refuse scores that vary by so little that a double does not hold their spread.

    Raises:
        PairsError: their standard error would be zero.
    """
    if float(np.ptp(values)) < SMALLEST_SPREAD * values.size:
        raise PairsError(
            PairsProblem.CONSTANT, f"scores that vary by less than {SMALLEST_SPREAD:g}, which a double cannot hold"
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


def _correlation(first: Array, second: Array) -> float | None:
    scaled: list[Array] = []
    for scores, error in zip((first, second), score_error(first, second), strict=True):
        if not varies(scores, error):
            return None
        scaled.append(np.ldexp(scores, -scale_of(scores)))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = float(np.asarray(np.corrcoef(np.stack(scaled)), dtype=float)[0, 1])
    return float(np.clip(found, -1.0, 1.0)) if math.isfinite(found) else None
