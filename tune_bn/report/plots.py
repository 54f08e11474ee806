"""The plots of a report: the landscape of the search, the pairs of the confirmation, the learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tune_bn.analysis.wording import metric_words
from tune_bn.records import CONFIRM
from tune_bn.report.canvas import BLUE, GREEN, GREY, PURPLE, VERMILION, new_figure, save, tidy
from tune_bn.report.landscape import landscape
from tune_bn.report.layers import layer_figures
from tune_bn.report.study import Curve, StudyFiles

DASHES = ("--", "-", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
COLOURS = (GREY, BLUE, VERMILION, GREEN, PURPLE)
# The first five arms differ in both, all of the first 25 in one of them.
ARM_STYLES = tuple(
    (colour, DASHES[(index + shift) % len(DASHES)])
    for shift in range(len(DASHES))
    for index, colour in enumerate(COLOURS)
)
FEW_ARMS = 4
"""With more candidates than these, a picture shows less of each."""
CHANGES = {1: (BLUE, "-", "o"), 0: (GREY, ":", "D"), -1: (VERMILION, "--", "v")}
"""Colour, dashes and marker of a seed on which the candidate is better, equal, worse."""


def write_plots(study: StudyFiles, folder: Path) -> list[Path]:
    """Draw every plot that the study has data for; returns the files written, each whole or not at all."""
    figures = {
        "landscape.png": landscape(study),
        "paired.png": None if study.verdict is None else paired(study.verdict),
        "curves.png": curves(study),
        **layer_figures(study),
    }
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    if drawn:
        folder.mkdir(exist_ok=True)
    for name, figure in drawn.items():
        save(figure, folder / name)
    return [folder / name for name in drawn]


def paired(verdict: Mapping[str, Any]) -> Figure | None:
    """The confirmation: each seed's score under both arms, and the paired differences with their mean."""
    baseline = verdict["baseline"]
    candidates = [arm for arm in verdict["candidates"] if _shared_seeds(baseline, arm)] if baseline else []
    if not candidates:
        return None
    if len(candidates) > FEW_ARMS:
        return _many_differences(baseline, candidates, verdict["alpha"])
    width = 2.6 * len(candidates)
    figure = new_figure(width + 1.8 + 1.1 * len(candidates), 4.6)
    ratios = [2.6] * len(candidates) + [0.8 + 1.1 * len(candidates)]
    *slopes, differences = figure.subplots(1, len(candidates) + 1, width_ratios=ratios)
    for axes, arm in zip(slopes, candidates, strict=True):
        _slopes(axes, baseline, arm)
        tidy(axes, grid="y")
    limits = [axes.get_ylim() for axes in slopes]
    for axes in slopes:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        axes.tick_params(labelleft=axes is slopes[0])
    slopes[0].set_ylabel(f"{metric_words(verdict['metric'])}, %")
    _differences(differences, baseline, candidates)
    differences.set_title(f"mean, {100 * (1 - verdict['alpha']):g} % lower bound", loc="left", fontsize=10)
    tidy(differences, grid="y")
    return figure


def curves(study: StudyFiles) -> Figure | None:
    """Mean ± std over seeds of the validation accuracy per epoch, for the confirmed arms; the second half enlarged."""
    by_arm: dict[str, list[Curve]] = {}
    for record in study.records:
        if record.stage == CONFIRM and study.curves.get(record.key):
            by_arm.setdefault(record.arm, []).append(study.curves[record.key])
    arms = {arm: _stack(runs) for arm, runs in sorted(by_arm.items())}
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
            axes.plot(epochs, mean, color=colour, linestyle=dashes, linewidth=1.8, label=f"{arm} (n = {len(stack)})")
            if len(arms) <= FEW_ARMS + 1:
                axes.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
        band = std if len(arms) <= FEW_ARMS + 1 else np.zeros_like(std)
        low.append(np.min((mean - band)[half:], initial=100.0))
        high.append(np.max((mean + band)[half:], initial=0.0))
    spread = "mean ± std" if len(arms) <= FEW_ARMS + 1 else "mean"
    whole.set_ylabel(f"validation accuracy, % ({spread})")
    whole.set_xlim(1, last)
    whole.set_title("whole course", loc="left", fontsize=10)
    late.set_title("second half, enlarged", loc="left", fontsize=10)
    if last > half + 1:
        late.set_xlim(half + 1, last)
    if min(low) < max(high):
        late.set_ylim(min(low), max(high))
    for axes in (whole, late):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axes)
    figure.legend(
        *whole.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(arms), 4),
        frameon=False,
        fontsize=9,
    )
    return figure


def _shared_seeds(baseline: Mapping[str, Any], arm: Mapping[str, Any]) -> list[str]:
    return [seed for seed in baseline["scores"] if seed in arm["scores"]]


def _slopes(axes: Axes, baseline: Mapping[str, Any], arm: Mapping[str, Any]) -> None:
    pairs = np.array([[baseline["scores"][seed], arm["scores"][seed]] for seed in _shared_seeds(baseline, arm)])
    for before, after in pairs:
        colour, dashes, _ = CHANGES[int(np.sign(after - before))]
        axes.plot(
            [0, 1],
            [before, after],
            color=colour,
            linestyle=dashes,
            marker="o",
            markersize=3.5,
            linewidth=1.0,
            alpha=0.75,
        )
    axes.plot([0, 1], pairs.mean(axis=0), color="black", linewidth=2.6, marker="s", markersize=7, zorder=4)
    wins = int((pairs[:, 1] > pairs[:, 0]).sum())
    axes.set_title(f"better on {wins} of {len(pairs)} seeds", loc="left", fontsize=10)
    axes.set_xticks([0, 1], ["baseline", arm["arm"]])
    axes.set_xlim(-0.35, 1.35)


def _differences(axes: Axes, baseline: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> None:
    axes.axhline(0, color="black", linewidth=0.8)
    for index, arm in enumerate(candidates):
        seeds = _shared_seeds(baseline, arm)
        values = np.array([arm["scores"][seed] - baseline["scores"][seed] for seed in seeds])
        # A fixed spread keeps the picture the same each time it is drawn.
        offsets = 0.14 * np.cos(2.4 * np.arange(len(values)))
        for sign, (colour, _, marker) in CHANGES.items():
            chosen = np.sign(values) == sign
            axes.scatter(
                index + offsets[chosen], values[chosen], s=26, marker=marker, color=colour, alpha=0.75, linewidths=0
            )
        mean = values.mean()
        axes.plot([index - 0.25, index + 0.25], [mean, mean], color="black", linewidth=2.6)
        if arm["ci_low"] is not None:
            axes.plot([index, index], [arm["ci_low"], mean], color="black", linewidth=1.6)
            axes.plot([index - 0.08, index + 0.08], [arm["ci_low"]] * 2, color="black", linewidth=1.6)
        axes.annotate(f"{mean:+.2f}", (index + 0.29, mean), va="center", fontweight="bold")
    axes.set_xticks(range(len(candidates)), [arm["arm"] for arm in candidates])
    axes.set_xlim(-0.5, len(candidates) - 0.25)
    axes.set_ylabel("difference from the baseline, percentage points")


def _many_differences(baseline: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]], alpha: float) -> Figure:
    """One row per arm: its paired differences, their mean, and the one-sided lower bound."""
    figure = new_figure(8.0, 1.2 + 0.42 * len(candidates))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.8)
    for row, arm in enumerate(candidates):
        values = np.array([arm["scores"][seed] - baseline["scores"][seed] for seed in _shared_seeds(baseline, arm)])
        offsets = 0.16 * np.cos(2.4 * np.arange(len(values)))
        for sign, (colour, _, marker) in CHANGES.items():
            chosen = np.sign(values) == sign
            axes.scatter(
                values[chosen], row + offsets[chosen], s=20, marker=marker, color=colour, alpha=0.7, linewidths=0
            )
        mean = values.mean()
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color="black", linewidth=2.6)
        if arm["ci_low"] is not None:
            axes.plot([arm["ci_low"], mean], [row, row], color="black", linewidth=1.6)
            axes.plot([arm["ci_low"]] * 2, [row - 0.12, row + 0.12], color="black", linewidth=1.6)
        weight = "bold" if arm["supported"] else "normal"
        place = axes.get_yaxis_transform()
        axes.text(1.01, row, f"{mean:+.2f}", transform=place, va="center", fontweight=weight)
    axes.set_yticks(range(len(candidates)), [arm["arm"] for arm in candidates])
    axes.set_ylim(len(candidates) - 0.5, -0.5)
    axes.set_xlabel("difference from the baseline, percentage points")
    axes.set_title(f"each seed, mean, {100 * (1 - alpha):g} % lower bound; bold: supported", loc="left", fontsize=10)
    tidy(axes)
    return figure


def _stack(runs: Sequence[Curve]) -> NDArray[np.float64]:
    """Validation accuracies, shape (runs, epochs), up to the first epoch for which no run has a finite value."""
    length = max(len(run) for run in runs)
    stack = np.full((len(runs), length), np.nan)
    for row, run in zip(stack, runs, strict=True):
        for index, point in enumerate(run):
            row[index] = point.val_accuracy
    reached = np.isfinite(stack).any(axis=0)
    return stack[:, : length if reached.all() else int(np.argmin(reached))]


def _mean_and_std(stack: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Over the runs that reached an epoch; std with ddof = 1, and 0 where only one did."""
    count = np.isfinite(stack).sum(axis=0)
    mean = np.nansum(stack, axis=0) / count
    squares = np.nansum((stack - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.maximum(count - 1, 1))
