"""What a report consists of: headings, paragraphs, tables, pictures. Two renderers print the same blocks.

Text is kept as it is; each renderer escapes it for its own language, so that no name, reason or error can break a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

PLOTS = "plots"
"""Folder of the pictures, beside the report."""


@dataclass(frozen=True)
class Strong:
    """Bold text."""

    text: str


@dataclass(frozen=True)
class Mono:
    """A file name, a hash, a command within a sentence."""

    text: str


Span = str | Strong | Mono


@dataclass(frozen=True)
class Heading:
    """The title of the page (level 1) or of a section (level 2)."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Verdict:
    """The sentence that the page is read for."""

    outcome: str
    """``supported``, ``mixed`` (supported, and worse elsewhere), ``worse``, ``not_supported``, ``invalid`` or
    ``open``."""
    word: str
    sentence: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Bullets:
    """A list without order."""

    items: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True)
class Table:
    """Rows as long as the header; the first column is text, the others are numbers."""

    title: str
    """What the rows are, for those who hear the page."""
    header: tuple[str, ...]
    rows: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file in :data:`PLOTS`, what it is, how it is read, and what it shows."""

    name: str
    title: str
    caption: str
    figure: Figure
    result: str = ""
    """In one clause, for those who hear the page."""

    @property
    def alternative(self) -> str:
        """What stands for the picture where it is not seen."""
        return f"{self.title}: {self.result}" if self.result else self.title


@dataclass(frozen=True)
class Gallery:
    """Pictures that are written beside the report and only named in it."""

    text: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


Block = Heading | Verdict | Paragraph | Bullets | Table | Picture | Gallery | Code


def paragraph(*parts: Span) -> Paragraph:
    """A paragraph of these spans."""
    return Paragraph(parts)


def spans(text: str) -> tuple[Span, ...]:
    """A sentence of a verdict, or of an error, with what stands between backquotes set as code."""
    parts = re.split(r"`([^`\n]+)`", text)
    found = (Mono(part) if place % 2 else part for place, part in enumerate(parts))
    return tuple(part for part in found if part)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Span | int]]) -> Table:
    """A table; whole numbers are written out."""
    return Table(
        title, tuple(header), tuple(tuple(str(cell) if isinstance(cell, int) else cell for cell in row) for row in rows)
    )


# A number's sign, and that of its power of ten; a name (digits-1), a date, an option or a path has hyphens.
_SIGN = re.compile(r"(?<![\w.)\]/\\-])-(?=\.?\d)")
_POWER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?e)-(?=\d+(?!\w))")


def typeset(text: str) -> str:
    """A text of a page with the minus sign that its pictures have, in place of the hyphen of terminals and JSON."""
    return _POWER.sub("\\1−", _SIGN.sub("−", text))


def first_of(words: Sequence[str], most: int = 4) -> str:
    """``a; b; c; d; and 3 more``: of many as much as a clause holds."""
    rest = [f"and {len(words) - most} more"] if len(words) > most else []
    return "; ".join([*words[:most], *rest])


def pictures_in(blocks: Iterable[Block]) -> list[Picture]:
    """Every picture of a report, in its order."""
    found: list[Picture] = []
    for block in blocks:
        if isinstance(block, Picture):
            found.append(block)
        elif isinstance(block, Gallery):
            found += block.pictures
    return found
