"""Trains on Ray: one Tune experiment for all stages, warm actors, the data once in the object store.

Tune schedules, stops early and retries. It does not keep the study: records, proposals and checkpoints are the
project's own, so nothing is ever restored from Tune's files, and they go to a temporary folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import ObjectRef, tune
from ray.exceptions import RayError
from ray.tune.error import TuneError

from tune_bn.errors import ClusterLost, Interrupted, RunnerError
from tune_bn.protocols.runner import Feed, History, Listener, SchedulerConfig
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.protocols.trainer import Trainer
from tune_bn.runners.ray.experiment import Experiment
from tune_bn.runners.ray.feed import FeedCallback, FeedSearcher, Ledger, Pairs
from tune_bn.runners.ray.folder import tune_folder
from tune_bn.runners.ray.pair_placement import PairPlacement
from tune_bn.runners.ray.share import ClusterShare
from tune_bn.runners.ray.start import RayOptions, disconnect, folder_here
from tune_bn.runners.ray.trainable import TaskTrainable, placement
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import CheckpointWarning, WorkerOptions

KEEP_SECONDS = 20.0
"""How long a worker without a trial is kept on a cluster that is not this study's own, where no other study waits."""


class RayTuneRunner:
    """A :class:`tune_bn.protocols.runner.Runner` on the cluster that :func:`tune_bn.runners.ray.start.connect` reached.

    Args:
        trainer: trains the runs.
        options: where and with what the trials run.
        checkpoints: folder of the study's checkpoints; None: no checkpoints.
        runs: folder in which each run may have one of its own; None: they have none.
        warn: told once, in one line, that checkpoints cannot be written.
        stop: the request at which the work is interrupted.
    """

    def __init__(
        self,
        trainer: Trainer,
        options: RayOptions,
        checkpoints: Path | None = None,
        *,
        runs: Path | None = None,
        warn: Callable[[str], None] | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self.runs = runs
        self.options = options
        self._say = warn
        self.stop = stop or StopRequest()
        self._warn = CheckpointWarning(checkpoints, warn)
        self.checkpoints = checkpoints
        self._tune_folder = tune_folder(folder_here())
        self.folder = self._tune_folder.path
        self.trainer = trainer
        # It may be gone when a later stage begins.
        self._started_in = os.getcwd()
        self._base = ray.put(trainer.without_test())
        self._test: ObjectRef | None = None
        self._experiment: Experiment | None = None
        self.share = ClusterShare(
            cpu=options.cpu,
            gpu=options.gpu,
            max_concurrent=options.max_concurrent,
            elastic=options.elastic,
            shared=options.address is not None,
            user=options.user,
        )

    @property
    def max_concurrent(self) -> int:
        """Trials that the study may have in flight now."""
        return self.share.most

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.run`."""
        # It outlives the experiments of a search in several turns.
        ledger, stopping = Ledger(), EarlyStopping(scheduler, history, feed.spares)
        pairs = Pairs(PairPlacement(elastic=self.options.elastic, warn=self._say), self.options.gpu)
        more = not feed.exhausted
        try:
            with self.stop.on_signals(), self.stop.watched():
                while more:
                    self.share.await_turn(self.stop.check)
                    more = self._turn(feed, listener, ledger, stopping, pairs)
        except KeyboardInterrupt:
            raise Interrupted(self.stop.reason or INTERRUPTED) from None
        except (TuneError, RayError) as error:
            # A service manager may end Ray's processes together with this one.
            if self.stop.asked:
                raise Interrupted(self.stop.reason) from None
            last = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            raise ClusterLost(
                f"Ray Tune ended early ({last.strip()}); what finished is kept, --resume goes on"
            ) from error
        finally:
            # Whatever ended the stage early ended these with it.
            for task in ledger.tasks.values():
                listener.task_killed(task)
            self.share.tell(0)

    def _turn(self, feed: Feed, listener: Listener, ledger: Ledger, stopping: EarlyStopping, pairs: Pairs) -> bool:
        """Work on a stage until it is done or other studies are to have their turn; whether there is more of it."""
        callback = FeedCallback(
            feed,
            listener,
            ledger,
            stopping,
            self.options.max_failures,
            self._warn,
            pairs,
            versions=self.trainer.versions,
            step_words=self.trainer.score.step,
        )
        searcher = FeedSearcher(feed, ledger, self.share, self._test_ref, pairs.kind_of, stopping.milestones)
        if self._experiment is None:
            self._experiment = Experiment(
                self._trainable(),
                self.folder,
                self.share,
                max_failures=self.options.max_failures,
                # The searcher keeps the limit; this one is how many trials may wait for a worker.
                pending=self.options.max_concurrent,
                # Of a Ray of its own nobody else waits for what an idle worker holds.
                keep=math.inf if self.options.address is None else KEEP_SECONDS,
                own_ray=self.options.address is None,
            )
        try:
            self._experiment.work(searcher, callback, stopping, self.stop)
        except Exception:
            self.end_workers()
            raise
        except BaseException:
            # Who lost patience does not wait for workers to end.
            self._experiment = None
            raise
        if callback.failure is not None or callback.released or searcher.yielded or self.share.beside_others:
            # Where there are more studies than trials fit, each has a Tune experiment for each of its turns: that Tune
            # lets go of a warm worker before its experiment ends is nothing to rely on.
            self.end_workers()
        if callback.failure is not None:
            raise callback.failure
        if callback.released:
            for task in ledger.tasks.values():
                pairs.ended(task, None)
                listener.task_killed(task)
            ledger.again.extend(ledger.tasks.values())
            for book in (ledger.tasks, ledger.kinds, ledger.placed, ledger.making_room):
                book.clear()
        return not searcher.finished

    def end_workers(self) -> None:
        """End the workers that are kept warm. May be called between two stages: the later one begins with new ones."""
        experiment, self._experiment = self._experiment, None
        # Where the cluster is gone there is nothing to end.
        if experiment is not None:
            with suppress(TuneError, RayError):
                experiment.close()

    def _test_ref(self) -> ObjectRef:
        """What a test needs in the object store; it comes there with the first task that may read it."""
        if self._test is None:
            part = self.trainer.test_part
            if part is None:
                raise RunnerError("there is no test data, but a task is to read it; accepted: data with a test split")
            self._test = ray.put(part)
        return self._test

    def _trainable(self) -> Any:
        worker = WorkerOptions(
            checkpoints=self.checkpoints,
            checkpoint_seconds=self.options.checkpoint_seconds,
            keep_weights=self.options.keep_weights,
            runs=self.runs,
        )
        trainable = tune.with_parameters(
            TaskTrainable,
            trainer=self._base,
            options=worker,
            threads=max(1, int(self.options.cpu)),
            folder=self._started_in,
            gpu=self.options.gpu,
        )
        return tune.with_resources(trainable, partial(placement, cpu=self.options.cpu, gpu=self.options.gpu))

    def close(self) -> None:
        """See :meth:`tune_bn.protocols.runner.Runner.close`. Leaves the cluster."""
        if ray.is_initialized():
            self.end_workers()
            self.share.leave()
        self._tune_folder.remove()
        disconnect()
