"""Figures and colours that the plots share.

The colours are safe for the colour-blind (Okabe-Ito), and shapes and dashes say the same for black and white.
Figures are made without pyplot, so matplotlib's global state stays as it is.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6E6E6E"
ORANGE, SKY, PALE = "#E69F00", "#56B4E9", "#8FA9BF"
DPI = 160

DASHES = ("--", "-", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class ArmStyle:
    """How an arm looks, the same in every picture."""

    colour: str
    dashes: str
    marker: str
    width: float = 1.9


BASELINE_STYLE = ArmStyle("black", "--", "D")
# Blue and vermilion say better and worse, in every picture; black is the baseline's.
_CANDIDATES = (
    ArmStyle(GREEN, "-", "o"),
    ArmStyle(PURPLE, "-.", "s"),
    ArmStyle(ORANGE, "-", "^"),
    ArmStyle(SKY, "-.", "v"),
)
_FINDINGS = {
    "better": ArmStyle(BLUE, "-", "o", 1.6),
    "worse": ArmStyle(VERMILION, "-", "v", 1.6),
    "": ArmStyle(PALE, "-", "o", 1.1),
}


def arm_style(place: int, candidates: int, finding: str = "") -> ArmStyle:
    """The style of an arm.

    Args:
        place: 0: a baseline; else the number of the candidate.
        candidates: that are drawn. Of more than :data:`FEW_ARMS` names tell them apart, and colours what was found.
        finding: ``better``, ``worse`` or empty.
    """
    if place == 0:
        return BASELINE_STYLE
    return _FINDINGS[finding] if candidates > FEW_ARMS else _CANDIDATES[(place - 1) % len(_CANDIDATES)]


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


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], *, gap: float = 0.055) -> None:
    """Names at the right of a panel, each at the height of its value, apart where they would lie on each other.

    Args:
        axes: the panel, with its final limits.
        labels: value, name and colour of each.
        gap: least distance, as a share of the panel's height.
    """
    low, high = axes.get_ylim()
    wanted = sorted(((value - low) / (high - low), text, colour) for value, text, colour in labels)
    places = [min(max(height, 0.0), 1.0) for height, _, _ in wanted]
    gap = min(gap, 1.0 / max(1, len(places)))
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    if places:
        places[-1] = min(places[-1], 1.0)
    for index in reversed(range(len(places) - 1)):
        places[index] = min(places[index], places[index + 1] - gap)
    for (height, text, colour), place in zip(wanted, places, strict=True):
        axes.annotate(
            plain(text),
            xy=(1.0, min(max(height, 0.0), 1.0)),
            xytext=(1.05 if len(labels) <= 5 else 1.12, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
            annotation_clip=False,
        )


def legend_below(figure: Figure, axes: Axes, *, columns: int) -> Legend:
    """The legend of ``axes`` below the figure."""
    return figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        markerscale=0.8,
        labelspacing=0.9,
    )
