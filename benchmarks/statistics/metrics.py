"""Which metric spreads less over seeds: the test accuracy of the best validation epoch, or of the last?

    python -m benchmarks.statistics.metrics [--tables build/curve_table benchmarks/results/curve_table]

From the tables of real learning curves (``benchmarks.statistics.curve_table``), packed or as they grow. A
confirmation compares two configurations on the same seeds; what its test has to overcome is the variance of the
paired differences. In a stratum, the configurations of one table, course and learning rate, that is twice the mean
square of what is left of the scores after a mean for each configuration and for each seed (the interaction of a two-
way layout, which need not be complete). Every two configurations of the stratum make a pair on every seed they share.

The ratio of both metrics' variances has a 95 % interval by the bootstrap over configurations, 4,000 resamples. It is
that of the upper half of the configurations, by the mean of their best validation accuracy, since a confirmation
compares good ones; and, beside it, of all. A metric that spreads less is of no use where it also tells configurations
apart less: ``signal`` is the ratio of the standard deviations of the means of the configurations, less their noise.

The paper's metric is ``test_accuracy``, of the best validation epoch; ``final_test_accuracy`` is that of the last.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.results import RESULTS, markdown, save, stamp

Array = NDArray[np.float64]
METRICS = {"best": "test_accuracy_best", "final": "test_accuracy_final"}
RESAMPLES = 4000
FEWEST_CONFIGURATIONS = 3
"""Configurations with two seeds or more, below which a stratum says nothing."""


def read_table(folder: Path, name: str) -> tuple[pd.DataFrame, list[str]]:
    """The runs of a table, and the commits that made them: of its packed file, or of the files of its single runs."""
    packed = folder / f"{name}.parquet"
    if packed.exists():
        made = json.loads(packed.with_suffix(".json").read_text(encoding="utf-8"))["made"]
        return pd.read_parquet(packed), sorted({str(one["commit"])[:12] for one in made})
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / name).glob("*.json"))]
    return pd.DataFrame([run["row"] for run in found]), sorted({str(run["made"]["commit"])[:12] for run in found})


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs that did not diverge, of configurations with two seeds or more, with their best validation accuracy."""
    frame = frame[~frame["diverged"]].copy()
    frame["val"] = [max(curve) for curve in frame["val_accuracy"]]
    return frame[frame.groupby(["gamma", "c"])["seed"].transform("nunique") >= 2]


def cells_of(frame: pd.DataFrame) -> NDArray[np.int64]:
    """The configuration of each run as a number from 0."""
    return np.asarray(pd.factorize(frame["gamma"].astype(str) + "/" + frame["c"].astype(str))[0])


def fitted(frame: pd.DataFrame, score: str) -> tuple[Array, Array, int]:
    """Least squares with a mean for each configuration and each seed: what is left, the former, degrees of freedom."""
    cells, seeds = cells_of(frame), pd.factorize(frame["seed"])[0]
    layout = np.hstack([np.eye(cells.max() + 1)[cells], np.eye(seeds.max() + 1)[seeds]])
    values = frame[score].to_numpy(dtype=float)
    effects = np.linalg.lstsq(layout, values, rcond=None)[0]
    df = len(values) - int(np.linalg.matrix_rank(layout))
    return values - layout @ effects, effects[: cells.max() + 1], df


def compared(frame: pd.DataFrame, rng: np.random.Generator) -> dict[str, Any]:
    """Variances of the paired differences under both metrics and their ratio, with its interval."""
    found = {key: fitted(frame, score) for key, score in METRICS.items()}
    cells, df = cells_of(frame), found["best"][2]
    number = int(cells.max()) + 1
    squares = {key: np.bincount(cells, left**2, number) for key, (left, _, _) in found.items()}
    drawn = rng.integers(number, size=(RESAMPLES, number))
    best, final = (squares[key][drawn].sum(axis=1) for key in ("best", "final"))
    low, high = np.quantile(final / best, [0.025, 0.975])
    variance = {key: 2 * float(squares[key].sum()) / df for key in METRICS}
    share = float(np.mean(1 / np.bincount(cells)))
    signal = {
        key: math.sqrt(max(float(np.var(means, ddof=1)) - variance[key] / 2 * share, 0.0))
        for key, (_, means, _) in found.items()
    }
    return {
        "configurations": number,
        "seeds": int(frame["seed"].nunique()),
        "runs": len(frame),
        "df": df,
        "variance_best": round(variance["best"], 4),
        "variance_final": round(variance["final"], 4),
        "ratio": round(variance["final"] / variance["best"], 4),
        "ratio_low": round(float(low), 4),
        "ratio_high": round(float(high), 4),
        "mean_final_minus_best": round(float((frame[METRICS["final"]] - frame[METRICS["best"]]).mean()), 4),
        "signal_ratio": round(signal["final"] / signal["best"], 4) if signal["best"] else None,
    }


def strata(table: str, frame: pd.DataFrame, seed: int = 1) -> list[dict[str, Any]]:
    """A row for the upper half of each stratum, and one for all of it."""
    rows = []
    for (epochs, lr), found in frame.groupby(["epochs", "lr"]):
        mine = usable(found)
        means = mine.groupby(["gamma", "c"])["val"].mean()
        upper = set(means[means >= means.median()].index)
        is_good = [place in upper for place in zip(mine["gamma"], mine["c"], strict=True)]
        good = mine[np.array(is_good, dtype=bool)]
        for part, frame_of in (("upper half", good), ("all", mine)):
            if len(frame_of.groupby(["gamma", "c"])) >= FEWEST_CONFIGURATIONS:
                rng = np.random.default_rng([seed, int(epochs), round(1e4 * lr)])
                rows.append({"table": table, "epochs": epochs, "lr": lr, "part": part} | compared(frame_of, rng))
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """A line for each row."""
    head = ["table", "epochs", "lr", "configurations", "seeds", "runs", "degrees of freedom"]
    head += ["variance of differences, best", "final", "final / best (95 %)", "signal, final / best", "final − best"]
    lines = [head]
    for row in rows:
        lines.append(
            [
                row["table"],
                str(row["epochs"]),
                f"{row['lr']:g}",
                f"{row['configurations']} ({row['part']})",
                *(str(row[key]) for key in ("seeds", "runs", "df")),
                f"{row['variance_best']:.3f}",
                f"{row['variance_final']:.3f}",
                f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
                "–" if row["signal_ratio"] is None else f"{row['signal_ratio']:.2f}",
                f"{row['mean_final_minus_best']:+.3f}",
            ]
        )
    return markdown(lines)


def main() -> None:
    """Compare the metrics on every table that is there, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, nargs="+", default=[RESULTS / "curve_table"], metavar="DIR")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    commits: dict[str, list[str]] = {}
    for name in ("digits", "cifar10"):
        parts = [part for part in (read_table(folder, name) for folder in given.tables) if len(part[0])]
        if parts:
            frame = pd.concat([part[0] for part in parts], ignore_index=True)
            frame = frame.drop_duplicates(["epochs", "lr", "gamma", "c", "seed"], ignore_index=True)
            found = strata(name, frame)
            commits |= {name: sorted({commit for part in parts for commit in part[1]})} if found else {}
            rows += found
    if not rows:
        raise SystemExit(
            f"{given.tables}: no table with {FEWEST_CONFIGURATIONS} configurations of two seeds; accepted: one or more"
        )
    title = (
        "**Variance of the paired differences by metric.** Percentage points squared; intervals by the bootstrap over "
        "configurations. The tables' runs are of commit "
        + "; ".join(f"{', '.join(those)} ({name})" for name, those in commits.items())
    )
    save("metrics", rows, stamp(started) | {"tables": commits}, {title: summary(rows)}, given.results)


if __name__ == "__main__":
    main()
