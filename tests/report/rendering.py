"""Reports as text, and their tables."""

from __future__ import annotations

import re

from tune_bn.report.markdown import to_markdown
from tune_bn.report.writing import contents


def tables(text):
    """The rows of every table in a Markdown text, as lists of cells, by the heading above it."""
    found, heading = {}, ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and not set(line) <= set("|-: "):
            found.setdefault(heading, []).append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def render(study):
    return to_markdown(contents(study))
