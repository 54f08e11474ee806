"""Designs of a confirmation side by side: their power and their pairs over the true gain, and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tune_bn.analysis.characteristics import Course
from tune_bn.analysis.recommend import Option, fixed_option, sequential_option
from tune_bn.report.figures.canvas import BLUE, GREEN, GREY, VERMILION, new_figure, tidy

STYLES = ((GREY, "--"), (BLUE, "-"), (VERMILION, "-."), (GREEN, ":"))
FEW_LOOKS = 10
"""With more of them a design is named by their number."""
_POINTS = 41
_KEY = (
    Patch(facecolor=BLUE, label="with this gain: shown"),
    Patch(facecolor=VERMILION, label="with this gain: not shown"),
    Patch(facecolor=BLUE, edgecolor="white", hatch="///", label="without any gain: shown all the same"),
    Patch(facecolor=VERMILION, edgecolor="white", hatch="///", label="without any gain: not shown"),
)


def designs(options: Sequence[Option], *, d_z: float, unit: float, candidates: int, alpha: float) -> Figure:
    """Power and mean pairs over the true gain for each design, and of each with looks how many end at which.

    Args:
        options: one to four designs.
        d_z: the gain in question, in standard deviations of the differences, > 0.
        unit: one standard deviation of the differences, in the unit of the score.
        candidates: that share the level.
        alpha: level of the fixed designs.
    """
    with_looks = [option for option in options if option.rule is not None]
    figure = new_figure(9.0, 4.0 + 2.5 * bool(with_looks))
    grid = figure.add_gridspec(
        1 + bool(with_looks), 2 * max(1, len(with_looks)), height_ratios=[4, 2.5][: 1 + bool(with_looks)]
    )
    half = grid.ncols // 2
    power, pairs = figure.add_subplot(grid[0, :half]), figure.add_subplot(grid[0, half:])
    gains = np.linspace(0, 2 * d_z, _POINTS)
    for option, (colour, dashes) in zip(options, STYLES, strict=False):
        courses = [_course(option, gain, candidates, alpha) for gain in gains]
        for axes, values in (
            (power, [course.power for course in courses]),
            (pairs, [course.expected_pairs for course in courses]),
        ):
            axes.plot(unit * gains, values, color=colour, linestyle=dashes, linewidth=2, label=_name(option))
    for axes in (power, pairs):
        axes.axvline(unit * d_z, color="black", linewidth=0.9)
        axes.set_xlabel("true gain, in the unit of the score")
        axes.set_xlim(0, 2 * unit * d_z)
        tidy(axes)
    power.set_ylim(0, 1.02)
    power.set_title("power", loc="left", fontsize=10)
    pairs.set_ylim(0, None)
    pairs.set_title(
        "pairs of runs on average" + (" (of one candidate)" if candidates > 1 else ""), loc="left", fontsize=10
    )
    for place, option in enumerate(with_looks):
        _ends(figure.add_subplot(grid[1, 2 * place : 2 * place + 2]), option, first=place == 0)
    if with_looks:
        figure.legend(handles=_KEY, loc="outside lower right", frameon=False, fontsize=9)
    figure.legend(*power.get_legend_handles_labels(), loc="outside lower left", frameon=False, fontsize=9)
    return figure


def _course(option: Option, gain: float, candidates: int, alpha: float) -> Course:
    if option.rule is None:
        return fixed_option(gain, option.pairs, alpha=alpha, candidates=candidates).gain
    return sequential_option(gain, option.rule, candidates=candidates).gain


def _ends(axes: Axes, option: Option, *, first: bool) -> None:
    """Bars: how many of the candidates with the gain, and of those without, end at each look."""
    places = np.arange(option.looks)
    for shift, course, hatch in ((-0.2, option.gain, None), (0.2, option.none, "///")):
        shown = np.array([stage.shown for stage in course.stages])
        futile = np.array([stage.futile for stage in course.stages])
        edges: Any = {"width": 0.38, "edgecolor": "white", "linewidth": 0.4, "hatch": hatch}
        axes.bar(places + shift, shown, color=BLUE, **edges)
        axes.bar(places + shift, futile, bottom=shown, color=VERMILION, **edges)
    many = option.looks > FEW_LOOKS
    labels = [str(stage.n) for stage in option.gain.stages]
    axes.set_xticks(places, labels, rotation=90 if many else 0, fontsize=8 if many else None)
    axes.set_xlabel("pairs at the look")
    axes.set_title(_name(option), loc="left", fontsize=9)
    tidy(axes, grid="y")
    if first:
        axes.set_ylabel("share that ends here")


def _name(option: Option) -> str:
    if option.rule is None:
        return f"fixed, {option.pairs} pairs"
    looks = option.rule.looks
    if len(looks) > FEW_LOOKS:
        return f"{len(looks)} looks, {looks[0]} to {looks[-1]}"
    return f"looks at {', '.join(map(str, looks))}"
