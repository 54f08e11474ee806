"""Are the pairs of a table pairs? What shows that two columns were sorted before their rows were numbered.

Two columns that were sorted each by itself agree in every rank, so that the differences hardly vary and the paired
t-test rejects 32 % of the time where there is no effect. The test of the means alone (Welch) is not misled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tune_bn.analysis.goals import names_in, words_of
from tune_bn.analysis.ranks import kendall_tau
from tune_bn.errors import listed

Array = NDArray[np.float64]

BOTH_BY_CHANCE = 1e-2
"""Product of the chances of two arms to lie in order, from which on it is said."""
EACH_BY_CHANCE = 2e-2
"""Chance of either, from which on a gain has to hold without the pairs too."""
NEARLY = 0.8
"""Kendall's τ of an arm with the order of the pairs, from which on it is nearly sorted."""
HIGHEST = 0.9
"""Correlation over seeds that arms hardly exceed: common weights, batches and augmentation bought 0 to 0.9 here."""
FEW_TIES = 0.9
"""Share of the pairs of pairs that are not tied, from which on equal ranks are no matter of coarse scores."""

# Pairs by these differ among each other far more than arms do, so a correlation near 1 is no surprise.
_WIDE = names_in("""
    fold folds split splits dataset datasets data task tasks env envs environment environments game games subject
    subjects domain domains problem problems question questions instance instances benchmark benchmarks class classes
    language languages image images sample samples query user patient site setting settings size width depth model
    models network networks architecture arch epoch epochs step steps
    """)


@dataclass(frozen=True)
class Doubt:
    """Why the pairs of two arms may be none."""

    text: str
    is_grave: bool
    """The gain has to hold without the pairs too."""


def doubt_of(
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    name: str,
    against: str,
    paired_by: str,
    rows: Sequence[int] | None = None,
) -> Doubt | None:
    """What the scores of two arms, in the order of the pairs, say against their being paired; None: nothing.

    Args:
        candidate: scores in the order of the pairs, shape (n,).
        baseline: scores of the same pairs.
        name: the candidate's name.
        against: the baseline's name.
        paired_by: the column that makes the pairs.
        rows: the pairs in the order of the file, where both arms have the same.
    """
    arms = [np.asarray(scores, dtype=float) for scores in (candidate, baseline)]
    both = f"{listed([against])} and {listed([name])}"
    orders, where = [_order(scores) for scores in arms], listed([paired_by])
    if not all(orders) and rows is not None:
        # Seeds may bear any names; a table that somebody ordered by one arm is not sorted by the other as well.
        by_row = [_order(scores[list(rows)]) for scores in arms]
        if all(order is not None and order[2] for order in by_row):
            orders, where = by_row, "the rows"
    if all(orders):
        chances = [order[1] for order in orders if order is not None]
        ways = {order[0] for order in orders if order is not None}
        exact = all(order[2] for order in orders if order is not None)
        if math.prod(chances) <= BOTH_BY_CHANCE:
            way = f"are both {'' if exact else 'nearly '}sorted{'' if len(ways) == 1 else ' (one the other way)'}"
            return Doubt(
                f"{both} {way} in the order of {where}, as columns are that were sorted before their "
                "rows were numbered; then the pairs are no pairs",
                max(chances) <= EACH_BY_CHANCE,
            )
    first, second = arms
    if set(words_of(paired_by)) & _WIDE or min(np.ptp(first), np.ptp(second)) == 0:
        return None
    n = first.size
    with np.errstate(all="ignore"):
        r = float(np.corrcoef(np.stack([first, second]))[0, 1])
    if n >= 6 and (r >= 1 or (abs(r) < 1 and math.atanh(r) - 3 / math.sqrt(n - 3) > math.atanh(HIGHEST))):
        what = f"correlate by {_short(r)} over {listed([paired_by])}, more than runs of one seed do"
    elif n >= 8 and _same_ranks(first, second) and kendall_tau(first, second) > 0:
        what = f"have the same ranks over {listed([paired_by])}, from the lowest score to the highest"
    else:
        return None
    return Doubt(
        f"{both} {what}: either both columns were sorted, or one was made from the other; if the pairs are no pairs, "
        "the paired test says nothing",
        False,
    )


def _same_ranks(first: Array, second: Array) -> bool:
    """No two pairs are ranked one way by one arm and the other way by the other, and few are tied."""
    order = np.lexsort((second, first))
    low, high = first[order], second[order]
    steps = np.flatnonzero(np.diff(low)) + 1
    # What comes before a step has lower ranks in the first arm, so nothing of it may be higher in the second.
    if np.any(np.maximum.accumulate(high)[steps - 1] > high[steps]):
        return False
    pairs = first.size * (first.size - 1) / 2
    both = np.stack([first, second])
    tied = _ties(first) + _ties(second) - _ties(both)
    return bool(pairs - tied >= FEW_TIES * pairs)


def _ties(scores: Array) -> float:
    """How many pairs of pairs are equal, in one arm (n,) or in all of several (k, n)."""
    counts = np.unique(scores, axis=-1, return_counts=True)[1]
    return float(np.sum(counts * (counts - 1.0) / 2))


def _short(r: float) -> str:
    digits = 3
    while digits < 9 and abs(float(f"{r:.{digits}f}")) >= 1 > abs(r):
        digits += 1
    return f"{r:.{digits}f}"


def _order(scores: Array) -> tuple[bool, float, bool] | None:
    """Whether scores lie upwards, the chance of their order if they have none, and whether it is exact.

    None where they are in no order.
    """
    n = scores.size
    steps = np.sign(np.diff(scores))
    counts: Sequence[int] = list(Counter(scores.tolist()).values())
    if len(counts) < 3:
        return None
    if len({step for step in steps.tolist() if step}) == 1:
        chance = 2 * math.exp(sum(math.lgamma(count + 1) for count in counts) - math.lgamma(n + 1))
        return bool(scores[-1] > scores[0]), chance, True
    if abs(kendall_tau(np.arange(n, dtype=float), scores)) < NEARLY:
        return None

    from scipy import stats

    found = stats.kendalltau(np.arange(n), scores)
    if found.pvalue <= EACH_BY_CHANCE / 10:
        return bool(found.statistic > 0), float(found.pvalue), False
    return None
