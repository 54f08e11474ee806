"""What a one-sided paired t-test can find, before it is run: power, minimum detectable effect, seeds needed.

With n pairs, a true mean difference ``effect`` and differences of standard deviation ``std``, the statistic follows the
noncentral t distribution with n − 1 degrees of freedom and noncentrality δ = (effect / std)·√n = d_z·√n; power is
P(T > t(1 − level, n − 1)). The differences are independent over seeds and normal.

With m candidates the level is alpha / m, that of Holm's first step. A candidate that passes it is supported whatever
the others do, so this is the least power that a candidate has under Holm's procedure.

Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, §2; Owen, Biometrika 52, 1965.
"""

from __future__ import annotations

import math
from typing import Any

from scipy import special

from tune_bn.errors import ConfigError

MOST_SEEDS = 1_000_000
MOST_CANDIDATES = 100
# Further out SciPy's noncentral t does not converge; the power is 1 long before the largest noncentrality.
SMALLEST_LEVEL = 1e-4
_LARGEST_NONCENTRALITY = 1e9


def std_of_differences(std: float, correlation: float = 0.0) -> float:
    """Standard deviation of the differences of two arms, std·√(2·(1 − ρ)), from that of one arm over seeds.

    Args:
        std: standard deviation of each arm over seeds, > 0, in the unit of the score.
        correlation: ρ of the arms over seeds, −1 ≤ ρ < 1. Common seeds mostly make it positive, so that
            0 is the cautious guess.

    Raises:
        ConfigError: a value is out of range.
    """
    _check_positive("std", std)
    if not -1 <= correlation < 1:
        raise ConfigError("rho", correlation, "a number from -1 to below 1")
    return std * math.sqrt(2 * (1 - correlation))


def t_test_power(effect: float, std: float, n: int, *, alpha: float = 0.05, candidates: int = 1) -> float:
    """Probability that the one-sided paired t-test finds a true mean difference ``effect``.

    Args:
        effect: true mean difference, in the unit of the score; 0 gives alpha / candidates.
        std: standard deviation of the differences, > 0; see :func:`std_of_differences`.
        n: pairs, from 2.
        alpha: family-wise level.
        candidates: m, the candidates that share it.

    Raises:
        ConfigError: a value is out of range.
    """
    level = level_of(alpha, candidates)
    _check_positive("std", std)
    _check_pairs(n)
    check_effect_size(effect)
    return _power(effect / std * math.sqrt(n), n, level)


def minimum_detectable_effect(
    std: float, n: int, *, alpha: float = 0.05, candidates: int = 1, power: float = 0.8
) -> float:
    """Smallest true mean difference that n pairs find with probability ``power``, in the unit of ``std``.

    Arguments and errors as in :func:`t_test_power`; alpha / candidates < ``power`` < 1.
    """
    level = level_of(alpha, candidates)
    _check_positive("std", std)
    _check_pairs(n)
    check_target(power, level)

    from scipy import optimize

    high = 1.0
    while _power(high, n, level) < power:
        high *= 2
    noncentrality = float(optimize.brentq(lambda delta: _power(delta, n, level) - power, 0.0, high))
    return noncentrality / math.sqrt(n) * std


def seeds_needed(
    effect: float, std: float, *, alpha: float = 0.05, candidates: int = 1, power: float = 0.8
) -> int | None:
    """Fewest pairs with which a true mean difference ``effect`` > 0 is found with probability ``power``.

    Arguments and errors as in :func:`t_test_power`. None: more than :data:`MOST_SEEDS` are needed.
    """
    level = level_of(alpha, candidates)
    _check_positive("effect", effect)
    _check_positive("std", std)
    check_target(power, level)

    def suffices(n: int) -> bool:
        return _power(effect / std * math.sqrt(n), n, level) >= power

    few, enough = 1, 2
    while not suffices(enough):
        if enough == MOST_SEEDS:
            return None
        few, enough = enough, min(2 * enough, MOST_SEEDS)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if suffices(middle) else (middle, enough)
    return enough


def _power(noncentrality: float, n: int, level: float) -> float:
    delta = max(-_LARGEST_NONCENTRALITY, min(noncentrality, _LARGEST_NONCENTRALITY))
    missed = float(special.nctdtr(n - 1, delta, special.stdtrit(n - 1, 1 - level)))
    if not math.isnan(missed):
        return 1 - missed
    # Where next to nothing is missed, or nearly all. All of scipy.stats takes longer to import than a verdict to reach.
    from scipy import stats

    return float(stats.nct.sf(stats.t.isf(level, n - 1), n - 1, delta))


def level_of(alpha: float, candidates: int) -> float:
    """alpha / candidates, the level of Holm's first step. Raises :class:`ConfigError` where there is no such test."""
    if type(candidates) is not int or not 1 <= candidates <= MOST_CANDIDATES:
        raise ConfigError("candidates", candidates, f"an integer from 1 to {MOST_CANDIDATES}")
    if not (alpha < 0.5 and alpha / candidates >= SMALLEST_LEVEL):
        raise ConfigError("alpha", alpha, f"a number from {SMALLEST_LEVEL * candidates:g} to below 0.5")
    return alpha / candidates


def _check_positive(key: str, value: Any) -> None:
    # Within these bounds no result overflows.
    if not 1e-100 <= value <= 1e100:
        raise ConfigError(key, value, "a number > 0" if not value > 0 else "a number from 1e-100 to 1e100")


def check_effect_size(effect: float) -> None:
    """Raises :class:`ConfigError` for a number that is no effect."""
    if not abs(effect) <= 1e100:
        raise ConfigError("effect", effect, "a number from -1e100 to 1e100")


def _check_pairs(n: int) -> None:
    if type(n) is not int or not 2 <= n <= MOST_SEEDS:
        raise ConfigError("n", n, f"an integer from 2 to {MOST_SEEDS}")


def check_target(power: float, level: float) -> None:
    """Raises :class:`ConfigError` for a power that no effect > 0 has."""
    if not level < power < 1:
        raise ConfigError("power", power, f"a number between the level of the test, {level:g}, and 1")
