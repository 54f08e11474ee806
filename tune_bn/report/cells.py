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


def significant(value: float | None, digits: int = 2) -> str:
    """A number with so many significant digits, zeros at its end too, or a dash where there is none: 0.080 beside 0.083
    says that it was measured as finely."""
    if value is None:
        return NONE
    return "0" if value == 0 else f"{value:#.{digits}g}".removesuffix(".")


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
    second_digit = _second_digit(std)
    return spread_words(round(mean, -second_digit), round(std, -second_digit), max(0, -second_digit))


def spread_digits(std: float, difference: float) -> int:
    """Decimals of a mean: down to the second digit of its spread, and as many as it takes to see the difference."""
    sizes = [size for size in (std, difference) if math.isfinite(size) and size > 0]
    return max(0, -_second_digit(min(sizes))) if sizes else 4


def _second_digit(size: float) -> int:
    # Rounded first: 0.0996 is 0.10.
    return math.floor(math.log10(float(f"{size:.2g}"))) - 1


def heading_with(words: str, unit: str) -> str:
    """``effect, pp``; the words alone where there is no unit."""
    return f"{words}, {unit}" if unit else words


def in_unit(score: Score) -> str:
    """`` in percent``; empty where the score has no unit."""
    return " in percent" if score.unit == PERCENT else f" in {score.unit}" if score.unit else ""


def config_cells(config: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """The values of these keys."""
    return [_config_cell(config[key]) if key in config else NONE for key in keys]


def _config_cell(value: Any) -> str:
    words = value_words(value)
    if not isinstance(value, float) or "e" in words or not math.isfinite(value) or float(words) == value:
        return words
    # What was rounded shows to which digit: 0.0680 beside 0.0679, while an exact 0.1 is 0.1.
    return f"{float(words):.{max(0, 2 - math.floor(math.log10(abs(float(words)))))}f}"


def distinct(values: Iterable[Any]) -> str:
    """Every value once, in their order; None is ``unknown``."""
    found = list(dict.fromkeys("unknown" if value is None else str(value) for value in values))
    return ", ".join(found) or NONE
