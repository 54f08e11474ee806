"""Small runs on images that are made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData

CPU = torch.device("cpu")
AUGMENTED = DataConfig(flip=True, crop_padding=1)
TEST_METRICS = ("test_accuracy", "final_test_accuracy")


def make_split(count: int, side: int, classes: int, seed: int, channels: int = 3) -> Split:
    """Noise that is brighter for higher classes; read-only, as the views of shared memory are."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    noise = rng.integers(0, 128, (count, channels, side, side))
    images = (noise + (127 * labels // max(1, classes - 1))[:, None, None, None]).astype(np.uint8)
    images.flags.writeable = labels.flags.writeable = False
    return Split(images, labels)


def make_dataset(train: int = 20, side: int = 8, classes: int = 3, test: bool = True) -> Dataset:
    names = tuple(str(label) for label in range(classes))
    splits = [make_split(count, side, classes, seed) for seed, count in enumerate((train, 12, 15))]
    return Dataset("noise", names, splits[0], splits[1], splits[2] if test else None)


def device_data(**options: Any) -> DeviceData:
    return DeviceData(make_dataset(**options), CPU)


def run_config(model: dict[str, Any] | None = None, data: DataConfig = AUGMENTED, **train: Any) -> RunConfig:
    return RunConfig(
        ModelConfig(**({"arch": "resnet8"} | (model or {}))),
        data,
        TrainConfig(**({"epochs": 3, "batch_size": 8} | train)),
    )


def equal_states(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
