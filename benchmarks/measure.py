"""Side by side in one run: contenders take turns, round by round, and what is compared is the ratio within a round."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """One turn of one contender."""

    round: int
    contender: str
    seconds: float
    """Wall clock."""
    cpu_seconds: float
    """Of this process, all threads; work of other processes is not in it."""
    amount: float
    """What was done, such as images."""

    @property
    def rate(self) -> float:
        """Amount per second."""
        return self.amount / self.seconds


def take_turns(contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: int = 1) -> list[Timing]:
    """Let each contender work once per round, in an order that turns by one from round to round.

    A machine that grows slower or is disturbed for a while so meets all of them alike.

    Args:
        contenders: does a fixed piece of work, waits for its end, and returns its amount.
        rounds: how often each is timed.
        warm_up: rounds before that, not timed.
    """
    names = list(contenders)
    timings = []
    for number in range(-warm_up, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started, started_cpu = time.perf_counter(), time.process_time()
            amount = contenders[name]()
            seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
            if number >= 0:
                timings.append(Timing(number, name, seconds, cpu_seconds, amount))
    return timings


@dataclass(frozen=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values), len(values))

    def words(self, digits: int = 2) -> str:
        """``1.52 (1.49 to 1.60)``."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def rates(timings: Sequence[Timing], contender: str) -> Spread:
    """Amount per second of a contender."""
    return Spread.of([timing.rate for timing in timings if timing.contender == contender])


def ratios(timings: Sequence[Timing], contender: str, against: str) -> Spread:
    """Rate of a contender over that of another, within each round."""
    found = {(timing.round, timing.contender): timing.rate for timing in timings}
    numbers = sorted({timing.round for timing in timings})
    return Spread.of([found[number, contender] / found[number, against] for number in numbers])


def rows(timings: Sequence[Timing], **columns: Any) -> list[dict[str, Any]]:
    """The raw timings as rows of a table, with columns of their own in front."""
    return [
        columns
        | {
            "round": timing.round,
            "contender": timing.contender,
            "seconds": round(timing.seconds, 5),
            "cpu_seconds": round(timing.cpu_seconds, 5),
            "amount": timing.amount,
        }
        for timing in timings
    ]


def timings_of(found: Sequence[Mapping[str, Any]]) -> list[Timing]:
    """The timings behind :func:`rows`, as measured or as read from the results."""
    return [
        Timing(int(r["round"]), r["contender"], float(r["seconds"]), float(r["cpu_seconds"]), float(r["amount"]))
        for r in found
    ]


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def this_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hardware() -> dict[str, Any]:
    """What the figures were measured on: CPU, cores that may be used, threads, GPU and driver stack."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "isa": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    return found


def hardware_words(found: Mapping[str, Any]) -> str:
    """One line for tables."""
    host = f"{found['cores']} cores of {found['cpu']} ({found['isa']})"
    return f"{found['gpu']}, {host}" if "gpu" in found else host


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
