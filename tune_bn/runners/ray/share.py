"""Several studies on one cluster: each knows how many there are, and takes no more than its share."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAMESPACE, PREFIX, TURNS = "tune_bn", "study-", "turns"
_LIMIT = re.compile(r"-([\d.e+]+)(CPU|GPU)")
LOOK_SECONDS = 3.0
"""Least time between two looks at the cluster."""
ASK_SECONDS = 0.5
"""Time between two questions of a study that waits for its turn."""
TURN_SECONDS = 20.0
"""Least length of a turn where another study waits: long beside the start of a worker, short beside a study."""
SILENT_SECONDS = 30.0
"""A study that has not asked for so long waits no more."""


class _Presence:
    """An actor that does nothing; that it is there says that its study is at work."""


class Turns:
    """Who may take a slot of those that cannot be divided evenly: whoever has had the least of them.

    Ray itself gives a slot to whoever asks in the moment in which it becomes free, and that is nearly always the study
    that has just had it. A turn lasts :data:`TURN_SECONDS`, or as long as a trial that takes more: turns are compared
    by their time, since trials of one study may be longer than those of another, and within a turn a worker stays warm.
    An actor holds this, and nothing is lost with it: who waits asks again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._holding: dict[str, float] = {}
        self._waiting: dict[str, float] = {}
        self._had: dict[str, float] = {}
        """Seconds of turns, by study. Who comes, or comes back, begins with the least of those who are there."""

    def may_begin(self, study: str, slots: int, present: Collection[str]) -> bool:
        """Whether a study may begin a trial in its turn.

        Args:
            study: who asks. It has no trial in flight in a turn of its own.
            slots: trials that fit the cluster beyond what each study has in any case.
            present: the studies that are at work, as seen lately. One that is gone holds nothing.
        """
        now = self._clock()
        self._forget(now, {*present, study})
        others = len(self._waiting.keys() - {study})
        since = self._holding.get(study)
        if since is not None and (now - since < TURN_SECONDS or len(self._holding) + others <= slots):
            return True
        if since is not None:
            self._end(study, now)
        elif study not in self._waiting:
            there = [self._had[name] for name in {*self._holding, *self._waiting} if name in self._had]
            self._had[study] = max(self._had.get(study, 0.0), min(there, default=0.0))
        # A dictionary keeps the place of a key that is set again.
        self._waiting[study] = now
        queue = sorted(self._waiting, key=lambda name: self._had.get(name, 0.0))
        if queue.index(study) >= slots - len(self._holding):
            return False
        del self._waiting[study]
        self._holding[study] = now
        return True

    def give_back(self, study: str) -> None:
        """A study neither begins a trial in its turn nor has one in flight."""
        self._end(study, self._clock())
        self._waiting.pop(study, None)

    def _end(self, study: str, now: float) -> None:
        since = self._holding.pop(study, None)
        if since is not None:
            self._had[study] = self._had.get(study, 0.0) + now - since

    def _forget(self, now: float, present: Collection[str]) -> None:
        self._waiting = {name: asked for name, asked in self._waiting.items() if now - asked < SILENT_SECONDS}
        # One that has just come may not have been seen yet.
        self._holding = {
            name: since for name, since in self._holding.items() if name in present or now - since < 2 * LOOK_SECONDS
        }
        self._had = {name: had for name, had in self._had.items() if name in present or name in self._holding}


def divided(slots: int, limits: Sequence[int]) -> tuple[int, int]:
    """How many slots each study has in any case, and how many go round among those that may have more.

    A study that may have no more than an equal part leaves the rest to the others.

    Args:
        slots: of the cluster.
        limits: slots that each study may have at most.
    """
    left, count = slots, len(limits)
    for limit in sorted(limits):
        if limit > left // count:
            break
        left, count = left - limit, count - 1
    return (left // count, left % count) if count else (slots, 0)


class ClusterShare:
    """How many trials a study may have in flight.

    A study that is alone takes what it may have. Beside others each has an equal whole number of slots in any case, or
    as many as it may have if that is less, and the slots that remain go round, one at a time to a study: so do all
    where there are more studies than slots. What a study has too many of when another one comes, runs to its end.

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
        # The others read off the name what it will never need.
        most = max_concurrent
        limit = "" if most is None else "".join(f"-{most * amount:g}{kind}" for kind, amount in self.needed.items())
        self._name = f"{PREFIX}{uuid.uuid4().hex}{limit}"
        self._presence: Any = None
        self._turns: Any = None
        self._involved = False
        """Whether it has a turn or waits for one."""
        self._refused_at = -math.inf
        self._looked_at = -math.inf
        self._fits = 1
        self._has: Mapping[str, float] = {}
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
    def own(self) -> int:
        """Trials that may be in flight now in any case; one more may where it is this study's turn."""
        return self._divided()[0]

    @property
    def most(self) -> int:
        """Trials that may be in flight at most, in a turn of this study."""
        own, around = self._divided()
        return own + 1 if around else own

    def _divided(self) -> tuple[int, int]:
        """Slots that are this study's own, and those that go round among it and others."""
        self._look()
        if len(self._present) <= 1:
            return self.max_concurrent or self._fits, 0
        own, around = divided(self._size, [self._limit_of(name) for name in self._present])
        if self.max_concurrent is not None and self.max_concurrent <= own:
            return self.max_concurrent, 0
        return own, around

    def _limit_of(self, name: str) -> int:
        """Slots that a study may have at most, in trials of this one."""
        limits = {kind: float(amount) for amount, kind in _LIMIT.findall(name)}
        parts = [limits[kind] / self._has[kind] for kind in limits if self._has.get(kind, 0.0) > 0]
        return max(1, min(self._size, math.ceil(self._size * max(parts) - 1e-9))) if parts else self._size

    @property
    def crowded(self) -> bool:
        """Whether there are more studies than trials fit the cluster, so that they take turns in everything."""
        self._look()
        return len(self._present) > self._size

    @property
    def beside_others(self) -> bool:
        """Whether other studies are at work on the cluster."""
        self._look()
        return len(self._present) > 1

    def my_turn(self) -> bool:
        """Whether a study may begin a trial now beyond those that it may have in any case."""
        own, slots = self._divided()
        if slots == 0:
            self.give_back()
            return own > 0
        if time.monotonic() - self._refused_at < ASK_SECONDS:
            return False
        self._turns = self._turns or self._actor(Turns, TURNS)
        try:
            granted: bool = ray.get(self._turns.may_begin.remote(self._name, slots, self._present))
        except RayActorError:
            # It went with the study that made it. Who asks next makes another one.
            self._turns, granted = None, False
        self._involved = True
        if not granted:
            self._refused_at = time.monotonic()
        return granted

    def await_turn(self, check: Callable[[], None] = lambda: None) -> None:
        """Return when this study may begin a trial. A turn is given back with :meth:`give_back`.

        ``check`` is called while it waits, and may raise.
        """
        while self.own == 0 and not self.my_turn():
            check()
            time.sleep(ASK_SECONDS)

    def give_back(self) -> None:
        """End a turn. May be called at any time, also where there was none or the cluster is gone."""
        if self._turns is not None and self._involved:
            self._involved = False
            with suppress(RayError):
                self._turns.give_back.remote(self._name)

    @property
    def _size(self) -> int:
        return max(self._fits, self.max_concurrent or 0) if self.elastic else self._fits

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        self._has = ray.cluster_resources()
        fits = [self._has.get(kind, 0.0) / amount for kind, amount in self.needed.items() if amount > 0]
        self._fits = max(1, int(min(fits) + 1e-9))
        if self._presence is not None:
            named = list_named_actors(all_namespaces=True)
            here = {actor["name"] for actor in named if actor["namespace"] == NAMESPACE}
            self._present = frozenset(name for name in here if name.startswith(PREFIX)) | {self._name}
