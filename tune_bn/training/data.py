"""Images and labels as plain arrays: read once, split by fixed rules, shipped to whoever trains.

One rule splits every source. Validation is a stratified part of the training split, and ``train_size`` and
``test_size`` keep stratified subsets; :func:`stratified_split` draws them all with seed 0, so that every process,
machine and run sees the same ones. ``digits`` has no test split of its own: it is drawn first, then validation from
what is left. Train, validation and test share no image. Which images are kept is decided on the labels alone, and only
those are decoded.

torchvision and scikit-learn are imported by the sources that need them.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tune_bn.errors import DataError
from tune_bn.training.config import DataConfig
from tune_bn.training.image_folder import LAYOUT, Decoder, scan

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.intp]
Progress = Callable[[int, int], None]
"""Called with the number of images decoded so far and the number to decode."""

SPLIT_SEED = 0
DIGITS_VAL_SIZE, DIGITS_TEST_SIZE = 600, 897
CIFAR10_CLASSES, CIFAR10_TRAIN_PER_CLASS, CIFAR10_TEST_PER_CLASS = 10, 5000, 1000
CIFAR10_SHAPE = (3, 32, 32)


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split: ``images`` (N, C, H, W) uint8, C-contiguous; ``labels`` (N,) int64, class indices."""

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
    """The three splits of one source. ``test`` is None where the test images must not be at hand."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None

    def without_test(self) -> Dataset:
        """The same data without its test split, sharing the arrays."""
        return replace(self, test=None)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the class names and of every array with its shape, in the order train, val, test."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for split in (self.train, self.val, self.test):
            for array in () if split is None else (split.images, split.labels):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def channel_statistics(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and (population) standard deviation of each channel of the training images, on the scale [0, 1].

        Returns:
            Two float64 arrays (C,). The sums behind them are exact integers.
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


def stratified_split(
    labels: Labels, size: int, seed: int = SPLIT_SEED, *, key: str = "size"
) -> tuple[Indices, Indices]:
    """Divide ``range(len(labels))`` into a stratified choice of exactly ``size`` indices, and the rest.

    Each class gets its quota ``size · n_class / N``, rounded by largest remainder (ties to the lower label), and at
    least one index. The same arguments give the same choice on every platform.

    Args:
        labels: (N,) class of each index.
        size: how many indices to choose.
        seed: seed of the order in which the indices of a class are drawn.
        key: what an error message calls ``size``.

    Returns:
        Two sorted, disjoint index arrays that together hold every index once.

    Raises:
        DataError: ``size`` is larger than N, or too small to hold every class.
    """
    _, dense, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not len(counts) <= size <= len(labels):
        accepted = f"an integer from {len(counts)} (one of each class) to {len(labels)} (all there is)"
        raise DataError(f"{key}: got {size}; accepted: {accepted}")
    seats, remainders = np.divmod(size * counts, len(labels))
    by_remainder = np.argsort(-remainders, kind="stable")
    seats[by_remainder[: size - int(seats.sum())]] += 1
    for rare in np.flatnonzero(seats == 0):
        seats[np.argmax(seats)] -= 1
        seats[rare] = 1
    # NumPy promises the raw stream of a bit generator for ever; what `Generator` draws from it may change.
    order = np.lexsort((np.random.PCG64(seed).random_raw(len(labels)), dense))
    rank_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = rank_in_class < np.repeat(seats, counts)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


@dataclass(frozen=True)
class _Parts:
    """Indices of the images that are kept; ``train`` and ``val`` point into the training split."""

    train: Indices
    val: Indices
    test: Indices


def _partition(train_labels: Labels, test_labels: Labels | None, classes: Sequence[str], config: DataConfig) -> _Parts:
    def take(labels: Labels, pool: Indices, size: int, key: str) -> tuple[Indices, Indices]:
        chosen, rest = stratified_split(labels[pool], size, key=f"data.{key}")
        return pool[chosen], pool[rest]

    pool = np.arange(len(train_labels))
    if test_labels is None:
        test, pool = take(train_labels, pool, config.test_size or len(pool) // 2, "test_size")
    else:
        every = np.arange(len(test_labels))
        test, _ = take(test_labels, every, config.test_size or len(every), "test_size")
    val_size = config.val_size or max(len(pool) // 10, len(classes))
    val, rest = take(train_labels, pool, val_size, "val_size")
    left = np.bincount(train_labels[rest], minlength=len(classes))
    if not left.all():
        bare = int(np.argmin(left))
        raise DataError(
            f"data.val_size: got {val_size}; accepted: a size that leaves images of every class for training "
            f"(class {classes[bare]!r} keeps none of its {int((train_labels[pool] == bare).sum())})"
        )
    train, _ = take(train_labels, rest, config.train_size or len(rest), "train_size")
    return _Parts(train, val, test)


def dataset_from_arrays(
    name: str,
    classes: Sequence[str],
    train: tuple[Images, Labels],
    test: tuple[Images, Labels] | None,
    config: DataConfig,
) -> Dataset:
    """Split images that are already decoded by the rules of this module.

    Args:
        name: name of the data.
        classes: class names, in the order of the labels.
        train: images (N, C, H, W) uint8 and labels (N,) int64 of the training split.
        test: the same of the test split, or None to draw ``test_size`` images (null: half) from ``train``.
        config: the sizes to keep.

    Raises:
        DataError: the sizes do not fit what is there.
    """
    images, labels = train
    parts = _partition(labels, None if test is None else test[1], classes, config)
    test_images, test_labels = train if test is None else test
    return Dataset(
        name=name,
        classes=tuple(classes),
        train=_subset(images, labels, parts.train),
        val=_subset(images, labels, parts.val),
        test=_subset(test_images, test_labels, parts.test),
    )


def _subset(images: Images, labels: Labels, indices: Indices) -> Split:
    # Indexing keeps the memory order of its source, which may be (N, H, W, C) underneath.
    return Split(np.ascontiguousarray(images[indices]), labels[indices])


def load_dataset(config: DataConfig, *, progress: Progress | None = None) -> Dataset:
    """Read the images that ``config`` keeps, and split them.

    Args:
        config: source and sizes.
        progress: told of the decoding; only the source ``folder`` decodes image by image.

    Raises:
        DataError: data is missing, incomplete or unreadable, or the sizes do not fit it.
    """
    _check_options(config)
    if config.source == "folder":
        return _load_folder(config, progress)
    if config.source == "cifar10":
        return _load_cifar10(config)
    images, labels, classes = _digits()
    return dataset_from_arrays("digits", classes, (images, labels), None, _digits_sizes(config))


@dataclass(frozen=True)
class DataSummary:
    """What :func:`load_dataset` would give: images per split, (C, H, W) of every image, and the number of classes."""

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
    _check_options(config)
    if config.source == "folder":
        folder = scan(_folder_root(config))
        classes = folder.classes
        parts = _partition(folder.train.labels, folder.test.labels, classes, config)
        decoder = Decoder(folder.train.paths[0], config.image_size)
        for split in (folder.train, folder.test):
            first_of_class = np.unique(split.labels, return_index=True)[1]
            decoder.check_headers([split.paths[i] for i in first_of_class])
        shape = decoder.shape
    elif config.source == "cifar10":
        if (root := _cifar10_root(config)).exists() and not root.is_dir():
            raise DataError(f"data.root: got {str(root)!r}, a file; accepted: a folder for the download of CIFAR-10")
        every_class = np.arange(CIFAR10_CLASSES, dtype=np.int64)
        train, test = (every_class.repeat(n) for n in (CIFAR10_TRAIN_PER_CLASS, CIFAR10_TEST_PER_CLASS))
        classes = tuple(str(label) for label in every_class)
        parts = _partition(train, test, classes, config)
        shape = CIFAR10_SHAPE
    else:
        images, labels, classes = _digits()
        parts = _partition(labels, None, classes, _digits_sizes(config))
        shape = images.shape[1:]
    return DataSummary(len(parts.train), len(parts.val), len(parts.test), shape, len(classes))


def _check_options(config: DataConfig) -> None:
    if config.image_size is not None and config.source != "folder":
        raise DataError(f"data.image_size: got {config.image_size}; accepted: null for the source {config.source}")
    if config.root is not None and config.source == "digits":
        raise DataError(f"data.root: got {config.root!r}; accepted: null for the source digits")


def _digits() -> tuple[Images, Labels, tuple[str, ...]]:
    """The 1,797 scans (N, 1, 8, 8) that scikit-learn ships, their 17 grey levels spread over 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            "data.source: got 'digits', which needs scikit-learn; accepted without it: cifar10, folder"
        ) from None
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return images, bunch.target.astype(np.int64), tuple(str(name) for name in bunch.target_names)


def _digits_sizes(config: DataConfig) -> DataConfig:
    val_size, test_size = config.val_size or DIGITS_VAL_SIZE, config.test_size or DIGITS_TEST_SIZE
    return replace(config, val_size=val_size, test_size=test_size)


def _cifar10_root(config: DataConfig) -> Path:
    if config.root is not None:
        return Path(config.root).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "tune_bn"


def _load_cifar10(config: DataConfig) -> Dataset:
    from filelock import FileLock
    from torchvision.datasets import CIFAR10

    root = _cifar10_root(config)
    try:
        train = CIFAR10(root, train=True)
    except RuntimeError:
        # Absent or damaged. Studies that start together on one machine download it once.
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / ".cifar10.lock"):
                train = CIFAR10(root, train=True, download=True)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"data.source: got 'cifar10', which is not in {root} and cannot be downloaded ({reason}); "
                f"accepted: a connection, or {CIFAR10.filename} from {CIFAR10.url} placed in {root}"
            ) from None
    test = CIFAR10(root, train=False)
    # torchvision holds its arrays as (N, H, W, C) views of (N, C, H, W) memory: turned back, nothing is copied.
    arrays = [(s.data.transpose(0, 3, 1, 2), np.asarray(s.targets, dtype=np.int64)) for s in (train, test)]
    return dataset_from_arrays("cifar10", train.classes, arrays[0], arrays[1], config)


def _folder_root(config: DataConfig) -> Path:
    if config.root is None:
        raise DataError(f"data.root: got null; accepted: a folder with {LAYOUT} for the source folder")
    return Path(config.root).expanduser().absolute()


def _load_folder(config: DataConfig, progress: Progress | None) -> Dataset:
    root = _folder_root(config)
    folder = scan(root)
    parts = _partition(folder.train.labels, folder.test.labels, folder.classes, config)
    kept = ((folder.train, parts.train), (folder.train, parts.val), (folder.test, parts.test))
    total, done = sum(len(indices) for _, indices in kept), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    decoder = Decoder(folder.train.paths[0], config.image_size)
    train, val, test = (
        Split(decoder.decode([split.paths[i] for i in indices], advance), split.labels[indices])
        for split, indices in kept
    )
    return Dataset(root.name, folder.classes, train, val, test)
