"""Starts Ray on this machine, or joins a cluster.

Without Ray Tune, which takes a second to load: a Ray of this machine starts before it, and its workers load what they
need while the driver does.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from tune_bn.errors import Interrupted, RunnerError, first_line, own_fault
from tune_bn.host.machine import cuda_devices, usable_cores
from tune_bn.host.process import apart, waiting
from tune_bn.protocols.stop_request import INTERRUPTED
from tune_bn.runners.ray import compat
from tune_bn.runners.ray.address import reachable_address, unreachable
from tune_bn.runners.ray.folder import RayFolder
from tune_bn.runners.ray.job import InstalledFirst
from tune_bn.runners.ray.loopback import leave_loopback, on_loopback_alone, stay_on_loopback
from tune_bn.runners.ray.words import logged_cause, tight_limits

_folders: list[RayFolder] = []
"""Those of the Ray that this process started, and of any that ended without a word."""
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
        environment["env_vars"] = waiting(os.environ)
    return environment


def connect(options: RayOptions) -> None:
    """Connect to the cluster, or start one on this machine, and check that a trial fits it.

    Raises:
        Interrupted: this process was told to end meanwhile.
        RunnerError: the address cannot be reached, the cluster is too small for one trial, or this version of Ray lacks
            what is used of it.
    """
    compat.require(tune=False)
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
        atexit.register(disconnect)
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
    except SystemExit:
        # While it starts, Ray ends the process so at a SIGTERM.
        disconnect()
        raise Interrupted(f"{INTERRUPTED} by SIGTERM") from None
    # What Ray raises where it cannot start or is not let in is no family of errors.
    except Exception as error:
        causes = [logged_cause(_folders[-1].ray), tight_limits()] if options.address is None else []
        disconnect()
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
        disconnect()
        raise


def _preloaded(options: RayOptions) -> Sequence[str]:
    """What workers load while the driver still starts: Ray starts one for each core beforehand.

    Nothing where not each of them is going to train: it would cost memory and time for nothing.
    """
    slots = math.inf if options.max_concurrent is None else options.max_concurrent
    all_train = options.cpu <= 1 and not options.gpu and slots >= usable_cores()
    return ("tune_bn.runners.ray.preloading", "tune_bn.runners.ray.trainable", *options.modules) if all_train else ()


def _ensure_token() -> None:
    """A token for the Ray of this machine, where the user has none.

    Ray would write one into the home, which may not be writable, with a mode by which others may read it.
    """
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if not named and not os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def folder_here() -> Path | None:
    """The folder of the Ray that this process started; None: it started none."""
    return _folders[-1].path if _folders else None


def disconnect() -> None:
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
