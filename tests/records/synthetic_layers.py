"""Diagnostics of networks that were never trained."""

from __future__ import annotations

from typing import Any

from tune_bn.records.diagnostics import Diagnostics, Gradient, Layer, Tails, Values


def layer(index: int, gamma: float = 0.1, name: str | None = None) -> Layer:
    mean = gamma * (1 + 0.01 * index)
    return Layer(
        name=name or f"layer{1 + index // 40}.{index // 3}.bn{1 + index % 3}",
        kind="BatchNorm2d",
        channels=16,
        gamma=Values(gamma, mean, 0.01 * gamma, 0.9 * mean, 1.1 * mean, mean - gamma, mean / gamma - 1),
        beta=Values(0.0, 0.01, 0.02, -0.1, 0.1, 0.015, None),
        normalized=Tails(0.004 + 1e-5 * index, 1e-5 * (index % 3), 5.0 + index),
        output=Tails(0.0, 0.0, gamma * (5.0 + index)),
        gradient=Gradient(2.0 / (1 + index), 1.9 / (1 + index), 0.95),
    )


def diagnostics(count: int, gamma: float = 0.1, **changes: Any) -> Diagnostics:
    fields: dict[str, Any] = {
        "seed": 1,
        "config": {"gamma": gamma, "c": 100.0},
        "epoch": 40,
        "images": 256,
        "gradient_images": 64,
        "layers": tuple(layer(index, gamma) for index in range(count)),
    }
    return Diagnostics(**fields | changes)
