"""How often the arm that was tuned more luckily is called better: whole studies in which a learning rate is searched.

    python -m benchmarks.statistics.tuning_luck [--studies 1000] [--jobs 1]

Candidate and baseline can reach the same score, each at the best learning rate of its own, which twelve trials of each
arm look for (log-uniform over two decades). ``claim.rivals: none`` confirms against the tuning of the baseline that the
selection ranked first; ``all`` against every one that its race left, and the baseline at the candidate's own learning
rate. *Same* and *shifted*: the best learning rate of both is the same, or that of the candidates is three times as
large. *Steep*: four times as many points are lost beside it. *Gain*: what the rule costs where candidates are better.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.results import in_processes, markdown, rate_words, save, stamp
from benchmarks.statistics.simulation import Laboratory, Quiet, scratch, simulated_study
from benchmarks.statistics.surrogates import EqualArms
from tune_bn.analysis.verdict import renew_verdict
from tune_bn.records.record import CONFIRM, SELECT
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space

TRIALS, RHO, WORKERS = 12, 0.5, 2
"""Trials of each arm."""
WORLDS = {
    "same": EqualArms(),
    "shifted": EqualArms(shift=3.0),
    "same, steep": EqualArms(steepness=16.0),
    "shifted, steep": EqualArms(steepness=16.0, shift=3.0),
    "same, gain 0.4": EqualArms(gain=0.4),
    "shifted, gain 0.4": EqualArms(gain=0.4, shift=3.0),
}
RULES = (("none", "tpe"), ("all", "tpe"), ("all", "gp"))
"""``claim.rivals`` and ``sampler.baseline``; the last is the default."""


def space_of(rivals: str, sampler: str, seed: int) -> Space:
    """The space of a study."""
    return parse_space(
        {
            "name": "tuning-luck",
            "model": {"arch": "resnet18"},
            "train": {"epochs": 40},
            "search": {
                "gamma": {"log_uniform": [0.01, 0.9]},
                "c": {"log_uniform": [1.0, 1000.0]},
                "lr": {"log_uniform": [0.01, 1.0]},
            },
            "sampler": {"name": "tpe", "baseline": sampler, "seed": seed, "points": "none"},
            "scheduler": {"name": "none"},
            "budget": {"trials": 2 * TRIALS},
            "claim": {"rivals": rivals},
            "seeds": {"search": [101], "select": [201, 202, 203], "confirm": list(range(1, 16))},
        },
        "tuning luck",
    )


def whole_study(case: tuple[str, str, str, int]) -> dict[str, Any]:
    """One row."""
    world, rivals, sampler, replicate = case
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        lab = Laboratory(WORLDS[world], replicate, RHO)
        study = simulated_study(Path(folder) / "study", space_of(rivals, sampler, replicate), lab, workers=WORKERS)
        study.run()
        verdict = renew_verdict(study.folder.path)
        assert isinstance(study.observer, Quiet)
        records = study.observer.records
    counts = {f"{stage}_runs": sum(record.stage == stage for record in records) for stage in (SELECT, CONFIRM)}
    row = {"world": world, "rivals": rivals, "sampler": sampler, "replicate": replicate, "verdict": verdict.verdict}
    return row | {"opponents": 1 + len(verdict.rivals)} | counts


def cases(studies: int) -> list[tuple[str, str, str, int]]:
    """World, rule and number of every study. The default rule without a gain has to be known best."""
    found = []
    for r, world, rule in product(range(studies), WORLDS, RULES):
        share = 5 if WORLDS[world].gain else {RULES[0]: 3, RULES[2]: 1}.get(rule, 5)
        if r < studies // share:
            found.append((world, *rule, r))
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each world and rule."""
    lines = [
        ("world", "claim.rivals", "baseline by", "studies", "called better, 95 %", "tunings met", "confirmation runs")
    ]
    for world, rule in product(WORLDS, RULES):
        mine = [row for row in rows if (row["world"], row["rivals"], row["sampler"]) == (world, *rule)]
        if mine:
            better = sum(row["verdict"] == "supported" for row in mine)
            met, runs = (fmean(row[key] for row in mine) for key in ("opponents", "confirm_runs"))
            rate = rate_words(better, len(mine))
            lines.append((world, *rule, f"{len(mine):,}", rate, f"{met:.1f}", f"{runs:.0f}"))
    return markdown(lines)


def main() -> None:
    """Run it all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="of the lines that must be known best")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()
    rows = in_processes(whole_study, cases(given.studies), given.jobs)
    title = (
        f"**Which arm was tuned more luckily** (whole studies, {TRIALS} trials an arm, lr log-uniform in [0.01, 1],"
        f" 3 finalists, 3 selection and 15 confirmation seeds, α = 0.05, ρ = {RHO:g}; where there is no gain, *called"
        " better* is a false claim)"
    )
    save("tuning_luck", rows, stamp(started), {title: table(rows)})


if __name__ == "__main__":
    main()
