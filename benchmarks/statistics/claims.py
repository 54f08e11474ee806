"""Is a claim false as rarely as it says? Every kind of claim, correction and level, where what is claimed is not so.

    python -m benchmarks.statistics.claims [--studies 4000]

Each row simulates so many studies at the edge of a null, or beside it where the worst case lies there, and judges them
with the functions that a verdict is made by. ``false`` is the share in which something untrue was said, ``band`` where
such a share lies with probability 0.9999 if the truth is the level that is stated. Arms share their baseline's luck.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.results import markdown, save, stamp
from tune_bn.analysis.characteristics import chance_of_more, median_unbiased
from tune_bn.analysis.claims import PLAIN, Claim
from tune_bn.analysis.family import comparison, findings_of
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.pooled import pooled
from tune_bn.analysis.sequential import Decision, design, monitor
from tune_bn.records.ledger import spent_level
from tune_bn.records.plan import HOLM, MAX_T, NONE
from tune_bn.records.verdict import Finding

ALPHA = 0.05
Found = dict[str, Finding]


def families(
    rng: np.random.Generator,
    studies: int,
    n: int,
    effects: tuple[float, ...],
    *,
    correction: str = HOLM,
    claim: Claim = PLAIN,
    alpha: float = ALPHA,
) -> Iterator[Found]:
    """Judged families of arms with these true effects, which share a baseline of standard deviation 1, as have they."""
    for _ in range(studies):
        base = rng.normal(0, 1, n)
        arms = {str(i): base + effect + rng.normal(0, 1, n) for i, effect in enumerate(effects)}
        rows = {name: comparison(paired_t_test(x, base, alpha=alpha), claim, x - base) for name, x in arms.items()}
        yield findings_of(rows, alpha=alpha, correction=correction)


def any_false(effects: tuple[float, ...]) -> Callable[[Found], bool]:
    """Whether an arm without a gain is called better."""
    return lambda found: any(found[str(i)].supported for i, effect in enumerate(effects) if effect <= 0)


def row(
    what: str, truth: str, n: int, wrong: list[bool] | np.ndarray[Any, Any], level: float = ALPHA
) -> dict[str, Any]:
    """A row of the table."""
    studies, share = len(wrong), float(np.mean(wrong))
    low, high = (100 * count / studies for count in stats.binom.interval(0.9999, studies, ALPHA))
    return {
        "claim": what,
        "truth": truth,
        "pairs": n,
        "studies": studies,
        "false": f"{100 * share:.1f} %",
        "standard error": f"{100 * np.sqrt(share * (1 - share) / studies):.1f}",
        "band of the level": f"{low:.1f} to {high:.1f} %",
    }


def levels(studies: int) -> list[dict[str, Any]]:
    """False claims of each kind."""
    rng, rows, n = np.random.default_rng(20), [], 8
    effects: tuple[float, ...]
    for claim, effect in (
        (Claim("noninferior", 0.5), -0.5),
        (Claim("equivalent", 2.0), 2.0),
        (Claim("superior", 0.5), 0.5),
    ):
        found = families(rng, studies, n, (effect,), claim=claim)
        rows.append(
            row(
                f"{claim.kind}, margin {claim.margin:g}",
                f"effect {effect:g}",
                n,
                [one["0"].supported for one in found],
            )
        )
    for correction in (HOLM, MAX_T):
        for effects in ((0.0,) * 5, (0.0, 0.0, 0.0, 2.0, 4.0)):
            found = families(rng, studies, n, effects, correction=correction)
            rows.append(row(f"any of 5, {correction}", f"effects {effects}", n, list(map(any_false(effects), found))))
        for effects in ((0.0,) * 4, (3.0,) * 4):
            lows = [
                [found[str(i)].simultaneous_low for i in range(4)]
                for found in families(rng, studies, n, effects, correction=correction)
            ]
            missed = [any(x is not None and x > e for x, e in zip(low, effects, strict=True)) for low in lows]
            rows.append(row(f"simultaneous bounds of 4, {correction}", f"effects {effects}", n, missed))
    effects = (0.0, 5.0, 5.0)
    found = families(rng, studies, n, effects, correction=NONE)
    rows.append(
        row("all of 3 settings", f"effects {effects}", n, [all(o.supported for o in f.values()) for f in found])
    )
    for effects, shared in (((0.0,) * 4, 3.0), ((3.0, -1.0, -1.5, -0.5), 1.0)):
        wrong = []
        for _ in range(studies):
            noise = rng.normal(0, 1, (4, n)) * np.array([0.3, 1, 1, 2])[:, None] + shared * rng.normal(0, 1, n)
            ours = dict(zip("abcd", np.array(effects)[:, None] + noise, strict=True))
            wrong.append(pooled(ours, dict.fromkeys("abcd", np.zeros(n)), PLAIN, alpha=ALPHA).supported)
        rows.append(row("average over 4 settings", f"effects {effects}", n, wrong))
    return rows + failures(rng, 5 * studies) + ledgers(rng, studies)


def failures(rng: np.random.Generator, studies: int) -> list[dict[str, Any]]:
    """``claim.failed: worst``: no effect, and runs that fail by chance, or because they would have been bad."""
    rows, n = [], 8
    for lost_base, lost_ours, why in (
        (0.05, 0.05, "5 % of all runs fail"),
        (0.2, 0.0, "the worst fifth of the baseline's fail"),
        (0.0, 0.2, "the worst fifth of the candidate's fail"),
    ):
        base, ours = rng.normal(95, 1, (2, studies, n))
        by_chance = lost_base == lost_ours
        gone = [
            rng.random(x.shape) < rate if by_chance else x < stats.norm.ppf(rate, 95, 1)
            for x, rate in ((base, lost_base), (ours, lost_ours))
        ]
        base, ours = np.where(gone[0], 100.0, base), np.where(gone[1], 0.0, ours)
        p_values = stats.ttest_rel(ours, base, axis=1, alternative="greater").pvalue
        rows.append(row("failed runs as the worst", why, n, p_values <= ALPHA))
    return rows


def ledgers(rng: np.random.Generator, folders: int) -> list[dict[str, Any]]:
    """Any false gain of twenty studies without an effect, each at its part of the budget, and each at α."""
    d = rng.standard_normal((folders, 20, 15))
    p_values = stats.t.sf(d.mean(2) / (d.std(2, ddof=1) / np.sqrt(15)), 14)
    budget = np.array([spent_level(ALPHA, k) for k in range(1, 21)])
    return [
        row("any of 20 studies, budget", "no effects", 15, (p_values <= budget).any(axis=1)),
        row("any of 20 studies, each at 0.05", "no effects", 15, (p_values <= ALPHA).any(axis=1)),
    ]


def after_looks(studies: int) -> list[dict[str, Any]]:
    """The gain after looks that showed it: how often, and by how much, it is too high."""
    rng, rule, rows = np.random.default_rng(21), design(), []
    for d_z in (0.3, 0.6, 0.9, 1.4):
        plain, adjusted, above = [], [], []
        for _ in range(studies):
            values = d_z + rng.standard_normal(15)
            last = monitor(values, np.zeros(15), rule).last
            if last.decision is not Decision.EFFICACY or last.t is None:
                continue
            std = float(np.std(values[: last.n], ddof=1))
            plain.append(last.effect)
            # Finding the estimate takes long; a tenth of them gives its mean.
            if len(plain) % 10 == 0:
                adjusted.append(median_unbiased(rule, last.n, last.t) * std)
            above.append(chance_of_more(rule, last.n, last.t, d_z) < 0.5)
        rows.append(
            {
                "true gain / std": d_z,
                "shown": f"{100 * len(plain) / studies:.0f} %",
                "n": len(plain),
                "mean, plain": f"{np.mean(plain):.2f} ± {np.std(plain) / np.sqrt(len(plain)):.2f}",
                "mean, adjusted": f"{np.mean(adjusted):.2f} ± {np.std(adjusted) / np.sqrt(len(adjusted)):.2f}",
                "plain too high": f"{100 * np.mean(np.array(plain) > d_z):.0f} %",
                "adjusted too high": f"{100 * np.mean(above):.0f} %",
            }
        )
    return rows


def tails(studies: int) -> list[dict[str, Any]]:
    """Rare divergence with a mean effect of exactly 0: false gains, and what a bound of the rate says beside them."""
    rng, rows, n, drop = np.random.default_rng(22), [], 15, 40.0
    for rate in (0.005, 0.02, 0.05, 0.1):
        bad = rng.random((studies, n)) < rate
        d = np.where(bad, -drop, rate * drop / (1 - rate)) + rng.normal(0, 0.5, (studies, n))
        false = np.asarray(stats.ttest_1samp(d, 0, axis=1, alternative="greater").pvalue) <= ALPHA
        seen = np.asarray(bad.any(axis=1))
        upper = stats.beta.ppf(1 - ALPHA, bad.sum(axis=1) + 1, n - bad.sum(axis=1))
        # At the rate of what would undo the gain: gain / (gain + drop).
        undone = np.asarray(np.maximum(d.mean(axis=1), 0) / drop < upper)
        rows.append(
            {
                "rate of divergence": f"{100 * rate:g} %",
                "studies": studies,
                "false gains": f"{100 * false.mean():.1f} %",
                "of them with a divergence seen": f"{100 * np.mean(seen[false]) if false.any() else 0:.1f} %",
                "upper bound of the rate ≥ rate": f"{100 * np.mean(upper >= rate):.1f} %",
                "false gains undone by a rate below it": f"{100 * np.mean(undone[false]):.1f} %",
            }
        )
    return rows


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--studies", type=int, default=4000)
    arguments = parser.parse_args()
    started = time.monotonic()
    found = {
        "False claims": levels(arguments.studies),
        "The gain after looks at 3, 5, 8, 11 and 15 pairs that showed it": after_looks(arguments.studies),
        "Rare divergence, mean effect 0, 15 pairs": tails(20_000),
    }
    tables = {
        title: markdown([list(rows[0]), *([str(value) for value in one.values()] for one in rows)])
        for title, rows in found.items()
    }
    for title, table in tables.items():
        print(f"{title}\n\n{table}\n")
    keys = dict.fromkeys(key for rows in found.values() for one in rows for key in one)
    every = [
        {"table": title} | {key: one.get(key, "") for key in keys} for title, rows in found.items() for one in rows
    ]
    save("claims", every, stamp(started), tables)


if __name__ == "__main__":
    main()
