"""The race of the selection: finalists that are clearly behind do not run on the remaining seeds.

After 3, 5, 8, 11, 15, 20, 25, … seeds, as far as more are to come, every two of the m finalists that still run are
compared by the one-sided paired t-test over the seeds so far. With k ``places`` to be won, a finalist is dropped where
k others are each significantly better than it, at the level

    error / ((m − 1)·K),  K the number of such looks,

and where k are left the race is over.

**Error rate.** Of a finalist that is truly among the best k, one of any k others is no better. So dropping it takes a
false significance against one of m − 1 others at one of K looks, each of probability at most the level: the chance of
dropping it is at most ``error``, however the leader of the moment came about (Bonferroni). Differences are taken to be
normal and independent over seeds. Where two finalists differ by a constant, the look decides nothing about them.

Races over paired comparisons are due to Maron and Moore (Artificial Intelligence Review 11, 1997) and, for configuring
algorithms, Birattari et al. (GECCO 2002); theirs state no error rate for the whole race.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from tune_bn.analysis.rounding import Array, score_error, varies
from tune_bn.analysis.sequential import DEFAULT_LOOKS

_EVERY = 5


@dataclass(frozen=True)
class Race:
    """A race so far."""

    needed: Mapping[str, int]
    """By finalist: seeds, the first so many, that it has to have: of the look that dropped it or ended the race, else
    of the next look."""
    dropped: Mapping[str, int]
    """By finalist that was dropped: seeds at the look that did it."""


def race_looks(seeds: int) -> tuple[int, ...]:
    """Seeds at each look of a race over so many seeds; after the last seed nothing is left to be saved."""
    return tuple(n for n in (*DEFAULT_LOOKS, *range(DEFAULT_LOOKS[-1] + _EVERY, seeds, _EVERY)) if n < seeds)


def race(
    scores: Mapping[str, Sequence[float]],
    *,
    seeds: int,
    error: float | None,
    places: int = 1,
    withdrawn: frozenset[str] = frozenset(),
) -> Race:
    """Where the race stands.

    Args:
        scores: for each finalist its scores on the first seeds, in their order, shape (n,); higher is better.
        seeds: planned for each finalist.
        error: chance at most that a finalist which is truly among the best ``places`` is dropped; None: no race.
        places: finalists that the selection is to find.
        withdrawn: finalists whose runs failed; they take part as far as their scores go, and hold nobody up.
    """
    looks = () if error is None else race_looks(seeds)
    comparisons = (len(scores) - 1) * len(looks)
    running, dropped = list(scores), dict[str, int]()
    for n in looks:
        running = [name for name in running if name not in withdrawn or len(scores[name]) >= n]
        if any(len(scores[name]) < n for name in running):
            return Race(dict.fromkeys(running, n) | dropped, dropped)
        if error is None or len(running) <= places:
            break
        level = error / comparisons
        better = _better(np.array([scores[name][:n] for name in running], dtype=float), level)
        dropped |= {name: n for name, count in zip(running, better.sum(axis=1), strict=True) if count >= places}
        running = [name for name in running if name not in dropped]
        if dropped and len(running) <= places:
            return Race(dict.fromkeys(running, n) | dropped, dropped)
    return Race(dict.fromkeys(running, seeds) | dropped, dropped)


def _better(scores: Array, level: float) -> NDArray[np.bool_]:
    """For scores of shape (m, n): entry (i, j) says whether j is significantly better than i; shape (m, m)."""
    n = scores.shape[1]
    differences = scores[None, :, :] - scores[:, None, :]
    mean, std = differences.mean(axis=-1), differences.std(axis=-1, ddof=1)
    (error,) = score_error(scores)
    varied = varies(differences, error[None, :, :] + error[:, None, :])
    t = mean / np.where(varied, std, 1.0) * math.sqrt(n)
    return np.asarray(varied & (t >= -special.stdtrit(n - 1, level)))
