"""Metrics of scripts that cannot be touched, from the files that they write: CSV, JSON, TensorBoard's event files."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tune_bn.trainers.command.rows import LineFile, Row, RowError, number, whole_step
from tune_bn.trainers.command.settings import Tap

FINAL = "final"


class Rows(Protocol):
    """Where rows come from."""

    def read(self, *, last: bool = False) -> Iterator[Row]:
        """New rows; ``last``: nothing more will be written. Raises :class:`RowError`."""


def tap_rows(tap: Tap, folder: Path, since: float) -> Rows:
    """The rows of a tap.

    Args:
        tap: which files.
        folder: the current folder of the script.
        since: files that were last written before this time, in seconds since 1970, are an earlier attempt's.
    """
    if tap.kind == "csv":
        return CsvRows(tap, folder, since)
    return JsonRows(tap, folder, since) if tap.kind == "json" else EventRows(tap, folder, since)


class _Files:
    def __init__(self, tap: Tap, folder: Path, since: float) -> None:
        self.tap, self.folder, self.since = tap, folder, since

    def newest(self) -> Path | None:
        found = self.all()
        return found[-1] if found else None

    def all(self) -> list[Path]:
        """The files that fit and were written in this attempt, the newest last."""
        found = []
        for path in self.folder.glob(self.tap.pattern):
            try:
                changed = path.stat().st_mtime
            except OSError:
                continue
            # Clocks of file systems are coarse.
            if path.is_file() and changed >= self.since - 0.05:
                found.append((changed, path))
        return [path for _, path in sorted(found)]

    def row(self, cells: Mapping[str, Any], where: str, *, stepless: bool) -> Row | None:
        """A row of a table. Cells that are empty or hold words are left out: many loggers leave gaps."""
        metrics = {}
        for name, value in cells.items():
            found = number(value)
            if name != self.tap.step and found is not None:
                metrics[self.tap.rename.get(name, name)] = found
        if self.tap.step in cells and cells[self.tap.step] not in ("", None):
            return Row(whole_step(cells[self.tap.step], where), metrics)
        if stepless:
            return Row(None, metrics)
        if not metrics:
            return None
        raise RowError(f"{where}: no step under {self.tap.step!r}; it has {', '.join(map(str, cells))}")


class CsvRows(_Files):
    """A table that grows, with the names in its first line. A half line waits for its rest."""

    def __init__(self, tap: Tap, folder: Path, since: float) -> None:
        super().__init__(tap, folder, since)
        self._file: LineFile | None = None
        self._names: list[str] = []
        self._seen: list[bytes] = []

    def read(self, *, last: bool = False) -> Iterator[Row]:
        """New rows."""
        path = self.newest()
        if path is None:
            return
        if self._file is None or self._file.path != path:
            self._file, self._names, self._seen = LineFile(path), [], []
        for line in self._file.read(last=last):
            if not line.strip():
                continue
            cells = [cell.strip() for cell in next(csv.reader([line.decode("utf-8", "replace")]))]
            if not self._names or cells == self._names:
                self._names = cells
                continue
            where = f"{path.name}: {line[:80].decode('utf-8', 'replace')}"
            if len(cells) != len(self._names):
                raise RowError(f"{where}: got {len(cells)} cells; accepted: {len(self._names)}, as its first line has")
            row = self.row(dict(zip(self._names, cells, strict=True)), where, stepless=False)
            if row is not None:
                yield row


class JsonRows(_Files):
    """JSON lines that grow, or one document that is written anew: a list of objects, an object that holds one (as
    ``trainer_state.json`` holds ``log_history``), or a single object, which is what is known at the end."""

    def __init__(self, tap: Tap, folder: Path, since: float) -> None:
        super().__init__(tap, folder, since)
        self._told: dict[int, Any] = {}

    def read(self, *, last: bool = False) -> Iterator[Row]:
        """New rows."""
        path = self.newest()
        if path is None:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        for place, content in enumerate(self._objects(text, path, last)):
            if self._told.get(place) == content:
                continue
            self._told[place] = content
            row = self.row(content, f"{path.name}: row {place + 1}", stepless=True)
            if row is not None:
                yield row

    def _objects(self, text: str, path: Path, last: bool) -> list[Any]:
        try:
            content = json.loads(text)
        except ValueError:
            lines = text.split("\n") if last else text.split("\n")[:-1]
            found = []
            for line in filter(str.strip, lines):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    if not last:
                        return []  # it is being written
                    raise RowError(f"{path.name}: no JSON: {line[:80]!r}") from None
            if not found:
                return []
            content = found
        if isinstance(content, Mapping):
            lists = [value for value in content.values() if _objects(value)]
            content = lists[0] if len(lists) == 1 else [content]
        if not _objects(content):
            raise RowError(f"{path.name}: accepted: an object, a list of objects, or an object a line")
        return list(content)


def _objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


class EventRows(_Files):
    """TensorBoard's event files: the scalars of all files that fit, by their tags."""

    def __init__(self, tap: Tap, folder: Path, since: float) -> None:
        super().__init__(tap, folder, since)
        self._offsets: dict[Path, int] = {}

    def read(self, *, last: bool = False) -> Iterator[Row]:
        """New scalars; those of one step and file that were written in one go are one row."""
        del last
        for path in self.all():
            data = path.read_bytes()
            place = self._offsets.get(path, 0)
            while (end := place + 12) <= len(data):
                (length,) = struct.unpack_from("<Q", data, place)
                if end + length + 4 > len(data):
                    break  # half a record
                step, scalars = scalars_of(data[end : end + length])
                metrics = {self.tap.rename.get(tag, tag): value for tag, value in scalars.items()}
                if metrics:
                    yield Row(step, metrics)
                place = end + length + 4
            self._offsets[path] = place


def scalars_of(event: bytes) -> tuple[int, dict[str, float]]:
    """Step and scalars of one event: ``tensorflow.Event``, as protocol buffers write it.

    Source: tensorflow/core/util/event.proto, summary.proto and framework/tensor.proto.
    """
    step, scalars = 0, {}
    for field, value in _fields(event):
        if field == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >> 63 else value
        elif field == 5 and isinstance(value, bytes):
            for inner, content in _fields(value):
                if inner == 1 and isinstance(content, bytes):
                    tag, found = _scalar(content)
                    if found is not None:
                        scalars[tag] = found
    return step, scalars


def _scalar(value: bytes) -> tuple[str, float | None]:
    tag, found = "", None
    for field, content in _fields(value):
        if field == 1 and isinstance(content, bytes):
            tag = content.decode("utf-8", "replace")
        elif field == 2 and isinstance(content, float):
            found = content
        elif field == 8 and isinstance(content, bytes):
            found = _tensor(content)
    return tag, found


def _tensor(content: bytes) -> float | None:
    """A tensor of one number, as newer writers store scalars: float (1) or double (2)."""
    kind, found = 0, None
    for field, value in _fields(content):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field == 4 and isinstance(value, bytes) and kind in (1, 2):
            form = "<f" if kind == 1 else "<d"
            if len(value) == struct.calcsize(form):
                (found,) = struct.unpack(form, value)
        elif field == 5:
            found = value if isinstance(value, float) else _packed(value, "<f")
        elif field == 6:
            found = value if isinstance(value, float) else _packed(value, "<d")
    return found


def _packed(value: Any, form: str) -> float | None:
    if isinstance(value, bytes) and len(value) == struct.calcsize(form):
        return float(struct.unpack(form, value)[0])
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while place < len(data):
        key = varint()
        field, wire = key >> 3, key & 7
        if wire == 0:
            yield field, varint()
        elif wire == 1:
            yield field, struct.unpack_from("<d", data, place)[0]
            place += 8
        elif wire == 2:
            length = varint()
            yield field, data[place : place + length]
            place += length
        elif wire == 5:
            yield field, struct.unpack_from("<f", data, place)[0]
            place += 4
        else:
            return
