"""Figures and colours that the plots share.

The colours are safe for the colour-blind (Okabe-Ito), and shapes and dashes say the same for black and white.
Figures are made without pyplot, so matplotlib's global state stays as it is.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6E6E6E"
DPI = 160

DASHES = ("--", "-", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
COLOURS = (GREY, BLUE, VERMILION, GREEN, PURPLE)
# The first five arms differ in both, all of the first 25 in one of them.
ARM_STYLES = tuple(
    (colour, DASHES[(index + shift) % len(DASHES)])
    for shift in range(len(DASHES))
    for index, colour in enumerate(COLOURS)
)
MARKERS = ("D", "o", "s", "^", "v")
FEW_ARMS = 4
"""With more candidates than these, a picture shows less of each."""
FARTHEST = 4.0
"""Standard deviations of the differences from the effect, beyond which a bound is drawn as an arrow: the bounds of a
group-sequential look at three pairs are so wide that nothing else would be seen."""

# Ids that depend on the content alone, and no date.
_REPEATABLE = {"svg.hashsalt": "tune_bn", "svg.fonttype": "path"}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that is drawn by Agg."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all. Its layout stays as it is from then on."""
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, format="png")
    # Half of the time of a drawing goes into its layout; once is enough.
    figure.set_layout_engine("none")
    try:
        os.replace(aside, path)
    except OSError:
        aside.unlink()
        raise


def svg_of(figure: Figure) -> bytes:
    """A figure as SVG that needs no font; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_REPEATABLE):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return buffer.getvalue()


def tidy(axes: Axes, *, grid: Literal["both", "x", "y"] = "both") -> None:
    """A light grid and no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def plain(text: str) -> str:
    """A name as a label: a dollar sign in it begins no formula."""
    return text.replace("$", r"\$")


def legend_below(figure: Figure, axes: Axes, *, columns: int) -> None:
    """The legend of ``axes`` below the figure."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        markerscale=0.8,
        labelspacing=0.9,
    )
