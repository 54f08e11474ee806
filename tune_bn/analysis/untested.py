"""Arms without spread, which no test can judge: what is said of them, and what is known all the same.

Where every pair has one and the same difference, t is 0/0 or infinite, and no number of pairs makes evidence of it.
Such an arm has no p-value. It stays in its family (:func:`tune_bn.analysis.family.untested`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from tune_bn.analysis.rounding import Array, difference_error, mean_of, vanishes
from tune_bn.records.plan import ALL
from tune_bn.records.verdict import AnyVerdict, Compared

One = TypeVar("One", bound=Compared)


def plain_effect(values: Array, reference: Array | float) -> float:
    """The gain of an arm that has no test, in the unit of the scores; exactly 0 where rounding alone is left of it."""
    against = np.asarray(reference, dtype=float)
    if against.ndim and against.shape != values.shape:
        return mean_of(values) - mean_of(against)
    differences, error = values - against, difference_error(values, against)
    return 0.0 if vanishes(differences, error) else mean_of(differences)


def tested(arms: Iterable[One]) -> list[One]:
    """The arms that a test has judged."""
    return [arm for arm in arms if not arm.not_tested]


def untested_words(arms: Sequence[Compared], names: Sequence[str]) -> str:
    """Names the arms that have no test; empty where every one has."""
    found = [name for name, arm in zip(names, arms, strict=True) if arm.not_tested]
    return f" Not tested, for want of spread: {', '.join(found)}." if found else ""


def untested_remarks(verdict: AnyVerdict, names: Sequence[str]) -> list[str]:
    """Why each such arm has no test."""
    arms = verdict.candidates
    corrected = f"the others are corrected for all {len(arms)} all the same"
    if verdict.together == ALL:
        corrected = "so the claim is not shown in all"
    elif verdict.average is not None:
        corrected = "the average over settings holds it all the same"
    return [
        f"{name} is not tested: {arm.not_tested}; {corrected}"
        for name, arm in zip(names, arms, strict=True)
        if arm.not_tested
    ]
