"""Random flips and crops of a whole batch, on the device that holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tune_bn.data.config import DataConfig

ASPECT_RATIOS = (3 / 4, 4 / 3)
"""Of random resized crops, width over height."""
TRIES = 10
"""Draws of a box for which one that fits into the image is looked for."""


class Augmentation:
    """The flips and crops of images: drawn for an epoch in one go, then applied batch by batch.

    A crop is a square of side ``crop_size``, or as large as the image, at any place of the image after zero padding by
    ``crop_padding``; every place is as likely. With ``crop_scale`` it is a box of random area and aspect ratio, resized
    to that side: torchvision's ``RandomResizedCrop`` without antialiasing.

    Args:
        config: ``flip``, ``crop_size``, ``crop_padding`` and ``crop_scale``.
        shape: (N, C, H, W) of the images.
    """

    def __init__(self, config: DataConfig, shape: torch.Size) -> None:
        self.flip = config.flip
        self.padding = config.crop_padding
        self.scale = config.crop_scale
        self.height, self.width = shape[2:]
        self.sides = config.seen_shape((shape[1], shape[2], shape[3]))[1:]
        # Places of the crop in each direction.
        self.places = tuple(s + 2 * self.padding - n + 1 for s, n in zip(shape[2:], self.sides, strict=True))

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """What :meth:`apply` needs for ``count`` images: tensors on the generator's device, a row for each image."""
        drawn, device = {}, generator.device
        if self.flip:
            drawn["flips"] = torch.rand(count, generator=generator, device=device) < 0.5
        if self.scale is not None:
            drawn["boxes"] = self._draw_boxes(count, self.scale, generator)
            return drawn
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
        if "boxes" in drawn:
            images = _resized_crop(images, drawn["boxes"], self.sides)
        return images

    def _draw_boxes(self, count: int, scale: list[float], generator: torch.Generator) -> Tensor:
        """(count, 4) int64: top, left, height and width; the first of :data:`TRIES` that fits, else a centred one."""
        uniform = torch.rand((4, count, TRIES), generator=generator, device=generator.device, dtype=torch.float64)
        areas = self.height * self.width * (scale[0] + (scale[1] - scale[0]) * uniform[0])
        low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
        ratios = torch.exp(low + (high - low) * uniform[1])
        heights, widths = (areas / ratios).sqrt().round().long(), (areas * ratios).sqrt().round().long()
        fits = (heights > 0) & (heights <= self.height) & (widths > 0) & (widths <= self.width)
        tops, lefts = (
            (uniform[2] * (self.height - heights + 1)).floor().long(),
            (uniform[3] * (self.width - widths + 1)).floor().long(),
        )
        # argmax finds the first of several.
        first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
        boxes = torch.stack([part.gather(1, first)[:, 0] for part in (tops, lefts, heights, widths)], dim=1)
        height = min(self.height, round(self.width / ASPECT_RATIOS[0]))
        width = min(self.width, round(self.height * ASPECT_RATIOS[1]))
        centred = [(self.height - height) // 2, (self.width - width) // 2, height, width]
        return torch.where(fits.any(dim=1)[:, None], boxes, torch.tensor(centred, device=boxes.device))


def _crop(images: Tensor, offsets: Tensor, sides: tuple[int, int]) -> Tensor:
    """Cut (height, width) = ``sides`` out of each image at its own (row, column) of ``offsets`` (B, 2)."""
    (height, width), device = sides, images.device
    rows = offsets[:, 0, None] + torch.arange(height, device=device)
    columns = offsets[:, 1, None] + torch.arange(width, device=device)
    index = torch.arange(len(images), device=device)[:, None, None]
    return images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _resized_crop(images: Tensor, boxes: Tensor, sides: tuple[int, int]) -> Tensor:
    """Each image's own box (top, left, height, width) of ``boxes`` (B, 4), resized bilinearly to ``sides``."""
    index = torch.arange(len(images), device=images.device)[:, None, None]
    pixels = images.permute(0, 2, 3, 1)
    above, below, down = _neighbours(boxes[:, 0], boxes[:, 2], sides[0])
    left, right, along = _neighbours(boxes[:, 1], boxes[:, 3], sides[1])
    along, down = along[:, None, :, None], down[:, :, None, None]

    def row(rows: Tensor) -> Tensor:
        """The rows of the result, resized in their own direction alone."""
        ends = [pixels[index, rows[:, :, None], columns[:, None, :]].float() for columns in (left, right)]
        return torch.lerp(ends[0], ends[1], along)

    return torch.lerp(row(above), row(below), down).round().to(torch.uint8).permute(0, 3, 1, 2)


def _neighbours(start: Tensor, length: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Between which pixels the ``count`` pixels of a resized span lie, and where, as in ``F.interpolate``.

    Shapes: start and length (B,) → two int64 and a float32 of (B, count).
    """
    centres = (torch.arange(count, device=start.device) + 0.5) * (length[:, None] / count) - 0.5
    centres = centres.clamp(min=0)
    first = centres.floor().long()
    second = torch.minimum(first + 1, length[:, None] - 1)
    return start[:, None] + first, start[:, None] + second, centres - first


def centre_crop(images: Tensor, config: DataConfig) -> Tensor:
    """What evaluation sees of the images: a view of their centre, or all of them where nothing is cropped.

    Shapes: images (N, C, H, W) → (N, C, h, w). With an odd margin the smaller part is above and to the left.
    """
    height, width = config.seen_shape((images.shape[1], images.shape[2], images.shape[3]))[1:]
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[..., top : top + height, left : left + width]
