"""Trains in this process, one task after the other: for debugging, small studies and machines without Ray."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from tune_bn.data.dataset import Dataset
from tune_bn.errors import Interrupted, RunnerError
from tune_bn.protocols.runner import Feed, History, Listener, RunResult, SchedulerConfig, Task
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import (
    CheckpointWarning,
    CurveBook,
    TaskWorker,
    WorkerOptions,
    failed_results,
    final_results,
)
from tune_bn.training.device_data import DeviceData


class LocalRunner:
    """A :class:`tune_bn.protocols.runner.Runner` without other processes."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        device: torch.device | str = "cpu",
        checkpoints: Path | None = None,
        checkpoint_seconds: float = 60.0,
        keep_weights: bool = False,
        max_failures: int = 0,
        warn: Callable[[str], None] | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self.stop = stop or StopRequest()
        self.device = torch.device(device)
        self.dataset = dataset
        self.options = WorkerOptions(
            checkpoints, checkpoint_seconds, fingerprint=dataset.sha256, keep_weights=keep_weights
        )
        self.max_failures = max_failures
        self._warn = CheckpointWarning(checkpoints, warn)
        self._data: dict[bool, DeviceData] = {}

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
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        curves, attempt = CurveBook(), 0
        options = replace(self.options, milestones=stopping.milestones)
        while True:
            attempt += 1
            listener.task_started(task)
            try:
                with closing(TaskWorker(task, self._device_data(task), options)) as worker:
                    while True:
                        self.stop.check()
                        report = worker.step()
                        curves.add(report.curves)
                        self._warn.hear(report)
                        listener.task_progress(task, report.curves)
                        stopped = stopping.stops(task, report.objectives, done=report.done)
                        if report.done or stopped:
                            by = stopping.name if stopped else None
                            return final_results(report.results, curves, pruned_by=by, attempts=attempt)
            except (KeyboardInterrupt, Interrupted):
                listener.task_killed(task)
                raise Interrupted(self.stop.reason or INTERRUPTED) from None
            except Exception:
                # Any error of a run is an outcome of that run; the others must go on.
                if attempt > self.max_failures:
                    error = traceback.format_exc()
                    return failed_results(task, error, curves, attempts=attempt, started_at=started_at)

    def _device_data(self, task: Task) -> DeviceData:
        with_test = task.test_metric is not None
        if with_test not in self._data:
            dataset = self.dataset if with_test else self.dataset.without_test()
            self._data[with_test] = DeviceData(dataset, self.device)
        return self._data[with_test]

    def close(self) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.close`."""
        self._data.clear()
