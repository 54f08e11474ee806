"""``curves.jsonl``: the learning curve of every finished run, for plots and for the tracker to catch up from.

One JSON line per run, ``{"run": KEY, "curve": [POINT, …]}``, a point being ``{"step": 1, NAME: VALUE, …}``. The last
line of a key wins, a torn last line is ignored. Studies from before there were other trainers call the step ``epoch``.
No verdict depends on this file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError
from tune_bn.records.files import not_linked, read_bytes, writing

_NUMBERS = {int, float}
STEP = "step"
_STEP_BEFORE = "epoch"


@dataclass(frozen=True)
class Point:
    """One point of a learning curve: what was measured after a step, by name."""

    step: int
    """From 1 on; the steps of the built-in trainer are epochs."""
    metrics: Mapping[str, float]

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]


class CurveLog:
    """Append to and read the curves of a study. One writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, key: str, curve: Sequence[Point]) -> None:
        """Append the curve of a run. A line that a crash tore before is cut off first.

        Raises:
            StudyError: it cannot be written.
        """
        points = [
            {STEP: point.step} | {name: _finite_or_null(value) for name, value in point.metrics.items()}
            for point in curve
        ]
        line = json.dumps({"run": key, "curve": points}, separators=(",", ":"), allow_nan=False) + "\n"
        with writing(self.path), open(self.path, "a+b", opener=not_linked) as handle:
            end = handle.seek(0, 2)
            if end:
                handle.seek(end - 1)
                if handle.read(1) != b"\n":
                    handle.truncate(self._last_line_start(end))
            handle.write(line.encode())

    def _last_line_start(self, end: int) -> int:
        with self.path.open("rb") as handle:
            return handle.read(end).rfind(b"\n") + 1

    def read(self) -> dict[str, tuple[Point, ...]]:
        """Curves by run key; a missing file has none.

        Raises:
            RecordError: a whole line is not a curve.
        """
        try:
            text = read_bytes(self.path).decode("utf-8", "replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RecordError(f"{self.path}: cannot be read ({error.strerror}); accepted: a file that can") from None
        curves = {}
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            try:
                content = json.loads(line)
                curves[str(content["run"])] = tuple(_point(point) for point in content["curve"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise RecordError(
                    f'{self.path}:{number}: not a curve ({error}); accepted: {{"run": KEY, "curve": [POINT, …]}}'
                ) from None
        return curves


def _finite_or_null(value: float) -> float | None:
    # JSON has no NaN: a loss that was not finite is null.
    return value if math.isfinite(value) else None


def _point(content: Any) -> Point:
    if not isinstance(content, dict):
        raise TypeError(f"got {type(content).__name__} for a point")
    step = content.pop(STEP, None) if STEP in content else content.pop(_STEP_BEFORE, None)
    if None in content.values():
        content = {name: math.nan if value is None else value for name, value in content.items()}
    # A long study has millions of points; which of their values is wrong is asked where one is.
    if not content:
        raise TypeError(f"no metric at {STEP} {step!r}")
    if type(step) is not int or not {*map(type, content.values())} <= _NUMBERS:
        wrong, value = next(((n, v) for n, v in content.items() if type(v) not in _NUMBERS), (STEP, step))
        raise TypeError(f"{wrong}: got {value!r}")
    return Point(step, content)
