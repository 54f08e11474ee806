"""Image files to arrays: every format that Pillow reads, always as RGB, damaged files refused by name."""

from __future__ import annotations

import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from tune_bn.errors import DataError
from tune_bn.host.machine import usable_cores

_BLOCK_IMAGES, _BLOCK_BYTES = 64, 2**22
_MOST_BAD, _BAD_NAMED = 100, 5
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by its EXIF orientation (EXIF 2.32, tag 274); 1 is upright."""


def _threads() -> int:
    # More than cores: small files wait for the disk or the network more than they cost to decode.
    return min(32, usable_cores() + 4)


class Store(Protocol):
    """Where images lie that are no files of their own: rows of a table, or members of an archive."""

    def open(self, path: str) -> BinaryIO:
        """The encoded image of that name. Raises whatever goes wrong."""

    def facts(self, path: str) -> list[Any]:
        """What tells its content from another, for the key of a cache: JSON values. Raises ``OSError``."""


class OnDisk:
    """Image files."""

    def open(self, path: str) -> BinaryIO:
        """See :class:`Store`."""
        return open(path, "rb")

    def facts(self, path: str) -> list[Any]:
        """Size, time of modification and time of change."""
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


_SET_BY = re.compile(r", but .* has \d+×\d+(?=$|; accepted: )")


class BadImages(DataError):
    """Image files that cannot be used, in one line: the first few with the reason, and how many more.

    Args:
        problems: what is wrong, one line for each file; not empty.
        whole: whether every file was looked at.
    """

    def __init__(self, problems: Sequence[str], whole: bool = True) -> None:
        self.problems = list(problems)
        self.whole = whole
        first, *others = self.problems
        # What would be accepted, and the file that sets the size, are said once.
        shown = [problem.partition("; accepted: ")[0] for problem in others[: _BAD_NAMED - 1]]
        shown = [_SET_BY.sub("", problem) if _SET_BY.search(first) else problem for problem in shown]
        rest = len(others) - len(shown)
        parts = [first]
        if others:
            count = f"{len(others):,} more{'' if whole else ' so far, at which reading ended'}"
            parts.append(f"and {count}: {'; '.join(shown)}{f'; and {rest:,} others' if rest else ''}")
        super().__init__("; ".join(parts))


class Decoder:
    """Decodes files to equal-sized RGB arrays, first frame only.

    Grey becomes three equal channels, and transparency is dropped. EXIF orientation is ignored, as in torchvision, or
    applied; TIFF images are always upright, since Pillow turns them itself. With ``image_size`` every image becomes a
    square (bilinear, antialiased): ``stretch`` resizes both sides, whatever their proportions; ``crop`` resizes the
    largest square in the middle.

    Args:
        example: the file that sets the size where ``image_size`` is None.
        image_size: side in pixels, or None to keep the images as they are, all of one size.
        resize: ``stretch`` or ``crop``.
        exif: ``ignore`` or ``apply`` the orientation that a file states.
        store: where the images lie; None: on the disk.

    Raises:
        DataError: ``example`` cannot be read.
    """

    def __init__(
        self,
        example: str,
        image_size: int | None,
        resize: str = "stretch",
        exif: str = "ignore",
        store: Store | None = None,
    ) -> None:
        self.example = example
        self.image_size = image_size
        self.resize = resize
        self.exif = exif
        self.store = store
        with _strict_pillow(), self._opened(example) as image:
            self.size = self._size(image)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the decoded images."""
        width, height = self.size if self.image_size is None else (self.image_size, self.image_size)
        return 3, height, width

    def check_headers(self, paths: Sequence[str]) -> int:
        """Open these files without decoding their pixels.

        Returns:
            How many of them state an EXIF orientation other than upright.

        Raises:
            BadImages: some are no images, or not of the accepted size or depth.
        """
        turned, problems = 0, []
        with _strict_pillow():
            for path in paths:
                try:
                    with self._opened(path) as image:
                        self._check(path, image)
                        turned += orientation(image, decode=False) != 1
                except DataError as error:
                    problems.append(str(error))
        if problems:
            raise BadImages(problems)
        return turned

    def decode(self, paths: Sequence[str], take: Callable[[NDArray[np.uint8]], object]) -> None:
        """Decode these files side by side and hand them over in order, a few megabytes at a time.

        Args:
            paths: the files.
            take: called with each next block of images, (B, 3, H, W), C-contiguous.

        Raises:
            BadImages: some are damaged, or not of the accepted size or depth. The others were read too, to name all
                that are; beyond a hundred it ends there.
        """
        problems: list[str] = []

        def hand_over(block: NDArray[np.uint8], bad: list[str]) -> None:
            problems.extend(bad)
            if not problems:
                take(block)
            elif len(problems) > _MOST_BAD:
                raise BadImages(problems, whole=False)

        size = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // int(np.prod(self.shape))))
        waiting: deque[Future[tuple[NDArray[np.uint8], list[str]]]] = deque()
        threads = _threads()
        with _strict_pillow(), ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(paths), size):
                # What is decoded ahead of a slow taker is bounded.
                if len(waiting) == 2 * threads:
                    hand_over(*waiting.popleft().result())
                waiting.append(pool.submit(self._decode_block, paths[start : start + size]))
            while waiting:
                hand_over(*waiting.popleft().result())
        if problems:
            raise BadImages(problems)

    def _decode_block(self, paths: Sequence[str]) -> tuple[NDArray[np.uint8], list[str]]:
        block = np.empty((len(paths), *self.shape), dtype=np.uint8)
        problems = []
        for path, out in zip(paths, block, strict=True):
            try:
                self._decode_one(path, out)
            except DataError as error:
                problems.append(str(error))
        return block, problems

    def _decode_one(self, path: str, out: NDArray[np.uint8]) -> None:
        with self._opened(path) as image:
            self._check(path, image)
            if image.mode == "P" and "transparency" in image.info:
                # Pillow warns about this palette unless it is told what becomes of the transparency.
                pixels = image.convert("RGBA").convert("RGB")
            else:
                pixels = image.convert("RGB")
            if self.exif == "apply" and (turn := _UPRIGHT.get(orientation(image))) is not None:
                pixels = pixels.transpose(turn)
            if self.image_size is not None:
                square = (self.image_size, self.image_size)
                if self.resize == "crop":
                    pixels = ImageOps.fit(pixels, square, Image.Resampling.BILINEAR)
                else:
                    pixels = pixels.resize(square, Image.Resampling.BILINEAR)
            out[...] = np.asarray(pixels).transpose(2, 0, 1)

    @contextmanager
    def _opened(self, path: str) -> Iterator[Image.Image]:
        if self.store is None:
            with reading(path), _open_image(path) as image:
                yield image
        else:
            with reading(path, self.store), self.store.open(path) as file, Image.open(file) as image:
                yield image

    def _size(self, image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        return (height, width) if self.exif == "apply" and orientation(image) >= 5 else (width, height)

    def _check(self, path: str, image: Image.Image) -> None:
        if self.image_size is None and (size := self._size(image)) != self.size:
            (width, height), (first_width, first_height) = size, self.size
            raise DataError(
                f"{path}: {width}×{height} pixels, but {self.example} has {first_width}×{first_height}; "
                "accepted: one size, or data.image_size to resize them all"
            )
        if image.mode.startswith(("I", "F")):
            # Pillow would clip these to 255 in silence.
            raise DataError(f"{path}: more than 8 bits per channel (mode {image.mode}); accepted: 8 bits per channel")


def orientation(image: Image.Image, *, decode: bool = True) -> int:
    """The EXIF orientation of an opened image, 1 to 8; 1 where it states none, or one that does not exist.

    Without ``decode`` it is not looked for behind the pixels of a PNG.
    """
    # Pillow turns a TIFF when it is decoded.
    if image.format == "TIFF" or (image.format == "PNG" and not decode and "exif" not in image.info):
        return 1
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    # Damaged metadata is common, and no reason to refuse an image whose pixels are whole.
    except Exception:
        return 1
    return found if found in _UPRIGHT else 1


def promised_format(path: str) -> str | None:
    """The format that the file's name promises, where Pillow can read it."""
    name = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    return name if name in Image.OPEN else None


def check_readable(paths: Sequence[str]) -> None:
    """Raise :class:`BadImages` where some of these files are no images; their pixels are not decoded."""
    problems = []
    with _strict_pillow():
        for path in paths:
            try:
                with reading(path), _open_image(path):
                    continue
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise BadImages(problems)


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
            # Not where it arises: what one thread asks of warnings, another one undoes.
            warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def reading(path: str, store: Store | None = None) -> Iterator[None]:
    """Turn whatever goes wrong with one image file into a :class:`DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{path}: too large; accepted: up to {Image.MAX_IMAGE_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: {_why_no_image(path, store or OnDisk())}; accepted: images in a format that it reads"
        ) from None
    except (
        Exception
    ) as error:  # on damaged files the readers raise almost anything: SyntaxError, IndexError, struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable ({reason}); accepted: a whole image file") from None


def _why_no_image(path: str, store: Store) -> str:
    with store.open(path) as handle:
        start = handle.read(64)
    if not start:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, whose image was not fetched (git lfs pull)"
    return "not an image that Pillow can identify"
