"""The arithmetic of a run: ``fp32`` as IEEE 754 has it, ``tf32`` or ``bf16`` on the matrix units of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Let the device compute in this precision, and leave the settings of the process as they were.

    torch lets convolutions round their inputs to TF32 unless told otherwise; here ``fp32`` does not. cuDNN measures its
    algorithms once per shape, which pays after a few steps since all batches but the last have one shape.

    Args:
        precision: ``fp32``, ``tf32`` or ``bf16``. On a CPU ``tf32`` is ``fp32``.
        device: where the run computes.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.benchmark = True
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where the precision is ``bf16``; weights stay fp32."""
    # A cast that is kept for later use would be missing when a captured step is replayed.
    cache = device.type != "cuda"
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=cache)


def bf16_is_emulated() -> bool:
    """Whether this machine's CPU has no bfloat16 arithmetic, so that ``bf16`` is slower than ``fp32`` on it."""
    # AVX-512 is the least that oneDNN computes bfloat16 with.
    return "AVX512" not in torch.backends.cpu.get_cpu_capability()
