"""Whole studies without training: the stages, samplers, records, plan and verdict are those of ``tune_bn``.

Only the runner is another; it asks a :class:`World` what a run scores; ``benchmarks.statistics.curve_replay`` has a
measured one.
In a :class:`Laboratory` a run of configuration x on seed s of replicate r scores, before rounding to whole images,

    mean(x) + std(x)·(√ρ·u(r, s) + √(1 − ρ)·e(r, x, s)),

u and e standard normal: what a seed does to every arm makes arms correlate with ρ over seeds. Validation and test
accuracy have draws of their own for u and e, which correlate with ``AGREEMENT`` within a run. All draws follow from a
hash of (replicate, configuration, seed), so a run that is repeated scores the same.

Learning curves go from chance to the run's score, and a small γ starts late. With s the share of the epochs that are
done, the distance to the score falls like

    0.93 / (1 + exp((s − s₀) / 0.025)) + 0.07·min(1, exp(−(s − s₀) / 0.12)),  s₀ = 0.02 + 0.2·log₁₀(1/γ).

This follows what was measured on the embedded digits at c = 100 (best validation accuracy so far, mean of 4 seeds):
half of the way is done after 3, 5, 11, 21, 28 and 43 % of the epochs for γ = 1, 0.5, 0.25, 0.1, 0.05 and 0.01.

With ``lag`` the arms differ instead: all start as γ = 1 does, and the baseline is so many points behind after a quarter
of the training, and less and less from there on.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any, Protocol

from benchmarks.statistics.surrogates import Point, Surrogate, point_of
from tune_bn.errors import RunnerError
from tune_bn.front.wiring import sampler_of
from tune_bn.protocols.runner import Feed, History, Listener, Runner, RunResult, SchedulerConfig, Task
from tune_bn.protocols.sampler import Sampler
from tune_bn.records.curves import Point as CurvePoint
from tune_bn.records.plan import Plan
from tune_bn.records.record import COMPLETED, PRUNED, Record
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.training.points import epoch_point
from tune_bn.training.versions import library_versions

AGREEMENT = 0.5
"""Correlation of the validation and the test accuracy of one run over seeds; assumed."""
CLASSES = 10
_CHANCE = 100.0 / CLASSES
_START = datetime(2026, 1, 1, tzinfo=UTC)
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Laboratory:
    """Draws the scores of runs; a pure function of (replicate, configuration, seed)."""

    surrogate: Surrogate
    replicate: int
    rho: float = 0.0
    val_images: int = 5000
    test_images: int = 10_000
    lag: float | None = None
    """Points by which the baseline (γ = 1, c = 1) is behind after a quarter of the training; at its end none."""

    def scores(self, point: Point, seed: int) -> tuple[float, float]:
        """Validation and test accuracy of a full run, in percent of whole images."""
        shared, own = _draws("seed", self.replicate, seed), _draws("run", self.replicate, tuple(point), seed)
        mean, std = self.surrogate.mean(point), self.surrogate.std(point)
        noise = (math.sqrt(self.rho) * u + math.sqrt(1 - self.rho) * e for u, e in zip(shared, own, strict=True))
        val, test = (mean + std * z for z in noise)
        return _whole_images(val, self.val_images), _whole_images(test, self.test_images)

    def test_score(self, point: Point, seed: int, metric: str) -> float:
        """See :class:`World`; both metrics are one here."""
        return self.scores(point, seed)[1]

    def curve(self, point: Point, seed: int, epochs: int) -> list[float]:
        """Validation accuracy after each epoch, rising; the last is that of :meth:`scores`."""
        final, _ = self.scores(point, seed)
        gamma = point.gamma if self.lag is None else 1.0
        shares = [epoch / epochs for epoch in range(1, epochs + 1)]
        distances = [_distance(share, gamma) for share in shares]
        rest = distances[-1]
        left = [(distance - rest) / (1 - rest) for distance in distances]
        lag = self.lag if self.lag is not None and (point.gamma, point.c) == (1.0, 1.0) else 0.0
        return [
            final - (final - _CHANCE) * away - lag * min(share / 0.25, (1 - share) / 0.75)
            for away, share in zip(left, shares, strict=True)
        ]


def _distance(share: float, gamma: float) -> float:
    late = share - 0.02 - 0.2 * math.log10(1 / gamma)
    return 0.93 / (1 + math.exp(min(late / 0.025, 700.0))) + 0.07 * min(1.0, math.exp(-late / 0.12))


def _draws(*key: Any) -> tuple[float, float]:
    """Two standard normal numbers with correlation :data:`AGREEMENT`, from a hash of ``key``."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    first, second = (
        _NORMAL.inv_cdf((int.from_bytes(digest[8 * i : 8 * i + 8], "big") + 0.5) / 2**64) for i in range(2)
    )
    return first, AGREEMENT * first + math.sqrt(1 - AGREEMENT**2) * second


def _whole_images(accuracy: float, images: int) -> float:
    return 100.0 * round(min(max(accuracy, 0.0), 100.0) / 100.0 * images) / images


class World(Protocol):
    """Where the scores of runs come from, without training."""

    def curve(self, point: Point, seed: int, epochs: int) -> Sequence[float]:
        """Validation accuracy after each epoch of a run, in percent."""

    def test_score(self, point: Point, seed: int, metric: str) -> float:
        """What the run scores on the test images, in percent."""


@dataclass
class _Course:
    """A task on its way."""

    task: Task
    started: float
    curves: Mapping[int, Sequence[float]]
    best: Mapping[int, Sequence[float]]
    """The best so far of each curve."""
    epoch: int = 0


class SimulatedRunner:
    """A :class:`tune_bn.protocols.runner.Runner` in virtual time: an epoch of a task takes one unit on one worker.

    Tasks are stopped by the rules that stop them on Ray, at the mean over their seeds, at the epochs at which a worker
    reports. Nothing raises, diverges or can be interrupted, and no diagnostics are made.

    Args:
        world: what runs score.
        workers: tasks at the same time.
    """

    def __init__(self, world: World, workers: int = 1) -> None:
        self.world = world
        self.workers = workers

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.run`."""
        stopping = self.make_stopping(scheduler, history, feed.spares)
        running: list[tuple[float, int, _Course]] = []
        now, begun = 0.0, 0
        while True:
            while len(running) < self.workers and (task := feed.next()) is not None:
                course = self._begin(task, now)
                listener.task_started(task)
                heapq.heappush(running, (now + _next_report(course, stopping.milestones), begun, course))
                begun += 1
            if not running:
                if feed.exhausted:
                    return
                raise RunnerError("the feed has no task and awaits none; accepted: a feed that ends")
            now, number, course = heapq.heappop(running)
            listener.task_progress(course.task, self._advance(course, int(now - course.started + 0.5)))
            objective = fmean(best[course.epoch - 1] for best in course.best.values())
            done = course.epoch == course.task.config.train.epochs
            stopped = stopping.stops(course.task, {course.epoch: objective}, done=done)
            if stopped or done:
                results = self._results(course, scheduler if stopped else None)
                stopping.ended(course.task, results)
                feed.finished(course.task, results)
            else:
                due = now + _next_report(course, stopping.milestones) - course.epoch
                heapq.heappush(running, (due, number, course))

    def make_stopping(
        self, scheduler: SchedulerConfig | None, history: History, spares: Callable[[Task], bool]
    ) -> EarlyStopping:
        """Who decides which tasks are stopped."""
        return EarlyStopping(scheduler, history, spares)

    def _begin(self, task: Task, now: float) -> _Course:
        point, epochs = point_of(task.config), task.config.train.epochs
        curves = {seed: self.world.curve(point, seed, epochs) for seed in task.seeds}
        return _Course(task, now, curves, {seed: list(accumulate(curve, max)) for seed, curve in curves.items()})

    def _advance(self, course: _Course, epoch: int) -> dict[int, tuple[CurvePoint, ...]]:
        before, course.epoch = course.epoch, epoch
        return {seed: _points(course, seed, before) for seed in course.task.seeds}

    def _results(self, course: _Course, stopped_by: SchedulerConfig | None) -> list[RunResult]:
        task, reached = course.task, course.epoch
        results = []
        for seed in task.seeds:
            best = course.best[seed][reached - 1]
            scores = {"val_accuracy": best, "best_epoch": float(course.best[seed].index(best) + 1)}
            if task.test_metric is not None:
                scores[task.test_metric] = self.world.test_score(point_of(task.config), seed, task.test_metric)
            results.append(
                RunResult(
                    seed=seed,
                    status=COMPLETED if stopped_by is None else PRUNED,
                    reason=f"reached epoch {reached}"
                    if stopped_by is None
                    else f"stopped by {stopped_by.name} after epoch {reached}",
                    epochs=reached,
                    scores=scores,
                    curve=_points(course, seed, 0),
                    attempts=1,
                    started_at=(_START + timedelta(seconds=course.started)).isoformat(timespec="seconds"),
                    duration_seconds=float(reached),
                    device="simulated",
                    versions=library_versions(task.config.model.arch),
                    # What the plan of a space without GPUs asks for.
                    environment={"device_kind": "cpu"},
                )
            )
        return results

    def close(self) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.close`."""


def _points(course: _Course, seed: int, after: int) -> tuple[CurvePoint, ...]:
    lr, curve = course.task.config.train.lr, course.curves[seed]
    return tuple(_point(epoch, curve[epoch - 1], lr) for epoch in range(after + 1, course.epoch + 1))


def _point(epoch: int, accuracy: float, lr: float) -> CurvePoint:
    # A loss is asked for and used by nothing here: that of a forecast that is right with this probability.
    loss = -math.log(max(accuracy, 1e-3) / 100.0)
    return epoch_point(epoch, loss, accuracy, loss, accuracy, lr)


def _next_report(course: _Course, milestones: Sequence[int]) -> int:
    """The epoch of the task's next report: a rung of the scheduler, or its end."""
    epochs: int = course.task.config.train.epochs
    due = [epoch for epoch in milestones if course.epoch < epoch < epochs] if course.task.may_stop else []
    return min([*due, epochs])


@dataclass
class Quiet:
    """A :class:`tune_bn.protocols.observer.Observer` that keeps the records and says nothing."""

    records: list[Record] = field(default_factory=list)

    def study_started(self, info: Any, records: Sequence[Record]) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""

    def early_order_seen(self, line: str) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""

    def plan_locked(self, plan: Plan) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""

    def task_started(self, task: Task) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`."""

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[CurvePoint]]) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`."""

    def task_killed(self, task: Task) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`."""

    def run_recorded(self, record: Record, curve: Sequence[CurvePoint]) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""
        self.records.append(record)

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        """See :class:`tune_bn.protocols.observer.Observer`."""


def simulated_study(
    folder: Path,
    space: Space,
    world: World,
    *,
    workers: int = 1,
    runner: Runner | None = None,
    taught: Callable[[Sampler], Sampler] = lambda sampler: sampler,
) -> Study:
    """A new study in ``folder``, to be run.

    Args:
        folder: where it is to be.
        space: its space.
        world: what runs score.
        workers: tasks at the same time.
        runner: in place of a :class:`SimulatedRunner`.
        taught: what stands between the study and its samplers.
    """
    where = StudyFolder(folder).created(space)
    return Study(
        where,
        space,
        runner=runner or SimulatedRunner(world, workers),
        make_sampler=lambda arm, outcomes: taught(sampler_of(space, where, arm, outcomes)),
        observer=Quiet(),
        trainer=ScriptedTrainer(),
    )


def scratch() -> str | None:
    """A folder in memory where there is one: a study syncs every record to its disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def confirmed_truth(surrogate: Surrogate, space: Space, config: Mapping[str, Any]) -> float:
    """The true mean of a recorded configuration, in percent."""
    return surrogate.mean(point_of(space.run_config(config)))
