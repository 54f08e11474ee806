"""From which epoch on does an early order of trials say something about their final one?

Early stopping drops whoever is behind at some epoch, which is fair where whoever is behind then ends behind. Only the
order of the good ones matters: hopeless trials are told apart early, and would make any epoch look trustworthy, while a
search proposes more and more good ones. So of the trials of an arm that ran to their end those are looked at that ended
in its better half, and the pairs of them whose order at epoch e is not that of their last epoch are counted; with D of
P pairs the rank correlation of Kendall (1938) is τ(e) = 1 − 2·D / P. Where two end the same, either order was right:
they are no pair. Where two are the same at epoch e and not at the end, it is a toss-up and half a discordant pair.
Trials of different arms make no pairs, since they are never compared.

**How sure is it, with few trials?** If orders scatter around the final one as in the model of Mallows (1957), P(order)
∝ q^D, then D is a sum of independent numbers: of the i-th trial of an arm, i = 1, …, n, one in {0, …, i − 1} with
probabilities ∝ q^k; the generating function of the orders is Π_i (1 + q + … + q^(i−1)), and where trials end the same
it is divided by that of each group of them, which leaves a q-multinomial coefficient. This gives the distribution of D
for several arms together, without an approximation for large n, and the expected τ as a function of q. The lower bound
is the τ of the largest q that is not refuted: P(D ≤ the one seen) = the level. Eight trials in the very same order give
a bound of 0.75 at a level of 5 %, and none better than nothing with four. Under a bivariate normal law in place of
Mallows' the bound holds as well (tests).

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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.errors import RecordError
from tune_bn.records.files import read_bytes

EARLY_ORDER_FILE = "early_order.json"
LEAST_TAU = 0.5
"""Three of four pairs in their final order."""
ALPHA = 0.05
"""Chance at most, over all looks, to call an epoch safe whose τ is below :data:`LEAST_TAU`."""
FEWEST_TRIALS = 16
"""Trials of an arm that are awaited before the first look; the better half of fewer could not be sure enough."""
GROWTH = 1.5
"""Each look has so many times the trials of the one before it."""
MOST_TRIALS = 60
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
    """In increasing order; empty where no two of the better half of an arm ended differently."""
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
    good = {arm: _better_half(found, last) for arm, found in curves.items()}
    finals = {arm: [curve[last] for curve in found] for arm, found in good.items()}
    ties = {arm: tuple(sorted(Counter(final).values())) for arm, final in finals.items()}
    paired = {arm: pairs for arm in curves if (pairs := _pairs(ties[arm])) > 0}
    found: list[AtEpoch] = []
    for epoch in epochs if paired else ():
        against = {arm: discordant([curve[epoch] for curve in good[arm]], finals[arm]) for arm in paired}
        tau = 1 - 2 * sum(against.values()) / sum(paired.values())
        low = tau_lower_bound(tuple(sorted(ties[arm] for arm in paired)), sum(against.values()), level)
        arms = {arm: 1 - 2 * against[arm] / pairs for arm, pairs in paired.items()}
        found.append(AtEpoch(epoch, tau, low, arms))
    safe = None
    for at in reversed(found):
        if not _agrees(at):
            break
        safe = at.epoch
    return Look(number, sizes, level, last, tuple(found), safe)


def _better_half(curves: Sequence[Curve], last: int) -> list[Curve]:
    """The trials that end no worse than the median one, all of those that end like the last of them among them."""
    ends = sorted((curve[last] for curve in curves), reverse=True)
    return [curve for curve in curves if curve[last] >= ends[(len(ends) - 1) // 2]]


def _agrees(at: AtEpoch) -> bool:
    return at.low >= LEAST_TAU and min(at.arms.values()) >= LEAST_TAU


def sizes_of_looks(first: int, most: int) -> list[int]:
    """Trials of an arm at each look; the last one when all ``most`` have ended, or with :data:`MOST_TRIALS`."""
    sizes = [min(first, most)]
    while sizes[-1] < min(most, MOST_TRIALS):
        sizes.append(min(math.ceil(GROWTH * sizes[-1]), most))
    return sizes


def discordant(early: Sequence[float], final: Sequence[float]) -> float:
    """Pairs whose early order is not their final one; see the text of this module for ties."""
    first, second = np.triu_indices(len(early), 1)
    before, after = np.asarray(early, dtype=float), np.asarray(final, dtype=float)
    ended = np.sign(after[first] - after[second])
    agree = np.sign(before[first] - before[second]) * ended
    return float(np.sum((1 - agree[ended != 0]) / 2))


def tau_lower_bound(ties: tuple[tuple[int, ...], ...], against: float, level: float) -> float:
    """Lower confidence bound of the expected τ at ``1 − level``; see the text of this module.

    Args:
        ties: of each arm, how many trials share each final score: ``(1, 1, 1)`` for three that end differently. One
            arm at least has a pair.
        against: discordant pairs over all arms; half a pair counts as a whole one.
        level: in (0, 1).
    """
    counts = _orders(ties)
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
def _orders(ties: tuple[tuple[int, ...], ...]) -> NDArray[np.float64]:
    """Logarithm of the number of orders of all arms with 0, 1, 2, … discordant pairs."""
    counts = [1]
    # In whole numbers, which the division leaves exact and of which a float would lose the small ones.
    for groups in ties:
        for i in range(2, sum(groups) + 1):
            counts = _times_run(counts, i)
    for group in (size for groups in ties for size in groups):
        for i in range(2, group + 1):
            counts = _over_run(counts, i)
    return np.array([math.log(count) for count in counts])


def _times_run(counts: list[int], length: int) -> list[int]:
    """Coefficients of a polynomial times 1 + q + … + q^(length − 1)."""
    padded = [*counts, *[0] * (length - 1)]
    sums = list(accumulate(padded))
    return [total - (sums[k - length] if k >= length else 0) for k, total in enumerate(sums)]


def _over_run(counts: list[int], length: int) -> list[int]:
    """The other way round."""
    quotient: list[int] = []
    for k in range(len(counts) - length + 1):
        quotient.append(counts[k] - sum(quotient[max(0, k - length + 1) : k]))
    return quotient


def _shares(counts: NDArray[np.float64], log_q: float) -> NDArray[np.float64]:
    """Distribution of D: the orders with so many discordant pairs, times q^D, over their sum."""
    weights = counts + log_q * np.arange(len(counts))
    shares = np.exp(weights - weights.max())
    return np.asarray(shares / shares.sum())


def _pairs(groups: Sequence[int]) -> int:
    """Pairs of trials that end differently."""
    return (sum(groups) ** 2 - sum(size**2 for size in groups)) // 2


def words(look: Look, *, next_at: int | None = None) -> str:
    """What a look found, in one line.

    Args:
        look: the look.
        next_at: trials of an arm at the next one; None: there is none.
    """
    trials = " and ".join(f"{n} {arm}" for arm, n in look.trials.items())
    sure = f"{100 * (1 - look.level):.4g} % confidence, the better half of {trials} trials that ran to their end"
    at = look.at_safe
    if at is not None:
        return (
            f"early stopping is safe from epoch {at.epoch} of {look.last} here: from there on the order of the better "
            f"half of the trials agrees with their final one (τ = {at.tau:.2f}, surely ≥ {at.low:.2f}: {sure})"
        )
    then = "nothing is stopped" if next_at is None else f"all go on to their end; next look at {next_at} trials"
    if not look.epochs:
        return f"early stopping is not known to be safe: no two good trials of an arm ran to different ends; {then}"
    blocking = next(at for at in reversed(look.epochs) if not _agrees(at))
    where = f"at epoch {blocking.epoch} of {look.last} the order of the better half of the trials"
    if blocking.tau >= LEAST_TAU:
        # What is missing is trials.
        return (
            f"early stopping is not known to be safe here: {where} agrees with their final one "
            f"(τ = {blocking.tau:.2f}), but of so few that only τ ≥ {blocking.low:.2f} is sure, and "
            f"{LEAST_TAU:g} is needed ({sure}); {then}"
        )
    return (
        f"early stopping is not safe here: {where} still differs from their final one (τ = {blocking.tau:.2f}, surely "
        f"≥ {blocking.low:.2f}, needed: {LEAST_TAU:g}; {sure}); {then}"
    )
