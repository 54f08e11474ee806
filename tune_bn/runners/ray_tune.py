"""Trains on Ray: one Tune experiment per stage, warm actors, the data once in the object store.

Tune schedules, stops early and retries. It does not keep the study: records, proposals and checkpoints are the
project's own, so nothing is ever restored from Tune's files, and they go to a temporary folder.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import torch
from ray import ObjectRef, tune
from ray.exceptions import RayError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.error import TuneError
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from tune_bn.errors import Interrupted, RunnerError
from tune_bn.method.user_network import is_user_network, source_tree
from tune_bn.runners.base import Feed, History, Listener, SchedulerConfig, Task
from tune_bn.runners.ray_address import reachable_address, unreachable
from tune_bn.runners.schedulers import METRIC, TIME, make_scheduler
from tune_bn.runners.worker import CurveBook, Report, TaskWorker, WorkerOptions, failed_results, final_results
from tune_bn.training.data import Dataset
from tune_bn.training.device_data import DeviceData

# Tune reads these when it starts an experiment. Its loggers and its snapshots of the experiment would cost the driver
# time that grows with the number of trials, for files that nothing reads.
_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "auto",
    "RAY_AIR_NEW_OUTPUT": "0",
    # Tasks that no scheduler may stop do not report its metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


# Keys of a trial's configuration.
TASK, TEST = "task", "test"


@dataclass(frozen=True)
class RayOptions:
    """Where and with what the trials run."""

    address: str | None = None
    """Address of a running cluster, or ``auto``; None starts one on this machine."""
    cpu: float = 1.0
    gpu: float = 0.0
    max_concurrent: int | None = None
    """Trials at the same time; None: what fits the cluster at the start."""
    elastic: bool = False
    """The cluster grows when trials wait, so work that does not fit it now is not refused. As many trials wait as
    ``max_concurrent`` says, so it must be stated for the cluster to grow beyond what it has."""
    max_failures: int = 3
    checkpoint_seconds: float = 60.0
    archs: Sequence[str] = ()
    """Networks that the trials may train; workers elsewhere are sent the modules of the user's among them."""
    init: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``ray.init``."""


class TaskTrainable(tune.Trainable):  # type: ignore[misc]
    """Ray Tune's side of a task. An actor serves many tasks and keeps the images on its device between them."""

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset,
        options: WorkerOptions,
        threads: int,
    ) -> None:
        """Called once per actor; the arrays of ``dataset`` are views of the object store."""
        torch.set_num_threads(threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() and ray.get_gpu_ids() else "cpu")
        self.dataset = dataset
        self.options = options
        self.data: DeviceData | None = None
        self.worker: TaskWorker | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another task. An error here would end the trial without a word, so the work waits for :meth:`step`."""
        self._end_task()
        return True

    def cleanup(self) -> None:
        """Called once per actor, at its end."""
        self._end_task()

    def _end_task(self) -> None:
        """Let go of the task, once none of its checkpoints is being written."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def step(self) -> dict[str, Any]:
        """Train until a report is due."""
        task: Task = self.config[TASK]
        try:
            if self.worker is None:
                self.worker = TaskWorker(task, self._device_data(), self.options)
            report = self.worker.step()
        except BaseException:
            # The driver discards the checkpoints of a failed task as soon as it hears of it.
            self._end_task()
            raise
        result = {TIME: report.epoch, "done": report.done, "report": report}
        # A scheduler leaves a trial alone that does not report its metric.
        return result | {METRIC: report.objective} if task.may_stop else result

    def _device_data(self) -> DeviceData:
        if self.data is None:
            self.data = DeviceData(self.dataset, self.device)
        # The test images are not even on this machine's device before a task that may read them.
        if TEST in self.config and self.data.test is None:
            self.data.add_test(ray.get(self.config[TEST]))
        return self.data


class _DriverOnly:
    """Lives in this process: Tune pickles its parts for a restore that never comes, and gets an empty shell."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _FeedSearcher(_DriverOnly, Searcher):  # type: ignore[misc]
    """Hands the tasks of a feed to Tune; :class:`_FeedCallback`, which sees the trials, tells what becomes of them."""

    def __init__(self, feed: Feed, tasks: dict[str, Task], test: Callable[[], ObjectRef]) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.feed = feed
        self.tasks = tasks
        self.test = test
        self.finished = False

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, None to wait for others, or FINISHED."""
        task = self.feed.next()
        if task is not None:
            self.tasks[trial_id] = task
            return {TASK: task} if task.test_metric is None else {TASK: task, TEST: self.test()}
        self.finished = self.feed.exhausted
        return Searcher.FINISHED if self.finished else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Left to the callback."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""


class _FeedCallback(_DriverOnly, Callback):  # type: ignore[misc]
    """Follows Tune's trials and gives finished tasks back to the feed."""

    def __init__(
        self, feed: Feed, listener: Listener, tasks: dict[str, Task], scheduler: SchedulerConfig | None
    ) -> None:
        self.feed = feed
        self.listener = listener
        self.tasks = tasks
        self.scheduler = scheduler
        self.curves: dict[str, CurveBook] = {}
        self.reports: dict[str, Report] = {}
        self.started_at: dict[str, str] = {}
        self.finished: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.curves.setdefault(trial.trial_id, CurveBook())
        self.started_at.setdefault(trial.trial_id, datetime.now(UTC).isoformat(timespec="seconds"))
        self.listener.task_started(self.tasks[trial.trial_id])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        report: Report = result["report"]
        self.reports[trial.trial_id] = report
        self.curves[trial.trial_id].add(report.curves)
        self.listener.task_progress(self.tasks[trial.trial_id], report.curves)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if trial.trial_id in self.reports:
            report = self.reports[trial.trial_id]
            task = self.tasks[trial.trial_id]
            pruned_by = self.scheduler.name if self.scheduler and task.may_stop and not report.done else None
            if report.done or pruned_by is not None:
                results = final_results(
                    report.results,
                    self.curves[trial.trial_id],
                    pruned_by=pruned_by,
                    attempts=trial.num_failures + 1,
                )
                self._finish(trial, results)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        results = failed_results(
            self.tasks[trial.trial_id],
            _error_text(trial),
            self.curves.get(trial.trial_id, CurveBook()),
            attempts=trial.num_failures,
            started_at=self.started_at.get(trial.trial_id, datetime.now(UTC).isoformat(timespec="seconds")),
        )
        self._finish(trial, results)

    def _finish(self, trial: Trial, results: Sequence[Any]) -> None:
        task = self.tasks[trial.trial_id]
        self.finished.add(trial.trial_id)
        # A search of many thousand trials must not keep what is on disk by now.
        for book in (self.curves, self.reports, self.started_at):
            book.pop(trial.trial_id, None)
        self.feed.finished(task, results)

    def running(self) -> list[Task]:
        """Tasks that Tune had begun and not finished."""
        return [task for trial_id, task in self.tasks.items() if trial_id not in self.finished]


def _trial_name(trial: Trial) -> str:
    # Tune pickles this function for every trial; with the tasks in a closure that grew with the square of their number.
    task: Task = trial.config[TASK]
    return task.key


def _error_text(trial: Trial) -> str:
    path = trial.error_file
    if path and Path(path).exists():
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return str(trial.get_error() or "the worker died")


def connect(options: RayOptions) -> None:
    """Connect to the cluster, or start one on this machine, and check that a trial fits it.

    Raises:
        RunnerError: the address cannot be reached, or the cluster is too small for one trial.
        MethodError: a network of the user's cannot be imported.
    """
    os.environ.update({key: os.environ.get(key, value) for key, value in _TUNE_SETTINGS.items()})
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address is None:
        # Without an address Ray joins whatever cluster this machine last knew, also a dead one.
        arguments |= {"address": "local", "include_dashboard": False}
    else:
        arguments["address"] = reachable_address(options.address)
        # Workers of this machine look into the folder in which the driver starts; others have no such folder.
        modules = {source_tree(arch) for arch in options.archs if is_user_network(arch)} - {None}
        if modules:
            arguments["runtime_env"] = {"py_modules": sorted(map(str, modules))}
    try:
        ray.init(**arguments, **options.init)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, RayError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise unreachable(options.address or "this machine", reason) from None
    try:
        _require_resources(options)
    except RunnerError:
        ray.shutdown()
        raise


def _require_resources(options: RayOptions) -> None:
    available = ray.cluster_resources()
    for kind, key, needed in (("GPU", "gpu", options.gpu), ("CPU", "cpu", options.cpu)):
        has = available.get(kind, 0.0)
        if needed > has and not options.elastic:
            raise RunnerError(
                f"resources.{key}: got {needed:g} per trial, but the cluster has {has:g} {kind}s; accepted: at most "
                f"{has:g}, or resources.elastic: true with resources.max_concurrent for a cluster that grows on demand"
            )


class RayTuneRunner:
    """A :class:`tune_bn.runners.base.Runner` on the cluster that :func:`connect` reached."""

    def __init__(self, dataset: Dataset, options: RayOptions, checkpoints: Path | None = None) -> None:
        self.options = options
        self.checkpoints = checkpoints
        self.folder = Path(tempfile.mkdtemp(prefix="tune_bn-ray-"))
        self._dataset = dataset
        self._fingerprint = dataset.sha256
        self._base = ray.put(dataset.without_test())
        self._test: ObjectRef | None = None

    @property
    def max_concurrent(self) -> int:
        """Trials at the same time: as stated, else what fits the cluster now."""
        if self.options.max_concurrent is not None:
            return self.options.max_concurrent
        available = ray.cluster_resources()
        fits = [
            available.get(kind, 0.0) / needed
            for kind, needed in (("CPU", self.options.cpu), ("GPU", self.options.gpu))
            if needed > 0
        ]
        return max(1, int(min(fits) + 1e-9))

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """See :meth:`tune_bn.runners.base.Runner.run`."""
        tasks: dict[str, Task] = {}
        callback = _FeedCallback(feed, listener, tasks, scheduler)
        searcher = _FeedSearcher(feed, tasks, self._test_ref)
        if feed.exhausted:
            return
        tuner = Tuner(
            self._trainable(scheduler),
            tune_config=TuneConfig(
                search_alg=searcher,
                scheduler=None if scheduler is None else make_scheduler(scheduler, history),
                num_samples=-1,
                max_concurrent_trials=self.max_concurrent,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=RunConfig(
                storage_path=str(self.folder),
                callbacks=[callback],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                failure_config=FailureConfig(max_failures=self.options.max_failures),
                verbose=0,
            ),
        )
        # Tune takes over Ctrl-C and does not give it back when it ends, which would swallow the next one.
        handler = signal.getsignal(signal.SIGINT)
        try:
            tuner.fit()
        except KeyboardInterrupt:
            self._killed(callback, listener)
        except (TuneError, RayError) as error:
            for task in callback.running():
                listener.task_killed(task)
            reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            raise RunnerError(
                f"Ray Tune ended early ({reason.strip()}); what finished is kept, --resume goes on"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
        # After Ctrl-C Tune returns as if all were well.
        if callback.running() or not searcher.finished:
            self._killed(callback, listener)

    @staticmethod
    def _killed(callback: _FeedCallback, listener: Listener) -> None:
        for task in callback.running():
            listener.task_killed(task)
        raise Interrupted("interrupted")

    def _test_ref(self) -> ObjectRef:
        """The test images in the object store; they come there with the first task that may read them."""
        if self._test is None:
            if self._dataset.test is None:
                raise RunnerError(
                    "the data has no test images, but a task is to read them; accepted: data with a test split"
                )
            self._test = ray.put(self._dataset.test)
        return self._test

    def _trainable(self, scheduler: SchedulerConfig | None) -> Any:
        worker = WorkerOptions(
            checkpoints=self.checkpoints,
            checkpoint_seconds=self.options.checkpoint_seconds,
            fingerprint=self._fingerprint,
            milestones=() if scheduler is None else scheduler.milestones,
        )
        trainable = tune.with_parameters(
            TaskTrainable, dataset=self._base, options=worker, threads=max(1, int(self.options.cpu))
        )
        return tune.with_resources(trainable, {"cpu": self.options.cpu, "gpu": self.options.gpu})

    def close(self) -> None:
        """See :meth:`tune_bn.runners.base.Runner.close`. Leaves the cluster."""
        if ray.is_initialized():
            ray.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)
