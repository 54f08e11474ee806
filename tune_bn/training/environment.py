"""On what a run runs, as far as that may decide its score; `tune_bn.records.provenance` says what each key means."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

_OVERRIDES = ("NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
"""Variables by which a library computes in another precision than torch asks for."""


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """The facts of this process and its device.

    Args:
        device: where the run computes.
        precision: ``fp32``, ``tf32`` or ``bf16``, as the run is configured.
    """
    found: dict[str, Any] = {
        "device_kind": device.type,
        "device_model": _model(device.type, device.index),
        "precision": precision_in_effect(precision, device.type),
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cpu":
        return found | {
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }
    return found | {"cuda": torch.version.cuda or "none", "cudnn": _cudnn()}


def precision_in_effect(precision: str, device_kind: str) -> str:
    """The arithmetic that is used: a CPU has no TF32, and a variable may overrule torch."""
    own = "fp32" if precision == "tf32" and device_kind == "cpu" else precision
    given = [f"{name}={os.environ[name]}" for name in _OVERRIDES if os.environ.get(name)]
    return ", ".join([own, *given])


def _cudnn() -> int:
    return torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]


@cache
def _model(kind: str, index: int | None) -> str:
    if kind == "cuda":
        return str(torch.cuda.get_device_name(index))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model", "cpu model")))
    return next(filter(None, named), "") or platform.processor() or platform.machine() or "unknown"
