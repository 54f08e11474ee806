"""Trains in this process, one task after the other: for debugging, small studies and machines without Ray."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tune_bn.errors import Interrupted, RunnerError
from tune_bn.host.machine import usable_cores
from tune_bn.protocols.runner import Feed, History, Listener, RunResult, SchedulerConfig, Task
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.protocols.trainer import Place, PreemptedError, Session, Trainer
from tune_bn.records.times import utc_now
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import (
    CheckpointWarning,
    CurveBook,
    TaskWorker,
    WorkerOptions,
    failed_results,
    final_results,
)


def local_place(cpu: float, gpu: float) -> Place:
    """Where this process trains a run that holds so many cores and GPUs.

    Raises:
        RunnerError: it may not use so many.
    """
    import torch

    for kind, key, needed, has in (
        ("CPU", "cpu", cpu, usable_cores()),
        ("GPU", "gpu", gpu, torch.cuda.device_count() if gpu else 0),
    ):
        if needed > has:
            raise RunnerError(
                f"resources.{key}: got {needed:g} per trial, but this process may use {has} {kind}s; accepted: at most "
                f"{has}, or a search without --local on a cluster that has them"
            )
    gpus = tuple(str(number) for number in range(math.ceil(gpu)))
    return Place("cuda" if gpu else "cpu", max(1, int(cpu)), gpus, min(1.0, gpu) if gpu else 1.0)


class LocalRunner:
    """A :class:`tune_bn.protocols.runner.Runner` without other processes.

    It trains one task at a time. A task that takes the process down takes the study with it, which a resume goes on
    with; nothing is spread over machines, and nobody is waited for.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        place: Place | None = None,
        checkpoints: Path | None = None,
        runs: Path | None = None,
        checkpoint_seconds: float = 60.0,
        keep_weights: bool = False,
        max_failures: int = 0,
        warn: Callable[[str], None] | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self.stop = stop or StopRequest()
        self.trainer = trainer
        self.place = place or Place()
        self.options = WorkerOptions(checkpoints, checkpoint_seconds, keep_weights=keep_weights, runs=runs)
        self.max_failures = max_failures
        self._warn = CheckpointWarning(checkpoints, warn)
        self._opened: Session | None = None

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.run`."""
        stopping = EarlyStopping(scheduler, history, feed.spares)
        with self.stop.watched():
            while not feed.exhausted:
                self.stop.check()
                task = feed.next()
                if task is None:
                    if feed.exhausted:
                        break
                    raise RunnerError("the feed has no task and awaits none; accepted: a feed that ends")
                results = self._train(task, listener, stopping)
                stopping.ended(task, results)
                feed.finished(task, results)

    def _train(self, task: Task, listener: Listener, stopping: EarlyStopping) -> list[RunResult]:
        started_at = utc_now()
        curves, attempt = CurveBook(), 0
        options = replace(self.options, milestones=stopping.milestones)
        while True:
            attempt += 1
            listener.task_started(task)
            try:
                with closing(TaskWorker(task, self._session(task), self.trainer.score, options)) as worker:
                    while True:
                        self.stop.check()
                        report = worker.step()
                        curves.add(report.curves)
                        self._warn.hear(report)
                        listener.task_progress(task, report.curves)
                        stopped = stopping.stops(task, report.objectives, done=report.done)
                        if report.done or stopped:
                            by = stopping.name if stopped else None
                            word = self.trainer.score.step
                            return final_results(report.results, curves, pruned_by=by, attempts=attempt, step=word)
            except (KeyboardInterrupt, Interrupted):
                listener.task_killed(task)
                raise Interrupted(self.stop.reason or INTERRUPTED) from None
            except PreemptedError:
                attempt -= 1
            except Exception:
                # Any error of a run is an outcome of that run; the others must go on.
                if attempt > self.max_failures:
                    error = traceback.format_exc()
                    versions = self.trainer.versions(task.config)
                    return failed_results(
                        task, error, curves, attempts=attempt, started_at=started_at, versions=versions
                    )

    def _session(self, task: Task) -> Session:
        if self._opened is None:
            self._opened = self.trainer.without_test().open(self.place)
        if task.test_metric is not None and not self._opened.has_test:
            self._opened.add_test(self.trainer.test_part)
        return self._opened

    def close(self) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.close`."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
