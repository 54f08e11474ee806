"""Reading ``curves.jsonl``: the learning curves of the finished runs of a study."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError
from tune_bn.runners.base import EpochPoint


def read_curves(path: Path) -> dict[str, tuple[EpochPoint, ...]]:
    """Curves by run key; the last line of a key wins, a torn last line is ignored, a missing file has no curves.

    Raises:
        RecordError: a whole line is not a curve.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    curves = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            content = json.loads(line)
            curves[str(content["run"])] = tuple(_point(point) for point in content["curve"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f'{path}:{number}: not a curve ({error}); accepted: {{"run": KEY, "curve": [POINT, …]}}'
            ) from None
    return curves


def _point(content: Mapping[str, Any]) -> EpochPoint:
    # JSON has no NaN: a loss that was not finite is null.
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in content.items()}
    return EpochPoint(**values)
