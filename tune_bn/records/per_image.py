"""``per_image/RUN.bits``: which test images a confirmation run got right, one bit each, beside the records.

The record of the run has the hash of the file and the number of images, so that a file that was changed is noticed.
Only the standard library is needed to read and write them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError
from tune_bn.records.files import read_bytes, writing

FOLDER = "per_image"


LARGEST_ROUNDING = 1e-6
"""Percentage points by which a score may differ from the share of its test images that are right."""


class AlteredError(RecordError):
    """Bits that are there and are not those that the record tells of."""


def is_share_right(score: float, test: object) -> bool | None:
    """Whether a score is the percentage of the test images that a record counts as right; None: it counts none."""
    right, images = (test.get(name) if isinstance(test, Mapping) else None for name in ("right", "images"))
    if type(right) is not int or type(images) is not int or images < 1:
        return None
    return abs(score - 100 * right / images) <= LARGEST_ROUNDING


def path_of(study: Path, key: str) -> Path:
    """Where the bits of the run of this key lie."""
    return study / FOLDER / f"{key}.bits"


def write_bits(study: Path, key: str, bits: bytes) -> None:
    """Write the bits of a run, whole or not at all.

    Raises:
        StudyError: they cannot be written.
    """
    path = path_of(study, key)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        aside = path.with_suffix(".tmp")
        aside.write_bytes(bits)
        os.replace(aside, path)


def read_bits(study: Path, key: str, stated: Mapping[str, Any]) -> bytes:
    """The bits of a run, checked against what its record states of them.

    Raises:
        AlteredError: they are not those of the record.
        RecordError: there are none.
    """
    path = path_of(study, key)
    try:
        bits = read_bytes(path)
    except OSError as error:
        raise RecordError(
            f"{FOLDER}/{path.name}: cannot be read ({error.strerror}); accepted: the file as it was written"
        ) from None
    if hashlib.sha256(bits).hexdigest() != stated.get("sha256"):
        raise AlteredError(
            f"{FOLDER}/{path.name}: its bytes are not those of the record; accepted: the file as it was written, or "
            "none"
        )
    images, right = stated.get("images"), stated.get("right")
    if (
        type(images) is not int
        or images < 1
        or len(bits) != -(-images // 8)
        or right != sum(byte.bit_count() for byte in bits)
    ):
        raise AlteredError(
            f"{FOLDER}/{path.name}: its bits are not the images of the record; accepted: {right} right of {images}, or "
            "none"
        )
    return bits
