"""What a source gives: image files that are still to be decoded, or arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tune_bn.data.decoding import Store
from tune_bn.data.sources.leftovers import PassedOver
from tune_bn.data.splits import Labels
from tune_bn.errors import DataError

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageFiles:
    """The images of one split: their paths, and the class (N,) of each as an index."""

    paths: list[str]
    labels: Labels


@dataclass(frozen=True)
class FileSet:
    """A source of image files, listed and checked, none of them decoded.

    ``val`` and ``test`` are None where the source has no such split of its own. ``passed`` is what was passed over, and
    ``notes`` says in a line each what else a user may not expect. ``store`` opens images that are no files.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles | None
    val: ImageFiles | None = None
    passed: PassedOver = field(default_factory=PassedOver)
    notes: tuple[str, ...] = ()
    store: Store | None = None


@dataclass(frozen=True)
class ArraySet:
    """A source of arrays: images (N, C, H, W) uint8 in any memory order, labels (N,) int64.

    ``test`` and ``val`` are None where the source has no such split of its own.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Images, Labels]
    test: tuple[Images, Labels] | None
    val: tuple[Images, Labels] | None = None

    @property
    def outline(self) -> Outline:
        """What is known of it without its pixels."""
        test, val = (None if split is None else split[1] for split in (self.test, self.val))
        return Outline(self.classes, self.train[1], test, self.train[0].shape[1:], val)


@dataclass(frozen=True)
class Outline:
    """What is known of a source before its images are read; ``shape`` is (C, H, W) of each."""

    classes: tuple[str, ...]
    train_labels: Labels
    test_labels: Labels | None
    shape: tuple[int, int, int]
    val_labels: Labels | None = None


def root_folder(root: str | None, accepted: str) -> Path:
    """The folder that ``data.root`` names, absolute.

    Raises:
        DataError: it is null, or not a folder.
    """
    if root is None:
        raise DataError(f"data.root: got null; accepted: {accepted}")
    # Unlike Path's, these raise nothing, whatever the name is and whoever may look at it.
    folder = Path(os.path.expanduser(root)).absolute()
    if not os.path.isdir(folder):
        raise DataError(f"data.root: got {str(folder)!r}, which is not a folder; accepted: {accepted}")
    return folder


def require_every_class(labels: Labels, classes: tuple[str, ...], place: Path, split: str) -> None:
    """Raise :class:`DataError` where a class has no image among ``labels``, which ``place`` lists for ``split``."""
    if len(classes) < 2:
        raise DataError(f"{place}: got images of {len(classes)} classes; accepted: at least 2")
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        empty = classes[int(np.argmin(counts))]
        raise DataError(f"{place}: no {split} image of class {empty!r}; accepted: at least one of each class")


def require_file(path: str, place: str) -> None:
    """Raise :class:`DataError` where an image that ``place`` lists is not there."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: missing, but {place} lists it; accepted: every listed image")
