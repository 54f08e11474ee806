"""What ASHA saves and what it costs where a small γ starts late.

    python -m benchmarks.early_stopping [--replicates 50] [--jobs 1]

Whole studies by ``search_spaces/resnet.yaml`` (TPE, four workers) on the surrogate ``off_grid``, with the scheduler
changed. ``curves``: share of the training in which the learning curves run through what they do on the embedded digits
in all of it; what it is on CIFAR is not known. ``grace``: share of the training before a trial may be stopped. Where
the learning rate is searched too, the baseline is tuned, and its trials are compared at the same rungs: γ = 1 starts
fast.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from statistics import fmean
from typing import Any

from benchmarks.results import in_processes, markdown, mean_words, save, stamp
from benchmarks.sample_efficiency import Budget, space_of, what_it_finds
from benchmarks.simulation import Laboratory
from benchmarks.surrogates import OFF_GRID
from tune_bn.spec import Space

RHO, WORKERS = 0.5, 4
RULES = ((None, 1.0), (2, 1.0), (9, 1.0), (2, 0.25))
"""Epochs of grace, None: nothing is stopped; and the length of the curves."""


def space(search_lr: bool, grace: int | None, seed: int) -> Space:
    """The space of one study."""
    budget = Budget("resnet.yaml", scheduler="none" if grace is None else None)
    found = space_of(budget, "tpe", seed, search_lr=search_lr)
    if grace is None:
        return found
    return found.model_copy(update={"scheduler": found.scheduler.model_copy(update={"grace": grace})})


def one_study(case: tuple[bool, int | None, float, int]) -> dict[str, Any]:
    """One row of the results."""
    search_lr, grace, length, replicate = case
    row = {"lr_searched": search_lr, "grace_epochs": grace, "curve_length": length, "replicate": replicate}
    laboratory = Laboratory(OFF_GRID, replicate, RHO, curve_length=length)
    return row | what_it_finds(OFF_GRID, space(search_lr, grace, replicate), laboratory, WORKERS)


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each rule."""
    lines = [("learning rate", "grace", "curves", "full runs of", "runs started", "regret, points", "no verdict")]
    for search_lr, (grace, length) in product((False, True), RULES):
        wanted = (search_lr, grace, length)
        mine = [r for r in rows if (r["lr_searched"], r["grace_epochs"], r["curve_length"]) == wanted]
        done = [row["regret"] for row in mine if row["regret"] is not None]
        epochs = space(search_lr, grace, 0).train.epochs
        lines.append(
            (
                "searched" if search_lr else "0.1",
                "nothing is stopped" if grace is None else f"{100 * grace / epochs:.0f} %",
                f"{100 * length:.0f} %",
                f"{fmean(row['full_runs'] for row in mine):.0f}",
                f"{fmean(row['runs'] for row in mine):.0f}",
                mean_words(done),
                f"{len(mine) - len(done)} of {len(mine)}",
            )
        )
    return markdown(lines)


def main() -> None:
    """Run it all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()
    cases = [(lr, *rule, r) for lr, rule, r in product((False, True), RULES, range(given.replicates))]
    rows = in_processes(one_study, cases, given.jobs)
    title = (
        f"**ASHA on off_grid** ({given.replicates} studies each, mean ± standard deviation over studies, ρ = {RHO:g})"
    )
    save("early_stopping", rows, stamp(started), {title: table(rows)})


if __name__ == "__main__":
    main()
