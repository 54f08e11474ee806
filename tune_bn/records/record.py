"""One finished run: a line of the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 3


GENESIS = "0" * 64


SEARCH, SELECT, CONFIRM = "search", "select", "confirm"


STAGES = (SEARCH, SELECT, CONFIRM)


COMPLETED, PRUNED, DIVERGED, FAILED = "completed", "pruned", "diverged", "failed"


STATUSES = (COMPLETED, PRUNED, DIVERGED, FAILED)


BASELINE, CANDIDATE = "baseline", "candidate"


@dataclass(frozen=True)
class Record:
    """One finished run.

    Accuracies are in percent (0 to 100), durations in seconds, times in UTC (ISO 8601).
    """

    study: str
    stage: str
    """``search``, ``select`` or ``confirm``."""
    arm: str
    """``baseline`` or ``candidate`` while searching and selecting; ``baseline``, ``candidate-1``, … in confirm."""
    trial: int | None
    """Number of the configuration in the search; None for a configuration that was not searched."""
    seed: int
    config: Mapping[str, Any]
    """The keys in which this run may differ from the fixed part of the space: ``gamma``, ``c`` and searched keys."""
    status: str
    """``completed`` (full length), ``pruned`` (stopped early), ``diverged`` (loss not finite) or ``failed`` (error)."""
    reason: str
    """Why the run stopped, in words."""
    epochs: int
    epochs_planned: int
    scores: Mapping[str, float]
    """``val_accuracy`` (best over epochs), ``best_epoch``; in confirm the planned metric too. Empty for failed runs."""
    attempts: int
    started_at: str
    duration_seconds: float
    device: str
    versions: Mapping[str, str]
    commit: str | None
    space_sha256: str
    plan_sha256: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """Which images and labels the run saw, by split, and which classes: counts and hashes; see
    :mod:`tune_bn.records.provenance`. The test split is there where it was read. Empty in version 1."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """On what the run ran, as far as that may decide a score: ``device_kind``, ``device_model``, ``precision``, … Empty
    in version 1, and where a run failed before it began."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """Of a confirmation run, where the trainer knows it: ``images``, how many were ``right``, ``sha256`` of the file
    that says which (:mod:`tune_bn.records.per_image`), and outcomes beside the score, described and not tested:
    ``loss``, ``brier``, ``calibration_error``, ``worst_class`` in percent. Empty before version 3."""
    schema_version: int = SCHEMA_VERSION
    previous_sha256: str = field(default=GENESIS)
    sha256: str = field(default="")

    @property
    def key(self) -> str:
        """Name of the run, unique among the runs of a study that did not fail."""
        return run_key(self.stage, self.arm, self.trial, self.seed)


def run_key(stage: str, arm: str, trial: int | None, seed: int) -> str:
    """Name of a run; safe as a file name."""
    middle = "" if trial is None else f"-t{trial:05d}"
    return f"{stage}-{arm}{middle}-s{seed}"


def ranges(seeds: Iterable[int]) -> str:
    """``1–15, 101`` for 1, 2, …, 15, 101."""
    found: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in found)


def fresh_seeds(number: int, taken: Iterable[int]) -> str:
    """So many seeds in a row, the lowest from 1 on of which none is ``taken``, as a space file writes them."""
    first = 1
    for seed in sorted(set(taken)):
        if seed >= first + number:
            break
        first = max(first, seed + 1)
    return f"{{from: {first}, to: {first + number - 1}}}"
