"""Alpha spending for a paired t statistic that is looked at several times, without a normal approximation.

The looks are at n₁ < … < n_K pairs, and t_k is the one-sided paired t statistic of the first n_k differences. Boundary
b_k is crossed where t_k ≥ b_k. The boundaries spend the level α over the looks, with information time n_k / n_K and the
O'Brien–Fleming-type function of Lan and DeMets (Biometrika 70, 1983):

    P(some t_j ≥ b_j with j ≤ k) = α*(n_k / n_K),  α*(s) = 2 − 2Φ(z_{1−α/2} / √s).

For normal differences with mean 0 this is computed by numerical integration: q_k(τ), the probability that no boundary
was crossed before look k given its statistic, follows from q_{k−1} as :mod:`tune_bn.analysis.t_chain` says, and b_k
from the integral of q_k over the tail of the t distribution, which is known exactly. The nominal levels come out with a
relative error near 1e-6, the p-values near 1e-5. No random number is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tune_bn.analysis.t_chain import Array, Function, farthest, unit_rule, unstopped_before
from tune_bn.errors import ConfigError

LARGEST_LEVEL = 0.3
"""Above z_{1−α/2} = 1, which is α = 0.317, no increment of α* shrinks where α grows, so who crosses a boundary at one
level crosses it at every higher one. Levels above this one spend their excess at the last look alone."""
SMALLEST_LEVEL = 5e-9
"""Levels below it are not told apart. Half of the least level of a plan, because a two-sided interval spends a half."""
MOST_LOOKS, FIRST_LOOK, MOST_PAIRS, WIDEST_RATIO = 20, 3, 10_000, 20

_LEVELS = 16


_OVER_TAIL = unit_rule(64, dense_ends=True)


def check_looks(looks: Sequence[int]) -> tuple[int, ...]:
    """The looks as a tuple.

    Raises:
        ConfigError: they are not what the integration was made for.
    """
    found = tuple(looks)
    integers = all(type(n) is int for n in found)
    if not (
        integers
        and 1 <= len(found) <= MOST_LOOKS
        and all(earlier < later for earlier, later in pairwise(found))
        and FIRST_LOOK <= found[0] <= found[-1] <= min(MOST_PAIRS, WIDEST_RATIO * found[0])
    ):
        raise ConfigError(
            "looks",
            looks,
            f"1 to {MOST_LOOKS} increasing integers, the first ≥ {FIRST_LOOK}, the last ≤ {MOST_PAIRS} and at most "
            f"{WIDEST_RATIO} times the first",
        )
    return found


def check_level(alpha: float) -> float:
    """``alpha`` itself. Raises :class:`ConfigError` where it is no level that can be spent."""
    if not SMALLEST_LEVEL <= alpha <= LARGEST_LEVEL:
        raise ConfigError("alpha", alpha, f"a number in [{SMALLEST_LEVEL:g}, {LARGEST_LEVEL:g}]")
    return alpha


def spent(looks: Sequence[int], alpha: float) -> Array:
    """α*(n_k / n_K), the level spent up to each look; shape (K,), the last is α."""
    fractions = np.asarray(looks, dtype=float) / looks[-1]
    return np.asarray(2 * special.ndtr(special.ndtri(alpha / 2) / np.sqrt(fractions)))


def nominal_levels(looks: Sequence[int], alpha: float) -> Array:
    """P(T ≥ b_k), T with n_k − 1 degrees of freedom: the level of a fixed test with that boundary, shape (K,).

    Raises:
        ConfigError: ``looks`` or ``alpha`` is not acceptable.
    """
    return _chain(check_looks(looks), check_level(alpha))[0].copy()


def t_at(nominal: ArrayLike, looks: Sequence[int]) -> Array:
    """The t statistics, one for each look, whose one-sided p-values in a fixed test are ``nominal``."""
    return np.asarray(-special.stdtrit(np.asarray(looks, dtype=float) - 1, nominal))


def repeated_p(looks: Sequence[int], nominal: ArrayLike) -> Array:
    """Repeated p-values of Jennison and Turnbull (Group Sequential Methods, 2000, ch. 9).

    p_k is the lowest level α' whose boundary at look k is crossed: t_k ≥ b_k(α'). For normal differences with mean ≤ 0,
    P(some p_k ≤ u) ≤ u, and with mean 0 it equals u; so p_k is a valid p-value at every look, whatever made that look
    the last. The smallest so far is the sequential p-value of Liu and Anderson (J. Am. Statist. Assoc. 103, 2008). The
    boundaries of a level above 0.3 are those of 0.3 before the last look, so p_k > 0.3 is 1 there.

    Args:
        looks: all the looks of the design.
        nominal: one-sided p-values of the fixed paired t-test at the first k looks, shape (..., k); 1 for a look that
            decides nothing.

    Returns:
        Shape (..., k); not below :data:`SMALLEST_LEVEL`.

    Raises:
        ConfigError: ``looks`` is not acceptable.
        ValueError: ``nominal`` has more entries than there are looks, or holds what is not a probability.
    """
    looks = check_looks(looks)
    p = np.asarray(nominal, dtype=float)
    if p.ndim < 1 or p.shape[-1] > len(looks) or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"nominal: shape {p.shape}; accepted: probabilities, shape (..., k) with k ≤ {len(looks)}")
    repeated = np.empty_like(p)
    for k, curve in enumerate(_curves(looks)[: p.shape[-1]]):
        repeated[..., k] = curve(p[..., k])
    return repeated


@lru_cache(maxsize=16)
def _curves(looks: tuple[int, ...]) -> list[Function]:
    """For each look the function from the nominal p-value to the level whose boundary lies there."""
    from scipy.interpolate import CubicSpline

    low, high = special.ndtri(SMALLEST_LEVEL / 2), special.ndtri(LARGEST_LEVEL / 2)
    levels = 2 * special.ndtr(high - (high - low) * np.linspace(1, 0, _LEVELS) ** 1.5)
    chains = [_chain(looks, float(level)) for level in levels]
    nominal = np.array([chain[0] for chain in chains])
    curves = [_curve(nominal[:, k], levels) for k in range(len(looks))]
    unstopped = chains[-1][1]
    p = np.linspace(nominal[-1, -1], 1, 65)
    rest = CubicSpline(p, unstopped(t_at(p, [looks[-1]]) / math.sqrt(looks[-1] - 1))).antiderivative()
    interim = curves[-1]
    curves[-1] = lambda nominal: np.where(
        nominal <= p[0], interim(nominal), np.minimum(LARGEST_LEVEL + rest(nominal), 1)
    )
    return curves


def _curve(nominal: Array, levels: Array) -> Function:
    from scipy.interpolate import CubicSpline

    spline = CubicSpline(np.log(nominal), np.log(levels))
    low, high = nominal[0], nominal[-1]
    return lambda p: np.where(p <= high, np.exp(spline(np.log(np.clip(p, low, high)))), 1.0)


@lru_cache(maxsize=64)
def _chain(looks: tuple[int, ...], alpha: float) -> tuple[Array, Function]:
    """The nominal levels of the boundaries, and q of the last look as a function of τ."""
    increments = np.diff(spent(looks, alpha), prepend=0)
    levels = [float(increments[0])]
    unstopped: Function = np.ones_like
    for (n, later), increment in zip(pairwise(looks), increments[1:], strict=True):
        bound = float(t_at(levels[-1], [n])[0]) / math.sqrt(n - 1)
        # q ends where no path below the bound at n pairs can come.
        least = max(
            float(special.stdtr(later - 1, -farthest(n, later, bound) * math.sqrt(later - 1))), 1e-8 * increment
        )
        top = float(t_at(least, [later])[0]) / math.sqrt(later - 1)
        unstopped = unstopped_before(n, later, unstopped, upper=bound, top=top)
        levels.append(_solve(later, unstopped, least, increment))
    return np.array(levels), unstopped


def _solve(n: int, unstopped: Function, least: float, increment: float) -> float:
    """The nominal level u with ∫ q over nominal p-values from ``least`` to u equal to the increment of the spending."""
    from scipy.optimize import brentq

    nodes, weights = _OVER_TAIL

    def excess(level: float) -> float:
        tau = t_at(least + (level - least) * nodes, [n]) / math.sqrt(n - 1)
        return (level - least) * float(np.sum(weights * unstopped(tau))) - increment

    return float(brentq(excess, least, 1.0, xtol=1e-300, rtol=1e-12))
