"""Blocks as Markdown (GitHub's dialect, which has tables)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tune_bn.report.blocks import (
    PLOTS,
    Block,
    Bullets,
    Code,
    Gallery,
    Heading,
    Mono,
    Paragraph,
    Picture,
    Span,
    Strong,
    Table,
    Verdict,
    spans,
    typeset,
)

# An underscore within a word is no emphasis, and most names have one.
_SPECIAL = re.compile(r"[\\`*<>\[\]|~]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
_BEGINS_A_BLOCK = re.compile(r"^(\s*)([#+-]|\d+(?=[.)]))")


def to_markdown(blocks: Sequence[Block]) -> str:
    """The text of a report; pictures are linked as files in :data:`tune_bn.report.blocks.PLOTS`."""
    return "\n\n".join(map(_block, blocks)) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_escape(block.text)}"
        case Verdict():
            return f"**{_escape(block.word)}:** {''.join(map(_span, spans(block.sentence)))}"
        case Paragraph():
            return _line(block.spans)
        case Bullets():
            return "\n".join(f"- {_line(item)}" for item in block.items)
        case Table():
            return _table(block)
        case Picture():
            return f"![{_escape(block.alternative)}]({PLOTS}/{block.name})\n\n*{_escape(block.caption)}*"
        case Gallery():
            links = ", ".join(f"[{_escape(picture.title)}]({PLOTS}/{picture.name})" for picture in block.pictures)
            return f"{_escape(block.text)} {links}."
        case Code():
            fence = _fence(block.text, 3)
            return f"{fence}\n{block.text}\n{fence}"


def _table(block: Table) -> str:
    lines = [
        [_escape(cell) for cell in block.header],
        ["---", *["---:"] * (len(block.header) - 1)],
        *([_span(cell, in_table=True) for cell in row] for row in block.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(spans: Sequence[Span]) -> str:
    # Only where it begins a line would a number or a dash begin a list.
    return _BEGINS_A_BLOCK.sub(r"\1\\\2", "".join(map(_span, spans))) if spans else ""


def _span(span: Span, *, in_table: bool = False) -> str:
    match span:
        case Strong():
            return f"**{_escape(span.text)}**"
        case Mono():
            text = " ".join(span.text.split("\n"))
            fence = _fence(text, 1)
            pad = " " if text.startswith("`") or text.endswith("`") else ""
            found = f"{fence}{pad}{text}{pad}{fence}"
            return found.replace("|", "\\|") if in_table else found
        case str():
            return _escape(span)


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"\\{found.group()}", typeset(" ".join(text.splitlines())))


def _fence(text: str, least: int) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
