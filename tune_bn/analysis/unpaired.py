"""Tests of two arms whose runs are no pairs, because they do not share seeds or nobody knows which belongs to which.

Both arms are independent samples, shapes (n,) and (m,). Where the scores of common seeds are at hand, the paired test
of :mod:`tune_bn.analysis.paired` is the one to take. Higher is better; for a loss the caller turns the sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tune_bn.analysis.paired import check_finite, check_not_too_small
from tune_bn.analysis.rounding import Array, levels, mean_of, score_error, std_of, vanishes, varies
from tune_bn.analysis.t_result import PairsError, PairsProblem, TResult, t_result
from tune_bn.records.verdict_details import RankSum, Shift

EXACT_UP_TO = 50
"""Scores of both arms together up to which every assignment to the arms is counted."""


@dataclass(frozen=True, kw_only=True)
class WelchResult(TResult):
    """Outcome of :func:`welch_t_test`; ``effect`` is the difference of the means, first − second."""

    n: int
    """Scores of the first arm."""
    m: int
    """Scores of the second arm."""


def welch_t_test(a: ArrayLike, b: ArrayLike, *, alpha: float = 0.05) -> WelchResult:
    """Is the mean of ``a`` higher than that of ``b``? Welch's one-sided t-test for independent samples.

    t = (ā − b̄) / √(s²ₐ/n + s²_b/m) with the degrees of freedom of Welch and Satterthwaite,
    (s²ₐ/n + s²_b/m)² / ((s²ₐ/n)²/(n − 1) + (s²_b/m)²/(m − 1)). The variances need not be equal; one may be 0.

    Args:
        a: scores, shape (n,), n ≥ 2.
        b: scores, shape (m,), m ≥ 2.
        alpha: level of the test and of the bounds.

    Raises:
        PairsError: fewer than two scores in an arm, not finite, the same scores in both, or none that varies.

    Source: Welch, Biometrika 34, 1947; Satterthwaite, Biometrics Bulletin 2, 1946.
    """
    first, second = _two_samples(a, b)
    # Both are seen from a score between them, so that a common height costs no digits.
    origin = float(np.median(np.concatenate([first, second])))
    one, other = first - origin, second - origin
    return welch_from_summaries(
        *(mean_of(one), std_of(one), one.size), *(mean_of(other), std_of(other), other.size), alpha=alpha
    )


def welch_from_summaries(
    mean_a: float, std_a: float, n: int, mean_b: float, std_b: float, m: int, *, alpha: float = 0.05
) -> WelchResult:
    """:func:`welch_t_test` of published numbers: mean, standard deviation (ddof = 1) and number of runs of each arm.

    Raises:
        PairsError: a number is not finite, an arm has fewer than two runs, or both standard deviations are 0.
    """
    if min(n, m) < 2:
        raise PairsError(PairsProblem.TOO_FEW, f"{n} and {m} scores; accepted: two or more of each arm")
    check_finite(np.array([mean_a, std_a, mean_b, std_b]))
    # Shares of the squared standard error, so that no square leaves the range.
    one, other = std_a / math.sqrt(n), std_b / math.sqrt(m)
    se = math.hypot(one, other)
    if not (std_a >= 0 and std_b >= 0 and se > 0):
        raise PairsError(
            PairsProblem.CONSTANT,
            f"standard deviations {std_a:g} and {std_b:g}; accepted: none below 0, and one above",
        )
    shares = (one / se) ** 2, (other / se) ** 2
    df = 1 / (shares[0] ** 2 / (n - 1) + shares[1] ** 2 / (m - 1))
    return WelchResult(**vars(t_result(effect=mean_a - mean_b, se=se, df=df, alpha=alpha)), n=n, m=m)


def rank_sum_test(a: ArrayLike, b: ArrayLike) -> RankSum:
    """Wilcoxon's rank-sum test (Mann and Whitney's U), one-sided, with ties.

    Null: both arms have the same distribution. p = share of the ways to assign the n + m scores to the arms in which U
    is at least the observed one; all are counted up to :data:`EXACT_UP_TO` scores, with ties too, which get the mean of
    their ranks. Beyond, p is that of the normal with mean nm/2 and variance nm/12·(N + 1 − Σ(t³ − t)/(N(N − 1))), where
    t are the sizes of the ties, without continuity correction. Scores that differ by no more than rounding are tied.

    Raises:
        PairsError: as :func:`welch_t_test`.

    Source: Wilcoxon, Biometrics Bulletin 1, 1945; Mann & Whitney, Ann. Math. Statist. 18, 1947; Lehmann,
    Nonparametrics, 1975, §1.4 on ties.
    """
    first, second = _two_samples(a, b)
    n, m = first.size, second.size
    steps = _pooled_levels(first, second)
    sizes = np.bincount(steps)
    # Twice the mean ranks are whole numbers.
    doubled = (2 * np.cumsum(sizes) - sizes + 1)[steps]
    observed = int(np.sum(doubled[:n]))
    exact = n + m <= EXACT_UP_TO
    if exact:
        ways = _rank_sums(doubled, n)
        total = float(np.sum(ways))
        upper, lower = float(np.sum(ways[observed:])) / total, float(np.sum(ways[: observed + 1])) / total
    else:
        whole = n + m
        variance = n * m / 12 * (whole + 1 - float(np.sum(sizes**3.0 - sizes)) / (whole * (whole - 1)))
        z = (observed / 2 - n * (whole + 1) / 2) / math.sqrt(variance)
        upper, lower = float(special.ndtr(-z)), float(special.ndtr(z))
    return RankSum(
        statistic=observed / 2 - n * (n + 1) / 2,
        ties=int(np.sum(sizes[sizes > 1])),
        exact=exact,
        p_value=min(1.0, upper),
        p_value_less=min(1.0, lower),
    )


def hodges_lehmann(a: ArrayLike, b: ArrayLike, *, alpha: float = 0.05) -> Shift:
    """By how much ``a`` is shifted above ``b``: the median of all differences aᵢ − bⱼ, with its rank-sum interval.

    With D₍₁₎ ≤ … ≤ D₍ₙₘ₎ the sorted differences and k the largest number with P(U < k) ≤ alpha, U of two arms of equal
    distribution, the bounds are D₍ₖ₎ and D₍ₙₘ₋ₖ₊₁₎: each holds with confidence 1 − alpha, both with 1 − 2·alpha, if the
    arms differ by a shift alone. P is exact up to :data:`EXACT_UP_TO` scores without ties; with ties (accuracies are
    full of them) it is approximate, mostly too cautious. Beyond, U is taken as normal.

    Raises:
        PairsError: as :func:`welch_t_test`.

    Source: Hodges & Lehmann, Ann. Math. Statist. 34, 1963; Lehmann, Ann. Math. Statist. 34, 1963, on the interval.
    """
    first, second = _two_samples(a, b)
    n, m = first.size, second.size
    differences = np.sort(np.subtract.outer(first, second), axis=None)
    exact = n + m <= EXACT_UP_TO
    if exact:
        ways = _rank_sums(2 * np.arange(1, n + m + 1), n)[n * (n + 1) :: 2]
        below = np.cumsum(ways) / np.sum(ways)
        k = int(np.searchsorted(below, alpha * (1 + 1e-12), side="right"))
    else:
        z = float(special.ndtri(alpha))
        k = max(0, math.floor(n * m / 2 + 0.5 + z * math.sqrt(n * m * (n + m + 1) / 12)))
    sizes = np.bincount(_pooled_levels(first, second))
    return Shift(
        estimate=float(np.median(differences)),
        low=float(differences[k - 1]) if k else None,
        high=float(differences[n * m - k]) if k else None,
        ties=int(np.sum(sizes[sizes > 1])),
        exact=exact,
    )


def _two_samples(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim != 1 or second.ndim != 1:
        raise PairsError(
            PairsProblem.UNPAIRED, f"scores of shapes {first.shape} and {second.shape}; accepted: shapes (n,) and (m,)"
        )
    if min(first.size, second.size) < 2:
        raise PairsError(
            PairsProblem.TOO_FEW, f"{first.size} and {second.size} scores; accepted: two or more of each arm"
        )
    check_finite(first, second)
    errors = score_error(first, second)
    if first.size == second.size:
        inner, outer = np.sort(first), np.sort(second)
        if vanishes(inner - outer, np.sort(errors[0]) + np.sort(errors[1])):
            raise PairsError(PairsProblem.IDENTICAL, "its scores are the baseline's, in another order or in the same")
    if not any(varies(values, error) for values, error in zip((first, second), errors, strict=True)):
        raise PairsError(
            PairsProblem.CONSTANT,
            f"its scores are all the same {first[0]:.6g}, and so are the baseline's, {second[0]:.6g}, which no test "
            "can judge",
        )
    check_not_too_small(np.concatenate([first, second]))
    return first, second


def _pooled_levels(first: Array, second: Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    errors = score_error(first, second)
    return levels(np.concatenate([first, second]), np.concatenate(errors))


def _rank_sums(ranks: np.ndarray[tuple[int], np.dtype[np.int64]], n: int) -> Array:
    """In how many ways n of the whole ``ranks`` have each sum; shape (sum of all + 1,). Exact up to 2⁵³ ways."""
    ways = np.zeros((n + 1, int(np.sum(ranks)) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        # From the back, so that no rank is taken twice.
        for taken in range(n, 0, -1):
            ways[taken, rank:] += ways[taken - 1, : -int(rank)]
    return np.asarray(ways[n])
