"""Figures and colours that the plots share.

The colours are safe for the colour-blind (Okabe-Ito), and shapes and dashes say the same for black and white.
Figures are made without pyplot, so matplotlib's global state stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6E6E6E"
DPI = 160


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that is drawn by Agg."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, format="png")
    os.replace(aside, path)


def tidy(axes: Axes, *, grid: Literal["both", "y"] = "both") -> None:
    """A light grid and no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
