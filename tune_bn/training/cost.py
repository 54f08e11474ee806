"""What a run costs, counted without training: on the meta device, so nothing is computed or allocated."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tune_bn.method.config import ModelConfig
from tune_bn.method.resnet import build_network

BACKWARD = 2
"""The backward pass of a convolution costs two of its forward passes: one for its input, one for its weight."""


def forward_flops(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Floating-point operations of one image's forward pass; a multiply-add counts two.

    Args:
        config: the network.
        image_shape: (C, H, W).
        num_classes: outputs.
    """
    with torch.device("meta"):
        model = build_network(config.arch, image_shape[0], num_classes).eval()
        image = torch.empty(1, *image_shape)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return int(counter.get_total_flops())
