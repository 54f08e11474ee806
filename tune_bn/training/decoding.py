"""Image files to arrays: every format that Pillow reads, always as RGB, damaged files refused by name."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from tune_bn.errors import DataError
from tune_bn.machine import usable_cores

_BLOCK_IMAGES, _BLOCK_BYTES = 64, 2**22


def _threads() -> int:
    # More than cores: small files wait for the disk or the network more than they cost to decode.
    return min(32, usable_cores() + 4)


class Decoder:
    """Decodes files to equal-sized RGB arrays, first frame only.

    Grey becomes three equal channels, transparency is dropped, and EXIF orientation is not applied, as in torchvision.
    With ``image_size`` every image becomes a square (bilinear, antialiased): ``stretch`` resizes both sides, whatever
    their proportions; ``crop`` resizes the largest square in the middle.

    Args:
        example: the file that sets the size where ``image_size`` is None.
        image_size: side in pixels, or None to keep the images as they are, all of one size.
        resize: ``stretch`` or ``crop``.

    Raises:
        DataError: ``example`` cannot be read.
    """

    def __init__(self, example: str, image_size: int | None, resize: str = "stretch") -> None:
        self.example = example
        self.image_size = image_size
        self.resize = resize
        with _strict_pillow(), reading(example), _open_image(example) as image:
            self.size = image.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the decoded images."""
        width, height = self.size if self.image_size is None else (self.image_size, self.image_size)
        return 3, height, width

    def check_headers(self, paths: Sequence[str]) -> None:
        """Open these files without decoding their pixels.

        Raises:
            DataError: one is not an image, or not of the accepted size or depth.
        """
        with _strict_pillow():
            for path in paths:
                with reading(path), _open_image(path) as image:
                    self._check(path, image)

    def decode(self, paths: Sequence[str], take: Callable[[NDArray[np.uint8]], object]) -> None:
        """Decode these files side by side and hand them over in order, a few megabytes at a time.

        Args:
            paths: the files.
            take: called with each next block of images, (B, 3, H, W), C-contiguous.

        Raises:
            DataError: one is damaged, or not of the accepted size or depth.
        """
        size = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // int(np.prod(self.shape))))
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        threads = _threads()
        with _strict_pillow(), ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(paths), size):
                # What is decoded ahead of a slow taker is bounded.
                if len(waiting) == 2 * threads:
                    take(waiting.popleft().result())
                waiting.append(pool.submit(self._decode_block, paths[start : start + size]))
            while waiting:
                take(waiting.popleft().result())

    def _decode_block(self, paths: Sequence[str]) -> NDArray[np.uint8]:
        block = np.empty((len(paths), *self.shape), dtype=np.uint8)
        for path, out in zip(paths, block, strict=True):
            self._decode_one(path, out)
        return block

    def _decode_one(self, path: str, out: NDArray[np.uint8]) -> None:
        with reading(path), _open_image(path) as image:
            self._check(path, image)
            if image.mode == "P" and "transparency" in image.info:
                # Pillow warns about this palette unless it is told what becomes of the transparency.
                pixels = image.convert("RGBA").convert("RGB")
            else:
                pixels = image.convert("RGB")
            if self.image_size is not None:
                square = (self.image_size, self.image_size)
                if self.resize == "crop":
                    pixels = ImageOps.fit(pixels, square, Image.Resampling.BILINEAR)
                else:
                    pixels = pixels.resize(square, Image.Resampling.BILINEAR)
            out[...] = np.asarray(pixels).transpose(2, 0, 1)

    def _check(self, path: str, image: Image.Image) -> None:
        if self.image_size is None and image.size != self.size:
            (width, height), (first_width, first_height) = image.size, self.size
            raise DataError(
                f"{path}: {width}×{height} pixels, but {self.example} has {first_width}×{first_height}; "
                "accepted: one size, or data.image_size to resize them all"
            )
        if image.mode.startswith(("I", "F")):
            # Pillow would clip these to 255 in silence.
            raise DataError(f"{path}: more than 8 bits per channel (mode {image.mode}); accepted: 8 bits per channel")


def promised_format(path: str) -> str | None:
    """The format that the file's name promises, where Pillow can read it."""
    name = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    return name if name in Image.OPEN else None


def check_readable(paths: Sequence[str]) -> None:
    """Raise :class:`DataError` where one of these files is not an image; their pixels are not decoded."""
    with _strict_pillow():
        for path in paths:
            with reading(path), _open_image(path):
                continue


def _open_image(path: str) -> Image.Image:
    # Pillow tries its readers one by one; starting with the one that the name promises opens small files twice as fast.
    if promised := promised_format(path):
        try:
            return Image.open(path, formats=(promised,))
        except UnidentifiedImageError:
            return Image.open(path)
    return Image.open(path)


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Make Pillow refuse truncated images and decompression bombs, whatever other code asked of it."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn whatever goes wrong with one image file into a :class:`DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: too large; accepted: up to {Image.MAX_IMAGE_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that Pillow can identify; accepted: images and hidden files") from None
    except (
        Exception
    ) as error:  # on damaged files the readers raise almost anything: SyntaxError, IndexError, struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable ({reason}); accepted: a whole image file") from None
