"""From search to confirmation: how the validation score of what was chosen falls when its luck is gone."""

from __future__ import annotations

from matplotlib.figure import Figure

from tune_bn.analysis.wording import score_of_verdict
from tune_bn.records.record import CONFIRM, SEARCH, SELECT, STAGES
from tune_bn.records.score import Score
from tune_bn.records.verdict import Candidate, Verdict
from tune_bn.records.verdict_details import Shrinkage, StageMean
from tune_bn.report.arms import baseline_of
from tune_bn.report.figures.canvas import BASELINE_STYLE, GREY, PALE, arm_style, label_ends, new_figure, tidy


def shrunken(verdict: Verdict) -> list[tuple[Candidate, Shrinkage]]:
    """The candidates that were searched, so that their gain can have shrunk, each with how much it did."""
    return [(arm, arm.shrinkage) for arm in verdict.candidates if arm.shrinkage is not None]


def shrinkage_figure(verdict: Verdict, score: Score | None = None) -> Figure | None:
    """Validation score of each candidate in search, selection and confirmation, beside its baseline's.

    Returns None where no candidate was searched.
    """
    candidates = shrunken(verdict)
    if not candidates:
        return None
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    baselines = {baseline_of(verdict, arm).arm: found.baseline.mean for arm, found in candidates}
    ends: list[tuple[float, str, str]] = []
    for name, mean in baselines.items():
        axes.axhline(
            mean, color=BASELINE_STYLE.colour, linestyle=BASELINE_STYLE.dashes, linewidth=1.4, label=f"{name}, confirm"
        )
        ends.append((mean, f"{name}, confirm", BASELINE_STYLE.colour))
    for index, (arm, found) in enumerate(candidates, start=1):
        finding = "better" if arm.supported else "worse" if arm.worse else ""
        style = arm_style(index, len(candidates), finding)
        known = {place: part.mean for place, stage in enumerate(STAGES) if (part := _in_stage(found, stage))}
        axes.plot(
            list(known),
            list(known.values()),
            color=style.colour,
            linestyle=style.dashes,
            linewidth=style.width,
            marker=style.marker,
            markersize=6,
            label=arm.arm,
        )
        ends.append((list(known.values())[-1], arm.arm, GREY if style.colour == PALE else style.colour))
    parts = {
        stage: {part.n for _, found in candidates if (part := _in_stage(found, stage)) is not None} for stage in STAGES
    }
    axes.set_xticks(range(len(STAGES)), [f"{stage}\n{_seeds(parts[stage])}" for stage in STAGES])
    axes.set_xlim(-0.25, len(STAGES) - 0.75)
    axes.set_ylabel(f"{(score or score_of_verdict(verdict)).axis_words} (mean over seeds)")
    tidy(axes)
    label_ends(axes, ends)
    return figure


def _in_stage(found: Shrinkage, stage: str) -> StageMean | None:
    return {SEARCH: found.search, SELECT: found.select, CONFIRM: found.confirm}[stage]


def _seeds(counts: set[int]) -> str:
    if not counts:
        return "none"
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
