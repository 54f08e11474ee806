"""Flips and crops against every flip and crop that an image can have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tune_bn.data.augment import Augmentation, centre_crop
from tune_bn.data.config import DataConfig
from tune_bn.errors import ConfigError


def pictures(count: int, channels: int = 3, height: int = 6, width: int = 5) -> Tensor:
    values = np.random.default_rng(0).integers(1, 256, (count, channels, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


class Epoch:
    """The augmentation of one epoch, applied to the batch that begins at a position of it."""

    def __init__(self, config: DataConfig, shape: torch.Size, generator: torch.Generator) -> None:
        self.augmentation = Augmentation(config, shape)
        self.drawn = self.augmentation.draw(shape[0], generator)

    def __call__(self, images: Tensor, start: int) -> Tensor:
        rows = slice(start, start + len(images))
        return self.augmentation.apply(images, {name: values[rows] for name, values in self.drawn.items()})


def augmentation(count: int, seed: int = 0, *, flip: bool = False, padding: int = 0, crop: int | None = None) -> Epoch:
    config = DataConfig(source="folder", flip=flip, crop_padding=padding, crop_size=crop)
    return Epoch(config, pictures(count).shape, torch.Generator().manual_seed(seed))


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
    first, second = (Epoch(config, images.shape, generator)(images, 0) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first, augmentation(50, 1, flip=True, padding=2)(images, 0))
    assert torch.equal(first, augmentation(50, 0, flip=True, padding=2)(images, 0))


def windows(image: Tensor, padding: int, side: int) -> dict[bytes, tuple[int, int]]:
    """Every square of the padded image, by its (row, column)."""
    framed = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    height, width = framed.shape[1:]
    return {
        framed[:, row : row + side, column : column + side].tobytes(): (row, column)
        for row in range(height - side + 1)
        for column in range(width - side + 1)
    }


@pytest.mark.parametrize(("padding", "places"), [(0, 3 * 2), (1, 5 * 4)])
def test_crops_are_squares_at_every_place_with_the_same_chance(padding: int, places: int) -> None:
    images = pictures(3600)
    cropped = augmentation(3600, padding=padding, crop=4)(images, 0)
    assert cropped.shape == (3600, 3, 4, 4)
    assert cropped.dtype == torch.uint8
    found = [
        windows(before, padding, 4)[after.numpy().tobytes()] for before, after in zip(images, cropped, strict=True)
    ]
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == places
    assert stats.chisquare(counts).pvalue > 1e-6


@pytest.mark.parametrize("size", [1, 3, 20])
def test_crops_of_batches_together_are_those_of_the_whole(size: int) -> None:
    images = pictures(20)
    whole = augmentation(20, flip=True, crop=4)(images, 0)
    batched = augmentation(20, flip=True, crop=4)
    assert torch.equal(torch.cat([batched(images[start : start + size], start) for start in range(0, 20, size)]), whole)


@pytest.mark.parametrize("crop", [None, 5])
def test_a_crop_of_the_whole_image_draws_what_no_crop_draws(crop: int | None) -> None:
    """With images of 5×5 a crop of 5 is none; the order of the draws is that of flips, then both offsets at once."""
    config = DataConfig(source="folder", flip=True, crop_padding=2, crop_size=crop)
    generator = torch.Generator().manual_seed(3)
    drawn = Augmentation(config, torch.Size((40, 3, 5, 5))).draw(40, generator)
    plain = torch.Generator().manual_seed(3)
    assert torch.equal(drawn["flips"], torch.rand(40, generator=plain) < 0.5)
    assert torch.equal(drawn["offsets"], torch.randint(0, 5, (2, 40), generator=plain).T)
    assert torch.equal(generator.get_state(), plain.get_state())


def test_nothing_is_drawn_where_nothing_is_random() -> None:
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    config = DataConfig(source="folder", crop_size=5)
    assert Augmentation(config, torch.Size((40, 3, 5, 5))).draw(40, generator) == {}
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("height", "width", "side"), [(6, 6, 4), (6, 8, 4), (7, 5, 5), (5, 5, 5)])
def test_evaluation_sees_the_centre(height: int, width: int, side: int) -> None:
    from torchvision.transforms.v2.functional import center_crop

    images = pictures(3, height=height, width=width)
    cropped = centre_crop(images, DataConfig(source="folder", crop_size=side))
    assert torch.equal(cropped, center_crop(images, [side, side]))


def test_evaluation_sees_the_whole_image_where_nothing_is_cropped() -> None:
    images = pictures(3)
    assert torch.equal(centre_crop(images, DataConfig(source="folder", crop_padding=2)), images)


def test_an_odd_margin_is_smaller_above_and_to_the_left() -> None:
    images = pictures(2, height=7, width=6)
    cropped = centre_crop(images, DataConfig(source="folder", crop_size=4))
    assert torch.equal(cropped, images[:, :, 1:5, 1:5])


def resized(scale: list[float], crop: int | None, shape: tuple[int, int, int, int], seed: int = 0) -> Augmentation:
    return Augmentation(DataConfig(source="folder", crop_size=crop, crop_scale=scale), torch.Size(shape))


@pytest.mark.parametrize(("height", "width", "side"), [(40, 40, 24), (30, 44, 24), (40, 25, 16), (12, 12, 24)])
def test_a_resized_crop_is_that_of_torchvision(height: int, width: int, side: int) -> None:
    from torchvision.transforms.v2.functional import resized_crop

    shape = (60, 3, height, width)
    augmentation = Augmentation(DataConfig(source="folder", crop_scale=[0.08, 1.0]), torch.Size(shape))
    augmentation.sides = (side, side)
    images = pictures(*shape)
    drawn = augmentation.draw(60, torch.Generator().manual_seed(1))
    found = augmentation.apply(images, drawn)
    assert found.shape == (60, 3, side, side)
    assert found.dtype == torch.uint8
    for image, box, mine in zip(images, drawn["boxes"].tolist(), found, strict=True):
        expected = resized_crop(image.float(), *box, size=[side, side], antialias=False)
        # Half a grey value apart where a rounding falls the other way.
        assert torch.allclose(mine.float(), expected, atol=0.5 + 1e-3)


def test_the_boxes_have_the_area_and_the_aspect_ratio_that_were_asked_for() -> None:
    height, width = 200, 240
    augmentation = resized([0.2, 0.6], 100, (1, 3, height, width))
    boxes = augmentation.draw(20_000, torch.Generator().manual_seed(2))["boxes"].double().numpy()
    tops, lefts, heights, widths = boxes.T
    assert (tops >= 0).all()
    assert (tops + heights <= height).all()
    assert (lefts >= 0).all()
    assert (lefts + widths <= width).all()
    share, ratio = heights * widths / (height * width), widths / heights
    # Sides are whole pixels.
    assert 0.19 < share.min() < 0.21
    assert 0.59 < share.max() < 0.61
    assert 0.74 < ratio.min() < 0.76
    assert 1.31 < ratio.max() < 1.35
    # At most 0.6 of the area always fits into this image, so nothing bends the two distributions.
    assert stats.kstest(share, stats.uniform(0.2, 0.4).cdf).pvalue > 1e-4
    assert stats.kstest(np.log(ratio), stats.uniform(np.log(3 / 4), 2 * np.log(4 / 3)).cdf).pvalue > 1e-4
    places = tops / (height - heights + 1)
    assert abs(places.mean() - 0.5) < 6 * np.sqrt(1 / 12 / len(places)) + 0.01


def test_boxes_are_drawn_like_those_of_torchvision() -> None:
    from torchvision.transforms import RandomResizedCrop

    shape, scale = (1, 3, 30, 40), [0.5, 1.0]
    mine = resized(scale, 16, shape).draw(8000, torch.Generator().manual_seed(4))["boxes"].numpy()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = np.array(
            [RandomResizedCrop.get_params(torch.zeros(shape[1:]), scale, [3 / 4, 4 / 3]) for _ in range(8000)]
        )
    for column in range(4):
        assert stats.ks_2samp(mine[:, column], theirs[:, column]).pvalue > 1e-4


@pytest.mark.parametrize(("height", "width", "box"), [(10, 100, (0, 43, 10, 13)), (100, 10, (43, 0, 13, 10))])
def test_an_image_that_no_box_fits_is_cropped_in_its_centre(height: int, width: int, box: tuple[int, ...]) -> None:
    augmentation = resized([1.0, 1.0], 8, (1, 3, height, width))
    boxes = augmentation.draw(50, torch.Generator().manual_seed(0))["boxes"]
    assert {tuple(found) for found in boxes.tolist()} == {box}


def test_resized_crops_and_padding_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"crop_scale: got \[0.5, 1\]; accepted: null with crop_padding: 4"):
        DataConfig(source="folder", crop_scale=[0.5, 1], crop_padding=4)


@pytest.mark.parametrize("scale", [[0.0, 1.0], [0.5, 0.2], [0.1, 1.5], [0.5], [0.1, 0.2, 0.3]])
def test_shares_of_the_area_lie_between_0_and_1(scale: list[float]) -> None:
    with pytest.raises(ConfigError, match="crop_scale"):
        DataConfig(source="folder", crop_scale=scale)
