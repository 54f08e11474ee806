"""The pairs of the confirmation: each seed's score under a candidate and under its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tune_bn.analysis.wording import correction_words, decimals_of_verdict, metric_words, score_of_verdict
from tune_bn.records.verdict import Candidate, StudyArm, Verdict, known
from tune_bn.report.arms import (
    baseline_of,
    confidence_of,
    deciding_interval,
    gain_label,
    gains_of,
    paired_candidates,
    pairs_of,
    percent_words,
    states_losses,
)
from tune_bn.report.blocks import typeset
from tune_bn.report.figures.canvas import BLUE, FARTHEST, FEW_ARMS, GREY, VERMILION, new_figure, plain, tidy

CHANGES = {1: (BLUE, "-", "o"), 0: (GREY, ":", "D"), -1: (VERMILION, "--", "v")}
"""Colour, dashes and marker of a seed on which the candidate is better, equal, worse."""


FLATTENING = 4.0
"""How many times as far as those of another candidate scores may lie apart to be drawn on the same scale."""


def paired(verdict: Verdict) -> Figure | None:
    """Each seed's score under a candidate and its baseline, and the paired differences with mean and interval.

    Returns None where no candidate shares a seed with its baseline.
    """
    candidates = paired_candidates(verdict)
    if not candidates:
        return None
    if len(candidates) > FEW_ARMS:
        return _many_differences(verdict, candidates)
    # The panel of differences has room for its title, however few its candidates, and beside each for its number.
    longest = max(len(_mean_words(verdict, arm)) for arm in candidates)
    beside = max(2.6, 0.8 + max(1.1, 0.16 * longest) * len(candidates))
    figure = new_figure(1.3 + beside + 2.6 * len(candidates), 4.6)
    ratios = [2.6] * len(candidates) + [beside]
    *slopes, differences = figure.subplots(1, len(candidates) + 1, width_ratios=ratios)
    for axes, arm in zip(slopes, candidates, strict=True):
        _slopes(axes, verdict, baseline_of(verdict, arm), arm)
        tidy(axes, grid="y")
    # The panels of one baseline have one scale; those of another setting, which may be bad altogether, their own.
    scales = _scales([baseline_of(verdict, arm).arm for arm in candidates], [axes.get_ylim() for axes in slopes])
    for place, (axes, limits) in enumerate(zip(slopes, scales, strict=True)):
        axes.set_ylim(*limits)
        axes.tick_params(labelleft=place == 0 or limits != scales[place - 1])
    unit = score_of_verdict(verdict).unit
    slopes[0].set_ylabel(metric_words(known(verdict.metric)) + (f", {unit}" if unit else ""))
    _differences(differences, verdict, candidates)
    drawn = f", {_interval_name(verdict)}" if has_intervals(verdict) else ""
    differences.set_title(f"mean{drawn}", loc="left", fontsize=10)
    tidy(differences, grid="y")
    return figure


def _scales(baselines: Sequence[str], limits: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The scale of each panel: one for those of a baseline, but for a candidate one of whose runs diverged its own."""
    found = []
    for own_baseline, own in zip(baselines, limits, strict=True):
        beside = [one for name, one in zip(baselines, limits, strict=True) if name == own_baseline]
        widest = FLATTENING * min(high - low for low, high in beside)
        if own[1] - own[0] <= widest:
            alike = [(low, high) for low, high in beside if high - low <= widest]
            own = min(low for low, _ in alike), max(high for _, high in alike)
        found.append(own)
    return found


def _slopes(axes: Axes, verdict: Verdict, baseline: StudyArm, arm: Candidate) -> None:
    pairs, gains = pairs_of(baseline, arm), gains_of(verdict, arm)
    for (before, after), gain in zip(pairs, gains, strict=True):
        colour, dashes, marker = CHANGES[int(np.sign(gain))]
        axes.plot(
            [0, 1],
            [before, after],
            color=colour,
            linestyle=dashes,
            marker=marker,
            markersize=3.5,
            linewidth=1.0,
            alpha=0.75,
        )
    axes.plot([0, 1], pairs.mean(axis=0), color="black", linewidth=2.6, marker="s", markersize=7, zorder=4)
    wins = int((gains > 0).sum())
    axes.set_title(f"better on {wins} of {len(pairs)} seeds", loc="left", fontsize=10)
    _name_below(axes, [baseline.arm, arm.arm], letters=22)
    axes.set_xlim(-0.35, 1.35)


def _differences(axes: Axes, verdict: Verdict, candidates: Sequence[Candidate]) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    view = _view(verdict, candidates)
    for index, arm in enumerate(candidates):
        values = gains_of(verdict, arm)
        # A fixed spread keeps the picture the same each time it is drawn.
        offsets = 0.14 * np.cos(2.4 * np.arange(len(values)))
        for sign, (colour, _, marker) in CHANGES.items():
            chosen = np.sign(values) == sign
            axes.scatter(
                index + offsets[chosen], values[chosen], s=26, marker=marker, color=colour, alpha=0.75, linewidths=0
            )
        mean = values.mean()
        axes.plot([index - 0.25, index + 0.25], [mean, mean], color="black", linewidth=2.6)
        for end, arrow in _ends(arm, view):
            beyond = "v" if end < mean else "^"
            axes.plot([index, index], [end, mean], color="black", linewidth=1.6)
            axes.plot(index, end, color="black", marker=beyond if arrow else "_", markersize=9, markeredgewidth=1.6)
        weight = "bold" if arm.supported or arm.worse else "normal"
        axes.annotate(_mean_words(verdict, arm), (index + 0.29, mean), va="center", fontweight=weight)
    _name_below(axes, [arm.arm for arm in candidates], letters=max(22, 11 * len(candidates) - 4))
    axes.set_xlim(-0.5, len(candidates) - 0.25)
    axes.set_ylabel(gain_label(verdict))


def _mean_words(verdict: Verdict, arm: Candidate) -> str:
    return typeset(f"{gains_of(verdict, arm).mean():+.{decimals_of_verdict(verdict)}f}")


def _name_below(axes: Axes, names: Sequence[str], *, letters: int) -> None:
    """Names at 0, 1, … below a panel; slanting where so many letters do not fit side by side."""
    slanting: dict[str, Any] = (
        {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if len("".join(names)) > letters else {}
    )
    axes.set_xticks(range(len(names)), list(map(plain, names)), **slanting)


_SHAPES = {1: "blue, round and solid", 0: "grey, diamonds and dotted", -1: "vermilion, triangles and dashed"}
_CHANGED = {1: "better", 0: "equal", -1: "worse"}


def changes_words(verdict: Verdict) -> str:
    """How the seeds are drawn on which a candidate is better, equal, worse, as far as there are such, for the caption.

    With many candidates there are no lines, so nothing is solid or dashed.
    """
    candidates = paired_candidates(verdict)
    seen = {int(sign) for arm in candidates for sign in np.sign(gains_of(verdict, arm))}
    found: list[str] = []
    for sign in (1, -1, 0):
        if sign in seen:
            shape = _SHAPES[sign] if len(candidates) <= FEW_ARMS else _SHAPES[sign].partition(" and ")[0]
            found.append(f"{shape}: {'a seed on which the candidate is ' if not found else ''}{_CHANGED[sign]}")
    words = "; ".join(found)
    return f"{words[:1].upper()}{words[1:]}."


def results_words(verdict: Verdict) -> list[str]:
    """``candidate-1 better on 10 of 15 seeds, mean +0.21``, of each candidate that is drawn."""
    return [
        f"{arm.arm} better on {int((gains_of(verdict, arm) > 0).sum())} of {len(gains_of(verdict, arm))} seeds, mean "
        f"{_mean_words(verdict, arm)}"
        for arm in paired_candidates(verdict)
    ]


def has_intervals(verdict: Verdict) -> bool:
    """Whether an interval is drawn; that of an invalid study is not."""
    return any(end is not None for arm in paired_candidates(verdict) for end in deciding_interval(arm))


def has_arrows(verdict: Verdict) -> bool:
    """Whether an interval goes on beyond the picture."""
    candidates = paired_candidates(verdict)
    view = _view(verdict, candidates)
    return any(arrow for arm in candidates for _, arrow in _ends(arm, view))


def interval_words_of(verdict: Verdict) -> str:
    """What the drawn intervals are, for the caption."""
    if not states_losses(verdict):
        return "its one-sided lower confidence bound"
    if len(verdict.candidates) > 1:
        return (
            f"its interval at the levels of its own {correction_words(verdict)} step, which excludes 0 where the arm "
            "is found better or worse"
        )
    return f"its two-sided {percent_words(confidence_of(verdict))} interval, which belongs to the one-sided test"


def _interval_name(verdict: Verdict) -> str:
    if not states_losses(verdict):
        return f"{percent_words(1 - known(verdict.alpha))} lower bound"
    if len(verdict.candidates) > 1:
        return f"interval at its {correction_words(verdict)} step"
    return f"{percent_words(confidence_of(verdict))} interval"


def _view(verdict: Verdict, candidates: Sequence[Candidate]) -> tuple[float, float]:
    """The differences that a panel shows: all of them, and of each interval as much as :data:`FARTHEST` allows."""
    shown = [0.0]
    for arm in candidates:
        # As they are drawn: of a loss the lower score is the gain.
        values = gains_of(verdict, arm)
        mean, reach = float(values.mean()), float(FARTHEST * values.std(ddof=1)) if len(values) > 1 else 0.0
        ends = [end for end in deciding_interval(arm) if end is not None]
        shown += [*map(float, values), *(min(max(end, mean - reach), mean + reach) for end in ends)]
    return min(shown), max(shown)


def _ends(arm: Candidate, view: tuple[float, float]) -> list[tuple[float, bool]]:
    """Where the ends of the interval are drawn, each with whether as an arrow, since it lies beyond what is shown."""
    low, high = view
    return [(min(max(end, low), high), not low <= end <= high) for end in deciding_interval(arm) if end is not None]


def _many_differences(verdict: Verdict, candidates: Sequence[Candidate]) -> Figure:
    """One row per arm: its paired differences, their mean, and the interval that says what was decided."""
    figure = new_figure(8.0, 1.2 + 0.42 * len(candidates))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.8)
    view = _view(verdict, candidates)
    for row, arm in enumerate(candidates):
        values = gains_of(verdict, arm)
        offsets = 0.16 * np.cos(2.4 * np.arange(len(values)))
        for sign, (colour, _, marker) in CHANGES.items():
            chosen = np.sign(values) == sign
            axes.scatter(
                values[chosen], row + offsets[chosen], s=20, marker=marker, color=colour, alpha=0.7, linewidths=0
            )
        mean = values.mean()
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color="black", linewidth=2.6)
        for end, arrow in _ends(arm, view):
            beyond = "<" if end < mean else ">"
            axes.plot([end, mean], [row, row], color="black", linewidth=1.6)
            axes.plot(end, row, color="black", marker=beyond if arrow else "|", markersize=8, markeredgewidth=1.6)
        weight = "bold" if arm.supported or arm.worse else "normal"
        place = axes.get_yaxis_transform()
        axes.text(1.01, row, _mean_words(verdict, arm), transform=place, va="center", fontweight=weight)
    axes.set_yticks(range(len(candidates)), [plain(arm.arm) for arm in candidates])
    axes.set_ylim(len(candidates) - 0.5, -0.5)
    axes.set_xlabel(gain_label(verdict))
    bold = "; bold: significant" if any(arm.supported or arm.worse for arm in candidates) else ""
    drawn = f", {_interval_name(verdict)}" if has_intervals(verdict) else ""
    axes.set_title(f"each seed, mean{drawn}{bold}", loc="left", fontsize=10)
    tidy(axes)
    return figure
