"""Arrays of the user's making, checked: images (N, C, H, W) uint8 and labels (N,) for train and test, perhaps val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tune_bn.data.sources.base import ArraySet, Images
from tune_bn.data.splits import Labels
from tune_bn.errors import DataError, listed

NEEDED, OPTIONAL = ("train", "test"), ("val",)
SPLITS = (*NEEDED, *OPTIONAL)
MOST_CHANNELS = 4
"""Channels last is told from channels first by them: an image has up to four, and is higher than that."""


def checked_set(name: str, place: str, found: Mapping[str, tuple[Any, Any]], classes: Any = None) -> ArraySet:
    """What a function or a file gave, as a source gives it.

    Args:
        name: of the data.
        place: how an error begins, such as ``data.source: got 'mine:images', which returned``.
        found: images and labels of each split.
        classes: their names in the order of the labels; None: the numbers from 0 to the highest label.

    Raises:
        DataError: a split is missing, an array has another shape or type, labels are no indices of classes, or a class
            has no training image.
    """
    for split in NEEDED:
        if split not in found:
            others = listed(sorted(found)) or "nothing"
            raise DataError(f"{place} no {split} images (but {others}); accepted: train and test, and perhaps val")
    splits = {split: _checked(f"{place} {split}", *found[split]) for split in SPLITS if split in found}
    shape = splits["train"][0].shape[1:]
    for split, (images, _) in splits.items():
        if images.shape[1:] != shape:
            raise DataError(f"{place} {split} images of {images.shape[1:]}; accepted: {shape}, as those of train")
    names = _names(place, splits["train"][1], classes)
    for split, (_, labels) in splits.items():
        if labels.max() >= len(names):
            most = len(names) - 1
            raise DataError(
                f"{place} the label {labels.max()} in {split}; accepted: 0 to {most}, for "
                f"{len(names)} classes{'' if classes is not None else ' of train'}"
            )
        if (empty := np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)).size:
            first = names[int(empty[0])]
            raise DataError(f"{place} no {split} image of class {first!r}; accepted: at least one of each class")
    return ArraySet(name, names, splits["train"], splits["test"], splits.get("val"))


def _checked(place: str, images: Any, labels: Any) -> tuple[Images, Labels]:
    images, labels = _array(f"{place} images", images), _array(f"{place} labels", labels)
    check_images(place, images.dtype, images.shape)
    check_labels(place, labels)
    if len(images) != len(labels):
        raise DataError(f"{place} images {images.shape} and {len(labels)} labels; accepted: a label for each image")
    return images, labels.astype(np.int64)


def _array(place: str, value: Any) -> Any:
    try:
        return np.asarray(value)
    # What is no array may raise anything: tensors on a GPU, lists of images of several sizes.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{place} that are no array ({reason}); accepted: numpy arrays") from None


def check_images(place: str, dtype: Any, shape: Sequence[int]) -> None:
    """Raise :class:`DataError` where images of this type and shape are not (N, C, H, W) uint8, none of them empty."""
    shape, accepted = tuple(shape), "uint8 (N, C, H, W)"
    hint = ""
    if len(shape) == 3:
        hint = ", such as images[:, None] of grey ones"
    elif len(shape) == 4 and shape[3] <= MOST_CHANNELS < shape[1]:
        hint = ", such as images.transpose(0, 3, 1, 2), if these have their channels last"
    elif dtype != np.uint8:
        hint = ", such as (255 * images).round().astype('uint8') of those in [0, 1]"
    if dtype != np.uint8 or len(shape) != 4 or 0 in shape or shape[3] <= MOST_CHANNELS < shape[1]:
        raise DataError(f"{place} images {dtype} {shape}; accepted: {accepted}{hint}")


def check_labels(place: str, labels: Any) -> None:
    """Raise :class:`DataError` where labels are not (N,) of integers ≥ 0."""
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        hint = ", such as labels.ravel()" if labels.ndim == 2 and 1 in labels.shape else ""
        got = f"{labels.dtype} {labels.shape}"
        raise DataError(f"{place} labels {got}; accepted: integers (N,), the index of each image's class{hint}")
    if labels.size and labels.min() < 0:
        raise DataError(f"{place} the label {labels.min()}; accepted: 0 and more, the index of each image's class")


def _names(place: str, labels: Labels, classes: Any) -> tuple[str, ...]:
    if classes is None:
        names = tuple(str(label) for label in range(int(labels.max()) + 1))
    else:
        names = tuple(str(name) for name in _array(f"{place} classes", classes).ravel().tolist())
        if len(set(names)) != len(names):
            raise DataError(f"{place} the classes {listed(names)}; accepted: a name of its own for each")
    if len(names) < 2:
        raise DataError(f"{place} images of {len(names)} classes; accepted: at least 2")
    return names
