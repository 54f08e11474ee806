"""A user's network that counts, paces and breaks its own training, whichever process trains it.

All of it happens in a folder that an environment variable names: each training forward appends one byte to ``steps``;
``pace`` holds the least seconds that it takes; a file ``NAME-NUMBER`` is a fault that one training forward takes away
and then suffers.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

from tune_bn.training.layout import IMAGES

FOLDER = "TUNE_BN_TEST_COUNTING_FOLDER"
FAULTS = {
    "out_of_memory": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "error": lambda: RuntimeError("a network of bad temper"),
}


class Counting(nn.Sequential):
    """The layers of a small network."""

    def forward(self, images: Tensor) -> Tensor:
        """As the layers say."""
        folder = os.environ.get(FOLDER)
        # The check before a study, the evaluation and the diagnostics are no training, nor is the step of two images by
        # which every process learns how the network's activations may lie in memory.
        if folder and self.training and torch.is_grad_enabled() and len(images) > IMAGES:
            _step(Path(folder))
        return super().forward(images)


def _step(folder: Path) -> None:
    with suppress(FileNotFoundError):
        time.sleep(float((folder / "pace").read_text()))
    for path in folder.glob("*-*"):
        name = path.name.rpartition("-")[0]
        if name in FAULTS and _taken(path):
            raise FAULTS[name]()
    # A line of one byte is appended whole, whoever else appends.
    with (folder / "steps").open("ab", buffering=0) as handle:
        handle.write(b".")


def _taken(path: Path) -> bool:
    """Whether this process was the one that took the fault away."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


class Breaking(Counting):
    """Raises from its tenth training forward on: later than the check before a study looks."""

    begun = 0

    def forward(self, images: Tensor) -> Tensor:
        """As the layers say, or an error."""
        if self.training and torch.is_grad_enabled():
            self.begun += 1
            if self.begun >= 10:
                raise FAULTS["error"]()
        # Not counted: what it did is nobody's work.
        return nn.Sequential.forward(self, images)


def network(in_channels: int, num_classes: int) -> nn.Module:
    """The network."""
    return Counting(*_layers(in_channels, num_classes))


def breaking(in_channels: int, num_classes: int) -> nn.Module:
    """The network that cannot be trained."""
    return Breaking(*_layers(in_channels, num_classes))


def _layers(in_channels: int, num_classes: int) -> list[nn.Module]:
    layers = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return [*layers, nn.Linear(16, num_classes)]
