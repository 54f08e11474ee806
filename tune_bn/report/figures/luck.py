"""From search to confirmation: how the validation score of what was chosen falls when its luck is gone."""

from __future__ import annotations

from itertools import cycle

from matplotlib.figure import Figure

from tune_bn.analysis.wording import score_of_verdict
from tune_bn.records.record import STAGES
from tune_bn.records.score import Score
from tune_bn.report.arms import Arm, Verdict, baseline_of
from tune_bn.report.figures.canvas import ARM_STYLES, DASHES, GREY, MARKERS, legend_below, new_figure, plain, tidy


def shrunken(verdict: Verdict) -> list[Arm]:
    """The candidates that were searched, so that their gain can have shrunk."""
    return [arm for arm in verdict["candidates"] if arm.get("shrinkage")]


def shrinkage_figure(verdict: Verdict, score: Score | None = None) -> Figure | None:
    """Validation score of each candidate in search, selection and confirmation, beside its baseline's.

    Returns None where no candidate was searched.
    """
    candidates = shrunken(verdict)
    if not candidates:
        return None
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    baselines = {baseline_of(verdict, arm)["arm"]: arm["shrinkage"]["baseline"]["mean"] for arm in candidates}
    for (name, mean), dashes in zip(baselines.items(), cycle(DASHES), strict=False):
        axes.axhline(mean, color=GREY, linestyle=dashes, linewidth=1.6, label=f"{plain(name)}, confirm")
    for index, arm in enumerate(candidates, start=1):
        colour, dashes = ARM_STYLES[index % len(ARM_STYLES)]
        found = {place: arm["shrinkage"].get(stage) for place, stage in enumerate(STAGES)}
        known = {place: part["mean"] for place, part in found.items() if part}
        axes.plot(
            list(known),
            list(known.values()),
            color=colour,
            linestyle=dashes,
            linewidth=1.8,
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            label=plain(arm["arm"]),
        )
    parts = {
        stage: {arm["shrinkage"][stage]["n"] for arm in candidates if arm["shrinkage"].get(stage)} for stage in STAGES
    }
    axes.set_xticks(range(len(STAGES)), [f"{stage}\n{_seeds(parts[stage])}" for stage in STAGES])
    axes.set_xlim(-0.25, len(STAGES) - 0.75)
    axes.set_ylabel(f"{(score or score_of_verdict(verdict)).axis_words} (mean over seeds)")
    tidy(axes)
    legend_below(figure, axes, columns=3)
    return figure


def _seeds(counts: set[int]) -> str:
    if not counts:
        return "none"
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
