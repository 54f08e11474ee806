"""Run records: the single source of truth of a study.

``records.jsonl`` holds one JSON object per finished run (configuration × seed), whatever became of it. Lines are only
ever appended. Each line carries ``sha256``, the hash of its own content, and ``previous_sha256``, the hash of the line
before it, so that a line that was edited, removed or moved is noticed. A last line that was torn by a crash is cut off
before the next append; its run is simply run again.

Lines of schema version 1 say neither which data their run saw nor on what it ran, those of version 2 nothing of single
test images; they are read as such, and a log may begin with them and go on in version 3.

Only the standard library is needed to read and check records.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError
from tune_bn.records.files import canonical_json, not_linked, read_bytes, sha256_of, writing
from tune_bn.records.reading import Refused, check_types
from tune_bn.records.record import GENESIS, STAGES, STATUSES, Record

VERDICT_SCHEMA_VERSION = 1


class RecordLog:
    """Append to and read ``records.jsonl``. One writer at a time; readers may come whenever they like."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def recover(self) -> str | None:
        """Cut off a torn last line and return it, or None. Call it once, as the only writer, before appending."""
        try:
            data = read_bytes(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(error) from None
        if not data or data.endswith(b"\n"):
            return None
        whole = data.rfind(b"\n") + 1
        with writing(self.path), open(self.path, "r+b", opener=not_linked) as handle:
            handle.truncate(whole)
            handle.flush()
            os.fsync(handle.fileno())
        return data[whole:].decode("utf-8", "replace")

    def append(self, record: Record) -> Record:
        """Append one record and return it as written, with its hashes. It is on disk when this returns.

        Raises:
            StudyError: it cannot be written; the file is as it was before.
            RecordError: the last line is torn or damaged.
        """
        # The message of an error may quote bytes that are no text.
        reason = record.reason.encode("utf-8", "backslashreplace").decode()
        content = asdict(record) | {"reason": reason, "previous_sha256": self._last_sha256()}
        content = {name: content[name] for name in _NAMES[record.schema_version]}
        del content["sha256"]
        content["sha256"] = sha256_of(content)
        line = canonical_json(content).encode() + b"\n"
        # Unbuffered: a buffer would write the rest of a line when it is closed, after the line was cut off below.
        with writing(self.path), open(self.path, "ab", buffering=0, opener=not_linked) as handle:
            before = handle.tell()
            try:
                written = 0
                while written < len(line):
                    written += handle.write(line[written:])
                os.fsync(handle.fileno())
            except OSError:
                # A full disk may have taken half a line; the file must stay readable for the resume.
                handle.truncate(before)
                raise
        return Record(**content)

    def _last_sha256(self) -> str:
        try:
            with self.path.open("rb") as handle:
                end = handle.seek(0, os.SEEK_END)
                last, window = b"", 65_536
                # Failed runs may carry long reasons; the last line is whole where the line break before it is seen too.
                while last.count(b"\n") < 2 and len(last) < end:
                    handle.seek(max(0, end - window))
                    last, window = handle.read(), 4 * window
        except FileNotFoundError:
            return GENESIS
        if not last:
            return GENESIS
        return _parse(last.removesuffix(b"\n").rsplit(b"\n", 1)[-1], f"{self.path}: the last line").sha256

    def _unreadable(self, error: OSError) -> RecordError:
        return RecordError(f"{self.path}: cannot be read ({error.strerror}); accepted: a file that can")

    def __iter__(self) -> Iterator[Record]:
        return iter(self.read())

    def read(self) -> list[Record]:
        """All whole records, checked line by line.

        Raises:
            RecordError: the file cannot be read, or a line is not a record, was edited, or does not follow the line
                before it.
        """
        try:
            data = read_bytes(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(error) from None
        lines = data.split(b"\n")
        # What follows the last newline is empty, or the torn line of a writer that died.
        records, previous = [], GENESIS
        for number, line in enumerate(lines[:-1], start=1):
            record = _parse(line, f"{self.path}:{number}")
            if record.previous_sha256 != previous:
                raise RecordError(
                    f"{self.path}:{number}: this record does not follow the one before it (a line was removed, moved "
                    "or inserted); accepted: the file as it was written"
                )
            previous = record.sha256
            records.append(record)
        return records


_SINCE_2 = frozenset(("data", "environment"))
_SINCE_3 = frozenset(("test",))
_ALL = frozenset(f.name for f in fields(Record))
_NAMES: Mapping[int, frozenset[str]] = {1: _ALL - _SINCE_2 - _SINCE_3, 2: _ALL - _SINCE_3, 3: _ALL}
"""The keys of a line by its schema version."""


def _parse(line: bytes, place: str) -> Record:
    try:
        content = _DECODER.decode(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{place}: not a JSON record ({error}); accepted: one object per line") from None
    if not isinstance(content, dict):
        raise RecordError(f"{place}: got {type(content).__name__}; accepted: a JSON object")
    version = content.get("schema_version")
    # True == 1 in Python, but not in a record.
    if type(version) is not int or version not in _NAMES:
        raise RecordError(
            f"{place}: schema_version: got {version!r}; accepted: {' or '.join(map(str, _NAMES))} (a higher one comes "
            "from a later version of tune_bn)"
        )
    names = _NAMES[version]
    if set(content) != names:
        odd = sorted(set(content) ^ names)
        raise RecordError(f"{place}: missing or unknown keys {odd}; accepted: exactly {sorted(names)}")
    try:
        written = canonical_json(content).encode()
        stated = content.pop("sha256")
        actual = _sha256_without_itself(written, content, stated)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{place}: not a JSON record ({error}); accepted: finite numbers and UTF-8 text") from None
    # Other bytes, such as a key given twice, may hold the same content.
    if stated != actual or line != written:
        raise RecordError(f"{place}: the record was edited (its sha256 is off); accepted: the line as it was written")
    record = Record(**content, sha256=stated)
    _check(record, place)
    return record


def _sha256_without_itself(written: bytes, content: Mapping[str, Any], stated: Any) -> str:
    """The hash of a record, of which ``written`` is the canonical line with its hash; to write it again takes long."""
    before, found, after = written.partition(f',"sha256":"{stated}"'.encode())
    # Nested content may hold such a key too.
    if not found or b'"sha256"' in before or b'"sha256"' in after:
        return sha256_of(content)
    return hashlib.sha256(before + after).hexdigest()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _check(record: Record, place: str) -> None:
    def refuse(key: str, value: Any, accepted: str) -> RecordError:
        return RecordError(f"{place}: {key}: got {value!r}; accepted: {accepted}")

    try:
        check_types(record)
    except Refused as error:
        raise RecordError(f"{place}: {error}") from None
    if record.stage not in STAGES:
        raise refuse("stage", record.stage, ", ".join(STAGES))
    if record.status not in STATUSES:
        raise refuse("status", record.status, ", ".join(STATUSES))
    for name, score in record.scores.items():
        if type(score) not in (int, float) or not -1e308 < score < 1e308:
            raise refuse(f"scores.{name}", score, "a finite number")
