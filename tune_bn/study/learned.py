"""Whether a search found anything that learns at all, before more is spent on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tune_bn.records.record import CANDIDATE, COMPLETED, SEARCH, Record

FEWEST_IMAGES = 100
"""Validation images below which a score at chance cannot be told from one that is not."""
DEVIATIONS = 4.0
"""Standard deviations of guessing above chance from which on something was learned. The best of some hundred epochs of
networks that guess reaches about three."""


def at_chance(records: Sequence[Record], *, chance: float, images: int | None, metric: str = "val_accuracy") -> str:
    """What to say where the best candidate of a search scores what guessing gives; empty where it learned, or too few
    images tell.

    Args:
        records: of the study.
        chance: score of guessing, in percent.
        images: of the validation split; None: not known.
        metric: the validation score, in percent.
    """
    whole = [
        record
        for record in records
        if (record.stage, record.arm, record.status) == (SEARCH, CANDIDATE, COMPLETED) and metric in record.scores
    ]
    if not whole or images is None or images < FEWEST_IMAGES:
        return ""
    best = max(whole, key=lambda record: record.scores[metric])
    share = chance / 100
    limit = chance + DEVIATIONS * 100 * math.sqrt(share * (1 - share) / images)
    score = best.scores[metric]
    if score > limit:
        return ""
    return (
        f"the best candidate is at chance after {best.epochs} epoch{'s' if best.epochs > 1 else ''}: {score:.2f} % on "
        f"validation, where guessing reaches {chance:.3g} %, and up to {limit:.3g} % by luck"
    )


def validation_images(data: Mapping[str, Any]) -> int | None:
    """How many validation images the identity of the data counts."""
    part = data.get("val")
    count = part.get("count") if isinstance(part, Mapping) else None
    return count if isinstance(count, int) else None
