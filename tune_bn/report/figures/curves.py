"""The learning curves of the confirmed arms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tune_bn.records.record import BASELINE, CONFIRM
from tune_bn.report.figures.canvas import FEW_ARMS, GREY, PALE, arm_style, label_ends, new_figure, tidy
from tune_bn.report.study import Curve, StudyFiles

MOST_ENLARGED = 8.0
"""Height of the enlarged half at most, in heights of a usual arm's course there."""


def curves(study: StudyFiles) -> Figure | None:
    """Mean ± std over seeds of the validation score per step, for the confirmed arms; the second half enlarged."""
    arms = _stacks(study)
    if not arms:
        return None
    figure = new_figure(8.2, 3.9)
    whole, late = figure.subplots(1, 2)
    last = max(stack.shape[1] for stack in arms.values())
    half = last // 2
    candidates = sum(name not in _baselines(study) for name in arms)
    banded, place = is_banded(study), 0
    ends: list[tuple[float, str, str]] = []
    lows, highs, ranges = [], [], []
    for arm, stack in arms.items():
        place += arm not in _baselines(study)
        style = arm_style(0 if arm in _baselines(study) else place, candidates, _finding(study, arm))
        name = f"{arm} (n = {len(stack)})"
        epochs, (mean, std) = np.arange(1, stack.shape[1] + 1), _mean_and_std(stack)
        band = std if banded else np.zeros_like(std)
        for axes in (whole, late):
            axes.plot(epochs, mean, color=style.colour, linestyle=style.dashes, linewidth=style.width, label=name)
            if banded:
                axes.fill_between(epochs, mean - std, mean + std, color=style.colour, alpha=0.18, linewidth=0)
        ends.append((float(mean[-1]), name, GREY if style.colour == PALE else style.colour))
        if len(mean) > half:
            lows.append(np.min((mean - band)[half:]))
            highs.append(np.max((mean + band)[half:]))
            ranges.append(highs[-1] - lows[-1])
    whole.set_ylabel(f"{study.score.axis_words} ({'mean ± std' if banded else 'mean'})")
    whole.set_xlim(1, last)
    whole.set_title("whole course", loc="left", fontsize=10)
    late.set_title("second half, enlarged", loc="left", fontsize=10)
    if last > half + 1:
        late.set_xlim(half + 1, last)
    if highs and min(lows) < max(highs):
        # An arm that learned nothing must not flatten the others; the whole course shows it.
        bottom, top = min(lows), max(highs)
        most = MOST_ENLARGED * max(float(np.median(ranges)), 0.02 * (top - bottom))
        if study.score.higher_is_better:
            bottom = max(bottom, top - most)
        else:
            top = min(top, bottom + most)
        margin = 0.04 * (top - bottom)
        late.set_ylim(bottom - margin, top + margin)
        beyond = ((value, "below" if value < bottom else "above" if value > top else "") for value, *_ in ends)
        ends = [
            (value, f"{words}, {where}" if where else words, colour)
            for (value, words, colour), (_, where) in zip(ends, beyond, strict=True)
        ]
    for axes in (whole, late):
        axes.set_xlabel(study.score.step)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        tidy(axes)
    label_ends(late, ends)
    return figure


def _stacks(study: StudyFiles) -> dict[str, NDArray[np.float64]]:
    """The courses of each confirmed arm that has any, shape (runs, epochs), in the order of the plan."""
    by_arm: dict[str, list[Curve]] = {}
    for record in study.records:
        if record.stage == CONFIRM and study.curves.get(record.key):
            by_arm.setdefault(record.arm, []).append(study.curves[record.key])
    planned = [] if study.plan is None else [arm.arm for arm in study.plan.arms]
    arms = {
        arm: _stack(by_arm[arm], study.score.validation)
        for arm in [*planned, *sorted(set(by_arm) - set(planned))]
        if arm in by_arm
    }
    return {arm: stack for arm, stack in arms.items() if stack.shape[1] > 1}


def is_banded(study: StudyFiles) -> bool:
    """Whether the standard deviation is drawn: not with many arms, whose bands would lie on each other."""
    return sum(name not in _baselines(study) for name in _stacks(study)) <= FEW_ARMS


def curve_ends(study: StudyFiles) -> dict[str, float]:
    """Where the mean course of each arm ends."""
    return {arm: float(_mean_and_std(stack)[0][-1]) for arm, stack in _stacks(study).items()}


def _baselines(study: StudyFiles) -> set[str]:
    plan = study.plan
    return {BASELINE} if plan is None else {arm.arm for arm in plan.every_tuning}


def _finding(study: StudyFiles, arm: str) -> str:
    """``better`` or ``worse`` where the verdict says so."""
    judged = [] if study.verdict is None else study.verdict.candidates
    found = next((one for one in judged if one.arm == arm), None)
    if found is None:
        return ""
    return "better" if found.supported else "worse" if found.worse else ""


def _stack(runs: Sequence[Curve], metric: str) -> NDArray[np.float64]:
    """Values of a metric, shape (runs, epochs), up to the first epoch for which no run has a finite value."""
    length = max(len(run) for run in runs)
    stack = np.full((len(runs), length), np.nan)
    for row, run in zip(stack, runs, strict=True):
        for index, point in enumerate(run):
            row[index] = point.metrics.get(metric, np.nan)
    reached = np.isfinite(stack).any(axis=0)
    return stack[:, : length if reached.all() else int(np.argmin(reached))]


def _mean_and_std(stack: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Over the runs that reached an epoch; std with ddof = 1, and 0 where only one did."""
    count = np.isfinite(stack).sum(axis=0)
    mean = np.nansum(stack, axis=0) / count
    squares = np.nansum((stack - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.maximum(count - 1, 1))
