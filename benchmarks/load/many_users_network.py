"""Networks that hardly train and take their time: a load of many studies costs little more than their processes.

The file is put beside a user's space file, as a network of theirs. ``MANY_USERS_PACE`` of the environment scales the
time; without it none is taken, so that the door's check and an undisturbed study are quick.
"""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor, nn

PACE = "MANY_USERS_PACE"
LEAST_IMAGES = 3
"""The step by which a process learns how activations lie in memory has two."""


class Paced(nn.Sequential):
    """The layers of a small network; a training forward takes so many seconds at least."""

    seconds = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """As the layers say."""
        if self.training and torch.is_grad_enabled() and len(images) >= LEAST_IMAGES:
            time.sleep(self.seconds * float(os.environ.get(PACE, "0")))
        outputs: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return outputs


def quick(in_channels: int, num_classes: int) -> nn.Module:
    """Two seconds for a run of 20 steps."""
    return _network(in_channels, num_classes, 0.1)


def steady(in_channels: int, num_classes: int) -> nn.Module:
    """Five seconds."""
    return _network(in_channels, num_classes, 0.25)


def slow(in_channels: int, num_classes: int) -> nn.Module:
    """Ten seconds."""
    return _network(in_channels, num_classes, 0.5)


def _network(in_channels: int, num_classes: int, seconds: float) -> nn.Module:
    layers = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    network = Paced(*layers, nn.Linear(16, num_classes))
    network.seconds = seconds
    return network
