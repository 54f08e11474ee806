"""How evenly the studies of the load test of many users shared the cluster.

A sample says how many slots (a core each) every study holds, and which studies want more: those whose stage has runs
that are neither recorded nor hold a slot. Where at least two want more, even is the mean of what these hold, whatever
the others and the lost nodes leave them. A study's share is the time that it held slots while it and others wanted
more, over what would have been even in the same time: 1 is even.
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


def shares(samples: Sequence[Mapping[str, Any]], group: Callable[[str], str] = lambda name: name) -> list[Share]:
    """The share of each study that wanted more while another did, or of each group of studies; by name."""
    held: dict[str, float] = {}
    even: dict[str, float] = {}
    for before, sample in pairwise(samples):
        # What was seen last is taken to have lasted until now; a machine that stood still tells nothing.
        seconds = min(5.0, sample["at"] - before["at"])
        wanting = before["wants"]
        if len(wanting) < 2:
            continue
        mean = sum(before["held"].get(name, 0) for name in wanting) / len(wanting)
        for name in wanting:
            key = group(name)
            held[key] = held.get(key, 0.0) + seconds * before["held"].get(name, 0)
            even[key] = even.get(key, 0.0) + seconds * mean
    return [Share(name, held[name], even[name]) for name in sorted(held) if even[name] > 0]


def use(samples: Sequence[Mapping[str, Any]]) -> float:
    """Share of the slots that were held while somebody wanted more."""
    seen = [sample for sample in samples if sample["wants"] and sample["capacity"]]
    total = sum(sample["capacity"] for sample in seen)
    return sum(sum(sample["held"].values()) for sample in seen) / total if total else 0.0
