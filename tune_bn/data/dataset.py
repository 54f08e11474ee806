"""Images and labels as plain arrays: read once, split by the fixed rules of :mod:`tune_bn.data.splits`, shipped to
whoever trains.

Which images are kept is decided on the labels alone, and of image files only those are decoded. torchvision, SciPy and
scikit-learn are imported by the sources that need them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.data.cache import Progress, load_decoded
from tune_bn.data.config import DataConfig
from tune_bn.data.decoding import Decoder
from tune_bn.data.duplicates import repeated_images
from tune_bn.data.registry import reader_of, source_of
from tune_bn.data.sources.base import ArraySet, FileSet, ImageFiles, Images, Outline
from tune_bn.data.splits import Indices, Labels, Parts, Redraw, partition
from tune_bn.errors import DataError
from tune_bn.records.files import sha256_of

_HEADERS = 1000
"""Image files of each split that are opened at the door."""


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

    ``test`` is None where the test images must not be at hand. Where ``redraw`` is given, ``train`` holds all images
    that train or validate, ``val`` none, and each run divides them by its seed.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split | None
    redraw: Redraw | None = None

    def without_test(self) -> Dataset:
        """The same data without its test split, sharing the arrays."""
        return replace(self, test=None)

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image, before any crop; see :meth:`tune_bn.data.config.DataConfig.seen_shape`."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What tells this data from other data, as :mod:`tune_bn.records.provenance` compares it.

        ``classes`` with ``count`` and ``sha256`` of the names; each split that is at hand with ``count`` and the
        SHA-256 of ``images`` and of ``labels``, with their shapes and in their order (first 32 hex digits each). Pixels
        are hashed as they are trained on, so another decoder that gives the same pixels changes nothing. Where each run
        draws its split, ``pool`` is hashed, and ``train`` and ``val`` are counts ``of`` it.
        """

        def told(split: Split) -> dict[str, Any]:
            return {"count": len(split), "images": _array_hash(split.images), "labels": _array_hash(split.labels)}

        if self.redraw is None:
            parts = {"train": told(self.train), "val": told(self.val)}
        else:
            pool = told(self.train)
            counts = {"train": self.redraw.train_size, "val": self.redraw.val_size}
            parts = {name: {"count": count, "of": pool["images"]} for name, count in counts.items()} | {"pool": pool}
        return {
            "classes": {"count": len(self.classes), "sha256": _hash_of(json.dumps(self.classes).encode())},
            **parts,
            **({} if self.test is None else {"test": told(self.test)}),
        }

    def splits(self) -> dict[str, Split]:
        """The splits that hold images, as they are called in messages."""
        named = {"training": self.train, "validation": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None and len(split)}

    @cached_property
    def repeated(self) -> Sequence[str]:
        """A line for each two splits that share images, and one for images that are in two classes; none is named."""
        arrays = {name: (split.images, split.labels) for name, split in self.splits().items()}
        return repeated_images(arrays, {}, self.classes, examples=0)

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
        return statistics_of(int(histogram[0].sum()), histogram @ values, histogram @ values**2)

    def channel_sums(self) -> NDArray[np.int64]:
        """(2, N, C): sum and sum of squares of each training image's pixels, of which any subset is made up."""
        images, block = self.train.images, max(1, 2**20 // self.train.images[0].size)
        found = np.zeros((2, *images.shape[:2]), dtype=np.int64)
        for start in range(0, len(images), block):
            wide = images[start : start + block].astype(np.int64)
            found[:, start : start + block] = wide.sum(axis=(2, 3)), (wide**2).sum(axis=(2, 3))
        return found


def statistics_of(
    count: int, total: NDArray[np.int64], squares: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel on the scale [0, 1], from exact sums (C,) over ``count`` pixels."""
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

    Image files are decoded once per machine; see :mod:`tune_bn.data.cache`.

    Args:
        config: source, sizes, and how the images are prepared.
        progress: told of the decoding of image files.

    Raises:
        DataError: data is missing, incomplete or unreadable, or the sizes do not fit it.
    """
    config = _checked(config)
    source = source_of(config.source)
    if source.arrays:
        return dataset_from_arrays(reader_of(config.source).read(config), config)
    listing = _listed(config)
    # Where runs draw the validation images themselves, none are kept apart.
    kept = [split for split in listing.kept if split.paths]
    images = load_decoded([split.paths for split in kept], listing.decoder, progress)
    splits = [Split(array, split.labels) for array, split in zip(images, kept, strict=True)]
    if listing.redraw is not None:
        splits.insert(1, Split(splits[0].images[:0], splits[0].labels[:0]))
    train, val, test = splits
    return Dataset(listing.files.name, listing.files.classes, train, val, test, listing.redraw)


@dataclass(frozen=True)
class _Listing:
    """A source of image files, and those of each split that are kept: train, val, test."""

    files: FileSet
    decoder: Decoder
    outline: Outline
    kept: tuple[ImageFiles, ImageFiles, ImageFiles]
    redraw: Redraw | None


def _listed(config: DataConfig) -> _Listing:
    files: FileSet = reader_of(config.source)(config)
    decoder = _decoder(files, config)
    labels = [None if split is None else split.labels for split in (files.test, files.val)]
    outline = Outline(files.classes, files.train.labels, labels[0], decoder.shape, labels[1])
    parts = _parts(outline, config)

    def kept(split: ImageFiles | None, indices: Indices) -> ImageFiles:
        split = split or files.train
        return ImageFiles([split.paths[i] for i in indices], split.labels[indices])

    chosen = kept(files.train, parts.train), kept(files.val, parts.val), kept(files.test, parts.test)
    return _Listing(files, decoder, outline, chosen, parts.redraw)


@dataclass(frozen=True)
class DataSummary:
    """What :func:`load_dataset` would give.

    Images per split, (C, H, W) of every image as the network sees it, after the crop, and the number of classes;
    ``remarks`` says in a line each what a user may not expect.
    """

    train_size: int
    val_size: int
    test_size: int
    image_shape: tuple[int, int, int]
    num_classes: int
    remarks: tuple[str, ...] = ()


def describe_data(config: DataConfig) -> DataSummary:
    """Check what can be checked quickly: layout, classes, sizes, and the headers of some images. Downloads nothing.

    Of each split the first image of each class is opened, and a thousand more.

    Raises:
        DataError: something is missing, or does not fit; :func:`load_dataset` would say the same.
    """
    config = _checked(config)
    source = source_of(config.source)
    if source.arrays:
        reader = reader_of(config.source)
        outline: Outline = reader.outline(config)
        parts = _parts(outline, config)
        told = getattr(reader, "remarks", None)
        remarks: list[str] = [] if told is None else told(config)
        sizes, redraw = (len(parts.train), len(parts.val), len(parts.test)), parts.redraw
    else:
        listing = _listed(config)
        outline = listing.outline
        sample = [path for split in listing.kept for path in _sample(split)]
        turned = listing.decoder.check_headers(sample)
        train, val, test = (len(split.paths) for split in listing.kept)
        sizes, redraw = (train, val, test), listing.redraw
        remarks = _remarks(listing.files, config, turned, len(sample))
    if redraw is not None:
        sizes = redraw.train_size, redraw.val_size, sizes[2]
        remarks.append("each run draws its validation images by its own seed (data.split)")
    return DataSummary(*sizes, config.seen_shape(outline.shape), len(outline.classes), tuple(remarks))


def _sample(split: ImageFiles) -> list[str]:
    firsts = np.unique(split.labels, return_index=True)[1].tolist()
    spread = np.linspace(0, len(split.paths) - 1, min(_HEADERS, len(split.paths))).round().astype(int).tolist()
    return [split.paths[i] for i in sorted({*firsts, *spread})]


def _remarks(files: FileSet, config: DataConfig, turned: int, opened: int) -> list[str]:
    remarks = list(files.notes)
    if files.passed:
        remarks.append(f"passed over, as they are no images of the data: {files.passed.words()}")
    if turned:
        which = f"{turned:,} of the {opened:,} image files opened state an EXIF orientation other than upright"
        done = {
            "ignore": "they are used as they are stored (data.exif: apply turns them)",
            "apply": "they are turned (data.exif)",
        }
        remarks.append(f"{which}; {done[config.exif]}")
    return remarks


def read_data(config: DataConfig, *, progress: Progress | None = None) -> tuple[int, list[str]]:
    """Read every image that ``config`` keeps, as :func:`load_dataset` does, and look for images that occur twice.

    Returns:
        How many images there are, and what to say of them in a line each.

    Raises:
        DataError: as :func:`load_dataset`; every image file that cannot be used is counted, and the first are named.
    """
    config = _checked(config)
    data = load_dataset(config, progress=progress)
    names: dict[str, Sequence[str]] = {}
    if not source_of(config.source).arrays:
        kept = zip(("training", "validation", "test"), _listed(config).kept, strict=True)
        names = {split: files.paths for split, files in kept}
    arrays = {name: (split.images, split.labels) for name, split in data.splits().items()}
    return sum(len(labels) for _, labels in arrays.values()), repeated_images(arrays, names, data.classes)


def dataset_from_arrays(arrays: ArraySet, config: DataConfig) -> Dataset:
    """Split images that are already decoded.

    Args:
        arrays: the images.
        config: the sizes to keep.

    Raises:
        DataError: the sizes do not fit what is there.
    """
    parts = _parts(arrays.outline, config)

    def kept(split: tuple[Images, Labels] | None, indices: Indices) -> Split:
        # Indexing keeps the memory order of its source, which may be (N, H, W, C) underneath.
        images, labels = split or arrays.train
        return Split(np.ascontiguousarray(images[indices]), labels[indices])

    return Dataset(
        name=arrays.name,
        classes=arrays.classes,
        train=kept(arrays.train, parts.train),
        val=kept(arrays.val, parts.val),
        test=kept(arrays.test, parts.test),
        redraw=parts.redraw,
    )


def _decoder(files: FileSet, config: DataConfig) -> Decoder:
    first: DataError | None = None
    # The first file sets the size. Where it is damaged the next one does, and the first is named with all others.
    for path in files.train.paths[:100]:
        try:
            return Decoder(path, config.image_size, config.resize, config.exif, files.store)
        except DataError as error:
            first = first or error
    raise first or DataError(f"data.root: got {config.root!r}; accepted: training images")


def _parts(outline: Outline, config: DataConfig) -> Parts:
    side, size = min(outline.shape[1:]), config.crop_size
    if size is not None and size > side:
        # A size below four is none that the key takes.
        most = f"at most {side}, the side of the images" if side >= 4 else f"null: the images have a side of {side}"
        raise DataError(f"data.crop_size: got {size}; accepted: {most}")
    return partition(outline.train_labels, outline.test_labels, outline.classes, config, outline.val_labels)


def _checked(config: DataConfig) -> DataConfig:
    """The configuration with what null stands for, where its keys suit its source."""
    source = source_of(config.source)
    if source.arrays and config.image_size is not None:
        raise DataError(f"data.image_size: got {config.image_size}; accepted: null for the source {config.source}")
    if source.arrays and config.exif != "ignore":
        raise DataError(f"data.exif: got {config.exif!r}; accepted: ignore for the source {config.source}")
    if not source.val_folder and config.val_folder is not None:
        got = f"data.val_folder: got {config.val_folder!r}"
        raise DataError(f"{got}; accepted: null for the source {config.source}, which has no val/")
    config = config.resolved()
    if config.image_size is None and config.resize != "stretch":
        raise DataError(f"data.resize: got {config.resize!r}; accepted: stretch where data.image_size is null")
    return config
