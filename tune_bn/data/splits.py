"""Which images train, validate and test: decided on the labels alone, the same on every machine and in every run.

A split that the source does not have is a stratified part of its training split: a test split is drawn first, then
validation from what is left. The sizes keep stratified subsets of splits that there are. :func:`stratified_split` draws
them all with seed 0. Train, validation and test share no image, and each has one of every class.

With ``data.split: per_seed`` only the test images are the same for every run. What is left is a pool that each run
divides anew into training and validation, by the same rule with its own seed (:class:`Redraw`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tune_bn.data.config import DataConfig
from tune_bn.errors import DataError

Labels = NDArray[np.int64]
Indices = NDArray[np.intp]

SPLIT_SEED = 0


@dataclass(frozen=True)
class Redraw:
    """How a run divides a pool of images by its seed: as the fixed split is drawn, which is that of seed 0."""

    val_size: int
    train_size: int

    def parts(self, labels: Labels, seed: int) -> tuple[Indices, Indices]:
        """The images that train and that validate, as sorted indices into the pool.

        Args:
            labels: (N,) class of each image of the pool.
            seed: of the run, ≥ 0.
        """
        val, rest = stratified_split(labels, self.val_size, seed, key="data.val_size", left_for=("to train",))
        return rest[stratified_split(labels[rest], self.train_size, seed, key="data.train_size")[0]], val


@dataclass(frozen=True)
class Parts:
    """Indices of the images that are kept, each into the split that they come from.

    With ``redraw`` the training images are the pool of all that train or validate, and ``val`` is empty.
    """

    train: Indices
    val: Indices
    test: Indices
    redraw: Redraw | None = None


def partition(
    train_labels: Labels,
    test_labels: Labels | None,
    classes: Sequence[str],
    config: DataConfig,
    val_labels: Labels | None = None,
) -> Parts:
    """The images that ``config`` keeps of one source.

    Whatever the sizes are, an error names a range of which every size is accepted, or what the data lacks.

    Args:
        train_labels: (N,) class of each image of the training split.
        test_labels: the same of the test split, or None to draw ``test_size`` images (null: 10 %) from training.
        classes: class names, in the order of the labels.
        config: the sizes to keep.
        val_labels: the same of the validation split, or None to draw ``val_size`` images (null: 10 %) from training.

    Raises:
        DataError: the sizes do not fit what is there, or a class has too few training images.
    """
    if config.split == "per_seed" and val_labels is not None:
        accepted = "fixed, since the data has validation images of its own (data.val_folder: unused leaves them out)"
        raise DataError(f"data.split: got 'per_seed'; accepted: {accepted}")
    uses = ["to train", *["to validate"] * (val_labels is None), *["to test"] * (test_labels is None)]
    _require_enough(np.bincount(train_labels, minlength=len(classes)), classes, uses, config)

    def drawn(pool: Indices, size: int | None, key: str, left_for: Sequence[str]) -> tuple[Indices, Indices]:
        size = size or max(len(pool) // 10, len(classes))
        chosen, rest = stratified_split(train_labels[pool], size, key=f"data.{key}", left_for=left_for)
        return pool[chosen], pool[rest]

    def kept(labels: Labels, size: int | None, key: str) -> Indices:
        return stratified_split(labels, size or len(labels), key=f"data.{key}")[0]

    pool = np.arange(len(train_labels))
    if test_labels is None:
        test, pool = drawn(pool, config.test_size, "test_size", uses[:-1])
    else:
        test = kept(test_labels, config.test_size, "test_size")
    whole = pool
    if val_labels is None:
        val, pool = drawn(pool, config.val_size, "val_size", uses[:1])
    else:
        val = kept(val_labels, config.val_size, "val_size")
    train = pool[kept(train_labels[pool], config.train_size, "train_size")]
    if config.split == "per_seed":
        # Sizes that seed 0 can draw every seed can.
        return Parts(whole, whole[:0], test, Redraw(len(val), len(train)))
    return Parts(train, val, test)


_NUMBERS = ("no", "one", "two", "three")


def _require_enough(counts: NDArray[np.intp], classes: Sequence[str], uses: Sequence[str], config: DataConfig) -> None:
    """Raise :class:`DataError` where a class has fewer training images than uses of them."""
    rare = np.flatnonzero(counts < len(uses))
    if not len(rare):
        return
    count = int(counts[rare[0]])
    more = len(rare) - 1
    others = f" (and {more} more class{'es have' if more > 1 else ' has'} too few)" if more else ""
    each = ", ".join(f"one {use}" for use in uses)
    raise DataError(
        f"data.root: got {config.root!r}, where class {classes[int(rare[0])]!r} has {_NUMBERS[count]} training "
        f"image{'s' * (count != 1)}{others}; accepted: at least {_NUMBERS[len(uses)]} of each class: {each}"
    )


def stratified_split(
    labels: Labels, size: int, seed: int = SPLIT_SEED, *, key: str = "size", left_for: Sequence[str] = ()
) -> tuple[Indices, Indices]:
    """Divide ``range(len(labels))`` into a stratified choice of exactly ``size`` indices, and the rest.

    Each class gets its quota ``size · n_class / N``, rounded by largest remainder (ties to the lower label), and at
    least one index; of each class at least ``len(left_for)`` are left over. The same arguments give the same choice on
    every platform.

    Args:
        labels: (N,) class of each index.
        size: how many indices to choose.
        seed: seed of the order in which the indices of a class are drawn.
        key: what an error message calls ``size``.
        left_for: what the rest must have one index of each class for. Every class has at least one more than that.

    Returns:
        Two sorted, disjoint index arrays that together hold every index once.

    Raises:
        DataError: ``size`` is too large, or too small to hold every class.
    """
    _, dense, counts = np.unique(labels, return_inverse=True, return_counts=True)
    room = counts - len(left_for)
    if not len(counts) <= size <= room.sum():
        most = f"all but one of each class {' and one '.join(left_for)}" if left_for else "all there is"
        accepted = f"an integer from {len(counts)} (one of each class) to {room.sum()} ({most}), or null"
        raise DataError(f"{key}: got {size}; accepted: {accepted}")
    seats, remainders = np.divmod(size * counts, len(labels))
    by_remainder = np.argsort(-remainders, kind="stable")
    seats[by_remainder[: size - int(seats.sum())]] += 1
    for rare in np.flatnonzero(seats == 0):
        seats[np.argmax(seats)] -= 1
        seats[rare] = 1
    for full in np.flatnonzero(seats > room):
        for _ in range(int(seats[full] - room[full])):
            seats[full] -= 1
            seats[np.argmax(room - seats)] += 1
    # NumPy promises the raw stream of a bit generator for ever; what `Generator` draws from it may change.
    order = np.lexsort((np.random.PCG64(seed).random_raw(len(labels)), dense))
    rank_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order] = rank_in_class < np.repeat(seats, counts)
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
