"""The one place for what Ray does not promise: its private names, and switches that its documentation does not have.

An upgrade of Ray may take any of them away. ``tests/runners/ray/test_ray_compat.py`` asks for each by its name, and
:func:`require` asks again before a study starts on a Ray that was installed in spite of ``constraints.txt``. The
watch over a spot node loads this module too, so it does not import Tune itself.
"""

from __future__ import annotations

import importlib
import inspect
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.job_config import JobConfig

from tune_bn.errors import RunnerError


def _lacks(what: str) -> RunnerError:
    return RunnerError(f"ray: got version {ray.__version__}, which lacks {what}; accepted: that of constraints.txt")


try:
    from ray._private import ray_constants, services
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated import autoscaler_pb2
except ImportError as error:
    raise _lacks(f"what tune_bn imports of it ({error})") from None

__all__ = ["GcsClient", "services"]

TUNE_SETTINGS = {
    # Tune's snapshots of the experiment would cost the driver time that grows with the number of trials, for files
    # that nothing reads.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000000",
    # Networks of the user's may read files beside them; trials have no files of their own.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # No task reports a metric of Tune's: who is stopped is decided from whole reports.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables that Tune reads when it starts an experiment."""

LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""0: every port of a Ray that starts is on loopback."""

STOP_WAIT_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"
"""Seconds between a job's SIGTERM and its SIGKILL, in the environment of the job."""

_PLENTY = 1_000_000
_THREADS = "OMP_NUM_THREADS"

SWITCHES = (*TUNE_SETTINGS, LOOPBACK_VARIABLE, STOP_WAIT_VARIABLE)

NAMES = (
    ("ray._private.ray_constants", "ENABLE_RAY_CLUSTER"),
    ("ray._private.node", "Node.start_api_server"),
    ("ray._private.node", "Node.start_log_monitor"),
    ("ray._private.node", "Node.start_monitor"),
    ("ray._private.services", "canonicalize_bootstrap_address_or_die"),
    ("ray._private.services", "find_node_ids"),
    ("ray._private.services", "get_ray_address_from_environment"),
    ("ray._raylet", "InnerGcsClient.drain_node"),
    ("ray._raylet", "InnerGcsClient.get_draining_nodes"),
    ("ray.exceptions", "RayActorError.preempted"),
    ("ray.job_config", "JobConfig._get_proto_job_config"),
    ("ray.tune.experiment", "Trial.error_file"),
    ("ray.tune.experiment", "Trial.pickled_error_file"),
    ("ray.tune.search.search_generator", "SearchGenerator.add_configurations"),
    *(
        ("ray.tune.execution.tune_controller", f"TuneController.{name}")
        for name in (
            *("_cleanup_cached_actors", "_maybe_cache_trial_actor", "cleanup", "step", "update_max_pending_trials"),
        )
    ),
)
"""Module and name of everything that is used here and by this room, as far as a class or a module has it."""

ATTRIBUTES = (
    ("ray.job_config", "JobConfig", "_py_driver_sys_path"),
    *(
        ("ray.tune.execution.tune_controller", "TuneController", name)
        for name in (
            *(
                "_actor_cache",
                "_class_cache",
                "_failed_trials",
                "_pending_trials",
                "_stopped_trials",
                "_trial_metadata",
            ),
            *("_resetting_trials", "_trial_to_actor", "_trials", "_trials_to_cache"),
        )
    ),
    ("ray.tune.search.search_generator", "SearchGenerator", "_finished"),
)
"""Module, class and name of what an object has only once it is made."""

CLOUD_NAMES = (
    ("ray.autoscaler._private.aws.node_provider", "AWSNodeProvider.create_node"),
    ("ray.autoscaler.node_launch_exception", "NodeLaunchException"),
)
"""What a head on Amazon needs; its import takes boto3."""


def missing(names: tuple[tuple[str, str], ...]) -> list[str]:
    """Those of the names that this Ray does not have, in full."""
    return [f"{module}.{name}" for module, name in names if not _has(module, name)]


def missing_attributes() -> list[str]:
    """Those of :data:`ATTRIBUTES` that no object of this Ray would get."""
    found = []
    for module, kind, name in ATTRIBUTES:
        owner = getattr(importlib.import_module(module), kind, None)
        if owner is None or f"self.{name}" not in inspect.getsource(owner.__init__):
            found.append(f"{module}.{kind}.{name}")
    return found


def _has(module: str, name: str) -> bool:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = inspect.getattr_static(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def require(*, tune: bool = True) -> None:
    """Ask for every name, before a study starts.

    Args:
        tune: whether for those of Ray Tune too, which takes a second to load.

    Raises:
        RunnerError: this Ray lacks some of them.
    """
    lacking = missing(tuple(name for name in NAMES if tune or not name[0].startswith("ray.tune")))
    if tune:
        lacking += missing_attributes()
    if not lacking and not isinstance(inspect.getattr_static(RayActorError, "preempted"), property):
        # Otherwise Tune would count every drained node as a failure of its runs.
        lacking = ["ray.exceptions.RayActorError.preempted as a property"]
    if lacking:
        raise _lacks(lacking[0])


# Where Ray starts.


def local_folder(path: str) -> dict[str, str]:
    """The argument of ``ray.init`` for the folder of Ray's own files."""
    return {"_temp_dir": path}


@contextmanager
def for_one_study(preload: Sequence[str], *, beforehand: bool = True) -> Iterator[dict[str, Any]]:
    """In this block ``ray.init`` starts a Ray without what serves nobody but people who look at it.

    That is the server of its dashboard, for which Ray waits even where there is none, the process that asks for more
    nodes, and the one that brings what workers print to a driver that does not show it: each costs a second of a core.

    Args:
        preload: modules that workers load when they start, before anybody asks for one. Libraries read the number of
            their threads as they are loaded; Ray states it when a worker is asked for, too late then. So it is stated
            beforehand: one, as for any trial of one core.
        beforehand: whether workers start before anybody asks for one. Ray lets its driver in once these have come, and
            never where one of them dies as it begins.

    Yields:
        Arguments of ``ray.init``.
    """
    from ray._private.node import Node

    def no_server(node: Any, **given: Any) -> None:
        node._webui_url = ""

    replaced = {"start_api_server": no_server, "start_monitor": _nothing, "start_log_monitor": _nothing}
    before = {name: getattr(Node, name) for name in replaced}
    for name, instead in replaced.items():
        setattr(Node, name, instead)
    states = bool(preload) and _THREADS not in os.environ
    if states:
        os.environ[_THREADS] = "1"
    try:
        config: dict[str, Any] = {"preload_python_modules": list(preload)} if preload else {}
        if not beforehand:
            config["prestart_worker_first_driver"] = False
        yield {"_system_config": config} if config else {}
    finally:
        for name, own in before.items():
            setattr(Node, name, own)
        if states:
            os.environ.pop(_THREADS, None)


def _nothing(node: Any) -> None:
    """In the place of what starts a process."""


def loopback_only(alone: bool) -> bool:
    """Let the Ray that this process starts, or looks for, be on loopback alone or not; gives how it was before.

    Ray reads :data:`LOOPBACK_VARIABLE` once, when it is imported, and keeps it the other way round.
    """
    before = not ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = not alone
    return before


def address_of_this_machine() -> str | None:
    """The address that ``auto`` means here.

    Raises:
        ConnectionError: no Ray runs here.
    """
    found: str | None = services.get_ray_address_from_environment("auto", None)
    return found


def head_address() -> str:
    """The address of the head that this machine's nodes belong to."""
    return str(services.canonicalize_bootstrap_address_or_die(None))


def node_ids() -> set[str]:
    """Ray's nodes on this machine, as they run now."""
    return set(services.find_node_ids())


def preemption() -> int:
    """What Ray calls a node that a cloud takes away."""
    return int(autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"))


class OwnPathJob(JobConfig):  # type: ignore[misc]
    """A job whose workers find in ``sys.path`` what :meth:`driver_folders` gives, and nothing of the driver's own."""

    def driver_folders(self) -> list[str]:
        """Folders that come before everything else."""
        return []

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path[:] = self.driver_folders()
        return super()._get_proto_job_config()


# Tune's controller.


def make_controller(
    experiment: Any, searcher: Any, scheduler: Any, callbacks: list[Any], *, keep: float, own_ray: bool = False
) -> Any:
    """Tune's controller of one experiment, to be taken step by step.

    Tune lets go of workers for which no trial waits, and of all of them but one where several end at the same time.
    This one keeps them.

    Args:
        experiment: of Tune.
        searcher: hands out its trials; another one may take its place (:func:`go_on`).
        scheduler: of Tune.
        callbacks: of Tune.
        keep: seconds for which a worker without a trial is kept, as long as no trial waits. One that waits may need
            what the worker has: then it is Tune's to say.
        own_ray: whether the workers are of a Ray that this process started, with this process's environment.
    """
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.search.search_generator import SearchGenerator

    class Keeping(TuneController):  # type: ignore[misc]
        kept_since = 0.0

        def waits(self) -> bool:
            """Whether a trial waits; not one that was just given a warm worker."""
            return not self._pending_trials <= self._resetting_trials

        def keeps(self) -> bool:
            return not self.waits() and time.monotonic() - self.kept_since < keep

        def _maybe_cache_trial_actor(self, trial: Any) -> bool:
            if self.waits() or not keep:
                return bool(super()._maybe_cache_trial_actor(trial))
            resources = trial.placement_group_factory
            self._actor_cache.increase_max(resources, by=_PLENTY)
            try:
                cached = bool(super()._maybe_cache_trial_actor(trial))
            finally:
                self._actor_cache.decrease_max(resources, by=_PLENTY)
            if cached:
                self.kept_since = time.monotonic()
            return cached

        def _cleanup_cached_actors(self, force_all: bool = False) -> None:
            if force_all or not self.keeps():
                super()._cleanup_cached_actors(force_all=force_all)

    generator = SearchGenerator(searcher)
    generator.add_configurations([experiment])
    controller = Keeping(
        search_alg=generator,
        scheduler=scheduler,
        callbacks=callbacks,
        trial_checkpoint_config=experiment.checkpoint_config,
        reuse_actors=True,
        storage=experiment.storage,
    )
    if own_ray:
        controller._class_cache = _SameEnvironment()
    return controller


class _SameEnvironment:
    """Makes actors of trainables that state no environment.

    Tune states for every actor the variables by which it is set. Ray gives such an actor a new worker, beside those
    that it started beforehand, which then only cost: on two cores 6 seconds of processor time before the first epoch.
    Workers of a Ray that the driver started have its variables anyway.
    """

    def __init__(self) -> None:
        self._classes: dict[Any, Any] = {}

    def get(self, trainable: Any) -> Any:
        """The actor class; pickled and sent once for each trainable."""
        if trainable not in self._classes:
            self._classes[trainable] = ray.remote(trainable)
        return self._classes[trainable]


def go_on(controller: Any, searcher: Any) -> None:
    """Let another searcher hand out trials from now on."""
    controller.search_alg.searcher = searcher
    controller.search_alg._finished = False


def has_worker(controller: Any, trial: Any) -> bool:
    """Whether Tune has a worker for this trial, or starts one."""
    return trial in controller._trial_to_actor


def warm_workers(controller: Any) -> int:
    """Workers that Tune keeps without a trial."""
    return int(controller._actor_cache.num_cached_objects)


def drop_warm_workers(controller: Any) -> None:
    """End all of them."""
    controller._cleanup_cached_actors(force_all=True)


def forget(controller: Any, trial: Any) -> None:
    """Take a trial that is over out of Tune's books, which it never reads again."""
    for trials in (controller._stopped_trials, controller._failed_trials, controller._trials_to_cache):
        trials.discard(trial)
    if trial in controller._trials:
        controller._trials.remove(trial)
    controller._trial_metadata.pop(trial.trial_id, None)


def amazon_provider() -> Any:
    """The class by which Ray's autoscaler starts instances at Amazon."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    return AWSNodeProvider
