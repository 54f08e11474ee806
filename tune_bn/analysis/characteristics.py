"""What a design of a confirmation finds and what it costs: power, pairs, and where it ends, before anything is run.

With differences that are normal with mean d_z standard deviations, t of the first n_k pairs is noncentral t with
n_k − 1 degrees of freedom and noncentrality d_z·√n_k, density f_k. With q_k, the probability that a candidate was not
stopped before look k given its t there (:mod:`tune_bn.analysis.t_chain`; it depends on no effect),

    P(shown at look k) = ∫ q_k·f_k over t ≥ b_k,    P(it goes on past look k) = ∫ q_k·f_k over futility_k ≤ t < b_k,

and what is left of those who came to look k ends there for futility, or at the last look with nothing shown. This is
what :func:`tune_bn.analysis.sequential.decide` does with one candidate. Of several, it is what a candidate meets at the
first step of Holm's procedure, at alpha / candidates: the others can only make it stop sooner with its gain shown, so
the power is the least and the number of pairs the most that it has.

The probabilities have an absolute error below 2e-5, mostly far below; tests hold them against simulation and, for many
pairs, against rpact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import special

from tune_bn.analysis.power import check_effect_size, check_target, level_of
from tune_bn.analysis.sequential import Design
from tune_bn.analysis.spending import nominal_levels, t_at
from tune_bn.analysis.t_chain import (
    Array,
    Function,
    coordinate,
    farthest,
    from_coordinate,
    unit_rule,
    unstopped_before,
)

_RULE = unit_rule(64, dense_ends=True)
_REACH = 9.0
"""Standard deviations of t's coordinate beyond which no probability lies."""
_LARGEST_NONCENTRALITY = 1e6


@dataclass(frozen=True)
class Stage:
    """How many end at one look; at the last, ``futile`` are those that end there with nothing shown."""

    n: int
    """Pairs."""
    shown: float
    """Probability of ending here with the gain shown."""
    futile: float
    """Probability of ending here without."""


@dataclass(frozen=True)
class Course:
    """What becomes of a candidate with a given effect."""

    stages: tuple[Stage, ...]

    @property
    def power(self) -> float:
        """Probability that the gain is shown at some look."""
        return sum(stage.shown for stage in self.stages)

    @property
    def expected_pairs(self) -> float:
        """Mean number of pairs at which the candidate ends."""
        return sum(stage.n * (stage.shown + stage.futile) for stage in self.stages)

    def expected_runs(self, candidates: int = 1) -> float:
        """Mean number of runs of both arms; with several candidates of this effect the most that it can be.

        The baseline runs as long as any candidate does. Given its scores the candidates are independent and alike, so
        that they are all at their end at a look at least as often as independent ones would be (Jensen's inequality).
        """
        ended = np.cumsum([stage.shown + stage.futile for stage in self.stages])
        last = np.diff(np.minimum(ended, 1) ** candidates, prepend=0)
        longest = float(np.sum(last * [stage.n for stage in self.stages]))
        return candidates * self.expected_pairs + longest


def course(rule: Design, d_z: float, *, candidates: int = 1) -> Course:
    """What becomes of a candidate whose true gain is ``d_z`` standard deviations of the paired differences.

    Args:
        rule: from :func:`tune_bn.analysis.sequential.design`; with one look it is the fixed test.
        d_z: effect / std, −1e100 to 1e100.
        candidates: m, the candidates that share the level; of each it is what it meets at level alpha / m.

    Raises:
        ConfigError: a value is out of range.
    """
    check_effect_size(d_z)
    levels = _boundaries(rule, level_of(rule.alpha, candidates))
    stages, here = [], 1.0
    for k, n in enumerate(rule.looks):
        delta = max(-_LARGEST_NONCENTRALITY, min(d_z * math.sqrt(n), _LARGEST_NONCENTRALITY))
        at = levels[k]
        shown = min(at.shown(delta), here)
        if n == rule.looks[-1]:
            on = 0.0
        else:
            on = here - shown if at.futility is None else min(at.going_on(delta), here - shown)
        stages.append(Stage(n, shown, here - shown - on))
        here = on
    return Course(tuple(stages))


def efficacy_bounds(rule: Design, *, candidates: int = 1) -> tuple[float, ...]:
    """The t statistics from which on the gain of a candidate is shown at each look, at level alpha / candidates."""
    return tuple(t_at(nominal_levels(rule.looks, level_of(rule.alpha, candidates)), rule.looks).tolist())


def detectable(rule: Design, *, candidates: int = 1, power: float = 0.8) -> float:
    """Smallest true gain, in standard deviations of the paired differences, that is shown with probability ``power``.

    Arguments and errors as in :func:`course`; alpha / candidates < ``power`` < 1.
    """
    from scipy import optimize

    check_target(power, level_of(rule.alpha, candidates))
    high = 1.0
    while course(rule, high, candidates=candidates).power < power:
        high *= 2
    return float(
        optimize.brentq(lambda d_z: course(rule, d_z, candidates=candidates).power - power, 0.0, high, xtol=1e-9)
    )


def chance_of_more(rule: Design, n: int, t: float, d_z: float) -> float:
    """Probability, under a true gain ``d_z``, of an outcome at least as high as ``t`` at the look of ``n`` pairs.

    Outcomes are in their stagewise order (Tsiatis, Rosner & Mehta, Biometrics 40, 1984): gains that were shown at an
    earlier look are higher, and at one look a higher t is. For one candidate, and ``t`` at or above the boundary.
    """
    at = _boundaries(rule, rule.alpha)
    total = 0.0
    for look in at[: rule.looks.index(n) + 1]:
        delta = max(-_LARGEST_NONCENTRALITY, min(d_z * math.sqrt(look.n), _LARGEST_NONCENTRALITY))
        low = t / math.sqrt(n - 1) if look.n == n else look.efficacy
        total += look._integral(low, look.top, delta)
    return min(1.0, total)


def median_unbiased(rule: Design, n: int, t: float) -> float:
    """The gain in standard deviations under which a result so high is as likely as not.

    The plain mean after a gain was shown early is too high on average. This estimate of d_z is above the true one half
    of the time, whatever the look that ended the candidate; arguments as in :func:`chance_of_more`.
    """
    from scipy import optimize

    high = abs(t) / math.sqrt(n) + 1.0
    while chance_of_more(rule, n, t, high) < 0.5:
        high *= 2
    low = -1.0
    while chance_of_more(rule, n, t, low) > 0.5:
        low *= 2
    return float(optimize.brentq(lambda d_z: chance_of_more(rule, n, t, d_z) - 0.5, low, high, xtol=1e-7))


@dataclass(frozen=True)
class _Look:
    """A look with its bounds as τ = t / √(n − 1)."""

    n: int
    efficacy: float
    futility: float | None
    unstopped: Function
    """q of this look, between its bounds and above."""
    top: float
    """No path comes above it to this look; infinite at the first."""
    bend: float | None
    """Below it some path may have been stopped low at the look before: there q is not smooth."""

    def shown(self, delta: float) -> float:
        return self._integral(self.efficacy, self.top, delta)

    def going_on(self, delta: float) -> float:
        assert self.futility is not None
        places = [self.futility, self.efficacy]
        if self.bend is not None and self.futility < self.bend < self.efficacy:
            places.insert(1, self.bend)
        return sum(self._integral(low, high, delta) for low, high in pairwise(places))

    def _integral(self, low: float, high: float, delta: float) -> float:
        """∫ q·f dt over τ between ``low`` and ``high``, by the coordinate, in which t is nearly normal."""
        df = self.n - 1
        centre, reach = float(coordinate(np.array(delta / math.sqrt(df)))), _REACH / math.sqrt(df)
        start = max(float(coordinate(np.array(low))), centre - reach)
        end = min(float(coordinate(np.array(high))), centre + reach)
        # Far from 0 most of it lies closer together.
        middle = delta / math.sqrt(df)
        near = (
            6 / math.sqrt(df) * math.sqrt(1 + middle**2 / 2) / float(_angle_slope(np.array(centre)) * (1 + middle**2))
        )
        places = [min(max(place, start), end) for place in (start, centre - near, centre + near, end)]
        nodes, weights = _RULE
        total = 0.0
        for first, last in pairwise(places):
            if last > first:
                x = first + (last - first) * nodes
                tau = from_coordinate(x)
                density = _angle_density(tau, self.n, delta) * _angle_slope(x)
                total += (last - first) * float(np.sum(weights * density * self.unstopped(tau)))
        return total


def _angle_slope(x: Array) -> Array:
    """dψ/dx of the angle ψ = arccot τ and the coordinate x of τ, but for its sign."""
    tau = from_coordinate(x)
    return np.asarray(np.where(np.abs(x) < 1e-6, 1.0, x / np.where(tau == 0, 1.0, tau)))


def _angle_density(tau: Array, n: int, delta: float) -> Array:
    """Density of the angle ψ between the vector of n differences and (1, …, 1), τ = cot ψ; the shape of ``tau`` (N,).

    It is that of noncentral t, ∝ sin^{n−2} ψ·exp(−(δ·sin ψ)²/2)·∫ r^{n−1}·exp(−(r − δ·cos ψ)²/2) dr over the length r.
    In logarithms this holds at every δ, where SciPy's series does not converge.
    """
    sine = 1 / np.sqrt(1 + tau**2)
    along = delta * tau * sine
    # For a negative ``along`` this form of the mode does not cancel.
    root = np.sqrt(along**2 + 4 * (n - 1))
    mode = np.where(along >= 0, (along + root) / 2, 2 * (n - 1) / (root - np.minimum(along, 0)))
    width = 1 / np.sqrt(1 + (n - 1) / mode**2)
    nodes, weights = _RULE
    low, high = np.maximum(mode - 12 * width, 0), mode + 12 * width
    r = low[:, None] + (high - low)[:, None] * nodes

    def exponent(r: Array, along: Array) -> Array:
        return np.asarray((n - 1) * np.log(r) - (r - along) ** 2 / 2)

    peak = exponent(mode, along)
    length = (high - low) * np.sum(weights * np.exp(exponent(r, along[:, None]) - peak[:, None]), axis=-1)
    constant = special.betaln((n - 1) / 2, 0.5) + (n / 2 - 1) * math.log(2) + special.gammaln(n / 2)
    return np.asarray(length * np.exp((n - 2) * np.log(sine) - (delta * sine) ** 2 / 2 + peak - constant))


@lru_cache(maxsize=256)
def _boundaries(rule: Design, level: float) -> tuple[_Look, ...]:
    """The looks as they are at one candidate of those that share the level."""
    scale = np.sqrt(np.array(rule.looks, dtype=float) - 1)
    efficacy = t_at(nominal_levels(rule.looks, level), rule.looks) / scale
    futility: list[float | None] = [None] * len(rule.looks)
    if rule.futility_t is not None:
        # Efficacy is asked first; with several candidates its boundary is never the lower one either.
        futility[:-1] = [float(min(t / s, b)) for t, s, b in zip(rule.futility_t, scale, efficacy, strict=False)]
    found = [_Look(rule.looks[0], float(efficacy[0]), futility[0], np.ones_like, math.inf, None)]
    for k, n in enumerate(rule.looks[1:], 1):
        last = found[-1]
        top = farthest(last.n, n, last.efficacy)
        lowest = efficacy[k] if n == rule.looks[-1] else futility[k]
        unstopped = unstopped_before(
            last.n,
            n,
            last.unstopped,
            upper=last.efficacy,
            lower=last.futility,
            top=top,
            least=None if lowest is None else float(lowest),
            finer=max(1.0, 2 * float(coordinate(np.array(top)))),
        )
        bend = None if last.futility is None or last.futility < 0 else farthest(last.n, n, last.futility)
        found.append(_Look(n, float(efficacy[k]), futility[k], unstopped, top, bend))
    return tuple(found)
