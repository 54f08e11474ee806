"""What ``tune_bn status`` saw of each study, so that a study whose files are as they were is not read again.

The index lies in the user's cache and may be removed at any time. It is believed for as long as every file that a row
comes from has the same inode, size and times, by the clock of the file system; of a study that somebody works on
nothing is kept.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from tune_bn.errors import DataError
from tune_bn.host.user_cache import user_cache
from tune_bn.host.version import __version__
from tune_bn.records.files import write_text
from tune_bn.records.score import SCORE_FILE
from tune_bn.runners.ask.ledger import ASKED_FILE
from tune_bn.study.folder import StudyFolder

FORMAT = 1
"""Raised whenever rows change in a way that neither the files' times nor the version show."""
SETTLED_SECONDS = 2.0
"""A file that was written shortly before it was read may be written again within the same tick of the clock."""

Row = dict[str, Any]
Stamp = list[list[int]]


class StatusIndex:
    """Rows by study, each with the stamp of the files that it was read from.

    Args:
        describe: reads a study's row from its files.
    """

    def __init__(self, describe: Callable[[StudyFolder], Row]) -> None:
        self._describe = describe
        self._known: dict[Path, dict[str, Any]] = {}
        """By folder of studies: the entries by study's name, as they are in its file."""
        self._changed: set[Path] = set()

    def row(self, folder: StudyFolder) -> Row:
        """The row of a study."""
        place = folder.path.parent.absolute()
        if place not in self._known:
            self._known[place] = _read(place)
        entry, stamp = self._known[place].get(folder.name), _stamp(folder)
        if entry is not None and entry["stamp"] == stamp:
            # The same study may be asked for by another way.
            return {**entry["row"], "folder": str(folder.path)}
        row = self._describe(folder)
        # What was written in the meantime is met by the next who asks.
        if _stamp(folder) == stamp and _settled(stamp):
            self._known[place][folder.name] = {"stamp": stamp, "row": row}
            self._changed.add(place)
        return row

    def save(self) -> None:
        """Keep what was read, without the studies that are gone. Where that cannot be, the next one reads again."""
        while self._changed:
            place = self._changed.pop()
            known = self._known[place].items()
            # What is at work is read again by whoever asks next, since only this process knows what it saw.
            entries = {name: one for name, one in known if one["stamp"][:1] != [_LOCKED] and (place / name).is_dir()}
            with suppress(OSError, DataError):
                file = _file_of(place)
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                # Studies of others may be in it, which only some may read.
                write_text(file, json.dumps({**_HEAD, "studies": entries}), mode=0o600)


_LOCKED = [1]
_HEAD = {"format": FORMAT, "version": __version__}


def _file_of(place: Path) -> Path:
    return user_cache() / "status" / f"{sha256(os.fsencode(place)).hexdigest()[:24]}.json"


def _read(place: Path) -> dict[str, Any]:
    try:
        found = json.loads(_file_of(place).read_bytes())
    except (OSError, ValueError, RecursionError, DataError):
        return {}
    known = isinstance(found, dict) and all(found.get(key) == value for key, value in _HEAD.items())
    studies = found.get("studies") if known else None
    if not isinstance(studies, dict):
        return {}
    return {name: one for name, one in studies.items() if _is_entry(one)}


def _is_entry(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("stamp"), list) and isinstance(found.get("row"), dict)


def _files(folder: StudyFolder) -> Iterable[Path]:
    """All that a row comes from."""
    yield folder.path
    yield from (folder.space_file, folder.records.path, folder.driver_file, folder.plan_file, folder.verdict_file)
    yield from (folder.path / SCORE_FILE, folder.path / ASKED_FILE)


def _stamp(folder: StudyFolder) -> Stamp:
    found = [_LOCKED if folder.is_locked else []]
    for path in _files(folder):
        try:
            status = os.stat(path)
        except OSError as error:
            found.append([error.errno or 0])
            continue
        stamp = [status.st_dev, status.st_ino, status.st_uid, status.st_mode]
        if path != folder.path:
            # The time of a change cannot be set back as that of a writing can.
            stamp += [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        found.append(stamp)
    return found


def _settled(stamp: Stamp) -> bool:
    newest = max((max(one[-2:]) for one in stamp if len(one) > 4), default=0)
    return time.time_ns() - newest > SETTLED_SECONDS * 1e9
