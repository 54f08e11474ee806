"""What the order of trials at an epoch says of their final one, by which an automatic grace was found."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tune_bn.analysis.early_order import LEAST_TAU, Look
from tune_bn.report.figures.canvas import BLUE, DASHES, GREEN, GREY, VERMILION, legend_below, new_figure, plain, tidy


def early_order_figure(looks: Sequence[Look]) -> Figure | None:
    """τ with its lower bound by epoch as the last look saw it, τ of those before it, and from where stopping is safe.

    Returns None where no look had two trials of an arm.
    """
    seen = [found for found in looks if found.epochs]
    if not seen:
        return None
    last = seen[-1]
    figure = new_figure(8.0, 4.2)
    axes = figure.add_subplot()
    for index, earlier in enumerate(seen[:-1]):
        label = "τ, earlier looks" if index == 0 else None
        x, y = [at.epoch for at in earlier.epochs], [at.tau for at in earlier.epochs]
        axes.plot(x, y, color=GREY, linewidth=1.0, linestyle=":", label=label, zorder=2)
    epochs = [at.epoch for at in last.epochs]
    tau, low = [at.tau for at in last.epochs], [at.low for at in last.epochs]
    trials = sum(last.trials.values())
    axes.plot(epochs, tau, color=BLUE, linewidth=1.8, marker="o", markersize=4, label=f"τ ({trials} trials)", zorder=4)
    bound = f"lower bound ({100 * (1 - last.level):.4g} %)"
    axes.plot(epochs, low, color=BLUE, linewidth=1.3, linestyle="--", label=bound, zorder=4)
    axes.fill_between(epochs, low, tau, color=BLUE, alpha=0.15, linewidth=0)
    arms = list(last.epochs[0].arms)
    for index, arm in enumerate(arms if len(arms) > 1 else ()):
        y = [at.arms[arm] for at in last.epochs]
        dashes = DASHES[(index + 2) % len(DASHES)]
        axes.plot(epochs, y, color=VERMILION, linewidth=1.0, linestyle=dashes, label=f"τ, {plain(arm)}", zorder=3)
    axes.axhline(LEAST_TAU, color="black", linewidth=1.0, label=f"needed: {LEAST_TAU:g}", zorder=1)
    if last.safe_from is not None:
        words = f"stops from epoch {last.safe_from} on"
        axes.axvspan(last.safe_from, last.last, color=GREEN, alpha=0.15, linewidth=0, label=words, zorder=0)
    axes.set_xlim(min(epochs[0], 1), last.last)
    axes.set_ylim(min(-0.5, *low, *(at.tau for found in seen for at in found.epochs)) - 0.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"epoch of {last.last}")
    axes.set_ylabel("rank correlation with the final order, τ")
    tidy(axes)
    legend_below(figure, axes, columns=3)
    return figure
