"""What the section ``trainer`` of a space file says of a command or a function, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_bn.records.score import Score

EXACT, RESTART, ANY = "exact", "restart", "any"


PRINTED = "printed"


@dataclass(frozen=True)
class Tap:
    """Where a script that cannot be touched leaves its metrics; of the files that fit, the newest counts."""

    kind: str
    """``csv``, ``json``, ``tensorboard`` or ``printed``."""
    pattern: str
    """Of paths below the run's current folder; of ``printed`` the regular expressions, one a line."""
    step: str = "step"
    """Name of the column that counts the steps."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """From the file's names to those of the space file."""


def tap_on_files(tap: Tap | None) -> Tap | None:
    """The tap where it reads files of the script's own; None: the rows are in the run's folder, in the helper's form,
    be they reported by it or found by the keeper in what is printed."""
    return None if tap is None or tap.kind == PRINTED else tap


@dataclass(frozen=True)
class CommandSettings:
    """One trainer of a user's own."""

    command: tuple[str, ...]
    """Empty where it is a function."""
    function: str
    """``package.module:name``; empty where it is a command."""
    steps: int
    score: Score
    folder: str
    """Of the space file: relative paths begin there."""
    ends_early: bool = False
    isolate: bool = False
    metrics: Tap | None = None
    checkpoint: str | None = None
    resume: tuple[str, ...] = ()
    test_metrics: Tap | None = None
    test_checkpoint: str = "last"
    search_data: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    terminal: bool = False
    timeout: float | None = None
    grace: float = 30.0
    save_every: float = 60.0
    confirm_resume: str = EXACT
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that are the same for every run."""


@dataclass(frozen=True)
class SealedTest:
    """What only the confirmation is told."""

    command: tuple[str, ...]
    """Empty where the script itself reports the test score at its end."""
    data: str | None
