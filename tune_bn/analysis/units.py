"""Scores in another unit than others of a table: percent beside fractions, hours beside seconds, errors beside hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

import numpy as np

from tune_bn.errors import listed

Usable = Mapping[str, Mapping[str, float]]
"""Arm → pair → score."""

_FACTORS = (100.0, 1000.0, 3600.0, 1e4, 1e6, 1e9)


def in_other_units(usable: Usable, paired_by: str) -> list[str]:
    """Rows, or else arms, that are off by the factor between two units; one sentence each."""
    rows = {arm: odd for arm, scores in usable.items() if (odd := _rows_in_another_unit(scores))}
    if rows:
        words = "; ".join(
            f"{listed([arm])} at {paired_by or 'row'} " + listed([f"{pair} ({usable[arm][pair]:.4g})" for pair in odd])
            for arm, odd in rows.items()
        )
        return [f"a score in another unit than the arm's other scores: {words}; accepted: one unit"]
    found = []
    for small, large in permutations([arm for arm, scores in usable.items() if scores], 2):
        factor = _factor_between(list(usable[small].values()), list(usable[large].values()))
        if factor is not None:
            words = "a fraction and the other in percent" if factor == 100 else "in another unit than the other"
            found.append(
                f"{listed([small])} and {listed([large])} differ by a factor near {factor:,.0f} "
                f"({_median(usable[small]):.4g} and {_median(usable[large]):.4g}), so one of them is {words}; "
                "accepted: one unit"
            )
    return found


def against_other_unit(usable: Usable, threshold: float) -> list[str]:
    """Arms beside whose scores a threshold is in another unit: 0.95 beside percent, or 95 beside fractions."""
    found = []
    # A number that is known is no arm that stays at the level of guessing.
    limit = [threshold, threshold * (1 + 1e-9)]
    for arm, scores in usable.items():
        values = list(scores.values())
        factor = _factor_between(limit, values) or _factor_between(values, limit)
        if factor is not None:
            found.append(
                f"{listed([arm])} ({_median(scores):.4g}) and the threshold {threshold:g} differ by a factor near "
                f"{factor:,.0f}, so they are in two units; accepted: one unit"
            )
    return found


def taken_from_all(usable: Usable) -> list[str]:
    """Arms that would lie among another's scores if they were taken from 100, or from 1: errors beside hits."""
    found = []
    for small, large in permutations([arm for arm, scores in usable.items() if len(scores) > 2], 2):
        low, high = (np.array(list(usable[arm].values())) for arm in (small, large))
        whole = 1.0 if np.max(high) <= 1 else 100.0
        if np.ptp(low) == 0 or np.min(low) < 0 or not np.max(low) < 0.35 * whole < 0.65 * whole < np.min(high) <= whole:
            continue
        margin = np.ptp(high) + np.ptp(low)
        if np.min(high) - margin <= whole - np.median(low) <= np.max(high) + margin and np.max(high) <= whole:
            found.append(
                f"{listed([small])} ({np.median(low):.4g}) would lie beside {listed([large])} ({np.median(high):.4g}) "
                f"if it were taken from {whole:g}: errors in one arm and hits in the other?"
            )
    return found


def _median(scores: Mapping[str, float]) -> float:
    return float(np.median(list(scores.values())))


def _one_size(values: Sequence[float]) -> bool:
    """All of one sign, none zero, and no two further apart than a factor of 3."""
    sizes = [abs(value) for value in values]
    return bool(sizes) and len({value > 0 for value in values}) == 1 and 0 < max(sizes) <= 3 * min(sizes)


def _factor_between(small: Sequence[float], large: Sequence[float]) -> float | None:
    """The factor by which two arms differ as fractions and percent do; None where they do not."""
    if not (_one_size(small) and _one_size(large)) or (small[0] > 0) != (large[0] > 0):
        return None
    ratio = float(np.median(np.abs(large)) / np.median(np.abs(small)))
    percent = max(np.abs(small)) <= 1 < min(np.abs(large)) and max(np.abs(large)) <= 100
    for factor in _FACTORS:
        # Losses of two arms may lie far apart; a fraction beside percent hardly leaves another reading.
        reach = 1.8 if percent and factor == 100 else 1.25
        if factor / reach <= ratio <= factor * reach:
            # An arm that fails in every run stays at the level of chance: 1 % of 100 classes.
            constant = len(set(small)) == 1
            low, high = np.min(np.abs(large)), np.max(np.abs(large))
            return None if constant and not 0.98 * low <= factor * abs(small[0]) <= 1.02 * high else factor
    return None


def _rows_in_another_unit(scores: Mapping[str, float]) -> list[str]:
    """Pairs whose score fits the arm's others when it is multiplied or divided by the factor between two units."""
    sizes = sorted(abs(score) for score in scores.values() if score != 0)
    if len(sizes) < 3:
        return []
    gaps = [above / below for below, above in pairwise(sizes)]
    cut = int(np.argmax(gaps))
    if gaps[cut] < 20:
        return []
    bound = sizes[cut]
    small = {pair: score for pair, score in scores.items() if abs(score) <= bound}
    large = {pair: score for pair, score in scores.items() if abs(score) > bound}
    few, many = (small, large) if len(small) <= len(large) else (large, small)
    rest = list(many.values())
    if not _one_size(rest):
        return []
    low, high = min(rest), max(rest)
    margin = max(high - low, 0.02 * max(abs(low), abs(high)))
    for factor in _FACTORS:
        times = factor if few is small else 1 / factor
        if all(low - margin <= times * score <= high + margin for score in few.values()):
            return list(few)
    return []
