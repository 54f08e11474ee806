"""One seed for whatever draws random numbers in a script."""

from __future__ import annotations

import os
import random
from typing import Any

from tune_bn.script.imports import when_imported


def seed_everything(seed: int, *, deterministic: bool = False) -> int:
    """Seed Python's ``random``, numpy and torch, on all devices; returns the seed.

    A library that the script imports later is seeded right after its import. ``PYTHONHASHSEED`` cannot be set from
    within; a study sets it.

    Args:
        seed: an integer ≥ 0; numpy takes its lowest 32 bits.
        deterministic: have torch compute by algorithms that give the same bits each time, and warn where it has none.

    Raises:
        ValueError: ``seed`` is no integer ≥ 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: got {seed!r}; accepted: an integer ≥ 0")

    def numpy(module: Any) -> None:
        module.random.seed(seed % 2**32)

    def torch(module: Any) -> None:
        module.manual_seed(seed % 2**63)
        if deterministic:
            module.use_deterministic_algorithms(True, warn_only=True)
            module.backends.cudnn.benchmark = False

    random.seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    when_imported("numpy", numpy)
    when_imported("torch", torch)
    return seed
