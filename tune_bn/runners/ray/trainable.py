"""Ray Tune's side of a task: the actor that trains it, and what the actor asks of the cluster."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError
from ray.tune import PlacementGroupFactory

from tune_bn.errors import first_line
from tune_bn.protocols.runner import Task
from tune_bn.protocols.trainer import Place, PreemptedError, Session, Trainer
from tune_bn.runners.ray.compat import GcsClient
from tune_bn.runners.worker import TaskWorker, WorkerOptions

# Keys of a trial's configuration.
TASK, TEST, PLACE, KIND, MILESTONES = "task", "test", "place", "kind", "milestones"
REPORT_SECONDS = "report_seconds"
REPORT = "report"
"""Key of a trial's results."""

OUT_OF_MEMORY = "out_of_memory"
"""Key of the last report of a task that did not fit its device: the device, and what it said."""

SHARED, FRESH, ALONE = "PACK", "SPREAD", "STRICT_PACK"
"""Where a trial is placed, by strategies that mean the same for a single bundle.

Tune gives a warm actor to the next trial that asks for exactly what the actor has. So a trial that asks by another
strategy gets a new one, and the warm one is let go.
"""

ACCELERATOR = "accelerator_type:"
"""Prefix of the resource by which Ray tells the type of a node's GPUs."""

DRAIN_SECONDS = 2.0
"""Least time between two questions whether this node is about to go."""


def accelerator_types(gpu: float, node: str | None = None) -> dict[str, float]:
    """GPUs by their type, as Ray calls it, on the nodes that are there and have as many as a trial needs.

    Args:
        gpu: GPUs of a trial; without any, no type matters.
        node: this node alone.
    """
    found: dict[str, float] = {}
    for one in ray.nodes() if gpu else ():
        has = one["Resources"]
        if one["Alive"] and has.get("GPU", 0.0) >= gpu and node in (None, one["NodeID"]):
            for name in has:
                if name.startswith(ACCELERATOR):
                    kind = name.removeprefix(ACCELERATOR)
                    found[kind] = found.get(kind, 0.0) + has["GPU"]
    return found


def gpus_of(config: Mapping[str, Any], gpu: float) -> float:
    """GPUs that a trial holds; whole ones where it is to be alone."""
    return float(-(-gpu // 1)) if config.get(PLACE, SHARED) == ALONE else gpu


def placement(config: Mapping[str, Any], *, cpu: float, gpu: float) -> PlacementGroupFactory:
    """What a trial asks for; where it is to be alone, whole GPUs, and those of its pair's type where it has one."""
    place = config.get(PLACE, SHARED)
    needed = {"CPU": cpu, "GPU": gpus_of(config, gpu)}
    if (kind := config.get(KIND)) is not None:
        # Each node has one of its type; a thousandth of it is what Ray itself asks for.
        needed[f"{ACCELERATOR}{kind}"] = 0.001
    return PlacementGroupFactory([{kind: amount for kind, amount in needed.items() if amount}], strategy=place)


class NodeDrainingError(RayActorError):  # type: ignore[misc]
    """The actor gives its task back, since its node is about to go. Tune takes it as the death of a preempted actor.

    So the trial is placed again elsewhere, known to its scheduler as the same, and no failure is counted.
    """

    @property
    def preempted(self) -> bool:
        """True: no fault of the run."""
        return True


class DrainNotice:
    """Whether the cluster said that this node is about to go. Asks no more often than every :data:`DRAIN_SECONDS`."""

    def __init__(self) -> None:
        context = ray.get_runtime_context()
        self._node = context.get_node_id()
        # A private name of Ray's: were it another one day, no run may start, since none would hear of a preemption.
        self._draining_nodes = GcsClient(address=context.gcs_address).get_draining_nodes
        self._next = 0.0

    def given(self) -> bool:
        """Whether notice was given."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + DRAIN_SECONDS
        try:
            return self._node in self._draining_nodes(timeout=DRAIN_SECONDS)
        # A head that is away for a moment is no reason to stop.
        except (RayError, OSError):
            return False


def _has_cuda() -> bool:
    # Not every trainer needs torch, and loading it takes seconds.
    import torch

    return torch.cuda.is_available()


def _device_name(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_name(device))


class TaskTrainable(tune.Trainable):  # type: ignore[misc]
    """Trains tasks, one after the other, and keeps what their runs share between them."""

    def setup(
        self,
        config: dict[str, Any],
        trainer: Trainer,
        options: WorkerOptions,
        threads: int,
        folder: str | None = None,
        gpu: float = 1.0,
    ) -> None:
        """Called once per actor; the arrays of ``trainer`` are views of the object store.

        ``gpu`` is what a trial asks for, where it need not be alone.
        ``folder`` is where the driver was started: modules of the user's are looked for there, after all others.
        """
        if folder is not None and folder not in sys.path:
            sys.path.append(folder)
        gpus = tuple(map(str, ray.get_gpu_ids())) if ray.is_initialized() else ()
        share = min(1.0, gpus_of(config, gpu)) if gpus else 1.0
        self.place = Place("cuda" if gpus and _has_cuda() else "cpu", threads, gpus, share)
        self.trainer = trainer
        self.session = trainer.open(self.place)
        kinds: dict[str, float] = {}
        if ray.is_initialized() and ray.get_gpu_ids():
            kinds = accelerator_types(1e-9, ray.get_runtime_context().get_node_id())
        self.options = replace(options, environment={"accelerator_type": " + ".join(sorted(kinds))} if kinds else {})
        self.worker: TaskWorker | None = None
        self.notice = DrainNotice() if ray.is_initialized() else None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another task. An error here would end the trial without a word, so the work waits for :meth:`step`."""
        self._end_task()
        return True

    def cleanup(self) -> None:
        """Called once per actor, at its end."""
        self._end_task()
        self.session.close()

    def _end_task(self) -> None:
        """Let go of the task, once none of its checkpoints is being written."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None

    def step(self) -> dict[str, Any]:
        """Train until a report is due."""
        task: Task = self.config[TASK]
        try:
            if self.notice is not None and self.notice.given():
                if self.worker is not None:
                    self.worker.checkpoint()
                raise NodeDrainingError(error_msg="the node is draining")
            if self.worker is None:
                options = replace(
                    self.options,
                    milestones=self.config.get(MILESTONES, ()),
                    report_seconds=self.config.get(REPORT_SECONDS, self.options.report_seconds),
                )
                self.worker = TaskWorker(task, self._session(), self.trainer.score, options)
            report = self.worker.step()
        except PreemptedError as error:
            self._end_task()
            raise NodeDrainingError(error_msg=str(error)) from None
        except BaseException as error:
            # Without a GPU of its own there is none to be alone on.
            if not self.session.is_full(error) or self.notice is None or not ray.get_gpu_ids():
                # The driver discards the checkpoints of a failed task as soon as it hears of it.
                self._end_task()
                raise
            message = f"{self._device_words()}: {first_line(error)}"
        else:
            return {"done": report.done, REPORT: report}
        # Outside the handler: the error holds on to what was allocated.
        self._free_device()
        return {"done": True, OUT_OF_MEMORY: message}

    def _device_words(self) -> str:
        gpus = ", ".join(map(str, ray.get_gpu_ids()))
        name = _device_name(self.place.device) if self.place.device != "cpu" else "GPU"
        return f"{name} {gpus} of {socket.gethostname()}"

    def _free_device(self) -> None:
        """Let go of all memory on the device: others may share it."""
        self._end_task()
        self.session.free()

    def _session(self) -> Session:
        # Nothing of the test is even on this machine's device before a task that may read it.
        if TEST in self.config and not self.session.has_test:
            self.session.add_test(ray.get(self.config[TEST]))
        return self.session
