"""How many runs does a study need, and how good is what it confirms? Against the paper's procedure, on known truths.

    python -m benchmarks.statistics.sample_efficiency [--replicates 100] [--jobs 1] [--rho 0.5]

Whole studies (search, select, plan, confirm, verify) on the surrogates of Table 1.a; γ, c and the learning rate are
searched. *Runs* counts every run that was started, of all stages, the baseline's own included; *full runs* adds up the
share of its epochs that each run reached. *Repeats* are runs of a configuration on a seed on which it ran before in the
same stage. *Regret* is the best true mean (of the
21 cells for ``on_grid``, of the whole space for ``off_grid``) minus the true mean of the candidate, in points.

The paper's procedure runs its 21 cells and three BASE cells on the same 15 seeds, 360 runs, and takes the cell with the
best mean validation accuracy. Savings are stated against the 315 runs of the cells alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.results import in_processes, markdown, mean_words, save, stamp
from benchmarks.statistics.simulation import Laboratory, Quiet, confirmed_truth, scratch, simulated_study
from benchmarks.statistics.surrogates import (
    OFF_GRID,
    ON_GRID,
    Point,
    Table1a,
    best_anywhere,
    best_cell,
    point_of,
    point_of_cell,
)
from tune_bn.analysis.verdict import renew_verdict
from tune_bn.errors import StudyError
from tune_bn.paper import tables as paper
from tune_bn.records.record import BASELINE, CONFIRM
from tune_bn.records.verdict import known
from tune_bn.space.file import parse_yaml
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.study import Study

GRID_RUNS = 21 * len(paper.SEEDS)
RESNET = Path(__file__).parents[2] / "search_spaces" / "resnet.yaml"
EPOCHS_PER_SIMULATED = 10


@dataclass(frozen=True)
class Budget:
    """What a study may spend; None keeps what ``search_spaces/resnet.yaml`` says."""

    name: str
    trials: int | None = None
    finalists: int | None = None
    select: int | None = None
    """Selection seeds."""
    scheduler: str | None = None
    stopping: str | None = None
    points: str | None = None


SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random")
_SEQUENTIAL = {"scheduler": "none", "stopping": "group_sequential", "points": "none"}
BUDGETS = {
    Budget("resnet.yaml"): ("tpe",),
    Budget("24 trials", trials=24, finalists=2, select=2, **_SEQUENTIAL): SAMPLERS,
    Budget("34 trials", trials=34, finalists=2, select=3, **_SEQUENTIAL): ("tpe", "cmaes"),
}
"""The samplers that are tried with each budget."""


def space_of(budget: Budget, sampler: str, seed: int, *, search_lr: bool = True) -> Space:
    """``resnet.yaml`` with the learning rate searched and the budget changed; one simulated epoch stands for ten."""
    content: dict[str, Any] = parse_yaml(RESNET)
    content["train"]["epochs"] //= EPOCHS_PER_SIMULATED
    if isinstance(content["scheduler"]["grace"], int):
        content["scheduler"]["grace"] //= EPOCHS_PER_SIMULATED
    if search_lr:
        content["search"]["lr"] = {"choice": [0.1, 0.01, 0.001]}
    content["sampler"] |= {"name": sampler, "seed": seed}
    for section, key, value in (
        ("budget", "trials", budget.trials),
        ("budget", "finalists", budget.finalists),
        ("seeds", "select", None if budget.select is None else list(range(201, 201 + budget.select))),
        ("scheduler", "name", budget.scheduler),
        ("claim", "stopping", budget.stopping),
        ("sampler", "points", budget.points),
    ):
        if value is not None:
            content[section][key] = value
    return parse_space(content, str(RESNET))


def one_study(case: tuple[Table1a, Budget, str, int], rho: float) -> dict[str, Any]:
    """One row of the results."""
    surrogate, budget, sampler, replicate = case
    row = {"surrogate": surrogate.name, "budget": budget.name, "sampler": sampler, "replicate": replicate}
    laboratory = Laboratory(surrogate, replicate, rho)
    return row | what_it_finds(surrogate, space_of(budget, sampler, replicate), laboratory)


def what_it_finds(surrogate: Table1a, space: Space, laboratory: Laboratory, workers: int = 1) -> dict[str, Any]:
    """What a study on the surrogate spends and finds; None for what it did not live to find."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        study = simulated_study(Path(folder) / "study", space, laboratory, workers=workers)
        try:
            study.run()
        except StudyError:
            # Early stopping left an arm without a finalist: a study that a user would have to begin again.
            return _spent(study) | dict.fromkeys(_FOUND)
        verdict = renew_verdict(study.folder.path)
    (candidate,), (baseline,) = verdict.candidates, verdict.baselines
    point = point_of(space.run_config(candidate.config))
    truth, base = (confirmed_truth(surrogate, space, arm.config) for arm in (candidate, baseline))
    regrets = (best_mean(surrogate) - truth, best_baseline(surrogate) - base)
    found = (*point, *regrets, truth - base, candidate.effect)
    more = (candidate.ci_low, *known(candidate.ci), verdict.verdict)
    values = [round(value, 4) if isinstance(value, float) else value for value in (*found, *more)]
    return _spent(study) | dict(zip(_FOUND, values, strict=True))


_FOUND = (
    *("gamma", "c", "lr", "regret", "baseline_regret", "true_gain", "effect"),
    *("ci_low", "ci_from", "ci_to", "verdict"),
)


def _spent(study: Study) -> dict[str, Any]:
    assert isinstance(study.observer, Quiet)
    records = study.observer.records
    different = {(r.stage, r.seed, r.arm == BASELINE, *sorted(r.config.items())) for r in records}
    return {
        "runs": len(records),
        "confirm_runs": sum(record.stage == CONFIRM for record in records),
        "repeats": len(records) - len(different),
        "full_runs": round(sum(record.epochs / record.epochs_planned for record in records), 2),
    }


def best_mean(surrogate: Table1a) -> float:
    """What regret is measured from."""
    return best_cell(surrogate) if surrogate == ON_GRID else best_anywhere(surrogate)[1]


def best_baseline(surrogate: Table1a) -> float:
    """The mean of BASE at its best learning rate."""
    return max(surrogate.mean(point_of_cell(cell)) for cell in paper.cells("table1a") if cell.method == paper.BASE)


def paper_procedure(laboratory: Laboratory) -> tuple[Point, int]:
    """The cell that the paper's procedure takes, and the runs that it costs."""
    runs, means = 0, {}
    for cell in paper.cells("table1a"):
        point = point_of_cell(cell)
        scores = [laboratory.scores(point, seed)[0] for seed in paper.SEEDS]
        runs += len(scores)
        if cell.method != paper.BASE:
            means[point] = fmean(scores)
    return max(means, key=means.__getitem__), runs


def table(rows: list[dict[str, Any]], surrogate: Table1a, rho: float, replicates: int) -> str:
    """The table of one surrogate."""
    lines = [
        ("sampler", "budget", "runs", "315 / runs", "of these repeats", "full runs", "regret, points", "mean, 95 %")
    ]
    found = [paper_procedure(Laboratory(surrogate, replicate, rho)) for replicate in range(replicates)]
    regrets = [best_mean(surrogate) - surrogate.mean(point) for point, _ in found]
    words = (mean_words(regrets), _interval(regrets))
    lines.append(("the paper's grid", "15 seeds each", str(found[0][1]), "", "0", str(found[0][1]), *words))
    for budget, sampler in product(dict.fromkeys(row["budget"] for row in rows), SAMPLERS):
        mine = [r for r in rows if (r["surrogate"], r["budget"], r["sampler"]) == (surrogate.name, budget, sampler)]
        if not mine:
            continue
        done = [row["regret"] for row in mine if row["regret"] is not None]
        runs, repeats, full = (fmean(row[key] for row in mine) for key in ("runs", "repeats", "full_runs"))
        lost = f"; {len(mine) - len(done)} without a verdict" if len(done) < len(mine) else ""
        lines.append(
            (
                sampler,
                budget,
                mean_words([row["runs"] for row in mine], 0),
                f"{GRID_RUNS / runs:.1f}",
                f"{repeats:.0f}",
                f"{full:.0f}",
                f"{mean_words(done)}{lost}",
                _interval(done),
            )
        )
    return markdown(lines)


def _interval(values: list[float]) -> str:
    low, high = paper.t_interval(float(np.mean(values)), float(np.std(values, ddof=1)), len(values))
    return f"{low:.2f} to {high:.2f}"


def main() -> None:
    """Run it all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rho", type=float, default=0.5, help="correlation of the arms over seeds")
    given = parser.parse_args()
    started = time.monotonic()
    cases = [
        (surrogate, budget, sampler, replicate)
        for surrogate, (budget, samplers) in product((ON_GRID, OFF_GRID), BUDGETS.items())
        for sampler, replicate in product(samplers, range(given.replicates))
    ]
    rows = in_processes(partial(one_study, rho=given.rho), cases, given.jobs)
    n = f"{given.replicates} studies each, mean ± standard deviation over studies, ρ = {given.rho:g}"
    tables = {
        f"**{surrogate.name}** ({n})": table(rows, surrogate, given.rho, given.replicates)
        for surrogate in (ON_GRID, OFF_GRID)
    }
    save("sample_efficiency", rows, stamp(started), tables)


if __name__ == "__main__":
    main()
