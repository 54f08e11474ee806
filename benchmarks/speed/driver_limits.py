"""What one driver can serve: the real runner on Ray Tune, with trials that train nothing.

    python -m benchmarks.speed.driver_limits [--trials 100 1000 10000] [--reports 1 6] [--rounds 5]

A trial costs the driver the same whether its worker trains for a second or for a day, and so does a report. Each size
is run with one report for each trial and with several; the difference is the cost of a report, the rest that of a
trial. Warm actors take one trial after the other, two at a time. Wall clock says how long a reused trial takes from
one to the next where nothing is trained; CPU time of this process, which on a cluster has a machine of its own, says
when the driver is full. Memory of this process is noted as trials come back: what a trial leaves in it until the
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray
from ray import tune

from benchmarks.measure import Spread, hardware, hardware_words
from benchmarks.results import markdown, save, speed_parser, stamp
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Point, RunResult, Task
from tune_bn.protocols.trainer import COMPLETED
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.runners.ray.trainable import REPORT, TASK, TaskTrainable
from tune_bn.runners.worker import Report
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.points import epoch_point

CONCURRENT = 2
MEMORY_AFTER = (100, 1_000, 5_000, 10_000)
"""Trials after which the driver's memory is noted."""
CONFIG = RunConfig(ModelConfig(arch="resnet8"), DataConfig(), TrainConfig())


class Idle(TaskTrainable):
    """Reports as a trial does, one epoch after the other, and trains nothing."""

    def setup(self, config: dict[str, Any], reports: int) -> None:  # type: ignore[override]
        """``reports`` of each trial."""
        self.reports = reports
        self.epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial."""
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """The next report, as large as a real one."""
        task: Task = self.config[TASK]
        self.epoch += 1
        point = epoch_point(self.epoch, 0.5, 80.0, 0.5, 80.0, 0.1)
        result = RunResult(
            seed=task.seeds[0],
            status=COMPLETED,
            reason=f"reached epoch {self.epoch}",
            epochs=self.epoch,
            scores={"val_accuracy": 80.0, "best_epoch": 1.0},
            curve=(),
            attempts=1,
            started_at="2000-01-01T00:00:00+00:00",
            duration_seconds=1.0,
            device="none",
            versions={"torch": "none"},
        )
        done = self.epoch >= self.reports
        report = Report(self.epoch, 80.0, done, {task.seeds[0]: (point,)}, (result,))
        return {"done": done, REPORT: report}


class IdleRunner(RayTuneRunner):
    """The runner with :class:`Idle` in place of training."""

    def __init__(self, dataset: Dataset, options: RayOptions, reports: int) -> None:
        super().__init__(BuiltinTrainer(dataset), options)
        self.reports = reports

    def _trainable(self) -> Any:
        trainable = tune.with_parameters(Idle, reports=self.reports)
        return tune.with_resources(trainable, {"cpu": self.options.cpu})


def resident_mib() -> float:
    """Memory of this process, without what it shares with others through the object store."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return round(int(fields["RssAnon"].split()[0]) / 1024, 1)


class Queue:
    """A feed of so many tasks that notes when each comes back, and a listener that counts reports."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.handed_out = 0
        self.ended: list[float] = []
        self.reports = 0
        self.memory: dict[int, float] = {}

    def next(self) -> Task | None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        if self.exhausted:
            return None
        self.handed_out += 1
        return Task("search", "candidate", self.handed_out, {"gamma": 0.1}, CONFIG, (101,), may_stop=True)

    @property
    def exhausted(self) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        return self.handed_out >= self.trials

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        self.ended.append(time.perf_counter())
        if len(self.ended) in MEMORY_AFTER:
            self.memory[len(self.ended)] = resident_mib()

    def spares(self, task: Task) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        return False

    def task_started(self, task: Task) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`."""

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`."""
        self.reports += 1

    def task_killed(self, task: Task) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`."""


def one_stage(trials: int, reports: int) -> dict[str, Any]:
    """A stage of so many trials. The first trial of each actor, with its start, is left out of the wall clock."""
    images = Split(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4, dtype=np.int64) % 2)
    runner = IdleRunner(
        Dataset("none", ("a", "b"), images, images, None), RayOptions(max_concurrent=CONCURRENT), reports
    )
    queue, started, started_cpu = Queue(trials), time.perf_counter(), time.process_time()
    runner.run(queue, queue)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    if len(queue.ended) != trials or queue.reports != trials * reports:
        raise RuntimeError(f"{len(queue.ended)} of {trials} trials and {queue.reports} reports came back")
    warm = queue.ended[-1] - queue.ended[CONCURRENT - 1]
    return {
        "trials": trials,
        "reports": reports,
        "seconds": round(seconds, 4),
        "driver_cpu_seconds": round(cpu_seconds, 4),
        "warm_seconds": round(warm, 4),
        "warm_trials": trials - CONCURRENT,
        **{f"mib_after_{count}": queue.memory.get(count, "") for count in MEMORY_AFTER},
    }


def costs(rows: Sequence[Mapping[str, Any]], trials: int) -> dict[str, Spread]:
    """Milliseconds of a size, over its rounds.

    Returns:
        ``trial`` and ``report``, CPU time of the driver; ``growth``, the wall clock of a stage for each trial;
        ``reused``, seconds from a trial's end to that of the next in the same actor, with one report.
    """
    found = {(int(r["round"]), int(r["reports"])): r for r in rows if int(r["trials"]) == trials}
    rounds = sorted({number for number, _ in found})
    few, many = min(r for _, r in found), max(r for _, r in found)

    def cpu(number: int, reports: int) -> float:
        return 1000 * float(found[number, reports]["driver_cpu_seconds"]) / trials

    report = [(cpu(n, many) - cpu(n, few)) / (many - few) for n in rounds]
    trial = [cpu(n, few) - few * one for n, one in zip(rounds, report, strict=True)]
    wall = [1000 * float(found[n, few]["seconds"]) / trials for n in rounds]
    reused = [CONCURRENT * float(found[n, few]["warm_seconds"]) / float(found[n, few]["warm_trials"]) for n in rounds]
    return {
        name: Spread.of(values)
        for name, values in (("trial", trial), ("report", report), ("growth", wall), ("reused", reused))
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each number of trials."""
    lines = [
        ("trials", "rounds", "driver ms per trial", "driver ms per report", "wall ms per trial", "s per reused trial")
    ]
    for trials in sorted({int(row["trials"]) for row in rows}):
        cost = costs(rows, trials)
        words = (cost["trial"].words(), cost["report"].words(), cost["growth"].words(1), cost["reused"].words(4))
        lines.append((f"{trials:,}", str(cost["trial"].n), *words))
    return markdown(lines)


def capacity(rows: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    """Concurrent runs with a report per second that keep the driver half busy; and the milliseconds behind it."""
    worst = max(costs(rows, trials)["report"].median for trials in {int(row["trials"]) for row in rows})
    return int(500 / worst), worst


def growth(rows: Sequence[Mapping[str, Any]]) -> float:
    """Driver CPU time of a trial with its reports in the largest stage over that in the second largest; 1 is linear."""
    sizes = sorted({int(row["trials"]) for row in rows})

    def of(trials: int) -> float:
        mine = [r for r in rows if int(r["trials"]) == trials]
        few = min(int(r["reports"]) for r in mine)
        return median(float(r["driver_cpu_seconds"]) / trials for r in mine if int(r["reports"]) == few)

    return of(sizes[-1]) / of(sizes[-2])


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument(
        "--trials", type=int, nargs="+", default=[100, 1000, 10_000], help="the largest takes one round"
    )
    parser.add_argument("--reports", type=int, nargs=2, default=[1, 6], help="reports of a trial, fewest and most")
    given = parser.parse_args()
    started = time.monotonic()
    connect(RayOptions(init={"num_cpus": CONCURRENT}))
    one_stage(20, 1)
    rows = []
    for number in range(given.rounds):
        for trials in given.trials:
            if number > 0 and trials == max(given.trials):
                continue
            for reports in given.reports:
                rows.append({"round": number} | one_stage(trials, reports))
                print(rows[-1], flush=True)
    ray.shutdown()
    runs, worst = capacity(rows)
    made = stamp(started) | {"hardware": hardware()}
    notes = (
        f"{hardware_words(made['hardware'])}. Median (smallest to largest). A trial of the largest stage costs "
        f"the driver {growth(rows):.2f} × as much as one of the stage before it. At {worst:.2f} ms a report and one "
        f"report per run and second, {runs} concurrent runs keep the driver half busy."
    )
    save("driver_limits", rows, made, {notes: table(rows)}, given.results)


if __name__ == "__main__":
    main()
