"""Several studies on one cluster: who may begin the next trial.

An actor keeps the account of the cluster: what each study holds of it, and what it has used while somebody waited. Who
has had least begins next, users before studies: a user with ten studies has as much as one with a single study.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util import list_named_actors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

NAMESPACE, PREFIX, TURNS = "tune_bn", "study-", "turns-2"
LOOK_SECONDS = 3.0
"""Least time between two looks at the cluster."""
ASK_SECONDS = 0.5
"""Time between two questions of a study that waits for its turn."""
TURN_SECONDS = 20.0
"""Least length of a turn where another study waits: long beside the start of a worker, short beside a study."""
SILENT_SECONDS = 30.0
"""A study that has not asked for so long waits no more."""
UNKNOWN_SECONDS = 10.0
"""A study that has not told for so long what it holds, holds nothing: it would tell at its next look."""


class _Presence:
    """An actor that does nothing; that it is there says that its study is at work."""


@dataclass
class _Account:
    """What is known of a study."""

    user: str
    needs: Mapping[str, float]
    """Of a trial, by kind."""
    turns: list[float] = field(default_factory=list)
    """When each of the turns began in which it has a trial, or is about to begin one; the oldest first."""
    used: float = 0.0
    """Parts of the cluster times seconds."""
    waiting: bool = False
    heard_at: float = 0.0


class Turns:
    """Who may begin a trial: the study that has had least of the cluster, of the user who has.

    What a study has had is the part of the cluster that its trials hold, of the kind of which it needs most, times the
    seconds for which they do so; what it holds now counts as a turn more each. That is counted while anybody waits, and
    of who does not at least what those have more who do, so that nobody is owed for time in which more was not wanted.
    A trial runs to its end, whoever waits, and who had to wait for that is made up for it.

    Ray itself gives a slot to whoever asks in the moment in which it becomes free, and that is nearly always the study
    that has just had it. A turn lasts :data:`TURN_SECONDS`, or as long as a trial that takes more; within it a worker
    stays warm. Who needs more than is free has what becomes free kept for it. An actor holds all this, and nothing is
    lost with it: who waits asks again, and says what it holds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted_at = clock()
        self._accounts: dict[str, _Account] = {}
        self._used_by: dict[str, float] = {}
        """What each user's studies have had."""
        self._capacity: Mapping[str, float] = {}
        self._seen: dict[str, float] = {}
        """When a study was first seen that has told nothing yet."""

    def hear(self, study: str, user: str, needs: Mapping[str, float], holds: int) -> None:
        """A study is there. Of one that is not known yet it is noted what it holds."""
        now = self._count()
        known = study in self._accounts
        account = self._account(study, user, needs, now)
        if not known:
            account.turns = [now] * holds

    def tell(self, study: str, user: str, needs: Mapping[str, float], holds: int) -> None:
        """A study wants no more than the trials that it has."""
        now = self._count()
        account = self._account(study, user, needs, now)
        account.waiting = False
        account.turns = account.turns[max(0, len(account.turns) - holds) :]

    def forget(self, study: str) -> None:
        """A study sees no other, and tells nothing from now on."""
        self._count()
        self._accounts.pop(study, None)

    def may_begin(
        self,
        study: str,
        user: str,
        needs: Mapping[str, float],
        holds: int,
        capacity: Mapping[str, float],
        present: Set[str],
    ) -> bool:
        """Whether a study may begin one more trial.

        Args:
            study: who asks.
            user: whose study it is.
            needs: of a trial, by kind of resource.
            holds: trials that the study has in flight.
            capacity: of the cluster, by kind.
            present: the studies that are at work, as seen lately. One that is gone holds nothing.
        """
        self._capacity = capacity
        now = self._count()
        self._forget(now, {*present, study})
        account = self._account(study, user, needs, now)
        turns = account.turns
        # Of those that were begun before it was heard of, or were begun for nothing.
        turns[:0] = [now] * (holds - len(turns))
        del turns[: max(0, len(turns) - holds - 1)]
        if len(turns) > holds:
            if now - turns[0] < TURN_SECONDS and not self._larger_before(account):
                return True
            turns.pop(0)
        account.waiting = not (self._all_known(now, present) and self._fits(account))
        if not account.waiting:
            turns.append(now)
        return not account.waiting

    def _fits(self, account: _Account) -> bool:
        """Whether a trial of a study fits beside what others hold and what is kept for those who come before it."""
        left = {kind: amount - self._held(kind) for kind, amount in self._capacity.items()}
        before = self._before(account)
        for one in before:
            # Also where that is not enough for it yet.
            left = {kind: amount - one.needs.get(kind, 0.0) for kind, amount in left.items()}
        if all(left.get(kind, 0.0) >= amount - 1e-9 for kind, amount in account.needs.items() if amount > 0):
            return True
        # What fitted the cluster when its study began waits in Ray where nodes were lost.
        return not before and not any(one.turns for one in self._accounts.values())

    def _before(self, account: _Account) -> list[_Account]:
        """Those who wait and have had less; of those who have had the same, who asks comes first."""
        had_by = dict(self._used_by)
        for one in self._accounts.values():
            had_by[one.user] += self._now(one)
        user, had = had_by[account.user] - 1e-9, account.used + self._now(account) - 1e-9
        return [
            one
            for one in self._accounts.values()
            if one.waiting
            and (had_by[one.user] < user if one.user != account.user else one.used + self._now(one) < had)
        ]

    def _larger_before(self, account: _Account) -> bool:
        """Whether somebody comes before whose trial needs more than one of this study's: what is kept for it, idles."""
        return any(
            amount > account.needs.get(kind, 0.0) > 0
            for one in self._before(account)
            for kind, amount in one.needs.items()
        )

    def _now(self, account: _Account) -> float:
        """What is counted for the turns that a study holds: as if each had just begun."""
        return TURN_SECONDS * len(account.turns) * self._part(account)

    def _part(self, account: _Account) -> float:
        """The part of the cluster that a trial of a study takes."""
        parts = [
            amount / self._capacity[kind] for kind, amount in account.needs.items() if self._capacity.get(kind, 0.0) > 0
        ]
        return min(1.0, max(parts, default=1.0))

    def _held(self, kind: str) -> float:
        return sum(len(account.turns) * account.needs.get(kind, 0.0) for account in self._accounts.values())

    def _account(self, study: str, user: str, needs: Mapping[str, float], now: float) -> _Account:
        if study not in self._accounts:
            # Who comes has had as much as whoever has had least.
            theirs = [one.used for one in self._accounts.values() if one.user == user]
            self._accounts[study] = _Account(user, needs, used=min(theirs, default=0.0))
            self._used_by.setdefault(user, min(self._used_by.values(), default=0.0))
        account = self._accounts[study]
        account.heard_at = now
        return account

    def _count(self) -> float:
        """Count what was used since the last time, and return the time."""
        now = self._clock()
        passed, self._counted_at = now - self._counted_at, now
        by_user: dict[str, dict[str, float]] = {}
        for name, one in self._accounts.items():
            by_user.setdefault(one.user, {})[name] = passed * len(one.turns) * self._part(one)
        waiting = {name: one.used for name, one in self._accounts.items() if one.waiting}
        users = {self._accounts[name].user for name in waiting}
        held = {user: sum(theirs.values()) for user, theirs in by_user.items()}
        for user, amount in _counted(self._used_by, held, users).items():
            self._used_by[user] += amount
        for user in users:
            theirs = by_user[user]
            used = {name: self._accounts[name].used for name in theirs}
            for name, amount in _counted(used, theirs, theirs.keys() & waiting.keys()).items():
                self._accounts[name].used += amount
        return now

    def _forget(self, now: float, present: Set[str]) -> None:
        for name, account in list(self._accounts.items()):
            # One that has just come may not have been seen yet.
            if name not in present and now - account.heard_at >= 2 * LOOK_SECONDS:
                del self._accounts[name]
            elif now - account.heard_at >= SILENT_SECONDS:
                account.waiting = False
        users = {account.user for account in self._accounts.values()}
        for user in self._used_by.keys() - users:
            del self._used_by[user]

    def _all_known(self, now: float, present: Set[str]) -> bool:
        """Whether all who are there told what they hold: after the actor was lost with the study that made it."""
        unknown = present - self._accounts.keys()
        self._seen = {name: self._seen.get(name, now) for name in unknown}
        return all(now - since >= UNKNOWN_SECONDS for since in self._seen.values())


def _counted(used: Mapping[str, float], held: Mapping[str, float], waiting: Set[str]) -> dict[str, float]:
    """What each is to be counted: what it held, and who waits not as much at least as those do who have had least.

    So nobody is owed for time in which more was not wanted.
    """
    if not waiting:
        return {}
    least = min(used[name] + held[name] for name in waiting) - min(used[name] for name in waiting)
    return {name: held[name] if name in waiting else max(held[name], least) for name in held}


class ClusterShare:
    """How many trials a study may have in flight.

    A study that is alone takes what it may have. Beside others it asks for each trial (:class:`Turns`). What it has too
    many of when another one comes, runs to its end.

    Args:
        cpu: CPU cores per trial.
        gpu: GPUs per trial.
        max_concurrent: trials at the same time, whatever else; None: what fits the cluster.
        elastic: the cluster grows, to what holds ``max_concurrent`` trials at least.
        shared: whether others may use the cluster; a cluster of the study's own needs no sharing.
        user: whose study it is; users have even shares.
    """

    def __init__(
        self,
        *,
        cpu: float,
        gpu: float,
        max_concurrent: int | None = None,
        elastic: bool = False,
        shared: bool = False,
        user: str = "",
    ) -> None:
        self.needed = {"CPU": cpu, "GPU": gpu}
        self.max_concurrent = max_concurrent
        self.elastic = elastic
        self.user = user
        self._name = f"{PREFIX}{uuid.uuid4().hex}"
        self._presence: Any = None
        self._turns: Any = None
        self._holds = 0
        self._refused_at = -math.inf
        self._refused_holding = 0
        self._looked_at = -math.inf
        self._fits = 1
        self._has: Mapping[str, float] = {}
        self._present: frozenset[str] = frozenset((self._name,))
        if shared:
            self._presence = self._actor(_Presence, self._name)
            self._look()

    @staticmethod
    def _actor(kind: type, name: str) -> Any:
        # On the driver's node: it lives as long as the driver, while other nodes come and go.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        options = {"name": name, "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0, "max_restarts": -1}
        return ray.remote(kind).options(**options, scheduling_strategy=here).remote()

    def leave(self) -> None:
        """Take no share any more. May be called twice."""
        self.tell(0)
        if self._presence is not None:
            ray.kill(self._presence)
            self._presence = None

    @property
    def most(self) -> int:
        """Trials that may be in flight at most."""
        self._look()
        return self.max_concurrent or self._fits

    @property
    def beside_others(self) -> bool:
        """Whether other studies are at work on the cluster."""
        self._look()
        return len(self._present) > 1

    def may_begin(self, holds: int) -> bool:
        """Whether a study that has so many trials in flight may begin one more now."""
        self._holds = holds
        granted = holds < self.most and (not self.beside_others or self._granted(holds))
        if granted:
            self._holds += 1
        return granted

    def await_turn(self, check: Callable[[], None] = lambda: None) -> None:
        """Return when this study may begin its first trial. A turn is given back with :meth:`tell`.

        ``check`` is called while it waits, and may raise.
        """
        while not self.may_begin(0):
            check()
            time.sleep(ASK_SECONDS)

    def tell(self, holds: int) -> None:
        """Say that no more is wanted than the trials in flight. May be called at any time, also without a cluster."""
        if self._turns is not None and holds < self._holds:
            with suppress(RayError):
                self._turns.tell.remote(self._name, self.user, self.needed, holds)
        self._holds = holds

    def _granted(self, holds: int) -> bool:
        if holds >= self._refused_holding and time.monotonic() - self._refused_at < ASK_SECONDS:
            return False
        self._turns = self._turns or self._actor(Turns, TURNS)
        asked = self._turns.may_begin.remote(self._name, self.user, self.needed, holds, self._capacity(), self._present)
        try:
            granted: bool = ray.get(asked)
        except RayActorError:
            # It went with the study that made it. Who looks next makes another one.
            self._turns, granted = None, False
        if not granted:
            self._refused_at, self._refused_holding = time.monotonic(), holds
        return granted

    def _capacity(self) -> dict[str, float]:
        """Of the cluster; of one that grows, what this study may make it grow to."""
        grown = (self.max_concurrent or 0) if self.elastic else 0
        return {kind: max(self._has.get(kind, 0.0), grown * amount) for kind, amount in self.needed.items()}

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
            if len(self._present) > 1:
                with suppress(RayError):
                    # Perhaps another one than the last time. An actor ends with the handle of who made it.
                    found = self._actor(Turns, TURNS)
                    if found != self._turns:
                        self._turns = found
                    self._turns.hear.remote(self._name, self.user, self.needed, self._holds)
            elif self._turns is not None:
                with suppress(RayError):
                    self._turns.forget.remote(self._name)
                self._turns = None
