"""A cluster that several studies share, without Ray and in no time: the real code says who begins which trial when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.tune.search import Searcher

from benchmarks.load.many_users_shares import even
from tests.runners.ray.tasks import a_task
from tune_bn.protocols.runner import RunResult, Task
from tune_bn.runners.ray import share as cluster_share
from tune_bn.runners.ray.feed import FeedSearcher, Ledger
from tune_bn.runners.ray.share import NAMESPACE, ClusterShare, Turns

TICK = 1.0
"""Seconds between two steps of a study's controller."""


@dataclass
class Feed:
    """So many tasks."""

    left: int

    @property
    def exhausted(self) -> bool:
        return self.left == 0

    def next(self) -> Task | None:
        if self.left == 0:
            return None
        self.left -= 1
        return a_task(self.left)

    def spares(self, task: Task) -> bool:
        return False

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        """Nothing."""


@dataclass
class Study:
    """What a study is like, and what it had."""

    name: str
    seconds: float | tuple[float, float]
    """Of a run; of runs between two lengths."""
    user: str = ""
    cpu: int = 1
    most: int | None = None
    """Runs at the same time."""
    runs: int = 10**9
    begins: float = 0.0
    dies: float = float("inf")
    """Without a word."""
    held: float = 0.0
    """Core-seconds while it or somebody else waited."""
    even: float = 0.0
    """What would have been even."""
    turns: int = 0
    first: float | None = None
    """When its first run began."""
    over: float | None = None
    ends: dict[str, float] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    feed: Feed = field(init=False)
    share: Any = None
    searcher: FeedSearcher | None = None

    def __post_init__(self) -> None:
        self.feed = Feed(self.runs)

    @property
    def wants(self) -> int:
        """Cores that it could use."""
        return self.cpu * min(self.most or 10**9, self.feed.left + len(self.ends))

    @property
    def ratio(self) -> float:
        """1 is even."""
        return self.held / self.even

    def length(self, random: Random) -> float:
        """Of its next run."""
        return self.seconds if isinstance(self.seconds, int | float) else random.uniform(*self.seconds)


@dataclass
class _Actor:
    """One that is there as long as the handle of who made it, and its study."""

    target: object | None
    maker: Study


class _Handle:
    """Of an actor; as those of Ray, equal to others of it."""

    def __init__(self, actor: _Actor, made: bool) -> None:
        self.actor = actor
        self.made = made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handle) and other.actor is self.actor

    def __hash__(self) -> int:
        return id(self.actor)

    def __del__(self) -> None:
        if self.made:
            self.actor.target = None

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Any:
            return _LOST if self.actor.target is None else getattr(self.actor.target, name)(*arguments)

        return SimpleNamespace(remote=remote)


_LOST = object()
_no_test: Any = None


class SharedCluster:
    """The cluster.

    Args:
        cores: of it, or what they are at a time.
        studies: on it.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, cores: int | Callable[[float], int], studies: Iterable[Study]
    ) -> None:
        self.now = 0.0
        self._cores = cores
        self.studies = list(studies)
        self._random = Random(1)
        self._names = count()
        self._actors: dict[str, _Actor] = {}
        self.made = 0
        """Actors that said who may begin."""
        self._acting: Study
        fake = SimpleNamespace(cluster_resources=lambda: {"CPU": float(self.cores(self.now))}, get=self._get)
        fake.kill = lambda handle: setattr(handle.actor, "target", None)
        monkeypatch.setattr(cluster_share, "ray", fake)
        monkeypatch.setattr(cluster_share, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(cluster_share, "list_named_actors", self._named)
        monkeypatch.setattr(ClusterShare, "_actor", staticmethod(self._actor))

    def cores(self, now: float) -> int:
        """Those that are there at a time."""
        return self._cores(now) if callable(self._cores) else self._cores

    @staticmethod
    def _get(answer: Any) -> Any:
        if answer is _LOST:
            raise RayActorError
        return answer

    def _named(self, all_namespaces: bool) -> list[dict[str, str]]:
        return [
            {"name": name, "namespace": NAMESPACE} for name, actor in self._actors.items() if actor.target is not None
        ]

    def _actor(self, kind: type, name: str) -> _Handle:
        found = self._actors.get(name)
        if found is not None and found.target is not None:
            return _Handle(found, made=False)
        self.made += kind is Turns
        self._actors[name] = _Actor(Turns(lambda: self.now) if kind is Turns else object(), self._acting)
        return _Handle(self._actors[name], made=True)

    def work(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now + seconds
        while self.now < until:
            here = [one for one in self.studies if one.begins <= self.now and one.over is None]
            for study in here:
                self._acting = study
                if self.now >= study.dies:
                    self._gone(study)
                else:
                    self._step(study)
            here = [one for one in here if one.over is None]
            self._count(here)
            # No study is always the first to ask.
            self._random.shuffle(self.studies)
            self.now += TICK

    def _step(self, study: Study) -> None:
        if study.share is None:
            study.share = ClusterShare(cpu=study.cpu, gpu=0, max_concurrent=study.most, shared=True, user=study.user)
        for name in [name for name, end in study.ends.items() if end <= self.now]:
            del study.ends[name], study.ledger.tasks[name]
        if study.searcher is None:
            if not study.share.may_begin(0):
                return
            study.searcher = FeedSearcher(study.feed, study.ledger, study.share, _no_test)
        while True:
            name = str(next(self._names))
            said = study.searcher.suggest(name)
            if said is None or said == Searcher.FINISHED:
                break
            study.turns += 1
            study.first = self.now if study.first is None else study.first
            study.ends[name] = self.now + study.length(self._random)
        if study.searcher.finished:
            study.share.tell(0)
            study.share.leave()
            self._gone(study)
        elif said == Searcher.FINISHED:
            study.searcher = None

    def _gone(self, study: Study) -> None:
        study.over = self.now
        study.ends.clear()
        for actor in self._actors.values():
            if actor.maker is study:
                actor.target = None

    def _count(self, here: Sequence[Study]) -> None:
        cores = self.cores(self.now)
        held = sum(len(study.ends) * study.cpu for study in here)
        if self.cores(self.now - 600.0) == cores:
            # What runs when others come, or when nodes go, runs to its end; only trials that fit are begun.
            assert held <= cores
        if sum(study.wants for study in here) <= cores:
            return
        by_user: dict[str, dict[str, float]] = {}
        for study in here:
            by_user.setdefault(study.user, {})[study.name] = study.wants
        users = even(cores, {user: sum(wants.values()) for user, wants in by_user.items()})
        of = {name: part for user, wants in by_user.items() for name, part in even(users[user], wants).items()}
        for study in here:
            study.held += TICK * len(study.ends) * study.cpu
            study.even += TICK * of[study.name]
