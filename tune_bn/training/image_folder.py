"""Image files in class folders: list them, check them, decode them.

Layout: ``train/<class>/…`` and ``test/<class>/…``, at any depth below the class, in any format that Pillow reads.
Hidden files, and those that an operating system hides (``Thumbs.db``), are passed over; any other has to be an image.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from tune_bn.errors import DataError

LAYOUT = "train/<class>/… and test/<class>/…"

# Not hidden by name, but written by the operating system and hidden by it.
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
_BLOCK = 64
# Not tied to the cores: small files wait for the disk or the network more than they cost to decode.
_THREADS = 8


@dataclass(frozen=True)
class ImageFiles:
    """The images of one split: their paths, and the class (N,) of each as an index."""

    paths: list[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class ImageFolder:
    """What :func:`scan` found."""

    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles


def scan(root: Path) -> ImageFolder:
    """List the images below ``root``; classes and paths are sorted, so the order is the same on every machine.

    Raises:
        DataError: a folder is missing, a class is empty or in one split alone, there are fewer than two classes, or a
            file that is not named like an image is none.
    """
    if not root.is_dir():
        raise DataError(f"data.root: got {str(root)!r}, which is not a folder; accepted: a folder with {LAYOUT}")
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise DataError(f"data.root: got {str(root)!r}, which has no {split}/; accepted: a folder with {LAYOUT}")
    names = {split: _class_names(root / split) for split in ("train", "test")}
    for one, other in (("train", "test"), ("test", "train")):
        if missing := sorted(names[one] - names[other]):
            raise DataError(
                f"{root / other}: lacks the class {missing[0]!r}, which {one} has; accepted: the same classes in both"
            )
    classes = tuple(sorted(names["train"]))
    if len(classes) < 2:
        raise DataError(f"{root / 'train'}: got {len(classes)} class folders; accepted: at least 2")
    return ImageFolder(classes, *(_list_images(root / split, classes) for split in ("train", "test")))


def _class_names(folder: Path) -> set[str]:
    names = set()
    for entry in _entries(folder):
        if entry.is_dir():
            names.add(entry.name)
        elif _promised_format(entry.name):
            raise DataError(f"{entry.path}: an image outside the class folders; accepted: {folder.name}/<class>/…")
    return names


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not _hidden(entry.name)]
    except OSError as error:
        raise _unreadable_folder(error) from None


def _unreadable_folder(error: OSError) -> DataError:
    return DataError(f"{error.filename}: {error.strerror}; accepted: a folder that can be read")


def _list_images(folder: Path, classes: Sequence[str]) -> ImageFiles:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _walk(folder / name)
        if not found:
            raise DataError(f"{folder / name}: an empty class; accepted: at least one image")
        paths += found
        labels += [label] * len(found)
    return ImageFiles(paths, np.array(labels, dtype=np.int64))


def _walk(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise _unreadable_folder(error)

    found = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [os.path.join(place, name) for name in names if not _hidden(name)]
    with _strict_pillow():
        for path in found:
            # A subset may never decode this file, so a text that counts as an image would stay unnoticed.
            if _promised_format(path) is None:
                with _reading(path), _open_image(path):
                    continue
    return sorted(found, key=lambda path: path.replace(os.sep, "/"))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _promised_format(path: str) -> str | None:
    """The format that the file's name promises, where Pillow can read it."""
    name = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    return name if name in Image.OPEN else None


class Decoder:
    """Decodes files to equal-sized RGB arrays, first frame only.

    Grey becomes three equal channels, transparency is dropped, and EXIF orientation is not applied, as in torchvision.
    With ``image_size`` every image is resized to a square (bilinear, antialiased), whatever its proportions.

    Args:
        example: the file that sets the size where ``image_size`` is None.
        image_size: side in pixels, or None to keep the images as they are, all of one size.

    Raises:
        DataError: ``example`` cannot be read.
    """

    def __init__(self, example: str, image_size: int | None) -> None:
        self.example = example
        self.image_size = image_size
        with _strict_pillow(), _reading(example), _open_image(example) as image:
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
                with _reading(path), _open_image(path) as image:
                    self._check(path, image)

    def decode(self, paths: Sequence[str], advance: Callable[[int], None]) -> NDArray[np.uint8]:
        """Decode these files to one array (N, 3, H, W); ``advance`` is told how many more are done.

        Raises:
            DataError: one is damaged, or not of the accepted size or depth.
        """
        images = np.empty((len(paths), *self.shape), dtype=np.uint8)

        def decode_block(start: int) -> int:
            block = paths[start : start + _BLOCK]
            for offset, path in enumerate(block):
                self._decode_one(path, images[start + offset])
            return len(block)

        with _strict_pillow(), ThreadPoolExecutor(_THREADS) as pool:
            for count in pool.map(decode_block, range(0, len(paths), _BLOCK)):
                advance(count)
        return images

    def _decode_one(self, path: str, out: NDArray[np.uint8]) -> None:
        with _reading(path), _open_image(path) as image:
            self._check(path, image)
            if image.mode == "P" and "transparency" in image.info:
                # Pillow warns about this palette unless it is told what becomes of the transparency.
                pixels = image.convert("RGBA").convert("RGB")
            else:
                pixels = image.convert("RGB")
            if self.image_size is not None:
                pixels = pixels.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR)
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


def _open_image(path: str) -> Image.Image:
    # Pillow tries its readers one by one; starting with the one that the name promises opens small files twice as fast.
    if promised := _promised_format(path):
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
def _reading(path: str) -> Iterator[None]:
    """Turn whatever goes wrong with one file into a :class:`DataError` that names it."""
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
