"""Rows of metrics as they come in: half lines wait, several rows of a step become one, and what is wrong is said."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.script.folder import NOT_FINITE


class RowError(Exception):
    """A row cannot be what it says."""


@dataclass
class Row:
    """What is reported at once."""

    step: int | None
    """As the script counts; None: known at the end alone."""
    metrics: dict[str, float] = field(default_factory=dict)
    stopped_early: bool = False


def number(value: Any) -> float | None:
    """A metric, be it written as a number or as text; None: it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if text in NOT_FINITE:
            return NOT_FINITE[text]
        try:
            return float(text)
        except ValueError:
            return None
    return None


def whole_step(value: Any, where: str) -> int:
    """A step; ``3.0`` is one. Raises :class:`RowError`."""
    found = number(value)
    if found is None or not math.isfinite(found) or found < 0 or found != int(found):
        raise RowError(f"{where}: got step {value!r}; accepted: an integer ≥ 0")
    return int(found)


class LineFile:
    """The whole lines of a file that grows. One that was replaced by another is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self._offset = 0
        self._inode: int | None = None
        self._rest = b""

    def read(self, *, last: bool = False) -> list[bytes]:
        """The new lines without their ends; ``last``: nothing more comes, and a last line without its end counts."""
        try:
            with open(self.path, "rb") as handle:
                status = os.fstat(handle.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset, self._rest, self.lines = status.st_ino, 0, b"", 0
                handle.seek(self._offset)
                data = handle.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if last and self._rest:
            whole.append(self._rest)
            self._rest = b""
        return [line.rstrip(b"\r") for line in whole]


class HelperRows:
    """The rows that the helper has written in one attempt."""

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path)
        self._seen = 0

    def read(self, *, last: bool = False) -> Iterator[Row]:
        """New rows. A last line without its newline is not there. Raises :class:`RowError`."""
        del last
        for line in self._file.read():
            self._seen += 1
            where = f"{self._file.path.name}:{self._seen}"
            try:
                content = json.loads(line)
            except ValueError:
                raise RowError(f"{where}: no JSON: {line[:80]!r}") from None
            if not isinstance(content, dict):
                raise RowError(f'{where}: got {line[:80]!r}; accepted: an object such as {{"step": 3, "loss": 0.1}}')
            yield row_of(content, where)


def row_of(content: Mapping[str, Any], where: str) -> Row:
    """A row of the helper's form. Raises :class:`RowError`."""
    rest = dict(content)
    final, early = rest.pop("final", False), rest.pop("stopped_early", False)
    step = None if final else whole_step(rest.pop("step", None), where)
    metrics = {}
    for name, value in rest.items():
        found = number(value)
        if found is None:
            raise RowError(f'{where}: {name}: got {value!r}; accepted: a number, or "nan", "inf", "-inf"')
        metrics[name] = found
    return Row(step, metrics, bool(early))
