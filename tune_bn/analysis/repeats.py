"""How likely pairs of runs are to have equal scores, at the resolution that a table shows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

NEVER = 1e-4
"""Chance of so many equal pairs in an honest table from which on they are refused."""
HARDLY = 5e-3
"""The same where the whole table is one block again and again."""
UNLIKELY = 1e-3
"""Chance, in an honest table, of a row that is the mean of the others from which on it is refused."""
SELDOM = 1e-2
"""From here on either is remarked."""


def equal_rows(
    columns: Sequence[Array], order: Sequence[str], chance: Callable[[], float], never: float, block: float
) -> tuple[list[list[str]], bool] | None:
    """Groups of pairs that are equal in all columns, and whether they are too many; None where they are no surprise.

    With chance p that two pairs are equal, their number is about Poisson with mean p·n(n − 1)/2. Where none are equal
    nobody asks for p, which costs more than all the rest.
    """
    groups: dict[tuple[float, ...], list[str]] = defaultdict(list)
    for index, pair in enumerate(order):
        groups[tuple(float(column[index]) for column in columns)].append(pair)
    sizes = {len(group) for group in groups.values()}
    # All at the ceiling, or all diverged: two runs of that kind are equal without being one.
    edges = [tuple(float(edge(column)) for column in columns) for edge in (np.min, np.max)]
    told = {row: group for row, group in groups.items() if len(group) > 1 and (row not in edges or 1 not in sizes)}
    excess = sum(len(group) - 1 for group in told.values())
    if not excess or len(groups) == 1:
        return None
    n = len(order)
    tail = float(special.pdtrc(excess - 1, chance() * n * (n - 1) / 2))
    copies = math.gcd(*sizes)
    if copies > 1:
        tail *= _chance_of_blocks(n, len(groups), copies)
    limit = block if copies > 1 else never
    if tail >= max(SELDOM if len(columns) > 1 else 0.0, limit):
        return None
    return list(told.values()), tail < limit


def _chance_of_blocks(n: int, groups: int, copies: int) -> float:
    """Chance that each of so many different pairs stands a multiple of ``copies`` times among n: the share of the
    partitions of n into so many parts that are made of such parts."""
    if n > 120:
        return 0.0

    def partitions(step: int) -> int:
        ways = [1] + [0] * n
        for _ in range(groups):
            ways = [
                sum(math.comb(total - 1, size - 1) * ways[total - size] for size in range(step, total + 1, step))
                for total in range(n + 1)
            ]
        return ways[n]

    return partitions(copies) / partitions(1)


def chance_of_equal(values: Array) -> float:
    """Chance that two runs of one arm have the same score: for normal scores on a grid, grid / (2√π·std)."""
    spread = _spread(values)
    return 1.0 if spread == 0 else min(1.0, grid(values) / (2 * math.sqrt(math.pi) * spread))


def _spread(values: Array) -> float:
    """Standard deviation, or less where single runs lie far out."""
    low, high = np.percentile(values, [25, 75])
    return float(min(np.std(values, ddof=1), (high - low) / 1.349))


def chance_of_all_equal(columns: Sequence[Array]) -> float:
    """Chance that two runs are equal in every arm, for normal scores that are correlated over pairs and rounded.

    Two rounded scores are equal with probability 1 − |d|/grid, d their difference before; its mean over normal d is
    drawn from a fixed stream, and for a fine grid it is Π grid / ((2√π)ᵏ √det Σ).
    """
    steps = np.array([grid(column) for column in columns])
    # With few runs the spread may be larger than it is in truth, and then equal scores look rarer than they are.
    caution = max(0.5, 1 - 0.7 / math.sqrt(2 * (columns[0].size - 1)))
    scale = np.array([caution * _spread(column) for column in columns]) / steps
    if not np.all(np.isfinite(scale) & (scale < 1e100)):
        return 1.0
    if np.any(scale == 0):
        varying = [column for column, size in zip(columns, scale, strict=True) if size > 0]
        return chance_of_all_equal(varying) if varying else 1.0
    # Rounding hides some of the correlation.
    values, vectors = _axes(columns, np.sqrt(1 + 1 / (12 * scale**2)))
    root = vectors * np.sqrt(values)
    fine = float(1 / (np.prod(2 * math.sqrt(math.pi) * scale) * math.sqrt(np.prod(values))))
    draws = _normal(len(columns)) @ (math.sqrt(2) * scale[:, None] * root).T
    drawn = float(np.mean(np.prod(np.maximum(0.0, 1 - np.abs(draws)), axis=1)))
    return min(1.0, max(fine if np.min(scale) > 3 else 0.0, drawn))


def crowding(columns: Sequence[Array]) -> float:
    """How many times more often than independent ones correlated arms lie together at one point: 1 / √det R.

    Columns of different lengths belong to no pairs, and are independent.
    """
    if len(columns) < 2 or len({column.size for column in columns}) > 1:
        return 1.0
    scale = np.array([_spread(column) / grid(column) for column in columns])
    values, _ = _axes(columns, np.sqrt(1 + 1 / (12 * np.maximum(scale, 0.3) ** 2)))
    return float(1 / math.sqrt(np.prod(values)))


def _axes(columns: Sequence[Array], hidden: Array) -> tuple[Array, Array]:
    """The principal axes of the correlations over pairs: variances, shape (k,), and directions, shape (k, k)."""
    matrix = np.atleast_2d(np.nan_to_num(np.corrcoef(np.stack(columns)), nan=1.0))
    matrix = np.clip(np.nan_to_num(matrix * np.outer(hidden, hidden)), -0.97, 0.97)
    np.fill_diagonal(matrix, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values, 0.02), vectors


@lru_cache(maxsize=8)
def _normal(columns: int) -> Array:
    return np.random.default_rng(20_221_023).normal(size=(20_000, columns))


@lru_cache(maxsize=4096)
def decimals(value: float) -> int:
    """Places after the point with which a number was written. Each is asked for by many checks."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def grid(values: Array) -> float:
    """The step of which all scores are multiples: of an accuracy on n images 100/n, else the last decimal place."""
    step = 10.0 ** -max(decimals(float(value)) for value in values)
    noise = max(2 * step, 2e-7 * float(np.max(np.abs(values))))
    gaps = np.diff(np.unique(values))
    gaps = gaps[gaps > max(step / 2, noise - 2 * step)]
    for parts in range(1, 61):
        candidate = float(np.min(gaps)) / parts if gaps.size else 0.0
        if candidate <= 30 * noise:
            break
        multiples = gaps / candidate
        # The smallest gap is rounded, too.
        reach = noise * (1 + multiples / parts / 2)
        if np.all(np.abs(multiples - np.round(multiples)) * candidate <= reach):
            return candidate
    return step
