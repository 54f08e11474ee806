"""How long a run takes: as studies took it, or as its trainer says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tune_bn.errors import TuneBNError
from tune_bn.protocols.trainer import Cost, Door
from tune_bn.records.record import COMPLETED, DIVERGED, PRUNED
from tune_bn.study.folder import list_studies
from tune_bn.trainers.door import door_of

FEWEST_RUNS = 3
LATEST_STUDIES = 20


def cost_of_a_run(door: Door, output: Path | None, measure: bool | None) -> Cost | None:
    """What a run of a space takes; None where nobody can say.

    Args:
        door: of the space.
        output: folder of studies to learn from; None: from none.
        measure: whether to train a few steps here; None: where that is soon done, and no study says it.
    """
    if not measure and output is not None and (known := _as_studies_took(door, output)) is not None:
        return known
    return door.cost(measure)


def _as_studies_took(door: Door, output: Path) -> Cost | None:
    """What runs took of the newest study there whose runs cost the same; None where there is none."""
    try:
        folders = list_studies(output)[-LATEST_STUDIES:]
    except TuneBNError:
        return None
    for folder in reversed(folders):
        try:
            other, records = folder.space(), folder.records.read()
        except TuneBNError:
            continue
        if not door.paced_as(door_of(other)):
            continue
        # Of a diverged run only the epochs are fewer.
        seconds = [
            record.duration_seconds / record.epochs
            for record in records
            if record.status in (COMPLETED, PRUNED, DIVERGED) and record.epochs and record.duration_seconds > 0
        ]
        if len(seconds) >= FEWEST_RUNS:
            low, high = door.steps * np.quantile(seconds, (0.1, 0.9))
            return Cost(float(low), float(high), f"as {len(seconds)} runs of {folder.name} took")
    return None
