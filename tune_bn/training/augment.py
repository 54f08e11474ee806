"""Random flips and crops of a whole batch, on the device that holds it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tune_bn.training.config import DataConfig


class Augmentation:
    """The flips and crops of images: drawn for an epoch in one go, then applied batch by batch.

    A crop is a square of side ``crop_size``, or as large as the image, at any place of the image after zero padding by
    ``crop_padding``; every place is as likely.

    Args:
        config: ``flip``, ``crop_size`` and ``crop_padding``.
        shape: (N, C, H, W) of the images.
    """

    def __init__(self, config: DataConfig, shape: torch.Size) -> None:
        self.flip = config.flip
        self.padding = config.crop_padding
        self.sides = config.seen_shape((shape[1], shape[2], shape[3]))[1:]
        # Places of the crop in each direction.
        self.places = tuple(s + 2 * self.padding - n + 1 for s, n in zip(shape[2:], self.sides, strict=True))

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """What :meth:`apply` needs for ``count`` images: tensors on the generator's device, a row for each image."""
        drawn, device = {}, generator.device
        if self.flip:
            drawn["flips"] = torch.rand(count, generator=generator, device=device) < 0.5
        rows, columns = self.places
        if rows == columns > 1:
            # In one go: on a GPU two draws of half the size are other numbers.
            drawn["offsets"] = torch.randint(0, rows, (2, count), generator=generator, device=device).T
        elif (rows, columns) != (1, 1):
            draws = [torch.randint(0, n, (count,), generator=generator, device=device) for n in (rows, columns)]
            drawn["offsets"] = torch.stack(draws, dim=1)
        return drawn

    def apply(self, images: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """Augment a batch with the rows of :meth:`draw` that are its own.

        Shapes: images (B, C, H, W) uint8 → (B, C, h, w) uint8, where h and w are the sides of the crop.
        """
        if "flips" in drawn:
            images = torch.where(drawn["flips"][:, None, None, None], images.flip(-1), images)
        if "offsets" in drawn:
            images = _crop(F.pad(images, (self.padding,) * 4), drawn["offsets"], self.sides)
        return images


def _crop(images: Tensor, offsets: Tensor, sides: tuple[int, int]) -> Tensor:
    """Cut (height, width) = ``sides`` out of each image at its own (row, column) of ``offsets`` (B, 2)."""
    (height, width), device = sides, images.device
    rows = offsets[:, 0, None] + torch.arange(height, device=device)
    columns = offsets[:, 1, None] + torch.arange(width, device=device)
    index = torch.arange(len(images), device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def centre_crop(images: Tensor, config: DataConfig) -> Tensor:
    """What evaluation sees of the images: a view of their centre, or all of them where nothing is cropped.

    Shapes: images (N, C, H, W) → (N, C, h, w). With an odd margin the smaller part is above and to the left.
    """
    height, width = config.seen_shape((images.shape[1], images.shape[2], images.shape[3]))[1:]
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[..., top : top + height, left : left + width]
