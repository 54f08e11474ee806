"""Random flips and crops of a whole batch, on the device that holds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tune_bn.training.config import DataConfig


class Augmentation:
    """The flips and crops of one epoch, drawn in one go, then applied batch by batch.

    Args:
        config: ``flip`` and ``crop_padding``.
        count: images of the epoch, in the order in which they are seen.
        generator: on the device of the images.
    """

    def __init__(self, config: DataConfig, count: int, generator: torch.Generator) -> None:
        device = generator.device
        self.padding = config.crop_padding
        self.flips = torch.rand(count, generator=generator, device=device) < 0.5 if config.flip else None
        self.offsets = (
            torch.randint(0, 2 * self.padding + 1, (2, count), generator=generator, device=device)
            if self.padding
            else None
        )

    def __call__(self, images: Tensor, start: int) -> Tensor:
        """Augment the batch that begins at position ``start`` of the epoch.

        Shapes: images (B, C, H, W) uint8 → (B, C, H, W) uint8.
        """
        stop = start + len(images)
        if self.flips is not None:
            images = torch.where(self.flips[start:stop, None, None, None], images.flip(-1), images)
        if self.offsets is not None:
            images = _crop(images, self.offsets[:, start:stop], self.padding)
        return images


def _crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Crop each image at its own offset after zero padding on all sides."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
