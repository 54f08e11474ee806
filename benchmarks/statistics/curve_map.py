"""What the tables of learning curves say of γ and c: pictures for the docs, and a page of tables.

    python -m benchmarks.statistics.curve_map --table digits

Reads ``results/curve_table/NAME.parquet`` (``benchmarks.statistics.curve_table`` made it); writes
``results/curve_map_NAME.md`` and ``docs/pictures/curves_NAME_*.png``. A score is the test accuracy with the weights of
the best validation epoch, as the paper takes it; a gain is a mean of differences on common seeds against BASE, γ = 1
and c = 1, at the same learning rate and length of course.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats

from benchmarks.results import RESULTS
from tune_bn.records.files import write_text

matplotlib.use("Agg")
PICTURES = Path(__file__).parents[2] / "docs/pictures"
SCORE = "test_accuracy_best"
CELL = ["lr", "epochs", "gamma", "c"]
SMALL = ((0.1, 100.0), (0.05, 100.0))
"""γ and c: the paper's setting, and a smaller γ."""
STEPS_AN_EPOCH = {"digits": 5, "cifar10": 40}
BETWEEN = 0.9
"""Share of what BASE gains in validation accuracy over chance at which a network counts as having begun to learn."""


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a cell: ``n`` seeds in common with BASE, the ``gain`` over it, its 95 % half-width and one-sided p."""
    rows = []
    for (lr, epochs), part in frame.groupby(["lr", "epochs"]):
        scores = part.pivot_table(index="seed", columns=["gamma", "c"], values=SCORE)
        if (1.0, 1.0) not in scores:
            continue
        for cell in scores.columns:
            differences = (scores[cell] - scores[(1.0, 1.0)]).dropna()
            n, gain = len(differences), differences.mean()
            error = differences.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
            rows.append(
                {"lr": lr, "epochs": epochs, "gamma": cell[0], "c": cell[1], "n": n, "gain": gain}
                | {"half": stats.t.ppf(0.975, n - 1) * error if n > 1 else math.nan}
                | {"p": stats.t.sf(gain / error, n - 1) if n > 1 and error > 0 else math.nan}
                | {"score": scores[cell].mean(), "spread": scores[cell].std(ddof=1)}
            )
    return pd.DataFrame(rows)


def starts(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a cell: the median over seeds of the first epoch that reaches ``BETWEEN`` of what BASE reaches."""
    rows = []
    for (lr, epochs), part in frame.groupby(["lr", "epochs"]):
        base = part[(part.gamma == 1) & (part.c == 1)]
        if base.empty:
            continue
        level = 10 + BETWEEN * (np.mean([max(curve) for curve in base.val_accuracy]) - 10)
        for (gamma, c), cell in part.groupby(["gamma", "c"]):
            first = [next((e for e, v in enumerate(curve, 1) if v >= level), math.inf) for curve in cell.val_accuracy]
            rows.append({"lr": lr, "epochs": epochs, "gamma": gamma, "c": c, "start": float(np.median(first))})
    return pd.DataFrame(rows)


def landscape(table: str, found: pd.DataFrame, epochs: int) -> None:
    """The gain over γ and c, a panel a learning rate; one scale of colours, cut where a gain is a loss of 3 points."""
    part = found[(found.epochs == epochs) & (found.gamma.isin(_grid(found, epochs)[0]))]
    lrs = sorted(part.lr.unique(), reverse=True)
    figure, axes = plt.subplots(1, len(lrs), figsize=(5.2 * len(lrs), 4.6), squeeze=False, layout="constrained")
    for place, lr in zip(axes[0], lrs, strict=True):
        cells = part[part.lr == lr].pivot_table(index="gamma", columns="c", values="gain")
        image = place.imshow(cells, origin="lower", cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
        for row, column in np.ndindex(cells.shape):
            value = cells.iloc[row, column]
            if not math.isnan(value):
                dark = abs(value) > 2
                place.text(
                    column, row, f"{value:+.1f}", ha="center", va="center", fontsize=8, color="w" if dark else "k"
                )
        place.set_xticks(range(len(cells.columns)), [f"{c:g}" for c in cells.columns])
        place.set_yticks(range(len(cells.index)), [f"{gamma:g}" for gamma in cells.index])
        place.set(xlabel="c", ylabel="γ", title=f"lr {lr:g}, {epochs} epochs")
    figure.colorbar(image, ax=axes, label="gain over BASE, points (cut at ±3)", shrink=0.9)
    figure.savefig(PICTURES / f"curves_{table}_landscape.png", dpi=110)
    plt.close(figure)


def lengths(table: str, found: pd.DataFrame) -> None:
    """The gain of the cells that were trained for several lengths, over the length."""
    several = found.groupby(["gamma", "c"]).epochs.nunique()
    cells = [cell for cell, count in several.items() if count > 2 and cell != (1.0, 1.0)]
    lrs = sorted(found.lr.unique(), reverse=True)
    figure, axes = plt.subplots(1, len(lrs), figsize=(5.2 * len(lrs), 4.4), squeeze=False, layout="constrained")
    for place, lr in zip(axes[0], lrs, strict=True):
        for index, (gamma, c) in enumerate(cells):
            rows = found[(found.lr == lr) & (found.gamma == gamma) & (found.c == c) & (found.n > 1)].sort_values(
                "epochs"
            )
            style = {"color": f"C{index}", "marker": "o", "ms": 4, "lw": 1.4}
            place.plot(rows.epochs, rows.gain.clip(lower=-6), label=f"γ = {gamma:g}, c = {c:g}", **style)
        place.axhline(0, color="0.3", lw=0.8)
        place.set_xscale("log")
        ticks = sorted(found[found.lr == lr].epochs.unique())
        place.set_xticks(ticks, [f"{epochs:g}" for epochs in ticks])
        place.minorticks_off()
        place.set(xlabel="epochs of the whole course", ylabel="gain over BASE, points (cut at −6)", title=f"lr {lr:g}")
        place.grid(alpha=0.25)
    axes[0][0].legend(fontsize=8)
    figure.savefig(PICTURES / f"curves_{table}_lengths.png", dpi=110)
    plt.close(figure)


def beginnings(table: str, found: pd.DataFrame, epochs: int) -> None:
    """When each γ begins to learn, a line a c, a panel a learning rate."""
    part = found[found.epochs == epochs]
    lrs = sorted(part.lr.unique(), reverse=True)
    figure, axes = plt.subplots(1, len(lrs), figsize=(5.2 * len(lrs), 4.2), squeeze=False, layout="constrained")
    for place, lr in zip(axes[0], lrs, strict=True):
        rows = part[part.lr == lr]
        cs = _grid(rows, epochs)[1]
        for shade, c in zip(np.linspace(0.15, 0.95, len(cs)), cs, strict=True):
            line = rows[rows.c == c].sort_values("gamma")
            shown = line.start.where(np.isfinite(line.start), epochs * 1.08)
            place.plot(
                line.gamma, shown, marker="o", ms=4, lw=1.3, color=plt.get_cmap("viridis")(shade), label=f"c = {c:g}"
            )
        place.axhline(epochs * 1.08, color="0.6", lw=0.8, ls=":")
        place.text(1.0, epochs * 1.1, "not within the course", ha="right", fontsize=8, color="0.4")
        place.set_xscale("log")
        place.set(xlabel="γ", ylabel=f"epoch that reaches {BETWEEN:.0%} of BASE's", title=f"lr {lr:g}, {epochs} epochs")
        place.grid(alpha=0.25)
    axes[0][0].legend(fontsize=8)
    figure.savefig(PICTURES / f"curves_{table}_starts.png", dpi=110)
    plt.close(figure)


def _grid(frame: pd.DataFrame, epochs: int) -> tuple[list[float], list[float]]:
    part = frame[frame.epochs == epochs]
    return sorted(part.gamma.unique()), sorted(part.c.unique())


def _lines(head: list[str], rows: Iterator[list[Any]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def page(table: str, found: pd.DataFrame, begun: pd.DataFrame, runs: int, epochs: int) -> str:
    """The tables of the page."""
    text = [
        f"Written by `python -m benchmarks.statistics.curve_map --table {table}` from {runs:,} whole runs. Gain: mean "
        "difference of test accuracy on common seeds against BASE (γ = 1, c = 1) at the same learning rate and length, "
        f"points, with its 95 % interval (n of two or three says little: read the map as a whole). An epoch has "
        f"{STEPS_AN_EPOCH[table]} steps.",
        "",
        f"**The ten best cells at {epochs} epochs**",
        "",
    ]
    part = found[(found.epochs == epochs) & (found.n >= 3)].nlargest(10, "score")
    cells = (
        [
            f"{r.lr:g}",
            f"{r.gamma:g}",
            f"{r.c:g}",
            int(r.n),
            f"{r.score:.2f} ± {r.spread:.2f}",
            f"{r.gain:+.2f} ± {r.half:.2f}",
        ]
        for r in part.itertuples()
    )
    text += _lines(["lr", "γ", "c", "n", "test accuracy, %", "gain"], cells)
    text += ["", "**BASE, the paper's setting (γ = 0.1, c = 100) and a smaller γ, by learning rate and length**", ""]
    asked = np.array([cell in SMALL for cell in zip(found.gamma, found.c, strict=True)])
    both = found[asked & (found.n >= 3)].sort_values(["gamma", "lr", "epochs"], ascending=[False, False, True])

    def compared() -> Iterator[list[Any]]:
        for r in both.itertuples():
            base = found[(found.lr == r.lr) & (found.epochs == r.epochs) & (found.gamma == 1) & (found.c == 1)].iloc[0]
            steps = r.epochs * STEPS_AN_EPOCH[table]
            scores = [f"{base.score:.2f}", f"{r.score:.2f}", f"{r.gain:+.2f} ± {r.half:.2f}", f"{r.p:.2g}"]
            yield [f"{r.gamma:g}", f"{r.lr:g}", r.epochs, steps, int(r.n), *scores]

    text += _lines(
        ["γ, at c = 100", "lr", "epochs", "steps", "n", "BASE", "small γ", "gain", "p, one-sided"], compared()
    )
    text += ["", "**c beyond the paper's 100: the best c for each γ, against c = 100 on the same seeds**", ""]
    text += _lines(["lr", "γ", "best c", "its gain", "gain at c = 100", "cells of it"], _best_c(found, epochs))
    text += ["", f"**First epoch at which {BETWEEN:.0%} of BASE's validation accuracy over chance is reached**", ""]
    for lr in sorted(begun.lr.unique(), reverse=True):
        cells_of = begun[(begun.lr == lr) & (begun.epochs == epochs)].pivot_table(
            "start", "gamma", "c", aggfunc="first"
        )
        rows = ([f"{g:g}", *("–" if not math.isfinite(v) else f"{v:g}" for v in r)] for g, r in cells_of.iterrows())
        text += [f"lr {lr:g}:", "", *_lines(["γ \\ c", *(f"{c:g}" for c in cells_of.columns)], rows), ""]
    return "\n".join(text).rstrip() + "\n"


def _best_c(found: pd.DataFrame, epochs: int) -> Iterator[list[Any]]:
    part = found[(found.epochs == epochs) & (found.n >= 2)]
    for (lr, gamma), rows in part.groupby(["lr", "gamma"]):
        at = rows[rows.c == 100.0]
        if len(rows) > 2 and len(at):
            best = rows.loc[rows.gain.idxmax()]
            yield [f"{lr:g}", f"{gamma:g}", f"{best.c:g}", f"{best.gain:+.2f}", f"{at.iloc[0].gain:+.2f}", len(rows)]


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=tuple(STEPS_AN_EPOCH), required=True)
    parser.add_argument("--epochs", type=int, help="length of the course of the map; default: the one with most runs")
    given = parser.parse_args()
    frame = pd.read_parquet(RESULTS / "curve_table" / f"{given.table}.parquet")
    epochs = given.epochs or int(frame.epochs.mode()[0])
    found, begun = gains(frame), starts(frame)
    landscape(given.table, found, epochs)
    lengths(given.table, found)
    beginnings(given.table, begun, epochs)
    write_text(RESULTS / f"curve_map_{given.table}.md", page(given.table, found, begun, len(frame), epochs))


if __name__ == "__main__":
    main()
