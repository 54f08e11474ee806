"""Images and labels as plain arrays: read once, split by the fixed rules of :mod:`tune_bn.training.splits`, shipped to
whoever trains.

Which images are kept is decided on the labels alone, and of image files only those are decoded. torchvision, SciPy and
scikit-learn are imported by the sources that need them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tune_bn.errors import DataError
from tune_bn.records import sha256_of
from tune_bn.training.cache import Progress, load_decoded
from tune_bn.training.config import DataConfig
from tune_bn.training.decoding import Decoder
from tune_bn.training.sources.base import ArraySet, FileSet, Images, Outline
from tune_bn.training.sources.cars import list_cars
from tune_bn.training.sources.cifar import Cifar
from tune_bn.training.sources.cub200 import list_cub200
from tune_bn.training.sources.digits import Digits
from tune_bn.training.sources.folder import list_folder
from tune_bn.training.splits import Indices, Labels, Parts, partition


class _ArraySource(Protocol):
    def outline(self, config: DataConfig) -> Outline: ...

    def read(self, config: DataConfig) -> ArraySet: ...


_FILES: Mapping[str, Callable[[str | None], FileSet]] = {
    "folder": list_folder,
    "cub200": list_cub200,
    "cars": list_cars,
}
_ARRAYS: Mapping[str, _ArraySource] = {
    "digits": Digits(),
    "cifar10": Cifar("cifar10", 10, 5000, 1000),
    "cifar100": Cifar("cifar100", 100, 500, 100),
}


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split: ``images`` (N, C, H, W) uint8, C-contiguous; ``labels`` (N,) int64, class indices.

    The arrays may be read-only, mapped from disk or from shared memory.
    """

    images: Images
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or not self.images.flags.c_contiguous:
            got = f"{self.images.dtype} {self.images.shape}"
            raise DataError(f"images: got {got}; accepted: a C-contiguous uint8 array (N, C, H, W)")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            got = f"{self.labels.dtype} {self.labels.shape} for {len(self.images)} images"
            raise DataError(f"labels: got {got}; accepted: an int64 array (N,)")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three splits of one source, as they are stored: the network may see a crop of each image.

    ``test`` is None where the test images must not be at hand.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None

    def without_test(self) -> Dataset:
        """The same data without its test split, sharing the arrays."""
        return replace(self, test=None)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image, before any crop; see :meth:`tune_bn.training.config.DataConfig.seen_shape`."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this data from other data, as :mod:`tune_bn.provenance` compares it.

        ``classes`` with ``count`` and ``sha256`` of the names; each split that is at hand with ``count`` and the
        SHA-256 of ``images`` and of ``labels``, with their shapes and in their order (first 32 hex digits each). Pixels
        are hashed as they are trained on, so another decoder that gives the same pixels changes nothing.
        """
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {
            "classes": {"count": len(self.classes), "sha256": _hash_of(json.dumps(self.classes).encode())},
            **{
                name: {"count": len(split), "images": _array_hash(split.images), "labels": _array_hash(split.labels)}
                for name, split in splits.items()
                if split is not None
            },
        }

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) over :attr:`identity`."""
        return sha256_of(self.identity)

    def channel_statistics(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and (population) standard deviation of each channel of the training images, on the scale [0, 1].

        Returns:
            Two float64 arrays (C,), over whole images. The sums behind them are exact integers.
        """
        images = self.train.images
        channels = images.shape[1]
        histogram = np.zeros((channels, 256), dtype=np.int64)
        # Counting widens the pixels to 64 bits: block by block, so that large data keeps fitting in memory.
        block = max(1, 2**20 // images[0].size)
        for start in range(0, len(images), block):
            for channel in range(channels):
                histogram[channel] += np.bincount(images[start : start + block, channel].ravel(), minlength=256)
        values = np.arange(256)
        count = int(histogram[0].sum())
        total, squares = histogram @ values, histogram @ values**2
        mean = total / count
        # In Python's integers: count · squares outgrows 64 bits on large data.
        spread = [count * int(q) - int(t) ** 2 for t, q in zip(total, squares, strict=True)]
        return mean / 255, np.sqrt(np.array(spread, dtype=np.float64)) / count / 255


def _hash_of(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _array_hash(array: NDArray[Any]) -> str:
    return _hash_of(str(array.shape).encode(), np.ascontiguousarray(array).data)


def load_dataset(config: DataConfig, *, progress: Progress | None = None) -> Dataset:
    """Read the images that ``config`` keeps, and split them.

    Image files are decoded once per machine; see :mod:`tune_bn.training.cache`.

    Args:
        config: source, sizes, and how the images are prepared.
        progress: told of the decoding of image files.

    Raises:
        DataError: data is missing, incomplete or unreadable, or the sizes do not fit it.
    """
    config = _checked(config)
    if config.source in _ARRAYS:
        return dataset_from_arrays(_ARRAYS[config.source].read(config), config)
    files = _FILES[config.source](config.root)
    decoder = _decoder(files, config)
    parts = _parts(_outline(files, decoder), config)
    kept = ((files.train, parts.train), (files.train, parts.val), (files.test, parts.test))
    images = load_decoded([[split.paths[i] for i in indices] for split, indices in kept], decoder, progress)
    splits = [Split(array, split.labels[indices]) for array, (split, indices) in zip(images, kept, strict=True)]
    return Dataset(files.name, files.classes, *splits)


@dataclass(frozen=True)
class DataSummary:
    """What :func:`load_dataset` would give.

    Images per split, (C, H, W) of every image as the network sees it, after the crop, and the number of classes.
    """

    train_size: int
    val_size: int
    test_size: int
    image_shape: tuple[int, int, int]
    num_classes: int


def describe_data(config: DataConfig) -> DataSummary:
    """Check what can be checked quickly: layout, classes, sizes, and one image header per class. Downloads nothing.

    Raises:
        DataError: something is missing, or does not fit; :func:`load_dataset` would say the same.
    """
    config = _checked(config)
    if config.source in _ARRAYS:
        outline = _ARRAYS[config.source].outline(config)
        parts = _parts(outline, config)
    else:
        files = _FILES[config.source](config.root)
        decoder = _decoder(files, config)
        outline = _outline(files, decoder)
        parts = _parts(outline, config)
        for split in (files.train, files.test):
            first_of_class = np.unique(split.labels, return_index=True)[1]
            decoder.check_headers([split.paths[i] for i in first_of_class])
    shape = config.seen_shape(outline.shape)
    return DataSummary(len(parts.train), len(parts.val), len(parts.test), shape, len(outline.classes))


def dataset_from_arrays(arrays: ArraySet, config: DataConfig) -> Dataset:
    """Split images that are already decoded.

    Args:
        arrays: the images.
        config: the sizes to keep.

    Raises:
        DataError: the sizes do not fit what is there.
    """
    images, labels = arrays.train
    test_images, test_labels = arrays.test or arrays.train
    outline = Outline(arrays.classes, labels, None if arrays.test is None else test_labels, images.shape[1:])
    parts = _parts(outline, config)
    return Dataset(
        name=arrays.name,
        classes=arrays.classes,
        train=_subset(images, labels, parts.train),
        val=_subset(images, labels, parts.val),
        test=_subset(test_images, test_labels, parts.test),
    )


def _subset(images: Images, labels: Labels, indices: Indices) -> Split:
    # Indexing keeps the memory order of its source, which may be (N, H, W, C) underneath.
    return Split(np.ascontiguousarray(images[indices]), labels[indices])


def _decoder(files: FileSet, config: DataConfig) -> Decoder:
    return Decoder(files.train.paths[0], config.image_size, config.resize)


def _outline(files: FileSet, decoder: Decoder) -> Outline:
    return Outline(files.classes, files.train.labels, files.test.labels, decoder.shape)


def _parts(outline: Outline, config: DataConfig) -> Parts:
    side = min(outline.shape[1:])
    if config.crop_size is not None and config.crop_size > side:
        raise DataError(f"data.crop_size: got {config.crop_size}; accepted: at most {side}, the side of the images")
    return partition(outline.train_labels, outline.test_labels, outline.classes, config)


def _checked(config: DataConfig) -> DataConfig:
    """The configuration with what null stands for, where its keys suit its source."""
    if config.source in _ARRAYS and config.image_size is not None:
        raise DataError(f"data.image_size: got {config.image_size}; accepted: null for the source {config.source}")
    config = config.resolved()
    if config.image_size is None and config.resize != "stretch":
        raise DataError(f"data.resize: got {config.resize!r}; accepted: stretch where data.image_size is null")
    return config
