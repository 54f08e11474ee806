"""A group-sequential confirmation: the boundaries of its looks, and the path of each candidate between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import special

from tune_bn.analysis.wording import number_words
from tune_bn.records.verdict import Verdict
from tune_bn.records.verdict_details import Decision, Look
from tune_bn.report.blocks import typeset
from tune_bn.report.figures.canvas import (
    BLUE,
    FEW_ARMS,
    GREY,
    PALE,
    VERMILION,
    arm_style,
    legend_below,
    new_figure,
    plain,
    tidy,
)

_BACKING = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
FARTHEST = 6.5
"""Normal score beyond which a point is drawn at the edge, as an arrow; p = 4e-11."""
_TICKS = (0.99, 0.9, 0.5, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)


def boundaries(verdict: Verdict) -> Figure | None:
    """Boundaries over the pairs and each candidate's t between them, as p-values of the fixed t-test, on normal scores.

    A boundary in t itself falls from 206 at 3 pairs to 1.9 at 15, so that no scale of t shows both; its p-value, drawn
    by the normal score z = Φ⁻¹(1 − p), is what the textbooks draw for normal statistics.

    Returns None where the confirmation has no looks.
    """
    design, paths = verdict.design, _paths(verdict)
    if not design or not paths:
        return None
    figure = new_figure(8.0, 5.0)
    axes = figure.add_subplot()
    looks = np.array(design["looks"], dtype=float)
    efficacy = normal_scores(design["nominal_p"])
    axes.plot(looks, efficacy, color="black", marker="_", markersize=12, linewidth=1.6, label="efficacy", zorder=3)
    for x, z, t in zip(looks, efficacy, design["efficacy"], strict=True):
        words = typeset(f"t = {number_words(t)}")
        axes.annotate(words, (x, z), xytext=(7, 6), textcoords="offset points", fontsize=8.5, zorder=6, bbox=_BACKING)
    lowest = _futility(axes, design, looks)
    highest = max(efficacy)
    for index, (name, path) in enumerate(paths.items()):
        x, z = np.array([look.n for look in path], dtype=float), normal_scores([look.nominal_p for look in path])
        # Several candidates stop at the same look; side by side all of them can be seen.
        x += 0.09 * (index - (len(paths) - 1) / 2) * min(1.0, 8 / len(paths))
        finding = {Decision.EFFICACY: "better", Decision.FUTILITY: "worse"}.get(path[-1].decision, "")
        style = arm_style(index + 1, len(paths), finding)
        shown = np.clip(z, None, FARTHEST)
        ended = path[-1].decision
        axes.plot(
            x,
            shown,
            color=style.colour,
            linestyle=style.dashes,
            linewidth=style.width,
            marker=style.marker,
            markersize=5,
            label=f"{plain(name)}: {DECISIONS[ended]}" if len(paths) <= FEW_ARMS else None,
            zorder=4,
        )
        beyond = z > FARTHEST
        axes.plot(x[beyond], shown[beyond], color=style.colour, marker="^", markersize=10, linestyle="", zorder=5)
        finite = shown[np.isfinite(shown)]
        lowest, highest = min([lowest, *finite]), max([highest, *finite])
    if len(paths) > FEW_ARMS:
        _count(axes, paths)
    axes.set_ylim(lowest - 0.35, highest + 0.55)
    ticks = [p for p in _TICKS if lowest - 0.35 <= normal_scores([p])[0] <= highest + 0.55]
    axes.set_yticks(normal_scores(ticks), [typeset(f"{p:g}") for p in ticks])
    axes.set_xticks(looks, [f"{n:g}" for n in looks])
    margin = 0.05 * (looks[-1] - looks[0])
    axes.set_xlim(looks[0] - margin, looks[-1] + 2 * margin)
    axes.set_xlabel("pairs of runs (seeds) at the look")
    axes.set_ylabel("p of the fixed t-test at this look (scale: normal score)")
    tidy(axes)
    legend_below(figure, axes, columns=2)
    return figure


def has_arrows(verdict: Verdict) -> bool:
    """Whether a path leaves the picture."""
    scores = [normal_scores([look.nominal_p for look in path]) for path in _paths(verdict).values()]
    return any(bool((one > FARTHEST).any()) for one in scores)


DECISIONS: Mapping[Decision, str] = {
    Decision.EFFICACY: "gain shown",
    Decision.FUTILITY: "stopped for futility",
    Decision.LAST_LOOK: "not shown at the last look",
    Decision.CONTINUE: "goes on",
}
"""What a look decided, in words."""


def normal_scores(p_values: Sequence[float]) -> NDArray[np.float64]:
    """z = Φ⁻¹(1 − p); NaN for p = 1, which a look without a t statistic has."""
    p = np.asarray(p_values, dtype=float)
    return np.where(p < 1, -special.ndtri(np.where(p < 1, p, 0.5)), np.nan)


def _futility(axes: Axes, design: Mapping[str, Any], looks: NDArray[np.float64]) -> float:
    """Draw the bounds of futility; returns the lowest place that is needed."""
    bounds = design.get("futility_t")
    if not bounds:
        return 0.0
    places = looks[: len(bounds)]
    scores = normal_scores(special.stdtr(places - 1, -np.array(bounds)))
    axes.plot(
        places,
        scores,
        color=VERMILION,
        linestyle=(0, (1, 1.2)),
        linewidth=2.2,
        marker="x",
        markersize=7,
        markeredgewidth=1.8,
        label="futility",
        zorder=3,
    )
    for x, z, t in zip(places, scores, bounds, strict=True):
        words = typeset(number_words(t))
        axes.annotate(
            words, (x, z), xytext=(0, -14), textcoords="offset points", ha="center", fontsize=8.5, color=GREY, zorder=6
        )
    return float(min(scores)) - 0.25


def _count(axes: Axes, paths: Mapping[str, Sequence[Look]]) -> None:
    """The legend of many candidates: how many ended how; the table below names them."""
    ended = [path[-1].decision for path in paths.values()]
    colours = {Decision.EFFICACY: BLUE, Decision.FUTILITY: VERMILION, Decision.LAST_LOOK: PALE, Decision.CONTINUE: PALE}
    for decision, colour in colours.items():
        if count := ended.count(decision):
            axes.plot([], [], color=colour, linewidth=2.0, label=f"{count} candidates: {DECISIONS[decision]}")


def _paths(verdict: Verdict) -> dict[str, Sequence[Look]]:
    return {arm.arm: arm.looks for arm in verdict.candidates if arm.looks}
