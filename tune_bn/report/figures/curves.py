"""The learning curves of the confirmed arms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tune_bn.analysis.plan import arms_of
from tune_bn.records.record import CONFIRM
from tune_bn.report.figures.canvas import ARM_STYLES, FEW_ARMS, legend_below, new_figure, plain, tidy
from tune_bn.report.study import Curve, StudyFiles


def curves(study: StudyFiles) -> Figure | None:
    """Mean ± std over seeds of the validation score per step, for the confirmed arms; the second half enlarged."""
    by_arm: dict[str, list[Curve]] = {}
    for record in study.records:
        if record.stage == CONFIRM and study.curves.get(record.key):
            by_arm.setdefault(record.arm, []).append(study.curves[record.key])
    planned = [] if study.plan is None else [arm["arm"] for arm in arms_of(study.plan)]
    arms = {
        arm: _stack(by_arm[arm], study.score.validation)
        for arm in [*planned, *sorted(set(by_arm) - set(planned))]
        if arm in by_arm
    }
    arms = {arm: stack for arm, stack in arms.items() if stack.shape[1] > 1}
    if not arms:
        return None
    figure = new_figure(9.0, 4.2)
    whole, late = figure.subplots(1, 2)
    last = max(stack.shape[1] for stack in arms.values())
    half = last // 2
    low, high = [], []
    for index, (arm, stack) in enumerate(arms.items()):
        colour, dashes = ARM_STYLES[index % len(ARM_STYLES)]
        epochs, (mean, std) = np.arange(1, stack.shape[1] + 1), _mean_and_std(stack)
        for axes in (whole, late):
            axes.plot(
                epochs, mean, color=colour, linestyle=dashes, linewidth=1.8, label=f"{plain(arm)} (n = {len(stack)})"
            )
            if len(arms) <= FEW_ARMS + 1:
                axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
        band = std if len(arms) <= FEW_ARMS + 1 else np.zeros_like(std)
        low.append(np.min((mean - band)[half:], initial=np.inf))
        high.append(np.max((mean + band)[half:], initial=-np.inf))
    spread = "mean ± std" if len(arms) <= FEW_ARMS + 1 else "mean"
    whole.set_ylabel(f"{study.score.axis_words} ({spread})")
    whole.set_xlim(1, last)
    whole.set_title("whole course", loc="left", fontsize=10)
    late.set_title("second half, enlarged", loc="left", fontsize=10)
    if last > half + 1:
        late.set_xlim(half + 1, last)
    if min(low) < max(high):
        late.set_ylim(min(low), max(high))
    for axes in (whole, late):
        axes.set_xlabel(study.score.step)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axes)
    legend_below(figure, whole, columns=min(len(arms), 4))
    return figure


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
