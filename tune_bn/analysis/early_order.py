"""From which epoch on does an early order of trials say something about their final one?

Early stopping drops whoever is behind at some epoch, which is fair where whoever is behind then ends behind. Of trials
that ran to their end, the pairs of one arm whose order at epoch e is not that of their last epoch are counted; with D
of P pairs the rank correlation of Kendall (1938) is τ(e) = 1 − 2·D / P. A pair that is tied at either epoch says
nothing and counts as half a discordant one. Trials of different arms make no pairs, since they are never compared.

**How sure is it, with few trials?** If orders scatter around the final one as in the model of Mallows (1957),
P(order) ∝ q^D, then D is a sum of independent numbers: of the i-th trial of an arm, i = 1, …, n, one in {0, …, i − 1}
with probabilities ∝ q^k. This gives the distribution of D for several arms together, without an approximation for large
n, and the expected τ as a function of q. The lower bound is the τ of the largest q that is not refuted: P(D ≤ the one
seen) = the level. Eight trials in the very same order give a bound of 0.75 at a level of 5 %, and none better than
nothing with four. Under a bivariate normal law in place of Mallows' the bound holds as well (tests).

**The rule.** Stopping is safe from epoch e on where the bound is at least :data:`LEAST_TAU` at e and at every later
epoch that was looked at, and no arm by itself lies below that. The epochs are tested from the last to the first, and
the first that fails ends it, so all of them together have the level of one test. Where it is not safe, more whole
trials are awaited, and look j is held at the level α / (j·(j + 1)); these add up to α.

τ speaks of the final order on the seeds of the search, luck included: stopping is to find what the search would have
found without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.errors import RecordError
from tune_bn.records import read_bytes

EARLY_ORDER_FILE = "early_order.json"
LEAST_TAU = 0.5
"""Three of four pairs in their final order."""
ALPHA = 0.05
"""Chance at most, over all looks, to call an epoch safe whose τ is below :data:`LEAST_TAU`."""
FEWEST = 8
"""Trials of an arm that are awaited before the first look; with fewer no order could be sure enough."""
GROWTH = 1.5
"""Each look has so many times the trials of the one before it."""
MOST = 60
"""Trials of an arm at the last look: where so many say that it is not safe, it never is."""

Curve = Mapping[int, float]
"""The objective of a whole trial by epoch, higher is better."""


@dataclass(frozen=True)
class AtEpoch:
    """What the order at an epoch says of the final one."""

    epoch: int
    tau: float
    """Over the pairs of all arms."""
    low: float
    """Its lower confidence bound at the level of the look."""
    arms: Mapping[str, float]
    """τ of each arm that has pairs."""


@dataclass(frozen=True)
class Look:
    """What whole trials said once."""

    number: int
    """From 1."""
    trials: Mapping[str, int]
    """Whole trials by arm."""
    level: float
    last: int
    """Length of the course, in epochs."""
    epochs: tuple[AtEpoch, ...]
    """In increasing order; empty where no arm had two trials."""
    safe_from: int | None
    """The first epoch from which on it is safe to stop; None: there is none."""

    @property
    def at_safe(self) -> AtEpoch | None:
        """What is known of the first safe epoch."""
        return next((at for at in self.epochs if at.epoch == self.safe_from), None)

    def to_json(self) -> dict[str, Any]:
        """As the file keeps it, which :func:`read_looks` reads."""
        return asdict(self)


def read_looks(path: Path) -> list[Look]:
    """The looks of a study, from its ``early_order.json``.

    Raises:
        RecordError: the file cannot be read, or holds no looks.
    """
    accepted = "the file as the search wrote it; a resume of the search writes it anew"
    try:
        content = json.loads(read_bytes(path))
        return [_look_of(found) for found in content["looks"]]
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); accepted: {accepted}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RecordError(f"{path}: not the looks at an early order ({error!r}); accepted: {accepted}") from None


def _look_of(found: Mapping[str, Any]) -> Look:
    epochs = tuple(
        AtEpoch(int(at["epoch"]), _tau(at["tau"]), _tau(at["low"]), {str(k): _tau(v) for k, v in at["arms"].items()})
        for at in found["epochs"]
    )
    trials = {str(arm): int(n) for arm, n in found["trials"].items()}
    safe, last, level = found["safe_from"], int(found["last"]), float(found["level"])
    places = [at.epoch for at in epochs]
    if sorted({*places, last}) != [*places, last] or not 0 < level < 1 or min([1, *places]) < 1:
        raise ValueError("epochs or level")
    if (safe is not None and safe not in places) or not all(at.arms for at in epochs):
        raise ValueError("safe_from or arms")
    return Look(int(found["number"]), trials, level, last, epochs, safe)


def _tau(value: Any) -> float:
    if not -1 <= float(value) <= 1:
        raise ValueError(f"{value!r} is no τ")
    return float(value)


def look(number: int, curves: Mapping[str, Sequence[Curve]], epochs: Sequence[int], last: int) -> Look:
    """What the whole trials of each arm say; see the text of this module.

    Args:
        number: of the look, from 1.
        curves: whole trials by arm.
        epochs: those at which a trial might be stopped, increasing, below ``last``.
        last: the length of the course.
    """
    level = ALPHA / (number * (number + 1))
    sizes = {arm: len(found) for arm, found in curves.items()}
    paired = {arm: n for arm, n in sizes.items() if n > 1}
    found: list[AtEpoch] = []
    for epoch in epochs if paired else ():
        against = {
            arm: discordant([curve[epoch] for curve in curves[arm]], [curve[last] for curve in curves[arm]])
            for arm in paired
        }
        pairs = sum(map(_pairs, paired.values()))
        tau = 1 - 2 * sum(against.values()) / pairs
        low = tau_lower_bound(tuple(sorted(paired.values())), sum(against.values()), level)
        arms = {arm: 1 - 2 * d / _pairs(paired[arm]) for arm, d in against.items()}
        found.append(AtEpoch(epoch, tau, low, arms))
    safe = None
    for at in reversed(found):
        if not _agrees(at):
            break
        safe = at.epoch
    return Look(number, sizes, level, last, tuple(found), safe)


def _agrees(at: AtEpoch) -> bool:
    return at.low >= LEAST_TAU and min(at.arms.values()) >= LEAST_TAU


def sizes_of_looks(first: int, most: int) -> list[int]:
    """Trials of an arm at each look; the last one when all ``most`` have ended, or with :data:`MOST`."""
    sizes = [min(first, most)]
    while sizes[-1] < min(most, MOST):
        sizes.append(min(math.ceil(GROWTH * sizes[-1]), most))
    return sizes


def discordant(early: Sequence[float], final: Sequence[float]) -> float:
    """Pairs whose early order is not their final one; a pair with a tie counts as half."""
    first, second = np.triu_indices(len(early), 1)
    before, after = np.asarray(early, dtype=float), np.asarray(final, dtype=float)
    agree = np.sign(before[first] - before[second]) * np.sign(after[first] - after[second])
    return float(np.sum((1 - agree) / 2))


def tau_lower_bound(sizes: tuple[int, ...], against: float, level: float) -> float:
    """Lower confidence bound of the expected τ at ``1 − level``; see the text of this module.

    Args:
        sizes: trials of each arm, two or more.
        against: discordant pairs over all arms; half a pair counts as a whole one.
        level: in (0, 1).
    """
    counts = _orders(sizes)
    numbers, seen = np.arange(len(counts)), math.ceil(against)
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(_shares(counts, middle)[: seen + 1].sum()) > level:
            low = middle
        else:
            high = middle
    return float(1 - 2 * (_shares(counts, low) * numbers).sum() / numbers[-1])


@lru_cache(maxsize=64)
def _orders(sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """Logarithm of the number of orders of all arms with 0, 1, 2, … discordant pairs, up to a constant."""
    counts = np.ones(1)
    for size in sizes:
        for i in range(2, size + 1):
            counts = np.convolve(counts, np.ones(i) / i)
    return np.asarray(np.log(counts))


def _shares(counts: NDArray[np.float64], log_q: float) -> NDArray[np.float64]:
    """Distribution of D: the orders with so many discordant pairs, times q^D, over their sum."""
    weights = counts + log_q * np.arange(len(counts))
    shares = np.exp(weights - weights.max())
    return np.asarray(shares / shares.sum())


def _pairs(trials: int) -> int:
    return trials * (trials - 1) // 2


def words(look: Look, *, next_at: int | None = None) -> str:
    """What a look found, in one line.

    Args:
        look: the look.
        next_at: trials of an arm at the next one; None: there is none.
    """
    trials = " and ".join(f"{n} {arm}" for arm, n in look.trials.items())
    sure = f"{100 * (1 - look.level):.4g} % confidence, {trials} trials that ran to their end"
    at = look.at_safe
    if at is not None:
        return (
            f"early stopping is safe from epoch {at.epoch} of {look.last} here: τ = {at.tau:.2f} between the order of "
            f"trials there and the final one (≥ {at.low:.2f}, {sure})"
        )
    then = "nothing is stopped" if next_at is None else f"all go on to their end; next look at {next_at} trials"
    if not look.epochs:
        return f"early stopping is not known to be safe: no two trials of an arm ran to their end; {then}"
    blocking = next(at for at in reversed(look.epochs) if not _agrees(at))
    return (
        f"early stopping is not safe here: at epoch {blocking.epoch} of {look.last} still τ = {blocking.tau:.2f} "
        f"between the order of trials there and the final one (≥ {blocking.low:.2f}, {sure}; needed: {LEAST_TAU:g}); "
        f"{then}"
    )
