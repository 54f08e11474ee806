"""From search to confirmation: how the validation score of what was chosen falls when its luck is gone."""

from __future__ import annotations

from matplotlib.figure import Figure

from tune_bn.analysis.wording import score_of_verdict
from tune_bn.records.record import STAGES
from tune_bn.records.score import Score
from tune_bn.report.arms import Arm, Verdict, baseline_of
from tune_bn.report.figures.canvas import BASELINE_STYLE, GREY, PALE, arm_style, label_ends, new_figure, tidy


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
    ends: list[tuple[float, str, str]] = []
    for name, mean in baselines.items():
        axes.axhline(
            mean, color=BASELINE_STYLE.colour, linestyle=BASELINE_STYLE.dashes, linewidth=1.4, label=f"{name}, confirm"
        )
        ends.append((mean, f"{name}, confirm", BASELINE_STYLE.colour))
    for index, arm in enumerate(candidates, start=1):
        finding = "better" if arm.get("supported") else "worse" if arm.get("worse") else ""
        style = arm_style(index, len(candidates), finding)
        found = {place: arm["shrinkage"].get(stage) for place, stage in enumerate(STAGES)}
        known = {place: part["mean"] for place, part in found.items() if part}
        axes.plot(
            list(known),
            list(known.values()),
            color=style.colour,
            linestyle=style.dashes,
            linewidth=style.width,
            marker=style.marker,
            markersize=6,
            label=arm["arm"],
        )
        ends.append((list(known.values())[-1], arm["arm"], GREY if style.colour == PALE else style.colour))
    parts = {
        stage: {arm["shrinkage"][stage]["n"] for arm in candidates if arm["shrinkage"].get(stage)} for stage in STAGES
    }
    axes.set_xticks(range(len(STAGES)), [f"{stage}\n{_seeds(parts[stage])}" for stage in STAGES])
    axes.set_xlim(-0.25, len(STAGES) - 0.75)
    axes.set_ylabel(f"{(score or score_of_verdict(verdict)).axis_words} (mean over seeds)")
    tidy(axes)
    label_ends(axes, ends)
    return figure


def _seeds(counts: set[int]) -> str:
    if not counts:
        return "none"
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
