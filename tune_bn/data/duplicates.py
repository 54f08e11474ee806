"""Images that occur more than once: what a network has learnt by heart says nothing of what it can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray


def repeated_images(
    splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.int64]]],
    names: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    *,
    examples: int = 3,
) -> list[str]:
    """A line for each two splits that share images, and one for images that are in two classes.

    Images are the same where all their pixels are, as they were decoded and resized.

    Args:
        splits: images (N, C, H, W) and labels (N,) of each split by its name.
        names: what the images of a split are called, in the same order; without any they are numbered.
        classes: class names, in the order of the labels.
        examples: how many a line names.
    """
    found: dict[str, dict[bytes, int]] = {}
    twins: list[str] = []
    labelled: dict[bytes, tuple[str, int, int]] = {}

    def named(split: str, position: int) -> str:
        return names[split][position] if split in names else f"{split} image {position}"

    for split, (images, labels) in splits.items():
        own = found[split] = {}
        for position, image in enumerate(images):
            digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
            own.setdefault(digest, position)
            label = int(labels[position])
            first_split, first, first_label = labelled.setdefault(digest, (split, position, label))
            if label != first_label:
                where = f"{named(split, position)} ({classes[label]!r})"
                twins.append(f"{where} is {named(first_split, first)} ({classes[first_label]!r})")
    lines = []
    for one, other in combinations(splits, 2):
        shared = [digest for digest in found[other] if digest in found[one]]
        if shared:
            said = [f"{named(other, found[other][key])} is {named(one, found[one][key])}" for key in shared[:examples]]
            count = f"{len(shared):,} {other} image{'s are' if len(shared) > 1 else ' is a'} {one} image"
            lines.append(_line(f"{count}{'s' * (len(shared) > 1)} too", said, len(shared)))
    if twins:
        many = "images occur" if len(twins) > 1 else "image occurs"
        lines.append(_line(f"{len(twins):,} {many} in two classes", twins[:examples], len(twins)))
    return lines


def _line(what: str, examples: Sequence[str], count: int) -> str:
    if not examples:
        return what
    more = f"; and {count - len(examples):,} more" if count > len(examples) else ""
    return f"{what}: {'; '.join(examples)}{more}"
