"""The paired t statistics at planned looks as a Markov chain, followed backwards: who has not been stopped before.

The looks are at n₁ < … < n_K pairs, t_k is the paired t statistic of the first n_k differences, τ_k = t_k / √(n_k − 1).
A path goes on past look k where lower_k ≤ τ_k < upper_k. Wanted is

    q_k(τ) = P(the path went on past looks 1, …, k − 1 | τ_k = τ).

For normal differences it does not depend on their mean or standard deviation: given τ_k, the direction of the vector of
the first n_k differences is spread evenly over its cone, whatever the mean, and t_1, …, t_{k−1} depend on the direction
alone. So one q_k serves every effect, and only the distribution of t_k itself, noncentral t, knows it. Back from
n' = n + m pairs to n,

    τ = (√(n/n')·τ' + √(m/n')·cos ψ) / (sin ψ·sin ω),

where ψ and ω are independent, with densities ∝ sin^{n'−3} ψ on (0, π) and ∝ sin^{n−2} ω·cos^{m−2} ω on (0, π/2); for
m = 1, ω = π/2. So q_k follows from q_{k−1} by a double integral. No random number is drawn.

The recursion is in the way of Armitage, McPherson and Rowe (J. R. Statist. Soc. A 132, 1969), who did it forwards for
normal statistics; exact sequential t-tests are in Jennison and Turnbull (Biometrika 78, 1991).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_TAIL = 1e-10
_EDGE = 6.0
"""Below −6 standard deviations q is 1, where nothing stops low statistics."""


def unit_rule(nodes: int, *, dense_ends: bool = False) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights on (0, 1); ``dense_ends`` suits integrands like √x at an end."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    if dense_ends:
        return (2 + 3 * x - x**3) / 4, weights * 0.75 * (1 - x**2)
    return (1 + x) / 2, weights / 2


_OVER_PSI = unit_rule(16)
_OVER_OMEGA = unit_rule(32)


def coordinate(tau: Array) -> Array:
    """±√log(1 + τ²), which makes t statistics of n pairs nearly normal with standard deviation 1/√(n − 1)."""
    return np.copysign(np.sqrt(np.log1p(tau * tau)), tau)


def from_coordinate(x: Array) -> Array:
    """The τ of a :func:`coordinate`."""
    return np.copysign(np.sqrt(np.expm1(x * x)), x)


def farthest(n: int, later: int, bound: float) -> float:
    """No path with τ below ``bound`` ≥ 0 at n pairs comes above this τ at the later look."""
    return math.hypot(bound, math.sqrt((later - n) / later)) / math.sqrt(n / later)


def unstopped_before(
    n: int,
    later: int,
    before: Function,
    *,
    upper: float,
    lower: float | None = None,
    top: float,
    least: float | None = None,
    finer: float = 1.0,
) -> Function:
    """q at ``later`` pairs from q at n pairs, as splines whose nodes crowd where q bends like a power of the distance.

    Args:
        n: pairs at the earlier look, ``later``: at this one.
        before: q of the earlier look.
        upper: τ from which on a path ends at the earlier look, > 0.
        lower: τ below which it ends there; None: never.
        top: largest τ for which q is wanted, at most :func:`farthest` of ``upper``.
        least: smallest τ for which it is wanted; None: all, which without ``lower`` is 1 from −6 standard deviations.
        finer: as many times as many nodes. Under no effect hardly any t lies high up, where q bends most; under an
            effect many do.
    """
    from scipy.interpolate import CubicSpline

    lowest = -_EDGE / math.sqrt(later - 1) if least is None else float(coordinate(np.array(least)))
    ends = [lowest, float(coordinate(np.array(top)))]
    if lower is not None and lower >= 0:
        # Above it no path has been stopped low.
        bend = float(coordinate(np.array(farthest(n, later, lower))))
        ends[1:1] = [bend] if ends[0] < bend < ends[1] else []
    step = 0.3 * math.sqrt((later - n) / (later * (later - 1))) / finer
    pieces = []
    for low, high in pairwise(ends):
        nodes = np.linspace(0, 1, math.ceil((high - low) / step) + 8)
        tau = from_coordinate(high - (high - low) * nodes**2)
        pieces.append((low, high, CubicSpline(nodes, _unstopped(tau, n, later, before, upper, lower))))

    def unstopped(tau: Array) -> Array:
        x = np.clip(coordinate(tau), ends[0], ends[-1])
        value = np.empty_like(x)
        for low, high, spline in pieces:
            here = (x >= low) & (x <= high)
            value[here] = spline(np.sqrt((high - x[here]) / (high - low)))
        return value

    return unstopped


def _unstopped(tau: Array, n: int, later: int, before: Function, upper: float, lower: float | None) -> Array:
    """P(not stopped up to the look at n pairs | τ at ``later`` pairs), shape of ``tau`` (N,)."""
    m = later - n
    if m == 1:
        return _over_psi(tau, np.ones_like(tau), n, later, before, upper, lower)
    first, second = (n - 1) / 2, (m - 1) / 2
    low = math.asin(math.sqrt(special.betaincinv(first, second, _TAIL)))
    high = math.acos(math.sqrt(special.betaincinv(second, first, _TAIL)))
    # Where ω is smaller than its edge, every ψ or none stays on one side of a bound.
    bounds = [upper] if lower is None else [upper, lower]
    edges = [np.sqrt(np.clip((n * tau**2 - m) / (later * max(bound**2, 1e-100)), 0, 1)) for bound in bounds]
    kinks = np.sort([np.clip(np.arcsin(edge), low, high) for edge in edges], axis=0)
    places = [np.full_like(tau, low), *kinks, np.full_like(tau, high)]
    nodes, weights = _OVER_OMEGA
    total = np.zeros_like(tau)
    for start, end in pairwise(places):
        live = end > start
        omega = start[live, None] + (end - start)[live, None] * nodes
        density = np.exp(
            (n - 2) * np.log(np.sin(omega)) + (m - 2) * np.log(np.cos(omega)) - special.betaln(first, second)
        )
        inner = _over_psi(tau[live, None], np.sin(omega), n, later, before, upper, lower)
        total[live] += (end - start)[live] * np.sum(2 * weights * density * inner, axis=-1)
    return total


def _over_psi(
    tau: Array, sin_omega: Array, n: int, later: int, before: Function, upper: float, lower: float | None
) -> Array:
    """The integral over those ψ that stay between the bounds, for each ω; the shape of ``tau`` and ``sin_omega``."""
    shape = (later - 2) / 2
    edge = math.acos(1 - 2 * special.betaincinv(shape, shape, _TAIL))

    def below(tau: Array, bound: float) -> tuple[Array, Array]:
        return _psi_below(tau, sin_omega, n, later, bound)

    start, end = below(tau, upper)
    if lower is None:
        pieces = [(start, end)]
    elif lower < 0:
        # τ ≥ lower is −τ ≤ −lower with ψ turned round.
        first, last = below(-tau, -lower)
        pieces = [(np.maximum(start, math.pi - last), np.minimum(end, math.pi - first))]
    else:
        first, last = below(tau, lower)
        pieces = [(start, np.clip(first, start, end)), (np.clip(last, start, end), end)]
    forward, across = math.sqrt(n / later), math.sqrt((later - n) / later)
    nodes, weights = _OVER_PSI
    total = np.zeros(np.broadcast_shapes(tau.shape, sin_omega.shape))
    for first, last in pieces:
        first, last = (np.clip(place, edge, math.pi - edge) for place in (first, last))
        width = np.maximum(last - first, 0)
        psi = first[..., None] + width[..., None] * nodes
        sine = np.sin(psi)
        density = np.exp((later - 3) * np.log(sine) - special.betaln(shape, 0.5))
        earlier = (forward * tau[..., None] + across * np.cos(psi)) / (sine * sin_omega[..., None])
        total += width * np.sum(weights * density * before(earlier), axis=-1)
    return total


def _psi_below(tau: Array, sin_omega: Array, n: int, later: int, bound: float) -> tuple[Array, Array]:
    """The interval of those ψ whose earlier τ is below ``bound`` ≥ 0.

    √(n/n')·τ' + √(m/n')·cos ψ < bound·sin ω·sin ψ is sin(ψ − shift) > level: one interval of ψ.
    """
    forward, across = math.sqrt(n / later), math.sqrt((later - n) / later)
    shift = np.arctan2(across, bound * sin_omega)
    level = forward * tau / np.hypot(bound * sin_omega, across)
    angle = np.arcsin(np.clip(level, -1, 1))
    return (
        np.clip(np.where(level <= -1, 0, shift + angle), 0, math.pi),
        np.clip(np.where(level <= -1, math.pi, shift + math.pi - angle), 0, math.pi),
    )
