"""Flips and crops against every flip and crop that an image can have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tune_bn.training.augment import Augmentation
from tune_bn.training.config import DataConfig


def pictures(count: int, channels: int = 3, height: int = 6, width: int = 5) -> Tensor:
    values = np.random.default_rng(0).integers(1, 256, (count, channels, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def augmentation(count: int, seed: int = 0, *, flip: bool = False, padding: int = 0) -> Augmentation:
    config = DataConfig(flip=flip, crop_padding=padding)
    return Augmentation(config, count, torch.Generator().manual_seed(seed))


def variants(image: Tensor, padding: int) -> dict[bytes, tuple[bool, int, int]]:
    """All an image can become, one by one: mirrored or not, then cut out of its zero frame at (row, column)."""
    found = {}
    height, width = image.shape[1:]
    for flipped in (False, True):
        pixels = image.numpy()[..., ::-1] if flipped else image.numpy()
        framed = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding)))
        for row in range(2 * padding + 1):
            for column in range(2 * padding + 1):
                cut = framed[:, row : row + height, column : column + width]
                found[cut.tobytes()] = (flipped, row, column)
    return found


def taken(before: Tensor, after: Tensor, padding: int) -> np.ndarray:
    """(flipped, row, column) of each image; fails where an image became something else."""
    assert after.shape == before.shape
    assert after.dtype == torch.uint8
    return np.array([variants(x, padding)[y.numpy().tobytes()] for x, y in zip(before, after, strict=True)])


@pytest.mark.parametrize("padding", [1, 4])
def test_every_image_becomes_one_of_its_own_flips_and_crops(padding: int) -> None:
    images = pictures(200)
    taken(images, augmentation(200, flip=True, padding=padding)(images, 0), padding)


def test_half_of_the_images_are_mirrored() -> None:
    images = pictures(2000, channels=1)
    flips = taken(images, augmentation(2000, flip=True)(images, 0), 0)[:, 0]
    low, high = stats.binom.interval(1 - 1e-6, 2000, 0.5)
    assert low <= flips.sum() <= high


def test_flips_and_offsets_are_uniform_and_independent() -> None:
    images = pictures(3600, channels=1)
    found = taken(images, augmentation(3600, flip=True, padding=1)(images, 0), 1)
    cells = np.unique(found, axis=0, return_counts=True)[1]
    assert len(cells) == 2 * 3 * 3
    assert stats.chisquare(cells).pvalue > 1e-6


def test_without_options_the_images_pass_as_they_are() -> None:
    images = pictures(7)
    assert torch.equal(augmentation(7)(images, 0), images)


def test_the_images_that_go_in_are_not_changed() -> None:
    images = pictures(20)
    before = images.clone()
    augmentation(20, flip=True, padding=2)(images, 0)
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_batches_together_are_the_whole(size: int) -> None:
    images = pictures(20)
    whole = augmentation(20, flip=True, padding=2)(images, 0)
    batched = augmentation(20, flip=True, padding=2)
    parts = [batched(images[start : start + size], start) for start in range(0, 20, size)]
    assert torch.equal(torch.cat(parts), whole)


def test_the_draws_do_not_depend_on_the_options_of_the_other() -> None:
    images = pictures(100)
    alone = taken(images, augmentation(100, flip=True)(images, 0), 0)[:, 0]
    both = taken(images, augmentation(100, flip=True, padding=2)(images, 0), 2)[:, 0]
    assert alone.tolist() == both.tolist()


def test_each_epoch_and_each_seed_draws_anew() -> None:
    images, config = pictures(50), DataConfig(flip=True, crop_padding=2)
    generator = torch.Generator().manual_seed(0)
    first, second = (Augmentation(config, 50, generator)(images, 0) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, augmentation(50, 1, flip=True, padding=2)(images, 0))
    assert torch.equal(first, augmentation(50, 0, flip=True, padding=2)(images, 0))
