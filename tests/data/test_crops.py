"""What the network sees of larger images: random crops while training, the same for all arms; the centre elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.engine import to_input
from tune_bn.training.inspection import images_of
from tune_bn.training.loop import TrainingRun

SIDE, CROP = 12, 8
CROPPED = DataConfig(source="folder", crop_size=CROP, flip=True)


pytestmark = pytest.mark.usefixtures("one_thread")


def dataset() -> Dataset:
    def split(count: int, seed: int) -> Split:
        images = np.random.default_rng(seed).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
        return Split(images, np.arange(count, dtype=np.int64) % 2)

    return Dataset("noise", ("a", "b"), split(20, 0), split(6, 1), split(6, 2))


DATA = DeviceData(dataset(), torch.device("cpu"))


def seen_by(model: dict[str, Any], data: DataConfig = CROPPED, seed: int = 1, **train: Any) -> dict[str, Tensor]:
    """The images of two epochs and of the test, as they reach the network: while training, and in evaluation."""
    config = RunConfig(ModelConfig(arch="resnet8", **model), data, TrainConfig(epochs=2, batch_size=8, **train))
    run = TrainingRun(config, DATA, seed, "final_test_accuracy")
    seen: dict[str, list[Tensor]] = {"training": [], "evaluation": []}
    run.model.register_forward_pre_hook(
        lambda module, inputs: seen["training" if module.training else "evaluation"].append(inputs[0].clone())
    )
    while not run.done:
        run.train_epoch()
    run.result()
    return {mode: torch.cat(batches) for mode, batches in seen.items()}


def test_training_sees_random_crops_and_evaluation_the_centre() -> None:
    seen = seen_by({})
    assert seen["training"].shape == (40, 3, CROP, CROP)
    assert not torch.equal(seen["training"][:20].sort(dim=0).values, seen["training"][20:].sort(dim=0).values)
    margin = (SIDE - CROP) // 2
    assert DATA.test is not None
    whole = torch.cat([DATA.val.images, DATA.val.images, DATA.test.images])
    centre = whole[..., margin : margin + CROP, margin : margin + CROP]
    assert torch.equal(seen["evaluation"], to_input(centre))


def test_every_arm_of_a_seed_sees_the_same_crops() -> None:
    first = seen_by({"gamma": 0.1}, c=100)["training"]
    assert torch.equal(first, seen_by({"norm": "base"}, lr=0.01)["training"])
    assert not torch.equal(first, seen_by({"gamma": 0.1}, seed=2, c=100)["training"])


def test_diagnostics_see_what_evaluation_sees() -> None:
    images, labels = images_of(DATA, CROPPED, 5)
    assert torch.equal(images, to_input(DATA.train.images[::4, :, 2:10, 2:10]))
    assert labels.tolist() == DATA.train.labels[::4].tolist()


@pytest.mark.parametrize("crop", [None, SIDE])
def test_a_crop_of_the_whole_image_changes_nothing(crop: int | None) -> None:
    before = seen_by({}, DataConfig(source="folder", flip=True, crop_padding=1))
    after = seen_by({}, DataConfig(source="folder", flip=True, crop_padding=1, crop_size=crop))
    assert all(torch.equal(before[mode], after[mode]) for mode in before)
