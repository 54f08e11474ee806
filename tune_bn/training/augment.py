"""Random flips and crops of a whole batch, on the device that holds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tune_bn.training.config import DataConfig


class Augmentation:
    """The flips and crops of one epoch, drawn in one go, then applied batch by batch.

    A crop is a square of side ``crop_size``, or as large as the image, at any place of the image after zero padding by
    ``crop_padding``; every place is as likely.

    Args:
        config: ``flip``, ``crop_size`` and ``crop_padding``.
        shape: (N, C, H, W) of the images of the epoch, in the order in which they are seen.
        generator: on the device of the images.
    """

    def __init__(self, config: DataConfig, shape: torch.Size, generator: torch.Generator) -> None:
        device, count = generator.device, shape[0]
        self.padding = config.crop_padding
        self.sides = config.seen_shape((shape[1], shape[2], shape[3]))[1:]
        self.flips = torch.rand(count, generator=generator, device=device) < 0.5 if config.flip else None
        # Places of the crop in each direction.
        rows, columns = (side + 2 * self.padding - seen + 1 for side, seen in zip(shape[2:], self.sides, strict=True))
        self.offsets = None
        if rows == columns > 1:
            # In one go: on a GPU two draws of half the size are other numbers.
            self.offsets = torch.randint(0, rows, (2, count), generator=generator, device=device)
        elif (rows, columns) != (1, 1):
            draws = [torch.randint(0, n, (count,), generator=generator, device=device) for n in (rows, columns)]
            self.offsets = torch.stack(draws)

    def __call__(self, images: Tensor, start: int) -> Tensor:
        """Augment the batch that begins at position ``start`` of the epoch.

        Shapes: images (B, C, H, W) uint8 → (B, C, h, w) uint8, where h and w are the sides of the crop.
        """
        stop = start + len(images)
        if self.flips is not None:
            images = torch.where(self.flips[start:stop, None, None, None], images.flip(-1), images)
        if self.offsets is not None:
            images = _crop(F.pad(images, (self.padding,) * 4), self.offsets[:, start:stop], self.sides)
        return images


def _crop(images: Tensor, offsets: Tensor, sides: tuple[int, int]) -> Tensor:
    """Cut (height, width) = ``sides`` out of each image at its own (row, column) of ``offsets`` (2, B)."""
    (height, width), device = sides, images.device
    rows = offsets[0, :, None] + torch.arange(height, device=device)
    columns = offsets[1, :, None] + torch.arange(width, device=device)
    index = torch.arange(len(images), device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def centre_crop(images: Tensor, config: DataConfig) -> Tensor:
    """What evaluation sees of the images: a view of their centre, or all of them where nothing is cropped.

    Shapes: images (N, C, H, W) → (N, C, h, w). With an odd margin the smaller part is above and to the left.
    """
    height, width = config.seen_shape((images.shape[1], images.shape[2], images.shape[3]))[1:]
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[..., top : top + height, left : left + width]
