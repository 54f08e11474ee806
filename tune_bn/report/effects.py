"""The forest of effects: each candidate's gain with its bounds, and the gain that could have been seen."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune_bn.report.arms import Arm, Verdict, is_sequential
from tune_bn.report.canvas import BLUE, FARTHEST, GREY, VERMILION, legend_below, new_figure, plain, tidy


def forest(verdict: Verdict) -> Figure | None:
    """One row per candidate: effect, one-sided bound, two-sided interval, minimum detectable effect.

    Returns None where no candidate has an effect, as in an invalid verdict.
    """
    candidates = [arm for arm in verdict["candidates"] if arm.get("effect") is not None]
    if not candidates:
        return None
    figure = new_figure(8.0, 1.9 + 0.42 * len(candidates))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.9)
    for row, arm in enumerate(candidates):
        _row(axes, row, arm, name_parts=row == 0)
        weight = "bold" if arm["supported"] else "normal"
        words = f"{arm['effect']:+.2f}"
        axes.text(1.01, row, words, transform=axes.get_yaxis_transform(), va="center", fontweight=weight)
    axes.set_yticks(range(len(candidates)), [plain(arm["arm"]) for arm in candidates])
    axes.set_ylim(len(candidates) - 0.5, -0.5)
    axes.set_xlabel("effect: gain over the baseline, percentage points")
    level = f"{100 * (1 - verdict['alpha']):g} %"
    kind = "repeated bounds" if is_sequential(verdict) else "bounds"
    axes.set_title(f"{level} {kind}, not adjusted for several candidates; bold: supported", loc="left", fontsize=10)
    tidy(axes, grid="x")
    legend_below(figure, axes, columns=2)
    return figure


def _row(axes: Axes, row: int, arm: Arm, *, name_parts: bool) -> None:
    def label(words: str) -> str | None:
        return words if name_parts else None

    interval, low, detectable = arm.get("ci"), arm.get("ci_low"), arm.get("minimum_detectable_effect")
    std = arm.get("std_difference")
    reach = math.inf if std is None else FARTHEST * std
    left, right = arm["effect"] - reach, arm["effect"] + reach
    if interval and None not in interval:
        ends = [max(interval[0], left), min(interval[1], right)]
        axes.plot(ends, [row, row], color=GREY, linewidth=1.4, label=label("two-sided interval"), zorder=2)
        for end, stated, arrow in zip(ends, interval, "<>", strict=True):
            marker = "|" if end == stated else arrow
            axes.plot(end, row, color=GREY, marker=marker, markersize=8, markeredgewidth=1.4, zorder=2)
    if low is not None:
        arrow = "|" if low >= left else "<"
        low = max(low, left)
        axes.plot([low, arm["effect"]], [row, row], color=BLUE, linewidth=3.2, solid_capstyle="butt", zorder=3)
        axes.plot(
            low,
            row,
            marker=arrow,
            markersize=13,
            markeredgewidth=2.4,
            color=BLUE,
            linestyle="",
            label=label("one-sided lower bound"),
            zorder=3,
        )
    axes.plot(
        arm["effect"],
        row,
        marker="s" if arm["supported"] else "o",
        markersize=7,
        linestyle="",
        color="black",
        markerfacecolor="black" if arm["supported"] else "white",
        label=label("effect (filled square: supported)"),
        zorder=4,
    )
    if detectable is not None:
        axes.plot(
            detectable,
            row - 0.3,
            marker="v",
            markersize=6,
            linestyle="",
            color=VERMILION,
            markerfacecolor="white",
            label=label("smallest gain found with power 0.8"),
            zorder=3,
        )
