"""Distributions of searched keys, as the space file states them; samplers translate them for their library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, both included; ``log`` proposes uniformly in the logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @property
    def corners(self) -> tuple[Any, ...]:
        """Both ends: a key's own rule that holds at both holds between them."""
        return (self.low, self.high)

    def contains(self, value: Any) -> bool:
        """Whether ``value`` lies in the range."""
        if type(value) not in (int, float) or not self.low <= value <= self.high:
            return False
        return not self.integer or value == int(value)


@dataclass(frozen=True)
class Choice:
    """One of the given values, without order."""

    values: tuple[Any, ...]

    @property
    def corners(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def contains(self, value: Any) -> bool:
        """Whether ``value`` is one of the values."""
        return value in self.values


@dataclass(frozen=True)
class Cases:
    """A distribution that depends on the value of another searched key, which is a choice."""

    key: str
    cases: tuple[tuple[Any, Range | Choice], ...]

    @property
    def corners(self) -> tuple[Any, ...]:
        """Those of every case."""
        return tuple(corner for _, distribution in self.cases for corner in distribution.corners)

    def contains(self, value: Any) -> bool:
        """Whether ``value`` lies in one of the cases."""
        return any(distribution.contains(value) for _, distribution in self.cases)

    def given(self, value: Any) -> Range | Choice:
        """The distribution where the other key has this value."""
        return next(distribution for case, distribution in self.cases if case == value)


Distribution = Range | Choice | Cases
