"""Cells of tables, the same in every section."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tune_bn.analysis.wording import interval_words, signed_words, spread_words, value_words
from tune_bn.records.score import PERCENT, Score
from tune_bn.records.verdict import Arm

NONE = "–"


def number(value: float | None, spec: str) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else format(value, spec)


def interval(ends: Sequence[float | None] | None, decimals: int = 2) -> str:
    """``+0.13 to +0.90``; an end that a method leaves open is a dash."""
    if not ends or all(end is None for end in ends):
        return NONE
    return interval_words(ends, decimals)


def gain(value: float | None, decimals: int = 2) -> str:
    """``+0.51``, or a dash where there is none; what is not 0 is seen on its side of 0."""
    return NONE if value is None else signed_words(value, decimals)


def mean_cell(arm: Arm, decimals: int = 2) -> str:
    """Mean ± standard deviation of an arm, as far as they are known."""
    if arm.mean is None:
        return NONE
    if arm.std is None:
        return f"{arm.mean:.{decimals}f}"
    return spread_words(arm.mean, arm.std, decimals)


def outcome_cell(mean: float, std: float) -> str:
    """Mean ± standard deviation of a score of any size, both to the second digit of the spread."""
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        return f"{mean:.4g} ± {std:.2g}"
    # Rounded first: 0.0996 is 0.10.
    second_digit = math.floor(math.log10(float(f"{std:.2g}"))) - 1
    return spread_words(round(mean, -second_digit), round(std, -second_digit), max(0, -second_digit))


def heading_with(words: str, unit: str) -> str:
    """``effect, pp``; the words alone where there is no unit."""
    return f"{words}, {unit}" if unit else words


def in_unit(score: Score) -> str:
    """`` in percent``; empty where the score has no unit."""
    return " in percent" if score.unit == PERCENT else f" in {score.unit}" if score.unit else ""


def config_cells(config: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """The values of these keys."""
    return [value_words(config[key]) if key in config else NONE for key in keys]


def distinct(values: Iterable[Any]) -> str:
    """Every value once, in their order; None is ``unknown``."""
    found = list(dict.fromkeys("unknown" if value is None else str(value) for value in values))
    return ", ".join(found) or NONE
