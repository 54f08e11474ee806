"""How evenly the users and studies of the load test of many users shared the cluster.

A sample says how many slots (a core each) every study holds, and how many it could use: those of its own limit, as long
as its stage has so many runs left. Where that is more than there is, even is what nobody can complain of: no user has
more than another who wants more, and within a user no study. A share is the time that slots were held meanwhile, over
what would have been even in the same time: 1 is even. A run that has begun runs to its end, so that a study that comes
waits for others' first; of a short one that is much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

LEAST_SECONDS = 120.0
"""Slot-seconds that must be even for a share to be compared: a worker's start takes ten on a busy machine."""
TOLERANCE = 0.1


@dataclass(frozen=True)
class Share:
    """Of a study, or of several together."""

    name: str
    held: float
    """Slot-seconds."""
    even: float

    @property
    def ratio(self) -> float:
        """1 is even."""
        return self.held / self.even

    @property
    def compared(self) -> bool:
        """Whether there is enough of it."""
        return self.even >= LEAST_SECONDS

    @property
    def is_even(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.ratio - 1) <= TOLERANCE


def even(amount: float, wants: Mapping[str, float]) -> dict[str, float]:
    """What each has of something where nobody has more than another who wants more."""
    left, parts = amount, dict.fromkeys(wants, 0.0)
    for number, name in enumerate(sorted(wants, key=lambda name: wants[name])):
        parts[name] = min(wants[name], left / (len(wants) - number))
        left -= parts[name]
    return parts


def user_of(study: str) -> str:
    """Such as ``ada`` of ``ada/s03``."""
    return study.partition("/")[0]


def even_parts(amount: float, wants: Mapping[str, float]) -> dict[str, float]:
    """What would be even for each study: among the users first, and then among those of a user."""
    of_users: dict[str, dict[str, float]] = {}
    for name, wanted in wants.items():
        of_users.setdefault(user_of(name), {})[name] = wanted
    users = even(amount, {user: sum(theirs.values()) for user, theirs in of_users.items()})
    return {name: part for user, theirs in of_users.items() for name, part in even(users[user], theirs).items()}


def shares(samples: Sequence[Mapping[str, Any]], group: Callable[[str], str] = lambda name: name) -> list[Share]:
    """The share of each study while all wanted more than there is, or of each group of studies; by name."""
    held: dict[str, float] = {}
    due: dict[str, float] = {}
    for before, sample in pairwise(samples):
        # What was seen last is taken to have lasted until now; a machine that stood still tells nothing.
        seconds = min(5.0, sample["at"] - before["at"])
        wants = before["wants"]
        if sum(wants.values()) <= before["capacity"]:
            continue
        for name, part in even_parts(before["capacity"], wants).items():
            key = group(name)
            held[key] = held.get(key, 0.0) + seconds * before["held"].get(name, 0)
            due[key] = due.get(key, 0.0) + seconds * part
    return [Share(name, held[name], due[name]) for name in sorted(held) if due[name] > 0]


def use(samples: Sequence[Mapping[str, Any]]) -> float:
    """Share of the slots that were held while more were wanted than there are."""
    seen = [sample for sample in samples if sum(sample["wants"].values()) > sample["capacity"] > 0]
    total = sum(sample["capacity"] for sample in seen)
    return sum(sum(sample["held"].values()) for sample in seen) / total if total else 0.0
