"""Which images train, validate and test: decided on the labels alone, the same on every machine and in every run.

Validation is a stratified part of the training split, and ``train_size`` and ``test_size`` keep stratified subsets;
:func:`stratified_split` draws them all with seed 0. A source without a test split has it drawn first, then validation
from what is left. Train, validation and test share no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tune_bn.errors import DataError
from tune_bn.training.config import DataConfig

Labels = NDArray[np.int64]
Indices = NDArray[np.intp]

SPLIT_SEED = 0


@dataclass(frozen=True)
class Parts:
    """Indices of the images that are kept; ``train`` and ``val`` point into the training split."""

    train: Indices
    val: Indices
    test: Indices


def partition(train_labels: Labels, test_labels: Labels | None, classes: Sequence[str], config: DataConfig) -> Parts:
    """The images that ``config`` keeps of one source.

    Args:
        train_labels: (N,) class of each image of the training split.
        test_labels: the same of the test split, or None to draw ``test_size`` images (null: half) from training.
        classes: class names, in the order of the labels.
        config: the sizes to keep.

    Raises:
        DataError: the sizes do not fit what is there.
    """

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
    return Parts(train, val, test)


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
