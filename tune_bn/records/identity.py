"""Which study a folder holds, whatever the folder is called and wherever it lies.

``study.json`` keeps the study's id, the name that its records, its plan and its Optuna journal bear, and where the
folder was when a driver last worked on it. A folder that was renamed or moved is the same study. A copy of one that is
still there is a study of its own from then on: it keeps the name, since the sealed plan has it, and gets a new id, so
that its runs do not mix with the original's where both are mirrored into one MLflow.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tune_bn.errors import RecordError
from tune_bn.records.files import read_bytes, write_json, writing
from tune_bn.records.log import RecordLog
from tune_bn.records.reading import read_as

STUDY_FILE = "study.json"
_BEFORE = "mlflow.json"
"""Where studies of earlier versions keep the id that MLflow knows them by."""


@dataclass(frozen=True)
class Identity:
    """The content of ``study.json``."""

    study_id: str
    name: str
    """The name at the beginning. The folder may have another one by now."""
    host: str = ""
    path: str = ""
    """Where it was worked on last; empty where that is not known."""
    copied_from: str | None = None
    """The id of the study that it was copied from."""
    store: str = ""
    """The MLflow store that has its runs; empty where none has."""


def settle(folder: Path) -> Identity:
    """The identity of the study in ``folder``, written down anew. The caller is the only writer there.

    Raises:
        StudyError: the file cannot be written.
    """
    known = identity_of(folder)
    if is_copy(folder):
        known = replace(known, study_id=uuid.uuid4().hex, copied_from=known.study_id)
    here = replace(known, host=socket.gethostname(), path=_real(folder))
    if here != _read(folder):
        with writing(folder / STUDY_FILE):
            write_json(folder / STUDY_FILE, asdict(here))
    return here


def renewed(folder: Path) -> Identity:
    """A new id for a study, whose own one turned out to be that of a copy which goes on elsewhere."""
    known = identity_of(folder)
    found = replace(known, study_id=uuid.uuid4().hex, copied_from=known.study_id)
    write_json(folder / STUDY_FILE, asdict(found))
    return found


def tracked_at(folder: Path, store: str) -> str:
    """Note the MLflow store that has the study's runs from now on, and return the one that had them before, or ""."""
    known = identity_of(folder)
    if known.store != store:
        write_json(folder / STUDY_FILE, asdict(replace(known, store=store)))
    return known.store


def identity_of(folder: Path) -> Identity:
    """The identity of a study as its folder tells it; writes nothing."""
    return _read(folder) or Identity(_former_id(folder) or uuid.uuid4().hex, _former_name(folder) or folder.name)


def is_copy(folder: Path) -> bool:
    """Whether this folder is a copy of one that is still there, or that lies on another machine."""
    known = _read(folder)
    if known is None:
        return _is_unmarked_copy(folder)
    if not known.path or known.path == _real(folder):
        return False
    original = Path(known.path)
    with suppress(OSError):
        # Another way to the same folder, such as a mount.
        if original.is_dir() and original.samefile(folder):
            return False
    if known.host != socket.gethostname():
        # Whether the original is still there cannot be seen. Taken for a copy, it is mirrored once more; taken for the
        # original, two studies might write into the same runs.
        return True
    other = _read(original)
    return other is not None and other.study_id == known.study_id


def _is_unmarked_copy(folder: Path) -> bool:
    """A study of an earlier version does not know where it was; one beside it with the same id is the original."""
    own = _former_id(folder)
    if own is None or folder.name == _former_name(folder):
        return False
    with suppress(OSError):
        for sibling in folder.resolve().parent.iterdir():
            marked = _read(sibling)
            known = _former_id(sibling) if marked is None else marked.study_id
            if known == own and not sibling.samefile(folder):
                return True
    return False


def _real(folder: Path) -> str:
    return os.path.realpath(folder)


def _read(folder: Path) -> Identity | None:
    """What ``study.json`` says; None where there is none, or nothing that makes sense."""
    try:
        found = read_as(Identity, folder / STUDY_FILE, what="identity of a study")
    except RecordError:
        return None
    return found if found.study_id and found.name else None


def _former_id(folder: Path) -> str | None:
    try:
        found = json.loads(read_bytes(folder / _BEFORE))["study_id"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found, str) and found else None


def _former_name(folder: Path) -> str | None:
    """The name that the files of an earlier version bear: records, else the plan, else Optuna's journal."""
    with suppress(RecordError):
        for record in RecordLog(folder / "records.jsonl"):
            return record.study
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        return str(json.loads(read_bytes(folder / "plan.json"))["study"])
    return next(_journal_names(folder / "optuna.journal"), None)


def _journal_names(journal: Path) -> Iterator[str]:
    with suppress(OSError):
        for line in read_bytes(journal).splitlines():
            entry: Any = None
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
            name = entry.get("study_name") if isinstance(entry, dict) else None
            # NAME/ARM
            if isinstance(name, str) and "/" in name:
                yield name.rpartition("/")[0]
