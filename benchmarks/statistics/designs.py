"""What group-sequential stopping saves and costs over the size of the gain, beside a fixed 15 pairs.

    python -m benchmarks.statistics.designs [--studies 200000]

Exact, by ``tune_bn.analysis.characteristics``, with the default looks and with a higher cap; and simulated, by the
decisions of a confirmation, as a check. The gains are those that the fixed design finds with round numbers of power.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.results import markdown, simulate
from benchmarks.statistics.vectorized import batches, sequential_decisions
from tune_bn.analysis.characteristics import course
from tune_bn.analysis.power import minimum_detectable_effect, t_test_power
from tune_bn.analysis.sequential import DEFAULT_LOOKS, Design, design

PAIRS = DEFAULT_LOOKS[-1]
POWERS = (0.2, 0.4, 0.58, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.99999)
LOOKS = (DEFAULT_LOOKS, (4, 6, 8, 10, 12, 15, 18, 21))


def simulated(rule: Design, d_z: float, studies: int, seed: int) -> dict[str, float]:
    """Power and pairs of so many studies, with the standard errors of both."""
    rng, shown, pairs, squares = np.random.default_rng([seed, rule.looks[-1], round(1e6 * d_z)]), 0, 0, 0
    for size in batches(studies):
        candidate = d_z + rng.standard_normal((size, 1, rule.looks[-1]))
        decided = sequential_decisions(candidate, np.zeros_like(candidate), rule)
        shown += int(decided.supported.sum())
        pairs += int(decided.pairs.sum())
        squares += int((decided.pairs**2).sum())
    power, mean = shown / studies, pairs / studies
    return {
        "power_simulated": power,
        "power_se": float(f"{math.sqrt(power * (1 - power) / studies):.3g}"),
        "pairs_simulated": mean,
        "pairs_se": float(f"{math.sqrt((squares / studies - mean**2) / studies):.3g}"),
    }


def measured(looks: tuple[int, ...], d_z: float, studies: int, seed: int = 1) -> dict[str, Any]:
    """One row: a design at one gain."""
    rule = design(looks)
    found = course(rule, d_z)
    return {
        "looks": " ".join(map(str, looks)),
        "d_z": round(d_z, 4),
        "power_fixed": round(t_test_power(d_z, 1.0, PAIRS), 6),
        "power": round(found.power, 6),
        "pairs": round(found.expected_pairs, 4),
        "studies": studies,
        **simulated(rule, d_z, studies, seed),
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """A line for each gain."""
    head = [f"gain (d_z); power of fixed {PAIRS}"]
    for looks in LOOKS:
        head += [f"power, looks {', '.join(map(str, looks))}", "pairs on average", f"of {PAIRS} pairs saved"]
    lines = [head]
    for d_z in dict.fromkeys(row["d_z"] for row in rows):
        mine = [row for row in rows if row["d_z"] == d_z]
        line = [f"{d_z:.3f}; {mine[0]['power_fixed']:.3g}"]
        for row in mine:
            line += [
                f"{row['power']:.3f} ({row['power_simulated']:.3f} ± {row['power_se']:.3f})",
                f"{row['pairs']:.2f} ({row['pairs_simulated']:.2f} ± {row['pairs_se']:.2f})",
                f"{100 * (1 - row['pairs'] / PAIRS):.0f} %",
            ]
        lines.append(line)
    return markdown(lines)


def rows(studies: int) -> list[dict[str, Any]]:
    """One for each gain and design."""
    gains = [0.0, *(minimum_detectable_effect(1.0, PAIRS, power=power) for power in POWERS)]
    return [measured(looks, d_z, studies) for d_z in gains for looks in LOOKS]


def title(rows: list[dict[str, Any]], studies: int) -> str:
    """Of the table."""
    return (
        f"**Group-sequential designs over the gain** (exact; in brackets {studies:,} simulated studies each, ± "
        "standard error; one-sided, α = 0.05, futility 0.05, one candidate)"
    )


if __name__ == "__main__":
    simulate("designs", __doc__, studies=200_000, measure=rows, title=title, summary=summary)
