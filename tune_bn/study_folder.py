"""The folder of a study: what lies where, who may write, and how it is found again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from tune_bn.curves import CurveLog
from tune_bn.errors import StudyError
from tune_bn.records import RecordLog, write_text
from tune_bn.spec import Space, load_space

STUDY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"


class StudyFolder:
    """``studies/NAME``: the space, the records, and everything that is derived from them."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.space_file = self.path / "space.yaml"
        self.records = RecordLog(self.path / "records.jsonl")
        self.curves = CurveLog(self.path / "curves.jsonl")
        self.plan_file = self.path / "plan.json"
        self.verdict_file = self.path / "verdict.json"
        self.report_file = self.path / "report.md"
        self.plots = self.path / "plots"
        self.journal = self.path / "optuna.journal"
        self.checkpoints = self.path / "checkpoints"

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether a study was begun here."""
        return self.space_file.exists()

    def check_new(self) -> None:
        """Raise :class:`StudyError` where there is a study of this name."""
        if self.exists:
            raise StudyError(
                f"--study: got {self.name}, which exists in {self.path.parent}; accepted: --resume to go on with it, "
                "or another name"
            )

    def created(self, space: Space) -> StudyFolder:
        """Begin a study here. Raises :class:`StudyError` where there is one, or where the folder cannot be written."""
        self.check_new()
        return self._with_space(space)

    def check_resume(self, space: Space) -> None:
        """Raise :class:`StudyError` where there is no such study, or where it was made from another space."""
        former = self.space()
        if former.sha256 != space.sha256:
            changed = ", ".join(_differences(former.to_dict(), space.to_dict()))
            raise StudyError(
                f"--study: got {self.name}, which was made from another space (they differ in {changed}); accepted: "
                "the same space, or another name"
            )

    def resumed(self, space: Space) -> StudyFolder:
        """Go on with a study. Budget, resources and tracking may have changed, nothing that a result depends on."""
        self.check_resume(space)
        return self._with_space(space)

    def _with_space(self, space: Space) -> StudyFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.space_file, yaml.safe_dump(space.to_dict(), sort_keys=False, allow_unicode=True))
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self

    def require(self) -> None:
        """Raise :class:`StudyError` where no study was begun here."""
        if not self.exists:
            known = ", ".join(folder.name for folder in list_studies(self.path.parent)) or "none yet"
            raise StudyError(f"STUDY: got {self.name}; accepted: a study in {self.path.parent} ({known})")

    def space(self) -> Space:
        """The space of the study, with every default written out."""
        self.require()
        return load_space(self.space_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer. The lock of a process that died is free again; it is the system that holds it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StudyError(
                f"{self.path}: another process works on this study; accepted: one at a time (tune_bn status shows it)"
            ) from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            yield
        finally:
            lock.release()

    def artifacts(self) -> list[Path]:
        """The files that the tracker mirrors, as far as they exist."""
        files = [self.space_file, self.records.path, self.plan_file, self.verdict_file, self.report_file]
        return [path for path in [*files, *sorted(self.plots.glob("*.png"))] if path.exists()]


def list_studies(output: Path) -> list[StudyFolder]:
    """The studies below ``output``, oldest first."""
    if not output.is_dir():
        return []
    folders = [StudyFolder(path) for path in output.iterdir() if (path / "space.yaml").is_file()]
    return sorted(folders, key=lambda folder: (_begun(folder), folder.name))


def new_study(output: Path, space_name: str) -> StudyFolder:
    """A folder under the next free name, ``SPACE-1``, ``SPACE-2``, …; it is made here, so that nobody else takes it."""
    number = 0
    while True:
        number += 1
        path = output / f"{space_name}-{number}"
        try:
            output.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if not output.is_dir():
                raise StudyError(f"--output: {output} is no folder; accepted: a folder that can be written") from None
            continue
        except OSError as error:
            raise _unwritable(output, error) from None
        return StudyFolder(path)


def require_writable(folder: Path) -> None:
    """Raise :class:`StudyError` where nothing can be written below ``folder``, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        if not place.is_dir():
            raise NotADirectoryError(20, "not a folder")
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(path: Path, error: OSError) -> StudyError:
    return StudyError(f"--output: {path} cannot be written ({error.strerror}); accepted: a folder that can")


def _begun(folder: StudyFolder) -> float:
    # The space file is rewritten by a resume; the folder's own first file is the best witness that every system keeps.
    return os.stat(folder.path / ".lock" if (folder.path / ".lock").exists() else folder.space_file).st_mtime


def _differences(former: Any, latter: Any, place: str = "") -> list[str]:
    if isinstance(former, dict) and isinstance(latter, dict):
        found = []
        for key in [*former, *(key for key in latter if key not in former)]:
            below = f"{place}.{key}" if place else str(key)
            if below not in ("budget", "resources", "tracking"):
                found += _differences(former.get(key), latter.get(key), below)
        return found
    return [] if former == latter else [place]
