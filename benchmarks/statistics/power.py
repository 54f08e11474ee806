"""Power and pairs of the group-sequential confirmation over the 21 cells of Table 1.a, beside the fixed 15 pairs.

    python -m benchmarks.statistics.power [--studies 100000]

Differences cell − BASE are normal with the published means and standard deviations and a correlation ρ of the arms over
seeds. Both designs judge the same simulated pairs; the fixed power is also computed exactly, as a check.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from benchmarks.results import markdown, simulate
from benchmarks.statistics.vectorized import batches, fixed_decisions, sequential_decisions
from tune_bn.analysis.power import t_test_power
from tune_bn.analysis.sequential import Design, design
from tune_bn.paper import tables as paper

ALPHA, PAIRS = 0.05, len(paper.SEEDS)
RHOS = (0.0, 0.5)


def cell_power(cell: paper.Cell, rho: float, rule: Design, studies: int, seed: int) -> dict[str, Any]:
    """One row of the results: a cell against BASE of its column."""
    base = paper.base_of(cell)
    gain = cell.mean - base.mean
    std = float(np.sqrt(cell.std**2 + base.std**2 - 2 * rho * cell.std * base.std))
    rng = np.random.default_rng([seed, round(1000 * rho), round(1000 * cell.lr), round(1000 * (cell.gamma or 0))])
    fixed = found = fewer = more = pairs = squares = 0
    for size in batches(studies):
        candidate = gain + std * rng.standard_normal((size, 1, PAIRS))
        baseline = np.zeros((size, 1, PAIRS))
        whole, early = fixed_decisions(candidate, baseline, ALPHA), sequential_decisions(candidate, baseline, rule)
        fixed += int(whole.supported.sum())
        found += int(early.supported.sum())
        fewer += int((whole.supported & ~early.supported).sum())
        more += int((early.supported & ~whole.supported).sum())
        pairs += int(early.pairs.sum())
        squares += int((early.pairs**2).sum())
    lost = (fewer - more) / studies
    mean = pairs / studies
    return {
        "gamma": cell.gamma,
        "lr": cell.lr,
        "rho": rho,
        "gain": round(gain, 4),
        "std_difference": round(std, 4),
        "studies": studies,
        "power_exact": round(t_test_power(gain, std, PAIRS, alpha=ALPHA), 6),
        "power_fixed": fixed / studies,
        "power_sequential": found / studies,
        "power_lost": lost,
        "power_lost_se": float(f"{np.sqrt(((fewer + more) / studies - lost**2) / studies):.3g}"),
        "mean_pairs": mean,
        "mean_pairs_se": float(f"{np.sqrt((squares / studies - mean**2) / studies):.3g}"),
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """The table over all cells."""
    lines = [("ρ", "power, fixed 15", "power, sequential", "mean power lost", "most lost in a cell", "pairs", "saved")]
    for rho in dict.fromkeys(row["rho"] for row in rows):
        mine = [row for row in rows if row["rho"] == rho]
        fixed, found, lost, pairs = (
            float(np.mean([row[key] for row in mine]))
            for key in ("power_exact", "power_sequential", "power_lost", "mean_pairs")
        )
        error, error_pairs = (
            float(np.sqrt(np.sum([row[key] ** 2 for row in mine])) / len(mine))
            for key in ("power_lost_se", "mean_pairs_se")
        )
        lines.append(
            (
                f"{rho:g}",
                f"{fixed:.3f}",
                f"{found:.3f}",
                f"{lost:.4f} (± {error:.4f})",
                f"{max(row['power_lost'] for row in mine):.3f}",
                f"{pairs:.2f} (± {error_pairs:.3f}) of {PAIRS}",
                f"{100 * (1 - pairs / PAIRS):.1f} %",
            )
        )
    return markdown(lines)


CELLS = [cell for cell in paper.cells("table1a") if cell.method != paper.BASE]


def rows(studies: int) -> list[dict[str, Any]]:
    """One for each cell and correlation."""
    return [cell_power(cell, rho, design(), studies, seed=1) for rho, cell in product(RHOS, CELLS)]


def title(rows: list[dict[str, Any]], studies: int) -> str:
    """Of the table."""
    return (
        f"**Mean over the {len(CELLS)} cells of Table 1.a** ({studies:,} simulated studies for each; ± is the "
        "Monte-Carlo standard error)"
    )


if __name__ == "__main__":
    simulate("power", __doc__, studies=100_000, measure=rows, title=title, summary=summary)
