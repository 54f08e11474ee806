"""What the order of trials at an epoch says of their final one, by which an automatic grace was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tune_bn.analysis.early_order import ALPHA, LEAST_TAU, Look
from tune_bn.analysis.early_order import words as look_words
from tune_bn.records.record import PRUNED, SEARCH
from tune_bn.records.score import BEST, Score
from tune_bn.report.blocks import Block, Heading, Picture, paragraph
from tune_bn.report.figures.canvas import BLUE, DASHES, GREEN, GREY, VERMILION, legend_below, new_figure, plain, tidy
from tune_bn.report.study import StudyFiles


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
        label = "τ at earlier looks, of fewer trials" if index == 0 else None
        x, y = [at.epoch for at in earlier.epochs], [at.tau for at in earlier.epochs]
        axes.plot(x, y, color=GREY, linewidth=1.0, linestyle=":", label=label, zorder=2)
    epochs = [at.epoch for at in last.epochs]
    tau, low = [at.tau for at in last.epochs], [at.low for at in last.epochs]
    of = f"τ, better half of {sum(last.trials.values())} trials"
    axes.plot(
        epochs,
        tau,
        color=BLUE,
        linewidth=1.8,
        marker="o",
        markersize=4,
        label=of,
        zorder=4,
    )
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
        words = f"safe to stop from epoch {last.safe_from} on"
        axes.axvspan(last.safe_from, last.last, color=GREEN, alpha=0.15, linewidth=0, label=words, zorder=0)
    axes.set_xlim(min(epochs[0], 1), last.last)
    axes.set_ylim(min(-0.5, *low, *(at.tau for found in seen for at in found.epochs)) - 0.05, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"epoch of {last.last}")
    axes.set_ylabel("rank correlation with the final order, τ")
    tidy(axes)
    legend_below(figure, axes, columns=2)
    return figure


def early_order(study: StudyFiles) -> Iterator[Block]:
    """From which epoch on the search could stop trials, where it was to find that itself."""
    if not study.early_order:
        return
    yield Heading("Early stopping")
    last = study.early_order[-1]
    stopped = sum(trial.status == PRUNED for trial in study.trials[SEARCH])
    found = look_words(last)
    were = "trial was" if stopped == 1 else "trials were"
    yield paragraph(f"{found[0].upper()}{found[1:]}. {stopped or 'No'} {were} stopped early.")
    earlier = [str(sum(look.trials.values())) for look in study.early_order[:-1] if look.epochs]
    looks = "look" if len(earlier) == 1 else "looks"
    dotted = f" Dotted: τ at the earlier {looks}, held when {', '.join(earlier)} trials had run to their end."
    figure = early_order_figure(study.early_order)
    if figure is not None:
        yield Picture(
            "early_order.png",
            "Early order and final order",
            f"Search: Kendall's rank correlation τ of trials' {_so_far(study.score)} after an epoch with their final "
            "one, within each arm, over the better half of trials that all ran to their end. Stopping is safe "
            f"from the epoch on from which its lower bound stays at {LEAST_TAU:g} or above, so that three of four "
            "pairs are in their final order; with more looks the bound is that of a lower level, so that all of them "
            f"together are wrong in {100 * ALPHA:g} % of studies at most.{dotted if earlier else ''}",
            figure,
            result="not known to be safe at any epoch"
            if last.safe_from is None
            else f"stopping is safe from epoch {last.safe_from} of {last.last} on",
        )


def _so_far(score: Score) -> str:
    return f"best {score.words}" if score.at == BEST else score.words
