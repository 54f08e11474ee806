"""What a search finds and what it costs, by scheduler, sampler and number of search seeds: on real learning curves.

    python -m benchmarks.statistics.early_stopping run --problem digits-40-0.1-3 [--replicates 100] [--part 1/2]
    python -m benchmarks.statistics.early_stopping table

Whole searches and selections of ``search_spaces/digits.yaml`` (24 configurations with one search seed, 12 with two, 8
with three; 3 finalists on 3 selection seeds; two workers) on a table that ``benchmarks.statistics.curve_table``
trained and ``benchmarks.statistics.curve_replay`` replays. A problem names the table, the length of its course, its
learning rates and the number of its seeds; more learning rates than one, joined by ``+``, are searched too, and the
baseline is tuned with half of the trials.

*Regret*: true value of the table's best cell minus that of the first of the ranked finalists, in points: of
validation accuracy, which a search sees, and of test accuracy, where it matters. The two part where few images or seeds
leave the means of both uncertain; a table says by how much. *Epochs*: what the search spent, of what it would spend
without early stopping. *Stopped the best*: of the trials that were stopped, one would have been truly better than the
winner. *Grid reached*: the winner is truly as good as the best of the paper's grid (c = 100) or better.

``run`` keeps each study as a line below ``build/early_stopping``, goes on where it was, and may run on several parts
side by side. ``table`` gathers what is there into the results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from benchmarks.results import RESULTS, markdown, save, stamp
from benchmarks.statistics.curve_replay import TABLES, CurveTable, Replay, load_table
from benchmarks.statistics.simulation import Quiet, SimulatedRunner, World, scratch, simulated_study
from benchmarks.statistics.surrogates import Point, point_of
from tune_bn.paper import tables as paper
from tune_bn.protocols.runner import History, SchedulerConfig, Task
from tune_bn.protocols.sampler import Outcome, Proposal, Sampler
from tune_bn.records.record import CANDIDATE, COMPLETED, FAILED, PRUNED, SEARCH
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.space.file import parse_yaml
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space

STUDIES = Path("build/early_stopping")
DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
TRIALS, WORKERS = 24, 2
SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid")
SLOW = "gp"
"""It fits a model for every proposal; one study in :data:`EVERY` of the others'."""
EVERY = 10
NONE, PREDICTED, VAL = "none", "predicted", "val_accuracy"


@dataclass(frozen=True)
class Row:
    """One way to search."""

    rule: str
    """``none``, ``asha`` or ``median`` with the grace as a share of the course or ``auto``, or ``predicted``."""
    sampler: str = "tpe"
    seeds: int = 1
    """Search seeds of each trial, at equal cost."""
    told: str = "pruned"
    """What Optuna is told of a stopped trial: ``pruned`` with its value, ``completed`` with it, or ``nothing``."""
    finalists: int = 3

    @property
    def name(self) -> str:
        """What it is called in a file."""
        return "/".join(map(str, asdict(self).values()))


RULES = (
    NONE,
    *(f"asha {share:g}" for share in (0.125, 0.25, 0.5, 0.625, 0.75)),
    *(f"median {share:g}" for share in (0.25, 0.625)),
    "asha auto",
    "median auto",
    PREDICTED,
)
ROWS = (
    *(Row(rule, sampler) for rule in RULES for sampler in SAMPLERS),
    *(Row(rule, "tpe", seeds) for seeds in (2, 3) for rule in (NONE, "asha 0.25", "asha auto", "median auto")),
    *(Row(NONE, "cmaes", seeds) for seeds in (2, 3)),
    *(Row(rule, told=told) for told in ("completed", "nothing") for rule in ("asha 0.25", "asha 0.625", "asha auto")),
    *(Row(NONE, finalists=finalists) for finalists in (1, 2, 5, 8)),
)
"""All that are compared."""


def problem_of(name: str, folder: Path = TABLES) -> CurveTable:
    """The table of a problem such as ``digits-40-0.1+0.01-3``: epochs, learning rates, seeds of the table."""
    table, epochs, lrs, seeds = name.split("-")
    return load_table(table, int(epochs), folder, [float(lr) for lr in lrs.split("+")], int(seeds))


def space_of(table: CurveTable, row: Row, replicate: int) -> Space:
    """The space of one study."""
    content: dict[str, Any] = parse_yaml(DIGITS)
    content["train"] |= {"epochs": table.epochs, "lr": table.lrs[-1]}
    if len(table.lrs) > 1:
        content["search"]["lr"] = {"choice": list(table.lrs)}
    content["sampler"] |= {"name": row.sampler, "seed": replicate}
    if row.sampler == "grid":
        # As many cells as the others have trials, spread over the same range.
        content["search"] |= {
            "gamma": {"choice": [0.01, 0.05, 0.1, 0.25, 0.5, 1.0]},
            "c": {"choice": [1, 10, 100, 1000]},
        }
    content["budget"] |= {"trials": TRIALS // row.seeds, "finalists": row.finalists}
    content["seeds"]["search"] = list(range(101, 101 + row.seeds))
    content["scheduler"] = scheduler_of(row.rule, table.epochs)
    return parse_space(content, str(DIGITS))


def scheduler_of(rule: str, epochs: int) -> dict[str, Any]:
    """The section of the space for a rule."""
    name, _, grace = rule.partition(" ")
    if name == NONE:
        return {"name": "none"}
    if name == PREDICTED:
        return {"name": "asha", "grace": max(1, epochs // 4), "reduction": 2}
    return {"name": name, "grace": "auto" if grace == "auto" else max(1, round(float(grace) * epochs)), "reduction": 3}


class _OnPredictions(EarlyStopping):
    """Successive halving on what curves seem to lead to: at each rung the better half of predicted ends goes on.

    A curve is taken to rise from its first value like 1 − exp(−(t / a)^b), the a, b and height that fit it best.
    """

    def __init__(self, scheduler: SchedulerConfig | None, history: History, spares: Callable[[Task], bool]) -> None:
        super().__init__(scheduler, history, spares)
        self._ends: dict[tuple[str, int], list[float]] = {}
        self.curves: dict[str, list[float]] = {}
        """Best so far of the tasks under way, which the runner keeps."""

    def stops(self, task: Task, objectives: Mapping[int, float], *, done: bool) -> bool:
        """See :class:`EarlyStopping`."""
        epoch = max(objectives)
        if self.config is None or not task.may_stop or done or epoch not in self.milestones:
            return False
        end = predicted_end(self.curves[task.key][:epoch], self.config.max_epochs)
        rung = self._ends.setdefault((task.arm, epoch), [])
        rung.append(end)
        return not self._spares(task) and len(rung) > 2 and end < float(np.median(rung))


class _PredictionRunner(SimulatedRunner):
    """Stops by :class:`_OnPredictions`."""

    def make_stopping(
        self, scheduler: SchedulerConfig | None, history: History, spares: Callable[[Task], bool]
    ) -> EarlyStopping:
        """See :class:`SimulatedRunner`."""
        self._rule = _OnPredictions(scheduler, history, spares)
        return self._rule

    def _begin(self, task: Task, now: float) -> Any:
        course = super()._begin(task, now)
        self._rule.curves[task.key] = [fmean(values) for values in zip(*course.best.values(), strict=True)]
        return course


def predicted_end(curve: Sequence[float], last: int) -> float:
    """Where a curve (best so far, by epoch) seems to lead to at epoch ``last``; at least where it is."""
    y = np.asarray(curve, dtype=float)
    shapes = _shapes(last)
    seen = shapes[:, : len(y)]
    # Late points say more of the end.
    weights = np.linspace(0.2, 1.0, len(y))
    rise = y - y[0]
    heights = (seen * rise * weights).sum(axis=1) / np.maximum((seen**2 * weights).sum(axis=1), 1e-12)
    heights = np.clip(heights, 0, 100 - y[0])
    errors = ((heights[:, None] * seen - rise) ** 2 * weights).sum(axis=1)
    best = int(errors.argmin())
    return float(max(y[0] + heights[best] * shapes[best, -1], y[-1]))


@cache
def _shapes(last: int) -> Any:
    t = np.arange(last, dtype=float)
    scales, powers = np.geomspace(0.02, 1.0, 18) * last, (0.5, 1.0, 2.0, 4.0)
    return np.array([1 - np.exp(-((t / scale) ** power)) for scale in scales for power in powers])


class _Taught:
    """A sampler that is told something else of trials that were stopped."""

    def __init__(self, sampler: Sampler, told: str) -> None:
        self._sampler, self._told_as = sampler, told

    def tell(self, trial: int, outcome: Outcome) -> None:
        """See :class:`tune_bn.protocols.sampler.Sampler`."""
        if outcome.status == PRUNED and self._told_as == "nothing":
            outcome = Outcome(FAILED, None, outcome.epoch)
        elif outcome.status == PRUNED and self._told_as == "completed":
            outcome = Outcome(COMPLETED, outcome.objective, outcome.epoch)
        self._sampler.tell(trial, outcome)

    def propose(self) -> Proposal:
        """See :class:`tune_bn.protocols.sampler.Sampler`."""
        return self._sampler.propose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


def one_study(table: CurveTable, row: Row, replicate: int) -> dict[str, Any]:
    """What one search finds and spends."""
    space = space_of(table, row, replicate)
    world: World = Replay(table, space, replicate)
    runner = _PredictionRunner(world, WORKERS) if row.rule == PREDICTED else None
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        study = simulated_study(
            Path(folder) / "study",
            space,
            world,
            workers=WORKERS,
            runner=runner,
            taught=(lambda sampler: sampler) if row.told == "pruned" else lambda sampler: _Taught(sampler, row.told),
        )
        study.search()
        study.select()
        winner = study.selection.ranked()[CANDIDATE][0][0]
        grace = _grace_of(study)
    assert isinstance(study.observer, Quiet)
    searched = [record for record in study.observer.records if record.stage == SEARCH]
    point = point_of(space.run_config(winner.overrides))
    true, seen = table.true_value(point), table.true_value(point, VAL)
    stopped = {
        table.true_value(point_of(space.run_config(record.config)), VAL)
        for record in searched
        if record.status == PRUNED and record.arm == CANDIDATE
    }
    return {
        "val_regret": round(table.best(VAL)[1] - seen, 4),
        "test_regret": round(table.best()[1] - true, 4),
        "grid_gap": round(best_of_the_papers_grid(table) - seen, 4),
        "epochs": round(sum(record.epochs for record in searched) / (TRIALS * table.epochs), 4),
        "runs": len(study.observer.records),
        "stopped": len({record.trial for record in searched if record.status == PRUNED}),
        "stopped_the_best": bool(stopped and max(stopped) > seen),
        "grace": grace,
    }


def _grace_of(study: Any) -> int | None:
    from tune_bn.analysis.early_order import read_looks

    return read_looks(study.folder.early_order)[-1].safe_from if study.folder.early_order.exists() else None


def best_of_the_papers_grid(table: CurveTable) -> float:
    """The highest true value among the paper's γ at c = 100."""
    cells = [Point(paper.initial_gamma(cell), 100.0, lr) for cell in paper.cells("table1a") for lr in table.lrs]
    return max(table.true_value(point, VAL) for point in cells)


def cases(replicates: int) -> Iterator[tuple[Row, int]]:
    """All studies: the rules with TPE first, then its other rows, the other samplers, and the slow one.

    The rows of each of these parts grow together.
    """
    for part in sorted({_part(row) for row in ROWS}):
        for replicate in range(0, replicates, EVERY if part == _part(Row(NONE, SLOW)) else 1):
            yield from ((row, replicate) for row in ROWS if _part(row) == part)


def _part(row: Row) -> int:
    plain = row == Row(row.rule, row.sampler)
    return (0 if plain else 1) if row.sampler == "tpe" else 3 if row.sampler == SLOW else 2


def run(problem: str, tables: Path, replicates: int, minutes: float, part: str) -> None:
    """Search what is not there yet, until the minutes are over."""
    started = time.monotonic()
    number, parts = map(int, part.split("/"))
    STUDIES.mkdir(parents=True, exist_ok=True)
    table = problem_of(problem, tables)
    done = {(line["row"], line["replicate"]) for line in lines_of(problem)}
    made = {key: value for key, value in stamp(started).items() if key in ("commit", "versions")}
    made |= {"seeds_of_table": list(table.seeds), "cells": int(np.prod(table.val.shape[:3]))}
    with (STUDIES / f"{problem}.{number}.jsonl").open("a", encoding="utf-8") as out:
        for place, (row, replicate) in enumerate(cases(replicates)):
            if place % parts != number - 1 or (row.name, replicate) in done:
                continue
            if time.monotonic() - started > 60 * minutes:
                return
            before = time.process_time()
            found = one_study(table, row, replicate)
            line = {"problem": problem, "row": row.name, **asdict(row), "replicate": replicate, **found}
            line |= {"cpu_seconds": round(time.process_time() - before, 2), "made": made}
            out.write(json.dumps(line) + "\n")
            out.flush()


def lines_of(problem: str) -> list[dict[str, Any]]:
    """The studies of a problem that are there; the last line of a part may be torn."""
    found = []
    for path in sorted(STUDIES.glob(f"{problem}.*.jsonl")):
        for text in path.read_text(encoding="utf-8").split("\n")[:-1]:
            found.append(json.loads(text))
    return found


def table_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """One line for each way to search."""
    head = ("early stopping", "sampler", "search seeds", "other", "studies", "regret, validation", "95 %")
    rest = ("regret, test", "epochs", "stopped the best", "grid reached", "grace found")
    rows: list[tuple[str, ...]] = [head + rest]
    for row in ROWS:
        mine = [line for line in lines if line["row"] == row.name]
        if len(mine) < 2:
            continue
        regrets = [line["val_regret"] for line in mine]
        error = 1.96 * stdev(regrets) / len(mine) ** 0.5
        known = sorted(line["grace"] for line in mine if line["grace"] is not None)
        grace = f"{known[len(known) // 2]} ({len(known)})" if known else "none"
        other = [] if row.told == "pruned" else [f"Optuna is told {row.told}"]
        other += [] if row.finalists == 3 else [f"{row.finalists} finalists"]
        rows.append(
            (
                row.rule,
                row.sampler,
                str(row.seeds),
                ", ".join(other),
                str(len(mine)),
                f"{fmean(regrets):.3f}",
                f"± {error:.3f}",
                f"{fmean(line['test_regret'] for line in mine):.3f}",
                f"{100 * fmean(line['epochs'] for line in mine):.0f} %",
                f"{100 * fmean(line['stopped_the_best'] for line in mine):.0f} %",
                f"{100 * fmean(line['grid_gap'] <= 1e-9 for line in mine):.0f} %",
                grace if row.rule.endswith("auto") else "",
            )
        )
    return markdown(rows)


def write_tables(results: Path, tables: Path) -> None:
    """Gather all studies into the results."""
    started = time.monotonic()
    problems = sorted({path.name.rpartition(".jsonl")[0].rpartition(".")[0] for path in STUDIES.glob("*.jsonl")})
    lines, shown, makers = [], {}, []
    for problem in problems:
        mine, table = lines_of(problem), problem_of(problem, tables)
        for line in mine:
            made = line.pop("made")
            if made not in makers:
                makers.append(made)
            lines.append({**line, "made": makers.index(made)})
        point, value = table.best()
        seen, most = table.best(VAL)
        base = Point(1.0, 1.0, table.lrs[-1])
        title = (
            f"**{problem}** ({len(table.seeds)} seeds of each of {int(np.prod(table.val.shape[:3]))} cells; best by "
            f"validation {_cell(seen)}: {most:.2f} %, by test {_cell(point)}: {value:.2f} %; BASE "
            f"{table.true_value(base, VAL):.2f} and {table.true_value(base):.2f} %; who knew every cell's mean "
            f"validation accuracy would have a test regret of {value - table.best_known():.3f}; *grace found*: median "
            "epoch, and in how many studies)"
        )
        shown[title] = table_of(mine)
    save("early_stopping", lines, stamp(started) | {"made": makers}, shown, results)


def _cell(point: Point) -> str:
    return f"γ = {point.gamma:g}, c = {point.c:g}, lr = {point.lr:g}"


def main() -> None:
    """Search, or gather."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("run", "table"))
    parser.add_argument("--problem", default="digits-40-0.1-3", metavar="TABLE-EPOCHS-LR[+LR]-SEEDS")
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no study after so many minutes")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th study from the I-th on")
    parser.add_argument("--tables", type=Path, default=TABLES, metavar="DIR")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    given = parser.parse_args()
    if given.verb == "run":
        run(given.problem, given.tables, given.replicates, given.minutes, given.part)
    else:
        write_tables(given.results, given.tables)


if __name__ == "__main__":
    main()
