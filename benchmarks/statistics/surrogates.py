"""Known truths to search: the mean and the spread of a run's accuracy as functions of γ, c and the learning rate.

Two are fitted on the paper's Table 1.a (ResNet-18, CIFAR-10) and give back its 24 cells exactly. What the paper does
not say is assumed, and stated here:

- *Between the seven γ*, at c = 100: monotone cubic interpolation (PCHIP) in log γ, separately for each learning rate.
  It has its maxima at the published values.
- *c*: the paper has c = 100, and c = 1 for BASE. From c = 10 upwards the mean does not depend on c; below, it goes
  linearly in log c to what BASE differs by at γ = 1. The same difference is assumed at every γ.
- ``on_grid`` is just this, so that its optimum is a cell of the paper: it favours the grid.
- ``off_grid`` adds a bump around γ = 0.18, c = 10 that vanishes at c = 1 and c = 100, so high that the optimum lies 0.3
  points above the best cell: it favours a continuous search.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from tune_bn.paper import tables as paper
from tune_bn.training.config import RunConfig

GAIN_OFF_GRID = 0.3
_BUMP_GAMMA, _BUMP_WIDTH, _BUMP_C = 0.18, 0.25, 10.0


class Point(NamedTuple):
    """What a surrogate knows of a configuration."""

    gamma: float
    c: float
    lr: float


class Surrogate(Protocol):
    """A truth that a search is to find."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def mean(self, point: Point) -> float:
        """Expected accuracy of a run, in percent."""

    def std(self, point: Point) -> float:
        """Standard deviation over seeds, in percentage points."""


def point_of(config: RunConfig) -> Point:
    """The point of a configuration with one γ for all layers."""
    if not isinstance(config.model.gamma, float):
        raise TypeError(f"gamma: got {config.model.gamma!r}; accepted: one number for all layers")
    return Point(config.model.gamma, config.train.c, config.train.lr)


def point_of_cell(cell: paper.Cell) -> Point:
    """The point of a cell of Table 1.a."""
    return Point(paper.initial_gamma(cell), float(paper.arm(cell)["c"]), cell.lr)


@dataclass(frozen=True)
class Equal:
    """Every configuration has the same mean, except that all but the baseline (γ = 1, c = 1) gain ``gain`` points."""

    gain: float = 0.0
    level: float = 95.6
    spread: float = 0.64
    """As BASE of the embedded digits study."""

    @property
    def name(self) -> str:
        """See :class:`Surrogate`."""
        return "equal" if self.gain == 0 else f"gain of {self.gain:g}"

    def mean(self, point: Point) -> float:
        """See :class:`Surrogate`."""
        return self.level + (0.0 if point.gamma == 1 and point.c == 1 else self.gain)

    def std(self, point: Point) -> float:
        """See :class:`Surrogate`."""
        return self.spread


@dataclass(frozen=True)
class EqualArms:
    """γ and c do nothing; the learning rate does the same for every configuration, and is best at ``best_lr``."""

    level: float = 90.0
    best_lr: float = 0.1
    steepness: float = 4.0
    """Points lost at a learning rate that is ten times too large or too small; it grows with the square."""
    spread: float = 0.3
    shift: float = 1.0
    """How many times as large the best learning rate of every configuration but the baseline is."""
    gain: float = 0.0
    """Points by which every configuration but the baseline is better; 0: the arms are equal."""

    @property
    def name(self) -> str:
        """See :class:`Surrogate`."""
        return "equal arms"

    def mean(self, point: Point) -> float:
        """See :class:`Surrogate`."""
        is_baseline = (point.gamma, point.c) == (1.0, 1.0)
        best = self.best_lr if is_baseline else self.best_lr * self.shift
        level = self.level if is_baseline else self.level + self.gain
        return level - self.steepness * math.log10(point.lr / best) ** 2

    def std(self, point: Point) -> float:
        """See :class:`Surrogate`."""
        return self.spread


@dataclass(frozen=True)
class Table1a:
    """A surrogate through the cells of Table 1.a; see the text of this module.

    Args:
        gain: how far the optimum lies above the best cell, in points; 0: it is the best cell.
    """

    gain: float = 0.0

    @property
    def name(self) -> str:
        """See :class:`Surrogate`."""
        return "off_grid" if self.gain else "on_grid"

    def mean(self, point: Point) -> float:
        """See :class:`Surrogate`."""
        gamma, c, lr = point
        value = _at(_curves(lr).mean, gamma) + _curves(lr).base_mean * _share_of_base(c)
        return value + (_height(self.gain) * _bump(gamma, c) if self.gain else 0.0)

    def std(self, point: Point) -> float:
        """See :class:`Surrogate`."""
        gamma, c, lr = point
        return _at(_curves(lr).std, gamma) + _curves(lr).base_std * _share_of_base(c)


ON_GRID, OFF_GRID = Table1a(), Table1a(gain=GAIN_OFF_GRID)


@cache
def best_cell(surrogate: Surrogate) -> float:
    """The highest mean over the 21 cells of Table 1.a that state a γ."""
    return max(surrogate.mean(point_of_cell(cell)) for cell in paper.cells("table1a") if cell.method == paper.OURS)


@cache
def best_anywhere(surrogate: Surrogate) -> tuple[Point, float]:
    """The best point over γ in [0.01, 1], c in [1, 1000] and the three learning rates, and its mean.

    The published γ and c = 10 and 100, where the surrogates have their kinks, are on the grid that is looked at.
    """
    gammas = np.unique(np.r_[np.logspace(-2, 0, 801), [c.gamma for c in paper.cells("table1a") if c.gamma is not None]])
    points = (Point(float(g), float(c), lr) for lr, c, g in product(_RATES, np.logspace(0, 3, 31), gammas))
    return max(((point, surrogate.mean(point)) for point in points), key=lambda pair: pair[1])


_RATES = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class _Curves:
    """One learning rate of the table: functions of log γ at c = 100, and what BASE differs by at γ = 1."""

    mean: Callable[[float], float]
    std: Callable[[float], float]
    base_mean: float
    base_std: float


@cache
def _curves(lr: float) -> _Curves:
    if lr not in _RATES:
        raise ValueError(f"lr: got {lr!r}; accepted: a learning rate of Table 1.a, {_RATES}")
    column = sorted((c for c in paper.cells("table1a") if c.lr == lr and c.gamma is not None), key=paper.initial_gamma)
    x = [math.log(paper.initial_gamma(cell)) for cell in column]
    base, plain = paper.find("table1a", lr=lr, method=paper.BASE), column[-1]
    return _Curves(
        mean=PchipInterpolator(x, [cell.mean for cell in column]),
        std=PchipInterpolator(x, [cell.std for cell in column]),
        base_mean=base.mean - plain.mean,
        base_std=base.std - plain.std,
    )


def _at(curve: Callable[[float], float], gamma: float) -> float:
    if not 0.01 <= gamma <= 1:
        raise ValueError(f"gamma: got {gamma!r}; accepted: a number in [0.01, 1], the range of Table 1.a")
    return float(curve(math.log(gamma)))


def _share_of_base(c: float) -> float:
    return min(1.0, max(0.0, 1.0 - math.log10(c)))


def _bump(gamma: float, c: float) -> float:
    across = math.log10(c / _BUMP_C)
    if abs(across) >= 1:
        return 0.0
    return math.exp(-0.5 * (math.log10(gamma / _BUMP_GAMMA) / _BUMP_WIDTH) ** 2) * math.cos(math.pi / 2 * across) ** 2


@cache
def _height(gain: float) -> float:
    """Height of the bump that puts the optimum ``gain`` above the best cell, which is at learning rate 0.1."""
    curve = _curves(0.1).mean
    gammas = [float(gamma) for gamma in np.logspace(-2, 0, 2001)]
    plain, bump = np.array([_at(curve, g) for g in gammas]), np.array([_bump(g, _BUMP_C) for g in gammas])
    wanted = best_cell(ON_GRID) + gain
    return float(brentq(lambda height: float(np.max(plain + height * bump)) - wanted, 0.0, 20.0))
