"""What a worker does with a task, in whichever process it lives: train its seeds side by side, report, checkpoint."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tune_bn.protocols.runner import Point, RunResult, Task
from tune_bn.protocols.trainer import COMPLETED, FAILED, PRUNED, Run, Session
from tune_bn.records.energy import KEY
from tune_bn.records.files import sha256_of
from tune_bn.records.record import CONFIRM
from tune_bn.records.score import Score
from tune_bn.runners.checkpoint import CheckpointStore, CheckpointWriter
from tune_bn.runners.energy import Meter


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker reports and checkpoints."""

    checkpoints: Path | None
    """Folder of all checkpoints of the study; None: no checkpoints."""
    checkpoint_seconds: float = 60.0
    """Least time between two checkpoints."""
    report_seconds: float = 1.0
    """Least time between two reports, unless a milestone falls between them."""
    milestones: tuple[int, ...] = ()
    """Steps that must be reported on their own, because a scheduler decides there."""
    keep_weights: bool = False
    """Whether a run of the confirmation ends with a checkpoint, which its study keeps."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What a runner knows of the place of its worker, for the environment of the records."""
    runs: Path | None = None
    """Folder in which each run may have one of its own; None: they have none."""


@dataclass(frozen=True)
class Report:
    """The state of a task between two steps."""

    epoch: int
    """Steps that are done."""
    objective: float
    """Mean over the task's seeds of the validation score so far, turned such that higher is better."""
    done: bool
    curves: Mapping[int, Sequence[Point]]
    """New points by seed; all points again after a restore."""
    results: Sequence[RunResult]
    """What would be recorded if the task ended here, without curves; final where ``done``."""
    problem: str | None = None
    """Why the last checkpoint could not be written, if so; the training went on."""
    passed: Mapping[int, float] = field(default_factory=dict)
    """The objective at milestones that lay behind the task when it went on from a checkpoint."""

    @property
    def objectives(self) -> dict[int, float]:
        """The objective by step, as far as a scheduler has not heard of it; the last one is that of now."""
        return {**self.passed, self.epoch: self.objective}


class TaskWorker:
    """Trains one task. Call :meth:`step` until a report says ``done``, and :meth:`close` wherever it ends.

    Args:
        task: what is trained.
        session: trains it.
        score: what its runs are scored by.
        options: how it reports and checkpoints.
    """

    def __init__(self, task: Task, session: Session, score: Score, options: WorkerOptions) -> None:
        self.task = task
        self.score = score
        self.options = options
        self.meter = Meter(session.device)
        store = None if options.checkpoints is None else CheckpointStore(options.checkpoints / task.key)
        # Only a task of the same configuration, seeds, data and code takes up a checkpoint.
        self.identity = sha256_of(
            {"seeds": task.seeds, "test_metric": task.test_metric, "run": dict(session.identity(task.config))}
        )
        state = None if store is None else store.load(session.device)
        # A disk of its own keeps a worker's checkpoints; a later study of the same name must not go on from them.
        states = state["runs"] if state is not None and state.get("identity") == self.identity else []
        self.runs: list[Run] = []
        try:
            for index, seed in enumerate(task.seeds):
                name = task.run_key(seed)
                self.runs.append(
                    session.start(
                        task.config,
                        seed,
                        test=task.test_metric,
                        name=name,
                        folder=None if options.runs is None else options.runs / name,
                        state=states[index] if states else None,
                    )
                )
        except BaseException:
            self._close_runs()
            raise
        self.reported = [0] * len(self.runs)
        self.writer = None if store is None else CheckpointWriter(store, options.checkpoint_seconds)
        self.passed = {step: self._objective(step) for step in options.milestones if step <= self.epoch}

    @property
    def epoch(self) -> int:
        """Steps of the task: those of its longest run, since diverged runs stop before the others."""
        return max(run.steps for run in self.runs)

    @property
    def done(self) -> bool:
        """Whether every seed is done."""
        return all(run.done for run in self.runs)

    def step(self) -> Report:
        """Train until a report is due: after a while, at a milestone, and at the end."""
        start = time.monotonic()
        while not self.done:
            # Side by side: a run that is ahead of others waits for them.
            slowest = min(run.steps for run in self.runs if not run.done)
            waiting = [run.advance() is None for run in self.runs if not run.done and run.steps == slowest]
            now = time.monotonic()
            if self.writer is not None and not self.done and self.writer.due and not any(waiting):
                self._save(self.writer)
            if self.epoch in self.options.milestones or now - start >= self.options.report_seconds:
                break
        if self.writer is not None and self.done:
            # Whoever hears that the task is done may discard its folder.
            self.writer.flush()
            if self.options.keep_weights and self.task.stage == CONFIRM:
                self._save(self.writer)
                self.writer.flush()
        return self._report()

    def checkpoint(self) -> None:
        """Write a checkpoint now, and wait until it is written: the task goes on elsewhere."""
        if self.writer is not None and self.epoch and not self.done:
            self.writer.flush()
            self._save(self.writer)
            self.writer.flush()

    def _save(self, writer: CheckpointWriter) -> None:
        runs = (run.state() for run in self.runs)
        writer.save({"identity": self.identity, "task": described(self.task), "runs": runs})

    def close(self) -> None:
        """End its runs, and wait until nothing is written any more."""
        self._close_runs()
        if self.writer is not None:
            self.writer.flush()

    def _close_runs(self) -> None:
        for run in self.runs:
            run.close()

    def _report(self) -> Report:
        curves = {run.seed: tuple(run.curve[n:]) for run, n in zip(self.runs, self.reported, strict=True)}
        self.reported = [len(run.curve) for run in self.runs]
        # The test data is read by the final report alone.
        results = [run.result() if self.done else run.interim() for run in self.runs]
        if self.done and self.task.inspect:
            # Last: what becomes of the run is known by now, with the weights of the last step still in place.
            results = [
                replace(result, diagnostics=run.inspect()) for result, run in zip(results, self.runs, strict=True)
            ]
        place = self.options.environment
        used = self.meter.entries()
        place = {**place, **({KEY: used} if used else {})}
        bare = tuple(replace(result, curve=(), environment={**place, **result.environment}) for result in results)
        problem = None if self.writer is None else self.writer.problem
        passed, self.passed = self.passed, {}
        return Report(self.epoch, self._objective(self.epoch), self.done, curves, bare, problem, passed)

    def _objective(self, step: int) -> float:
        """Of the task, as it stood after that step."""
        return sum(self._objective_of(run, step) for run in self.runs) / len(self.runs)

    def _objective_of(self, run: Run, step: int) -> float:
        if not run.curve or (run.diverged and run.steps <= step):
            return self.score.worst
        return self.score.objectives([point[self.score.validation] for point in run.curve[:step]])[-1]


def described(task: Task) -> dict[str, Any]:
    """What a task trains, as plain values: weights say neither the γ that they began with nor its learning rate."""
    model = getattr(task.config, "model", None)
    described = {"key": task.key, "arm": task.arm, "overrides": dict(task.overrides)}
    return described if model is None else described | {"model": asdict(model)}


class CheckpointWarning:
    """Tells the user, once, that checkpoints cannot be written.

    Args:
        folder: where they should go.
        warn: takes a line; None: nobody is told.
    """

    def __init__(self, folder: Path | None, warn: Callable[[str], None] | None) -> None:
        self.folder = folder
        self._warn = warn

    def hear(self, report: Report) -> None:
        """Take a report of a worker."""
        if report.problem is not None and self._warn is not None:
            self._warn(f"checkpoints cannot be written to {self.folder} ({report.problem}); the training goes on")
            self._warn = None


class CurveBook:
    """The curve points of one task as they come in; a point that comes again replaces itself."""

    def __init__(self) -> None:
        self._points: dict[int, dict[int, Point]] = {}

    def add(self, curves: Mapping[int, Sequence[Point]]) -> None:
        """Take new points, by seed."""
        for seed, points in curves.items():
            self._points.setdefault(seed, {}).update({point.step: point for point in points})

    def curve(self, seed: int) -> tuple[Point, ...]:
        """All points of a seed in order."""
        points = self._points.get(seed, {})
        return tuple(points[step] for step in sorted(points))


def final_results(
    results: Sequence[RunResult], curves: CurveBook, *, pruned_by: str | None, attempts: int, step: str = "epoch"
) -> list[RunResult]:
    """The results of a task's last report, completed with what the driver knows: curves, attempts, early stopping."""
    final = []
    for result in results:
        if pruned_by is not None and result.status == COMPLETED:
            reason = f"stopped by {pruned_by} after {step} {result.epochs}"
            result = replace(result, status=PRUNED, reason=reason)
        final.append(replace(result, curve=curves.curve(result.seed), attempts=attempts))
    return final


def failed_results(
    task: Task,
    error: str,
    curves: CurveBook,
    *,
    attempts: int,
    started_at: str,
    versions: Mapping[str, str],
    lost: bool = False,
) -> list[RunResult]:
    """One failed result per seed of a task that could not be trained; ``error`` is the traceback."""
    reason = error_line(error)[:500]
    return [
        RunResult(
            seed=seed,
            status=FAILED,
            reason=reason,
            epochs=len(curves.curve(seed)),
            scores={},
            curve=curves.curve(seed),
            attempts=attempts,
            started_at=started_at,
            duration_seconds=0.0,
            device="unknown",
            versions=versions,
            lost=lost,
        )
        for seed in task.seeds
    ]


def error_line(text: str) -> str:
    """The line of a traceback, of one process or of several in a row, that names the last error.

    An error's message may have many lines, of which the last one seldom says what happened.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    frames = [index for index, line in enumerate(lines) if re.match(r'\s+File ".*", line \d+', line)]
    after = lines[frames[-1] + 1 :] if frames else []
    named = [line for line in after if line and not line[0].isspace()]
    words = [line.strip() for line in lines if line.strip()]
    return (named or words[-1:] or ["unknown error"])[0]
