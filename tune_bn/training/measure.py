"""What a run costs on the device at hand, measured over a few steps on made-up images."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from tune_bn.data.dataset import Dataset, Split
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun

ROUNDS = 3
"""Measurements; they differ as the machine is busy otherwise."""
SECONDS = 2.0
"""About how long all of them together take, once the network is set up."""
MOST_BATCHES = 50


@dataclass(frozen=True)
class Pace:
    """Seconds that one round took."""

    train: float
    """For one training image, forward and backward."""
    evaluate: float
    """For one image of another split."""

    def run(self, epochs: int, train: int, val: int, test: int) -> float:
        """Seconds of a run with so many epochs and images."""
        return epochs * (train * self.train + val * self.evaluate) + test * self.evaluate


def measured(
    config: RunConfig, shape: tuple[int, int, int], classes: int, device: torch.device, threads: int, images: int
) -> list[Pace]:
    """Train a few batches some times over.

    Args:
        config: of the run; its data section says how images are augmented.
        shape: (C, H, W) of an image as the network sees it.
        classes: number of classes.
        device: where.
        threads: of torch on a CPU, as a trial has them.
        images: of the training split; no more are made up.

    Raises:
        Exception: whatever the network raises.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        size = min(config.train.batch_size, images)
        first = _round(config, shape, classes, device, 2 * size)
        batches = int(min(MOST_BATCHES, max(2, SECONDS / ROUNDS / max(first.train * size, 1e-6))))
        return [_round(config, shape, classes, device, batches * size) for _ in range(ROUNDS)]
    finally:
        torch.set_num_threads(before)


def _round(config: RunConfig, shape: tuple[int, int, int], classes: int, device: torch.device, images: int) -> Pace:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (images, *shape), dtype=np.uint8)
    labels = np.arange(images, dtype=np.int64) % classes
    split = Split(pixels, labels)
    dataset = Dataset("made up", tuple(map(str, range(classes))), split, split, None)
    # The images are made as the network sees them.
    data = replace(
        config.data, source="digits", root=None, crop_size=None, image_size=None, resize="stretch", split="fixed"
    )
    course = replace(config.train, epochs=2, warmup_epochs=0)
    run = TrainingRun(replace(config, data=data, train=course), DeviceData(dataset, device), 0)
    run.train_epoch()
    start = time.monotonic()
    run.evaluate(run.images.val)
    evaluated = time.monotonic() - start
    start = time.monotonic()
    run.train_epoch()
    whole = time.monotonic() - start
    return Pace(max(whole - evaluated, 0.1 * whole) / images, evaluated / images)
