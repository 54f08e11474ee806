"""Counted work against published numbers and a count by hand."""

from __future__ import annotations

import pytest

from tune_bn.method.config import ModelConfig
from tune_bn.training.cost import BACKWARD, forward_flops


# GFLOP to train one CIFAR image with the small-image stem: forward, and twice as much backward.
@pytest.mark.parametrize(
    ("arch", "gflop", "digits"),
    [("resnet18", 3.33, 2), ("resnet50", 7.79, 2), ("resnet101", 15.1, 1), ("resnet152", 22.3, 1)],
)
def test_what_training_an_image_costs(arch: str, gflop: float, digits: int) -> None:
    flops = (1 + BACKWARD) * forward_flops(ModelConfig(arch=arch), (3, 32, 32), 10)
    assert round(flops / 1e9, digits) == gflop


@pytest.mark.parametrize("input_norm", ["none", "bn"])
def test_a_small_network_counted_by_hand(input_norm: str) -> None:
    def conv(channels: int, out: int, side: int) -> int:
        return 2 * 9 * channels * out * side * side

    expected = conv(1, 16, 8) + 2 * conv(16, 16, 8)
    expected += conv(16, 32, 4) + conv(32, 32, 4)
    expected += conv(32, 64, 2) + conv(64, 64, 2)
    expected += 2 * 64 * 10
    assert forward_flops(ModelConfig(arch="resnet8", input_norm=input_norm), (1, 8, 8), 10) == expected


def test_a_large_image_costs_no_memory() -> None:
    small = forward_flops(ModelConfig(arch="resnet18"), (3, 64, 64), 1000)
    # Nearly all the work is convolutions, which grow with the area: 256 times here.
    assert forward_flops(ModelConfig(arch="resnet18"), (3, 1024, 1024), 1000) == pytest.approx(256 * small, rel=1e-3)
