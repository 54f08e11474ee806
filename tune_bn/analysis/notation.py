"""How a table writes its numbers: with a point or a comma, and whether the other of the two parts thousands."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any

from tune_bn.errors import ScoresError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:(?P<mark>[.,])\d{3})+", re.ASCII)

_PERCENT = re.compile(r"(.*\d)\s*%", re.DOTALL)

POINT, COMMA = "point", "comma"


def is_number(text: str) -> bool:
    """True where the text is a number with a decimal point, or NaN or infinity."""
    return _NUMBER.fullmatch(text) is not None


def looks_like_number(text: str) -> bool:
    """True where the text is a number in one of the notations."""
    return to_number(text, POINT) is not None or to_number(text, COMMA) is not None


def decimal_mark(values: Sequence[tuple[str, str]], column: str) -> str:
    """Which decimal mark the numbers of a column have: ``"point"`` or ``"comma"``.

    Args:
        values: the place and the text of each number.
        column: its name, for the message.

    Raises:
        ScoresError: some numbers have a decimal point and others a decimal comma, or ``1,234`` may be read as either.
    """
    shown: dict[str, tuple[str, str]] = {}
    doubtful: tuple[str, str] | None = None
    for place, text in values:
        if "," not in text and "." not in text:
            continue
        kind = _mark(text)
        if kind is not None:
            shown.setdefault(kind, (place, text))
        elif doubtful is None and "," in text:
            doubtful = place, text
    if len(shown) == 2:
        first, second = shown[POINT], shown[COMMA]
        raise ScoresError(
            f"{second[0]}: column {column}: got {reprlib.repr(second[1])}, and {reprlib.repr(first[1])} at {first[0]}: "
            "a decimal comma and a decimal point in one column; accepted: one of the two"
        )
    if doubtful is not None and not shown:
        raise ScoresError(
            f"{doubtful[0]}: column {column}: got {reprlib.repr(doubtful[1])}, which may be a decimal comma or the "
            "thousands of a whole number; accepted: --decimal comma, or --decimal point where the comma parts thousands"
        )
    return next(iter(shown), POINT)


def _mark(text: str) -> str | None:
    """The decimal mark that a number shows; None where it may be either, or shows none."""
    text = text.replace("\u2212", "-")
    commas, points = text.count(","), text.count(".")
    if commas and points:
        return POINT if text.rindex(".") > text.rindex(",") else COMMA
    if commas > 1 or points > 1:
        # Several of one kind part thousands, so the decimal mark is the other.
        return (POINT if commas else COMMA) if _THOUSANDS.fullmatch(text) else None
    if commas:
        return None if _THOUSANDS.fullmatch(text) else COMMA
    # With a point this is the common notation; three digits after it are no reason for doubt.
    return POINT


def to_number(text: str, mark: str) -> float | None:
    """The number; None where the text is none in that notation.

    Thousands are parted by the other mark, in groups of three.
    """
    # The minus sign of typeset tables and of spreadsheets.
    text = text.replace("\u2212", "-")
    if mark == COMMA:
        text = text.translate({ord(","): ".", ord("."): ","})
    if "," in text:
        whole, point, rest = text.partition(".")
        found = _THOUSANDS.fullmatch(whole)
        if found is None or found["mark"] != ",":
            return None
        text = whole.replace(",", "") + point + rest
    return float(text) if is_number(text) else None


def like_number(value: Any) -> bool:
    """True for a number of a program, and for a text that is one, with ``%`` behind it or not."""
    if isinstance(value, str):
        return looks_like_number(_bare(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bare(text: str) -> str:
    found = _PERCENT.fullmatch(text)
    return found[1] if found else text


def mark_of(column: str, values: Sequence[tuple[str, Any]]) -> str:
    """The decimal mark that the numbers of a column show.

    Raises:
        ScoresError: as :func:`decimal_mark`.
    """
    texts = [(place, _bare(value)) for place, value in values if isinstance(value, str) and like_number(value)]
    return decimal_mark(texts, column)


def numbers_of(column: str, values: Sequence[tuple[str, Any]], mark: str) -> Iterator[float]:
    """The numbers of a column; ``%`` is passed over where every cell has it.

    Raises:
        ScoresError: a cell is no number.
    """
    if all(isinstance(value, str) and _PERCENT.fullmatch(value) for _, value in values):
        values = [(place, _bare(value)) for place, value in values]
    for place, value in values:
        number: float | None = None
        if isinstance(value, str):
            number = to_number(value, mark)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = _float(value)
        if number is None:
            shown = "''" if value is None else reprlib.repr(value)
            raise ScoresError(f"{place}: column {column}: got {shown}; accepted: a number")
        yield number


def _float(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
