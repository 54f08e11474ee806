"""What a run costs, counted without training."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tune_bn.method.config import ModelConfig
from tune_bn.method.networks import computed_where_small, dry_run
from tune_bn.method.undisturbed import uncompiled, undisturbed
from tune_bn.method.user_network import is_user_network

BACKWARD = 2
"""The backward pass of a convolution costs two of its forward passes: one for its input, one for its weight."""


def forward_flops(config: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Floating-point operations of one image's forward pass; a multiply-add counts two.

    Args:
        config: the network.
        image_shape: (C, H, W).
        num_classes: outputs.

    Raises:
        MethodError: there is no such network.
    """

    def count(network: nn.Module) -> int:
        if not is_user_network(config.arch):
            network = computed_where_small(network, image_shape[1:])
        # As many as a network must take to be trained; not every one takes a single image.
        images = torch.zeros(2, *image_shape, device=next(network.parameters()).device)
        network.eval()
        # The counter hangs hooks on whatever wants a gradient, and fails where that is a parameter given to a layer.
        network.requires_grad_(False)
        with uncompiled(), FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images)
        return int(counter.get_total_flops()) // 2

    with undisturbed():
        return dry_run(config, image_shape[0], num_classes, count, image_shape[1:])
