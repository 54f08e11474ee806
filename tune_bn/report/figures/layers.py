"""A look inside the BN layers of a network: γ and its drift, how far activations reach, gradients of the first step."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean, median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from tune_bn.analysis.wording import config_words, number_words
from tune_bn.records.diagnostics import Diagnostics, Layer, Number
from tune_bn.report.figures.canvas import BLUE, GREY, VERMILION, new_figure, tidy
from tune_bn.report.study import StudyFiles

NONE = "–"
LABELS = 30
"""Names of layers that fit below a picture; of more layers only some are named."""
LETTERS = 80
"""Letters that fit side by side below a picture."""
NORMAL_BEYOND_3 = 0.27
"""Share beyond 3σ of a normal distribution, in percent."""
SMALLEST_SHARE = 1e-4
"""Shares below this, in percent, are drawn on a linear scale down to 0."""

Numbers = NDArray[np.float64]


def shown_name(layer: Layer, letters: int = 28) -> str:
    """The end of the layer's name, without the part that all of a network behind an input normalization share."""
    name = layer.name.removeprefix("network.")
    return name if len(name) <= letters else f"…{name[1 - letters :]}"


def picture_of(arm: str) -> str:
    """File name of an arm's picture."""
    return f"layers-{arm}.png"


def layer_figures(study: StudyFiles) -> dict[str, Figure | None]:
    """A picture for each arm whose layers are known, by file name, on comparable scales."""
    every = list(study.diagnostics.values())
    return {
        picture_of(arm): layer_figure(found, f"{arm}: {config_words(found.config)}, seed {found.seed}", every)
        for arm, found in study.diagnostics.items()
    }


def layer_figure(found: Diagnostics, title: str, others: Sequence[Diagnostics] = ()) -> Figure | None:
    """Four panels over the layers. With ``others`` the scales are such that their pictures can be compared.

    Returns None where there are no layers.
    """
    layers = found.layers
    if not layers:
        return None
    figure = new_figure(6.6, 10.4)
    gammas, shares, reach, gradients = figure.subplots(4, 1, sharex=True, height_ratios=(1.15, 1, 0.85, 1))
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, wrap=True)
    size = float(np.interp(len(layers), (20, 60, 160), (5.0, 3.5, 2.0)))
    _gammas(gammas, found, size)
    comparable = [layer for other in (found, *others) for layer in other.layers]
    _shares(shares, layers, comparable, size)
    _reach(reach, layers, size)
    _gradients(gradients, layers, size)
    for axes, values in (
        (reach, [*_column(comparable, "normalized", "largest"), *_column(comparable, "output", "largest"), 6.0]),
        (gradients, [*_column(comparable, "gradient", "unit"), *_column(comparable, "gradient", "own")]),
    ):
        _logarithmic(axes, np.array(values))
    for axes in (gammas, shares, reach, gradients):
        tidy(axes)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0.0, 0.98),
            ncols=3,
            frameon=False,
            fontsize=9,
            borderaxespad=0.0,
            handletextpad=0.4,
            columnspacing=1.4,
        )
    _name_layers(gradients, layers)
    figure.align_ylabels()
    return figure


def _column(layers: Sequence[Layer], part: str, key: str) -> Numbers:
    owners = (getattr(layer, part) for layer in layers)
    values = (None if owner is None else getattr(owner, key) for owner in owners)
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _gammas(axes: Axes, found: Diagnostics, size: float) -> None:
    layers, places = found.layers, np.arange(len(found.layers))
    initial, mean, std, low, high = (_column(layers, "gamma", key) for key in ("initial", "mean", "std", "low", "high"))
    if found.epoch != 0:
        learned = "learned mean" if found.epoch is None else f"learned mean, epoch {found.epoch}"
        axes.vlines(places, low, high, color=BLUE, alpha=0.35, linewidth=0.35 * size, label="min to max over channels")
        axes.vlines(places, mean - std, mean + std, color=BLUE, alpha=0.5, linewidth=0.9 * size, label="± std")
        axes.plot(places, mean, "o", color=BLUE, markersize=size, label=learned)
    axes.hlines(initial, places - 0.5, places + 0.5, color="black", linewidth=1.2, label="initial", zorder=4)
    # At least a quarter to both sides, so that a small drift looks small.
    edges = np.concatenate([0.75 * initial, 1.25 * initial, low, high])
    edges = edges[np.isfinite(edges)]
    margin = 0.04 * (edges.max() - edges.min()) if edges.size else 0.0
    if margin > 0:
        axes.set_ylim(edges.min() - margin, edges.max() + margin)
    axes.set_ylabel(r"$\gamma$")


def _shares(axes: Axes, layers: Sequence[Layer], comparable: Sequence[Layer], size: float) -> None:
    places, top = np.arange(len(layers)), 1.0
    for part, symbol, filled in (("normalized", r"|\hat{x}|", True), ("output", "|y|", False)):
        for key, limit, colour, marker in (("beyond_3", 3, BLUE, "o"), ("beyond_6", 6, VERMILION, "v")):
            values = 100 * _column(layers, part, key)
            top = np.nanmax([top, *(100 * _column(comparable, part, key))])
            # Several lines along 0 would hide each other.
            none = not np.any(values > 0)
            axes.plot(
                places,
                np.full_like(values, np.nan) if none else values,
                marker=marker,
                markersize=size,
                color=colour,
                markerfacecolor=colour if filled else "white",
                linestyle="-" if filled else "--",
                linewidth=0.9,
                label=rf"${symbol} > {limit}$" + (": none" if none else ""),
            )
    axes.axhline(NORMAL_BEYOND_3, color="black", linewidth=0.9, linestyle=":", label="normal distribution beyond 3")
    axes.set_yscale("symlog", linthresh=SMALLEST_SHARE, linscale=0.4)
    axes.set_ylim(-0.3 * SMALLEST_SHARE, 10 ** np.ceil(np.log10(top)))
    axes.set_yticks([0, *(10.0**power for power in range(-4, 1 + int(np.ceil(np.log10(top)))))])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("share of values, %")


def _reach(axes: Axes, layers: Sequence[Layer], size: float) -> None:
    places = np.arange(len(layers))
    for part, symbol, colour, marker, filled in (
        ("normalized", r"|\hat{x}|", BLUE, "o", True),
        ("output", "|y|", VERMILION, "s", False),
    ):
        axes.plot(
            places,
            _column(layers, part, "largest"),
            marker=marker,
            markersize=size,
            color=colour,
            markerfacecolor=colour if filled else "white",
            linestyle="-" if filled else "--",
            linewidth=0.9,
            zorder=3 if filled else 2,
            label=f"largest ${symbol}$",
        )
    axes.axhline(6, color="black", linewidth=0.9, linestyle=":", label="6σ")
    axes.set_ylabel("units of σ")


def _gradients(axes: Axes, layers: Sequence[Layer], size: float) -> None:
    places, ratio = np.arange(len(layers)), _column(layers, "gradient", "ratio")
    for key, colour, label in (("unit", GREY, r"$\gamma = 1$"), ("own", BLUE, r"initial $\gamma$")):
        values, own = _column(layers, "gradient", key), key == "own"
        axes.plot(
            places,
            np.where(values == 0, np.nan, values),
            marker="o" if own else "D",
            markersize=size if own else 1.5 * size,
            color=colour,
            markerfacecolor=colour if own else "white",
            linestyle="-" if own else "",
            linewidth=0.9,
            label=label,
        )
        zeros = places[values == 0]
        if zeros.size:
            # A logarithmic scale has no 0.
            floor = axes.get_xaxis_transform()
            axes.plot(zeros, np.full(len(zeros), 0.04), "v", transform=floor, color=colour, label=f"0 with {label}")
    if np.isfinite(ratio).any():
        words = f"ratio {np.nanmedian(ratio):.3g} (median), {np.nanmin(ratio):.3g} to {np.nanmax(ratio):.3g}"
        axes.text(1.0, 1.02, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=9)
    axes.set_ylabel(r"$\|\partial L/\partial x\|$, first step")


def _logarithmic(axes: Axes, values: Numbers) -> None:
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return
    axes.set_yscale("log")
    axes.set_ylim(positive.min() / 1.3, positive.max() * 1.3)
    narrow = positive.max() < 300 * positive.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name_layers(axes: Axes, layers: Sequence[Layer]) -> None:
    step = -(-len(layers) // LABELS)
    places = range(0, len(layers), step)
    names = [shown_name(layers[place]) for place in places]
    beside = len(names) * max(map(len, names)) <= LETTERS
    axes.set_xticks(places, names, rotation=0 if beside else 90, fontsize=9)
    axes.set_xlim(-0.8, len(layers) - 0.2)
    every = "" if step == 1 else f", every {_ordinal(step)} is named"
    axes.set_xlabel(f"{len(layers)} BN layers in the order of the forward pass{every}")


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


COLUMNS: Mapping[str, Callable[[Layer], str]] = {
    "layer": shown_name,
    "channels": lambda layer: str(layer.channels),
    "γ₀": lambda layer: number(layer.gamma.initial),
    "γ": lambda layer: number(layer.gamma.mean),
    "std": lambda layer: number(layer.gamma.std),
    "min": lambda layer: number(layer.gamma.low),
    "max": lambda layer: number(layer.gamma.high),
    "drift %": lambda layer: percent(layer.gamma.relative_drift),
    "β": lambda layer: number(_of(layer.beta, "mean")),
    "std of β": lambda layer: number(_of(layer.beta, "std")),
    "|x̂|>3 %": lambda layer: percent(_of(layer.normalized, "beyond_3")),
    "|x̂|>6 %": lambda layer: percent(_of(layer.normalized, "beyond_6")),
    "max|x̂|": lambda layer: number(_of(layer.normalized, "largest")),
    "|y|>3 %": lambda layer: percent(_of(layer.output, "beyond_3")),
    "|y|>6 %": lambda layer: percent(_of(layer.output, "beyond_6")),
    "max|y|": lambda layer: number(_of(layer.output, "largest")),
    "∂x γ=1": lambda layer: number(_of(layer.gradient, "unit")),
    "∂x": lambda layer: number(_of(layer.gradient, "own")),
    "ratio": lambda layer: number(_of(layer.gradient, "ratio")),
}
"""Cells of a layer's row by heading."""

_EXPLAINED: tuple[tuple[str, frozenset[str]], ...] = (
    ("γ₀: initial γ", frozenset({"γ₀"})),
    ("γ: mean over channels", frozenset({"γ"})),
    ("β: mean over channels", frozenset({"β"})),
    ("drift: mean |γ − γ₀| relative to γ₀", frozenset({"drift %"})),
    (
        "x̂: normalized by the statistics of the batch, before the affine; y: after it, in the same unit",
        frozenset({"|x̂|>3 %", "|x̂|>6 %", "max|x̂|", "|y|>3 %", "|y|>6 %", "max|y|"}),
    ),
    (
        "∂x: norm of ∂L/∂x at the first step, with γ = 1 and with the initial γ; ratio: the second by the first",
        frozenset({"∂x", "∂x γ=1"}),
    ),
    ("ratio: norm of ∂L/∂x at the first step, with the initial γ by that with γ = 1", frozenset({"ratio"})),
)


def columns_explained(columns: Collection[str]) -> str:
    """What the columns of a table of layers are, and nothing that it does not have."""
    shown = set(columns)
    words = []
    for explained, about in _EXPLAINED:
        if shown & about:
            words.append(explained)
            # Where both gradients stand, the ratio is explained with them.
            shown -= {"ratio"} if "∂x" in about else set()
    return f"{'; '.join(words)}."


def overview(found: Diagnostics) -> dict[str, str]:
    """One network in a row, by heading."""
    layers = found.layers
    drifts = _known(layer.gamma.relative_drift for layer in layers)
    ratios = _known(_of(layer.gradient, "ratio") for layer in layers)

    def over_layers(choose: Callable[[list[float]], float], part: str, key: str) -> Number:
        values = _known(_of(getattr(layer, part), key) for layer in layers)
        return choose(values) if values else None

    return {
        "layers": str(len(layers)),
        "drift %": percent(median(drifts) if drifts else None),
        "max drift %": percent(max(drifts, default=None)),
        "|x̂|>3 %": percent(over_layers(fmean, "normalized", "beyond_3")),
        "|x̂|>6 %": percent(over_layers(fmean, "normalized", "beyond_6")),
        "max|x̂|": number(over_layers(max, "normalized", "largest")),
        "max|y|": number(over_layers(max, "output", "largest")),
        "ratio": number(median(ratios) if ratios else None),
        "min ratio": number(min(ratios, default=None)),
        "max ratio": number(max(ratios, default=None)),
    }


FIGURE_EXPLAINED = (
    "From top to bottom, layer by layer: γ before and after training; share of the values beyond 3 and 6, before (x̂) "
    "and after the affine (y), both in units of x̂'s σ, with the statistics of a batch of training images; the largest "
    "of them; norm of the gradient that reaches the layer's input at the first step, with γ = 1 and with γ as "
    "configured, from the same weights."
)

OVERVIEW_EXPLAINED = (
    "Drift: mean |γ − γ₀| relative to γ₀, median over layers; |x̂|, |y|: values before and after the affine, in units "
    "of x̂'s σ, shares as means over layers; ratio: norm of ∂L/∂x at the first step relative to γ = 1 with the same "
    "weights, median over layers."
)


def _known(values: Iterable[Number]) -> list[float]:
    return [value for value in values if value is not None]


def _of(part: object, key: str) -> Number:
    value: Number = getattr(part, key, None)
    return value


def number(value: Number) -> str:
    """Three significant digits, without an exponent where it can be avoided."""
    return NONE if value is None else _to_digits(value, 3)


def percent(share: Number) -> str:
    """A share as percent, to two significant digits."""
    return NONE if share is None else _to_digits(100 * share, 2)


def _to_digits(value: float, digits: int) -> str:
    """Zeros at the end too, so that 1.00 stands beside 0.977; 0 itself is 0."""
    rounded = float(f"{value:.{digits}g}")
    words = number_words(rounded)
    if rounded == 0 or not math.isfinite(rounded) or "e" in words:
        return words
    return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"
