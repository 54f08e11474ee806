"""What early stopping does to a baseline that starts slower and is as good in the end.

    python -m benchmarks.statistics.slow_baseline [--studies 2000] [--whole 60] [--jobs 1]

Two arms that can reach the same, with a learning rate that is searched for both; the candidates are ahead by so many
points at epoch 10 of 40, where ASHA and the median rule first decide. ``together``: one scheduler compares the trials
of both arms, and may stop any of them. ``apart``: each arm has its own, and its first three trials run to their end.
``whole``: whole studies, with the real stages, TPE, files and verdict. ``decisions``: the same stages for many studies
in memory, with learning rates drawn at random, the real rules of early stopping and the real paired t-test.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.results import in_processes, markdown, rate_words, save, stamp
from benchmarks.statistics.simulation import Laboratory, Quiet, SimulatedRunner, scratch, simulated_study
from benchmarks.statistics.surrogates import EqualArms, Point
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.verdict import renew_verdict
from tune_bn.errors import StudyError
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Feed, History, Listener, SchedulerConfig, Task
from tune_bn.records.record import BASELINE, CANDIDATE, SEARCH
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.feeds import SearchFeed
from tune_bn.training.config import RunConfig, TrainConfig

EPOCHS, GRACE, REDUCTION, FINALISTS, RHO, WORKERS = 40, 10, 3, 3, 0.5, 4
TRIALS = 12
"""Of each arm."""
SELECT, CONFIRM = (201, 202, 203), tuple(range(1, 16))
LRS = (0.01, 1.0)
NONE, TOGETHER, APART = "nothing is stopped", "together", "apart"
RULES = ((NONE, ""), (TOGETHER, "asha"), (APART, "asha"), (TOGETHER, "median"), (APART, "median"))
LAGS = (2.0, 0.0)
EQUAL = EqualArms()


class _Together(EarlyStopping):
    """All trials in one comparison, and none that is spared."""

    def stops(self, task: Task, objectives: Any, *, done: bool) -> bool:
        number = None if task.trial is None else 2 * task.trial + (task.arm == BASELINE)
        return super().stops(replace(task, arm="both", trial=number), objectives, done=done)


@dataclass
class _Quota:
    """A feed that gives no arm more trials than its budget says."""

    feed: Feed

    @property
    def exhausted(self) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        feed = self.feed
        over = isinstance(feed, SearchFeed) and all(s.proposed >= feed.quota[arm] for arm, s in feed.samplers.items())
        return over or feed.exhausted

    def next(self) -> Task | None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        return None if self.exhausted else self.feed.next()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.feed, name)


class TogetherRunner(SimulatedRunner):
    """Early stopping as one scheduler for both arms does it."""

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.run`."""
        super().run(_Quota(feed), listener, scheduler=scheduler, history=history)

    def make_stopping(
        self, scheduler: SchedulerConfig | None, history: History, spares: Callable[[Task], bool]
    ) -> EarlyStopping:
        """See :class:`SimulatedRunner`."""
        return _Together(scheduler, history)


def space_of(rule: str, seed: int) -> Space:
    """The space of a whole study; ``rule`` may be empty."""
    return parse_space(
        {
            "name": "slow-baseline",
            "model": {"arch": "resnet18"},
            "train": {"epochs": EPOCHS},
            "search": {
                "gamma": {"log_uniform": [0.01, 1.0]},
                "c": {"log_uniform": [1.0, 1000.0]},
                "lr": {"log_uniform": list(LRS)},
            },
            # What rivals and a better tuned baseline change, `tuning_luck` says.
            "sampler": {"name": "tpe", "baseline": "tpe", "seed": seed, "points": "none"},
            "claim": {"rivals": "none"},
            "scheduler": {"name": rule or "none", "grace": GRACE, "reduction": REDUCTION},
            "budget": {"trials": 2 * TRIALS, "finalists": FINALISTS},
            "seeds": {"search": [101], "select": list(SELECT), "confirm": list(CONFIRM)},
        },
        "slow baseline",
    )


def laboratory(lag: float, replicate: int) -> Laboratory:
    """Where the runs of a study are drawn."""
    return Laboratory(EQUAL, replicate, RHO, lag=lag)


def whole_study(case: tuple[str, str, float, int]) -> dict[str, Any]:
    """One row: a study with all that belongs to it."""
    mode, rule, lag, replicate = case
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        space = space_of(rule, replicate)
        study = simulated_study(Path(folder) / "study", space, laboratory(lag, replicate), workers=WORKERS)
        if mode == TOGETHER:
            study.runner = TogetherRunner(laboratory(lag, replicate), WORKERS)
        verdict = None
        try:
            study.run()
            verdict = renew_verdict(study.folder.path).verdict
        except StudyError:
            # An arm without a trial that ran to its end: what the search cost is lost.
            pass
        assert isinstance(study.observer, Quiet)
        searched = [record for record in study.observer.records if record.stage == SEARCH]
    full = {arm: sum(r.arm == arm and r.epochs == EPOCHS for r in searched) for arm in (BASELINE, CANDIDATE)}
    return _row(case, "whole", verdict, full, sum(record.epochs for record in searched))


def _row(
    case: tuple[str, str, float, int], level: str, verdict: str | None, full: dict[str, int], epochs: int
) -> dict[str, Any]:
    mode, rule, lag, replicate = case
    return {
        "level": level,
        "stopping": mode,
        "rule": rule,
        "lag": lag,
        "replicate": replicate,
        "verdict": verdict,
        "baseline_full": full[BASELINE],
        "candidate_full": full[CANDIDATE],
        "search_epochs": epochs,
    }


def decisions(case: tuple[str, str, float, int]) -> dict[str, Any]:
    """One row: what a study would decide, without samplers and files."""
    mode, rule, lag, replicate = case
    lab, generator = laboratory(lag, replicate), np.random.default_rng([replicate, 1])
    feed = _Trials(generator)
    runner: SimulatedRunner = (TogetherRunner if mode == TOGETHER else SimulatedRunner)(lab, WORKERS)
    config = SchedulerConfig(rule, GRACE, REDUCTION, EPOCHS) if rule else None
    runner.run(feed, Quiet(), scheduler=config)
    full = {arm: sum(epochs == EPOCHS for epochs, *_ in found) for arm, found in feed.results.items()}
    epochs = sum(row[0] for found in feed.results.values() for row in found)
    if not all(full.values()):
        return _row(case, "decisions", None, full, epochs)
    scores = {}
    for arm, found in feed.results.items():
        finalists = sorted((row for row in found if row[0] == EPOCHS), key=lambda row: -row[1])[:FINALISTS]
        best = max((row[2] for row in finalists), key=lambda point: fmean(lab.scores(point, s)[0] for s in SELECT))
        scores[arm] = np.array([lab.scores(best, seed)[1] for seed in CONFIRM])
    supported = paired_t_test(scores[CANDIDATE], scores[BASELINE]).p_value <= 0.05
    return _row(case, "decisions", "supported" if supported else "not_supported", full, epochs)


class _Trials:
    """A feed of the trials of both arms by turns, with learning rates that are drawn; it spares the first of an arm."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.given = 0
        self.results: dict[str, list[tuple[int, float, Point]]] = {CANDIDATE: [], BASELINE: []}
        low, high = np.log(LRS)
        self.lrs = np.exp(generator.uniform(low, high, 2 * TRIALS))

    @property
    def exhausted(self) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        return self.given == 2 * TRIALS

    def next(self) -> Task | None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        if self.exhausted:
            return None
        trial, arm = divmod(self.given, 2)
        gamma, c = ((0.5, 10.0), (1.0, 1.0))[arm]
        train = TrainConfig(epochs=EPOCHS, lr=float(self.lrs[self.given]), c=c)
        config = RunConfig(ModelConfig(arch="resnet18", gamma=gamma), train=train)
        self.given += 1
        return Task(SEARCH, (CANDIDATE, BASELINE)[arm], trial, {}, config, (101,), may_stop=True)

    def spares(self, task: Task) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        return task.trial is not None and task.trial < FINALISTS

    def finished(self, task: Task, results: Any) -> None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        config = task.config
        point = Point(config.model.gamma, config.train.c, config.train.lr)
        self.results[task.arm].append((results[0].epochs, results[0].scores["val_accuracy"], point))


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each rule, lag and level."""
    head = ("behind at epoch 10", "early stopping", "level", "studies", "without a verdict", "called better", "epochs")
    lines: list[tuple[str, ...]] = [head]
    for level, lag, (mode, rule) in product(("whole", "decisions"), LAGS, RULES):
        wanted = (level, mode, rule, lag)
        mine = [row for row in rows if (row["level"], row["stopping"], row["rule"], row["lag"]) == wanted]
        if not mine:
            continue
        judged = [row for row in mine if row["verdict"] is not None]
        supported = sum(row["verdict"] == "supported" for row in judged)
        spent = fmean(row["search_epochs"] for row in mine) / (2 * TRIALS * EPOCHS)
        lines.append(
            (
                f"{lag:g} points",
                f"{rule}, {mode}" if rule else mode,
                level,
                f"{len(mine):,}",
                rate_words(len(mine) - len(judged), len(mine)),
                rate_words(supported, len(judged)) if judged else "",
                f"{100 * spent:.0f} %",
            )
        )
    return markdown(lines)


def main() -> None:
    """Run it all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="of each line, decided in memory")
    parser.add_argument("--whole", type=int, default=60, help="whole studies of each line")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()

    def cases(number: int) -> list[tuple[str, str, float, int]]:
        return [(*rule, lag, r) for lag, rule, r in product(LAGS, RULES, range(number))]

    rows = in_processes(whole_study, cases(given.whole), given.jobs)
    rows += in_processes(decisions, cases(given.studies), given.jobs)
    title = (
        f"**Equal arms of which the baseline starts slower** ({EPOCHS} epochs, rungs from epoch {GRACE}, {TRIALS} "
        f"trials of each arm, lr log-uniform in [{LRS[0]:g}, {LRS[1]:g}], α = 0.05, ρ = {RHO:g}; *called better* of "
        "those with a verdict; 95 % intervals; *epochs* of the search, of those without early stopping)"
    )
    save("slow_baseline", rows, stamp(started), {title: table(rows)})


if __name__ == "__main__":
    main()
