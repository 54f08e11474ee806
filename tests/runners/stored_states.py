"""States that are saved and loaded."""

from __future__ import annotations

from typing import Any

import torch

from tune_bn.runners.checkpoint import CheckpointStore

CPU = torch.device("cpu")


def state(epoch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(epoch)
    weights = torch.randn(2000, generator=generator)
    return {"epoch": epoch, "weights": weights, "generator": generator.get_state(), "curve": [{"loss": 0.5}, None]}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    tensors = all(torch.equal(left[key], right[key]) for key in ("weights", "generator"))
    return tensors and (left["epoch"], left["curve"]) == (right["epoch"], right["curve"])


def epoch(store: CheckpointStore) -> int | None:
    found = store.load(CPU)
    return None if found is None else found["epoch"]
