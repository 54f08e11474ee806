"""Real learning curves in place of training: a :class:`~benchmarks.statistics.simulation.World` that replays a table.

A table is what ``benchmarks.statistics.curve_table`` packed: whole runs on a grid of γ, c and learning rates, on a
few seeds. With K(x) the cells around a configuration x, w their weights (linear in log γ, log c and log lr), n seeds
of the table,

    mean(x)     = Σ_k w_k·mean_k,
    curve(x, s) = mean(x) + √(n / (n − 1))·(curve_k*(t) − mean_k*)

where t is the table's seed that stands for the study's seed s, and k* one of the K(x), drawn by their weights, so that
an interpolated run is as noisy as a real one. On the grid this is the run itself, but for the root, without which runs
that are compared with their own mean would be too close to it.

A study's seeds stand for the table's in an order that the replicate shuffles: search seeds first, then those of the
selection, then the others. Where the table has no more seeds, a seed comes again, with the residual of a neighbouring
cell. The *true* value of a configuration is the mean of a test column over the table's seeds, interpolated likewise. It
is read by who judges a search, never by the search.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.results import RESULTS
from benchmarks.statistics.surrogates import Point
from tune_bn.space.space import Space

TABLES = RESULTS / "curve_table"
CHANCE = 10.0
"""Percent: both tables have ten classes."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class CurveTable:
    """The runs of one length of course that form a full grid.

    Axes are learning rate, γ, c and seed, each in increasing order; ``val`` has the epochs as its last one.
    """

    name: str
    lrs: tuple[float, ...]
    gammas: tuple[float, ...]
    cs: tuple[float, ...]
    seeds: tuple[int, ...]
    val: Array
    """Validation accuracy after each epoch, percent; chance from the epoch on in which a run diverged."""
    test: Mapping[str, Array]
    """By metric, percent. For who judges alone."""

    @property
    def epochs(self) -> int:
        """Length of the course."""
        return int(self.val.shape[-1])

    @cached_property
    def mean(self) -> Array:
        """Validation accuracy, mean over the seeds."""
        return np.asarray(self.val.mean(axis=3))

    @cached_property
    def residual(self) -> Array:
        """What each seed's curve differs by from the mean of its cell, as for a seed that is not among them."""
        n = len(self.seeds)
        return (self.val - self.mean[:, :, :, None]) * math.sqrt(n / (n - 1))

    def weights(self, point: Point) -> list[tuple[tuple[int, int, int], float]]:
        """The cells around a point, by their indices, with their weights > 0, which add up to 1.

        Raises:
            ValueError: it lies outside the table.
        """
        axes = [
            _around(axis, value, name)
            for axis, value, name in (
                (self.lrs, point.lr, "lr"),
                (self.gammas, point.gamma, "gamma"),
                (self.cs, point.c, "c"),
            )
        ]
        found = [((a, b, c), u * v * w) for (a, u), (b, v), (c, w) in product(*axes)]
        return [(cell, weight) for cell, weight in found if weight > 0]

    def means(self, metric: str) -> Array:
        """Mean score of each cell over the seeds, percent: a test metric, or ``val_accuracy``, the best over epochs."""
        scores = self.val.max(axis=-1) if metric == "val_accuracy" else self.test[metric]
        return np.asarray(scores.mean(axis=3))

    def true_value(self, point: Point, metric: str = "test_accuracy") -> float:
        """Mean score over the seeds, percent; for who judges alone."""
        means = self.means(metric)
        return float(sum(weight * means[cell] for cell, weight in self.weights(point)))

    def best(self, metric: str = "test_accuracy") -> tuple[Point, float]:
        """The best cell and its true value. No point between cells has a higher one."""
        means = self.means(metric)
        lr, gamma, c = np.unravel_index(int(means.argmax()), means.shape)
        return Point(self.gammas[gamma], self.cs[c], self.lrs[lr]), float(means.max())

    def best_known(self, metric: str = "test_accuracy") -> float:
        """True value of the cell with the best mean validation accuracy: what choosing on these images can reach."""
        scores = self.means("val_accuracy")
        return float(self.means(metric)[np.unravel_index(int(scores.argmax()), scores.shape)])

    def only(self, *lrs: float) -> CurveTable:
        """The part at these learning rates."""
        kept = [self.lrs.index(lr) for lr in sorted(lrs)]
        test = {name: scores[kept] for name, scores in self.test.items()}
        return CurveTable(self.name, tuple(sorted(lrs)), self.gammas, self.cs, self.seeds, self.val[kept], test)


def _around(axis: Sequence[float], value: float, name: str) -> list[tuple[int, float]]:
    """Indices of the two values of an axis around one, with their weights."""
    if not axis[0] * (1 - 1e-9) <= value <= axis[-1] * (1 + 1e-9):
        raise ValueError(f"{name}: got {value!r}; accepted: a number in [{axis[0]:g}, {axis[-1]:g}]")
    place = float(np.interp(math.log(value), np.log(axis), range(len(axis))))
    below = min(int(place), max(0, len(axis) - 2))
    share = place - below
    return [(below, 1 - share), *([(below + 1, share)] if len(axis) > 1 else [])]


def load_table(
    name: str, epochs: int, folder: Path = TABLES, lrs: Sequence[float] | None = None, seeds: int = 2
) -> CurveTable:
    """The table of that name at one length of course, on the finest full grid that so many seeds have.

    Args:
        name: ``digits`` or ``cifar10``.
        epochs: length of the course.
        folder: where ``NAME.parquet`` lies.
        lrs: learning rates; None: all that are there.
        seeds: those with the most cells are taken.

    Raises:
        ValueError: there are no so many seeds on two values of γ and of c.
    """
    frame = pd.read_parquet(folder / f"{name}.parquet")
    frame = frame[frame.epochs == epochs]
    if lrs is not None:
        frame = frame[frame.lr.isin(lrs)]
    taken = tuple(sorted(map(int, frame.groupby("seed").size().nlargest(seeds).index)))
    frame = frame[frame.seed.isin(taken)]
    axes = _full_grid({(row.lr, row.gamma, row.c, row.seed) for row in frame.itertuples()}, taken)
    if len(taken) < max(seeds, 2) or len(axes["gamma"]) < 2 or len(axes["c"]) < 2:
        raise ValueError(f"{folder / name}.parquet: {epochs} epochs: accepted: {seeds} seeds, at least 2, on a grid")
    for key, values in axes.items():
        frame = frame[frame[key].isin(values)]
    shape = (*map(len, axes.values()), len(taken))
    val = np.full((*shape, epochs), CHANCE)
    test = {metric: np.full(shape, CHANCE) for metric in ("test_accuracy", "final_test_accuracy")}
    for row in frame.to_dict("records"):
        at = (*(axes[key].index(float(row[key])) for key in axes), taken.index(int(row["seed"])))
        if row["diverged"]:
            curve = np.asarray(row["val_accuracy"], dtype=float)[:-1]
            val[at][: len(curve)] = curve
            continue
        val[at] = row["val_accuracy"]
        test["test_accuracy"][at] = row["test_accuracy_best"]
        test["final_test_accuracy"][at] = row["test_accuracy_final"]
    return CurveTable(f"{name}-{epochs}", axes["lr"], axes["gamma"], axes["c"], taken, val, test)


def _full_grid(runs: set[tuple[float, float, float, int]], seeds: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """The axes that are left where one by one the γ or c with the largest share of missing runs is dropped."""
    lrs, gammas, cs = (sorted({run[place] for run in runs}) for place in range(3))

    def missing(gamma: Sequence[float], c: Sequence[float]) -> float:
        wanted = list(product(lrs, gamma, c, seeds))
        return sum(run not in runs for run in wanted) / max(1, len(wanted))

    while gammas and cs and missing(gammas, cs):
        worst_gamma, worst_c = max(gammas, key=lambda g: missing([g], cs)), max(cs, key=lambda c: missing(gammas, [c]))
        if missing([worst_gamma], cs) >= missing(gammas, [worst_c]):
            gammas.remove(worst_gamma)
        else:
            cs.remove(worst_c)
    return {"lr": tuple(lrs), "gamma": tuple(gammas), "c": tuple(cs)}


class Replay:
    """A :class:`~benchmarks.statistics.simulation.World` of a table's runs.

    Args:
        table: the runs.
        space: of the study: its seeds stand for the table's.
        replicate: shuffles the seeds, and draws.
    """

    def __init__(self, table: CurveTable, space: Space, replicate: int) -> None:
        self.table = table
        self.replicate = replicate
        order = np.random.default_rng([replicate, 7]).permutation(len(table.seeds))
        seeds = [*space.seeds.search, *space.seeds.select, *space.seeds.confirm]
        self._stands_for = {
            seed: (int(order[place % len(order)]), place // len(order)) for place, seed in enumerate(seeds)
        }

    def curve(self, point: Point, seed: int, epochs: int) -> list[float]:
        """See :class:`~benchmarks.statistics.simulation.World`."""
        if epochs != self.table.epochs:
            raise ValueError(f"epochs: got {epochs}; accepted: {self.table.epochs}, the course of the table")
        around = self.table.weights(point)
        mean = sum(weight * self.table.mean[cell] for cell, weight in around)
        cell, place = self._donor(point, seed)
        return [float(value) for value in np.clip(mean + self.table.residual[(*cell, place)], 0.0, 100.0)]

    def test_score(self, point: Point, seed: int, metric: str) -> float:
        """See :class:`~benchmarks.statistics.simulation.World`."""
        cell, place = self._donor(point, seed)
        scores, n = self.table.test[metric][cell], len(self.table.seeds)
        residual = (scores[place] - scores.mean()) * math.sqrt(n / (n - 1))
        return float(np.clip(self.table.true_value(point, metric) + residual, 0.0, 100.0))

    def _donor(self, point: Point, seed: int) -> tuple[tuple[int, int, int], int]:
        """The cell and the seed's place in the table whose residual a run has."""
        place, again = self._stands_for[seed]
        around = self.table.weights(point)
        draw = self._draws(tuple(point), seed)
        shares = np.cumsum([weight for _, weight in around])
        lr, gamma, c = around[min(int(np.searchsorted(shares, draw.random() * shares[-1])), len(around) - 1)][0]
        if again:
            gamma, c = (
                int(np.clip(at + draw.integers(-1, 2), 0, len(axis) - 1))
                for at, axis in ((gamma, self.table.gammas), (c, self.table.cs))
            )
        return (lr, gamma, c), place

    def _draws(self, *key: Any) -> np.random.Generator:
        digest = hashlib.sha256(repr((self.replicate, *key)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))
