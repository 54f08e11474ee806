"""A console for tables that a verb prints."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

PIPE_WIDTH = 10_000


def plain_console(*, colours: bool = True, least_width: int = 0) -> Console:
    """A console that prints text as it is: the words of an error may hold brackets, which rich would take for markup.

    Args:
        colours: whether a terminal gets any.
        least_width: columns below which nothing is cut off; a narrower terminal breaks the lines.
    """
    console = Console(markup=False, highlight=False, color_system="auto" if colours else None)
    console.width = max(console.width, least_width)
    return console


def rendered(*parts: RenderableType) -> str:
    """The text of a table, as wide as the terminal. Into a pipe every column keeps its whole text."""
    console = plain_console()
    # FORCE_COLOR asks for colours in a pipe, not for the width of a terminal.
    if not (console.is_terminal and sys.stdout.isatty()):
        console.width = PIPE_WIDTH
    with console.capture() as text:
        console.print(*parts)
    return text.get().rstrip("\n")
