"""What a run reports: points of its learning curve, and what became of it. Loads nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_bn.records.curves import EpochPoint
from tune_bn.records.diagnostics import Diagnostics
from tune_bn.records.record import COMPLETED, DIVERGED, FAILED, PRUNED

__all__ = ["COMPLETED", "DIVERGED", "FAILED", "PRUNED", "EpochPoint", "RunResult"]


@dataclass(frozen=True)
class RunResult:
    """What became of one seed of a task."""

    seed: int
    status: str
    """As in :class:`tune_bn.records.record.Record`."""
    reason: str
    epochs: int
    scores: Mapping[str, float]
    curve: tuple[EpochPoint, ...]
    attempts: int
    started_at: str
    duration_seconds: float
    device: str
    versions: Mapping[str, str]
    diagnostics: Diagnostics | None = None
    """Of its BN layers, where they were asked for."""
    lost: bool = False
    """It failed because its worker was lost, which is no fault of the run."""
    setup_seconds: float = 0.0
    """What warming up and recording its training step took, which ``duration_seconds`` leaves out; about 0 for a run
    that found a step that was recorded already."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """As in :class:`tune_bn.records.record.Record`; empty where the trainer knows nothing of single test images."""
    right: bytes = b""
    """Which test images it got right, as :mod:`tune_bn.records.per_image` keeps them; their hash is in ``test``."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """On what it ran, as far as that may decide a score; see :data:`tune_bn.records.provenance.FACTS`."""
