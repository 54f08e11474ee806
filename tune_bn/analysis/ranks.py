"""Ranks and orders, as :mod:`scipy.stats` has them, which takes longer to load than a verdict to compute."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_RANKED = 2_000
"""Scores whose pairs are compared one by one; of more, scipy counts faster than it loads."""


def mean_ranks(values: Array) -> Array:
    """Ranks from 1, shape (n,); ties get the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def kendall_tau(first: Array, second: Array) -> float:
    """Kendall's τ_b of two arms, each of shape (n,); NaN where one does not vary.

    (pairs in the same order − pairs in the opposite order) / √((m − ties in first)·(m − ties in second)) with
    m = n(n − 1)/2.

    Source: Kendall, The Treatment of Ties in Ranking Problems, Biometrika 33, 1945.
    """
    if first.size > MOST_RANKED:
        from scipy import stats

        return float(stats.kendalltau(first, second).statistic)
    same, untied = 0, [0, 0]
    for index in range(first.size - 1):
        signs = [np.sign(arm[index + 1 :] - arm[index]).astype(np.int64) for arm in (first, second)]
        same += int(signs[0] @ signs[1])
        untied = [count + int(np.count_nonzero(sign)) for count, sign in zip(untied, signs, strict=True)]
    if 0 in untied:
        return math.nan
    return max(-1.0, min(1.0, same / math.sqrt(untied[0]) / math.sqrt(untied[1])))
