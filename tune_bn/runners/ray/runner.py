"""Trains on Ray: one Tune experiment for all stages, warm actors, the data once in the object store.

Tune schedules, stops early and retries. It does not keep the study: records, proposals and checkpoints are the
project's own, so nothing is ever restored from Tune's files, and they go to a temporary folder.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import ObjectRef, tune
from ray.exceptions import RayError
from ray.tune.error import TuneError

from tune_bn.errors import ClusterLost, Interrupted, RunnerError, first_line, own_fault
from tune_bn.host.machine import cuda_devices, usable_cores
from tune_bn.host.process import WAITING, apart
from tune_bn.protocols.runner import Feed, History, Listener, SchedulerConfig
from tune_bn.protocols.stop_request import INTERRUPTED, StopRequest
from tune_bn.protocols.trainer import Trainer
from tune_bn.runners.ray import compat
from tune_bn.runners.ray.address import reachable_address, unreachable
from tune_bn.runners.ray.experiment import Experiment
from tune_bn.runners.ray.feed import FeedCallback, FeedSearcher, Ledger, Pairs
from tune_bn.runners.ray.folder import RayFolder, tune_folder
from tune_bn.runners.ray.job import InstalledFirst
from tune_bn.runners.ray.loopback import leave_loopback, on_loopback_alone, stay_on_loopback
from tune_bn.runners.ray.pair_placement import PairPlacement
from tune_bn.runners.ray.share import ClusterShare
from tune_bn.runners.ray.trainable import TaskTrainable, placement
from tune_bn.runners.ray.words import logged_cause, tight_limits
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import CheckpointWarning, WorkerOptions

_folders: list[RayFolder] = []
"""Those of the Ray that this process started, and of any that ended without a word."""
KEEP_SECONDS = 20.0
"""How long a worker without a trial is kept on a cluster that is not this study's own, where no other study waits."""
JOIN_SECONDS = 60.0
"""How long a study waits for a cluster's nodes to join before it says that there are too few."""


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
    keep_weights: bool = False
    """Whether runs of the confirmation end with a checkpoint."""
    code: Sequence[Path] = ()
    """Modules of the user's, which workers elsewhere are sent."""
    modules: Sequence[str] = ()
    """What workers of a Ray of this machine load while the driver still starts: the trainer's module, and with it what
    takes seconds to load."""
    init: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``ray.init``."""
    user: str = ""
    """Whose study it is, where others share the cluster: users have even shares."""
    tell: Callable[[str], None] = lambda line: None
    """Takes a line for the user where a Ray of this machine starts in another way than the environment says."""


def _runtime_environment(options: RayOptions) -> dict[str, Any]:
    """What workers of a running cluster lack; those of this machine have the driver's folder and environment."""
    environment: dict[str, Any] = {"py_modules": sorted(map(str, options.code))} if options.code else {}
    if options.cpu > 1:
        environment["env_vars"] = {name: os.environ.get(name, value) for name, value in WAITING.items()}
    return environment


def connect(options: RayOptions) -> None:
    """Connect to the cluster, or start one on this machine, and check that a trial fits it.

    Raises:
        RunnerError: the address cannot be reached, the cluster is too small for one trial, or this version of Ray lacks
            what is used of it.
    """
    compat.require()
    os.environ.update({key: os.environ.get(key, value) for key, value in compat.TUNE_SETTINGS.items()})
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if options.address is None:
        # Without an address Ray joins whatever cluster this machine last knew, also a dead one.
        arguments |= {"address": "local", "include_dashboard": False, "num_cpus": usable_cores()}
        if devices := os.environ.get("CUDA_VISIBLE_DEVICES"):
            os.environ["CUDA_VISIBLE_DEVICES"] = cuda_devices(devices)
        _ensure_token()
        _folders.append(RayFolder(tell=options.tell))
        arguments |= compat.local_folder(str(_folders[-1].ray))
        atexit.register(_disconnect)
        stay_on_loopback()
    else:
        arguments["address"] = reachable_address(options.address)
        if on_loopback_alone(arguments["address"]):
            stay_on_loopback()
        if environment := _runtime_environment(options):
            arguments["runtime_env"] = environment
    if "://" not in (options.address or ""):
        # A client of another machine's Ray brings no folders with it, and its job is not made here.
        arguments["job_config"] = InstalledFirst()
    try:
        with ExitStack() as stack:
            if options.address is None:
                stack.enter_context(apart())
                # Who wants to look at it gets all of it.
                if "include_dashboard" not in options.init:
                    # Workers that a limit ends as they begin are to be seen, and not waited for.
                    beforehand = not tight_limits()
                    preloaded = _preloaded(options) if beforehand else ()
                    arguments |= stack.enter_context(compat.for_one_study(preloaded, beforehand=beforehand))
            ray.init(**{**arguments, **options.init})
    # What Ray raises where it cannot start or is not let in is no family of errors.
    except Exception as error:
        causes = [logged_cause(_folders[-1].ray), tight_limits()] if options.address is None else []
        _disconnect()
        if own_fault(error) is not None:
            raise
        reason = "; ".join(filter(None, (first_line(error), *causes)))
        if options.address is not None:
            raise unreachable(options.address, reason) from None
        raise RunnerError(
            f"Ray cannot be started on this machine ({reason}); accepted: a machine on which `ray start --head` works, "
            "--address of a running cluster, or --local, which needs no Ray"
        ) from None
    try:
        _require_resources(options)
    except RunnerError:
        _disconnect()
        raise


def _preloaded(options: RayOptions) -> Sequence[str]:
    """What workers load while the driver still starts: Ray starts one for each core beforehand.

    Nothing where not each of them is going to train: it would cost memory and time for nothing.
    """
    slots = math.inf if options.max_concurrent is None else options.max_concurrent
    all_train = options.cpu <= 1 and not options.gpu and slots >= usable_cores()
    return ("tune_bn.runners.ray.trainable", *options.modules) if all_train else ()


def _ensure_token() -> None:
    """A token for the Ray of this machine, where the user has none.

    Ray would write one into the home, which may not be writable, with a mode by which others may read it.
    """
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if not named and not os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _disconnect() -> None:
    """Leave the cluster; one of this machine ends, and its folder goes. May be called twice."""
    ray.shutdown()
    leave_loopback()
    while _folders:
        _folders.pop().remove()


def _holds(available: Mapping[str, float], options: RayOptions) -> bool:
    return available.get("GPU", 0.0) >= options.gpu and available.get("CPU", 0.0) >= options.cpu


def _require_resources(options: RayOptions) -> None:
    available = ray.cluster_resources()
    if options.address is not None and not options.elastic:
        # Right after the start of a cluster its nodes join one by one.
        deadline = time.monotonic() + JOIN_SECONDS
        while not _holds(available, options) and time.monotonic() < deadline:
            time.sleep(1)
            available = ray.cluster_resources()
    where, instead = "this process may use", "or --address of a cluster"
    if options.address is not None:
        where = "the cluster has"
        instead = "or resources.elastic: true with resources.max_concurrent for a cluster that grows on demand"
    for kind, key, needed in (("GPU", "gpu", options.gpu), ("CPU", "cpu", options.cpu)):
        has = available.get(kind, 0.0)
        # This machine does not grow.
        if needed > has and not (options.elastic and options.address is not None):
            raise RunnerError(
                f"resources.{key}: got {needed:g} per trial, but {where} {has:g} {kind}s; accepted: at most "
                f"{has:g}, {instead}"
            )


class RayTuneRunner:
    """A :class:`tune_bn.protocols.runner.Runner` on the cluster that :func:`connect` reached.

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
        self._tune_folder = tune_folder(_folders[-1].path if _folders else None)
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
        _disconnect()
