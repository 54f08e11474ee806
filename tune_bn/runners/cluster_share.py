"""Several studies on one cluster: each knows how many there are, and takes no more than its share."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAMESPACE, PREFIX, TURNS = "tune_bn", "study-", "turns"
LOOK_SECONDS = 3.0
"""Least time between two looks at the cluster."""
ASK_SECONDS = 0.5
"""Time between two questions of a study that waits for its turn."""
SILENT_SECONDS = 30.0
"""A study that has not asked for so long waits no more."""


class _Presence:
    """An actor that does nothing; that it is there says that its study is at work."""


class Turns:
    """Whose turn it is where there are more studies than slots: that of the study that has waited longest.

    Ray itself gives a slot to whoever asks in the moment in which it becomes free, and that is nearly always the study
    that has just had it. An actor holds this, and nothing is lost with it: who waits asks again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holding: dict[str, float] = {}
        self._waiting: dict[str, float] = {}

    def may_begin(self, study: str, slots: int, present: Collection[str]) -> bool:
        """Whether a study that has nothing in flight may begin a trial.

        Args:
            study: who asks. What it held until now is over.
            slots: trials that fit the cluster.
            present: the studies that are at work, as seen lately. One that is gone holds nothing.
        """
        now = self._clock()
        self._waiting = {name: asked for name, asked in self._waiting.items() if now - asked < SILENT_SECONDS}
        # One that has just come may not have been seen yet.
        self._holding = {
            name: since for name, since in self._holding.items() if name in present or now - since < 2 * LOOK_SECONDS
        }
        self._holding.pop(study, None)
        # A dictionary keeps the place of a key that is set again.
        self._waiting[study] = now
        if list(self._waiting).index(study) >= slots - len(self._holding):
            return False
        del self._waiting[study]
        self._holding[study] = now
        return True

    def give_back(self, study: str) -> None:
        """A study neither begins a trial nor has one in flight."""
        self._holding.pop(study, None)
        self._waiting.pop(study, None)


class ClusterShare:
    """How many trials a study may have in flight.

    A study that is alone takes what it may have. Beside others it takes ``ceil(capacity / studies)`` at most, and where
    there are more studies than trials fit, one at a time when it is its turn. What it has too many of when another
    study comes, runs to its end.

    Args:
        cpu: CPU cores per trial.
        gpu: GPUs per trial.
        max_concurrent: trials at the same time, whatever else; None: what fits the cluster.
        elastic: the cluster grows, to what holds ``max_concurrent`` trials at least.
        shared: whether others may use the cluster; a cluster of the study's own needs no sharing.
    """

    def __init__(
        self, *, cpu: float, gpu: float, max_concurrent: int | None = None, elastic: bool = False, shared: bool = False
    ) -> None:
        self.needed = {"CPU": cpu, "GPU": gpu}
        self.max_concurrent = max_concurrent
        self.elastic = elastic
        self._name = f"{PREFIX}{uuid.uuid4().hex}"
        self._presence: Any = None
        self._turns: Any = None
        self._looked_at = -math.inf
        self._fits = 1
        self._present: frozenset[str] = frozenset((self._name,))
        if shared:
            self._presence = self._actor(_Presence, self._name)

    @staticmethod
    def _actor(kind: type, name: str) -> Any:
        # On the driver's node: it lives as long as the driver, while other nodes come and go.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"name": name, "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0, "max_restarts": -1}
        return ray.remote(kind).options(**options, scheduling_strategy=here).remote()

    def leave(self) -> None:
        """Take no share any more. May be called twice."""
        self.give_back()
        if self._presence is not None:
            ray.kill(self._presence)
            self._presence = None

    @property
    def most(self) -> int:
        """Trials that may be in flight now."""
        self._look()
        if len(self._present) <= 1:
            return self.max_concurrent or self._fits
        part = math.ceil(self._size / len(self._present))
        return part if self.max_concurrent is None else min(self.max_concurrent, part)

    @property
    def crowded(self) -> bool:
        """Whether there are more studies than trials fit the cluster, so that they must take turns."""
        self._look()
        return len(self._present) > self._size

    def my_turn(self) -> bool:
        """Whether a study that has nothing in flight may begin a trial now."""
        if not self.crowded:
            return True
        self._turns = self._turns or self._actor(Turns, TURNS)
        try:
            granted: bool = ray.get(self._turns.may_begin.remote(self._name, self._size, self._present))
        except RayActorError:
            # It went with the study that made it. Who asks next makes another one.
            self._turns = None
            return False
        return granted

    def await_turn(self, check: Callable[[], None] = lambda: None) -> None:
        """Return when it is this study's turn. What it gets is given back with :meth:`give_back`.

        ``check`` is called while it waits, and may raise.
        """
        while not self.my_turn():
            check()
            time.sleep(ASK_SECONDS)

    def give_back(self) -> None:
        """End a turn. May be called twice, where there was none, and where the cluster is gone."""
        if self._turns is not None:
            with suppress(RayError):
                self._turns.give_back.remote(self._name)

    @property
    def _size(self) -> int:
        return max(self._fits, self.max_concurrent or 0) if self.elastic else self._fits

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        available = ray.cluster_resources()
        fits = [available.get(kind, 0.0) / amount for kind, amount in self.needed.items() if amount > 0]
        self._fits = max(1, int(min(fits) + 1e-9))
        if self._presence is not None:
            named = list_named_actors(all_namespaces=True)
            here = {actor["name"] for actor in named if actor["namespace"] == NAMESPACE}
            self._present = frozenset(name for name in here if name.startswith(PREFIX)) | {self._name}
