"""The folder of a study: what lies where, who may write, and how it is found again."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import StudyError
from tune_bn.records.bundle import CODE_DIFF
from tune_bn.records.commands import new_study_command, shown, study_command
from tune_bn.records.curves import CurveLog
from tune_bn.records.data_file import DATA_FILE
from tune_bn.records.files import write_text
from tune_bn.records.log import RecordLog
from tune_bn.records.record import COMPLETED, SEARCH, fresh_seeds

if TYPE_CHECKING:
    from tune_bn.space.space import Space

_FOLLOW_SECONDS = 0.5
# Python makes the parents of a folder one within the other.
_DEEPEST = 256

_CONFIRM_SEEDS, _MOST_CHANGES = "seeds.confirm", 3
_BEFORE_THE_PLAN = ("trials", "hours", "finalists", "race_error")

STUDY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"


class StudyFolder:
    """``studies/NAME``: the space, the records, and everything that is derived from them."""

    def __init__(self, path: Path) -> None:
        # Not only absolute: the name of `studies/x/..` is not "..".
        self.path = Path(os.path.abspath(path))
        self.space_file = self.path / "space.yaml"
        self.records = RecordLog(self.path / "records.jsonl")
        self.curves = CurveLog(self.path / "curves.jsonl")
        self.data_file = self.path / DATA_FILE
        self.code_diff = self.path / CODE_DIFF
        self.plan_file = self.path / "plan.json"
        self.verdict_file = self.path / "verdict.json"
        self.report_file = self.path / "report.md"
        self.page_file = self.path / "report.html"
        self.plots = self.path / "plots"
        self.diagnostics = self.path / "diagnostics"
        self.journal = self.path / "optuna.journal"
        self.early_order = self.path / "early_order.json"
        self.checkpoints = self.path / "checkpoints"
        # Of trainers whose runs keep files of their own.
        self.runs = self.path / "runs"
        self.weights = self.path / "weights"
        self.driver_file = self.path / "driver.json"
        self.stop_file = self.path / "stop"
        self.log_file = self.path / "driver.log"
        self._lock_file = self.path / ".lock"

    @property
    def name(self) -> str:
        """What the user calls the study now; its records keep their first (:mod:`tune_bn.records.identity`)."""
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether a study was begun here."""
        # Unlike Path.exists this is no error where the name is too long or the folder may not be entered.
        return os.path.exists(self.space_file)

    def check_new(self) -> None:
        """Raise :class:`StudyError` where there is a study of this name, or anything else that is not ours."""
        if self.exists:
            raise StudyError(
                f"--study: got {self.name}, which exists in {self.path.parent}; accepted: --resume to go on with it, "
                "or another name"
            )
        if self.path.exists() and not (self.path.is_dir() and self._is_bare()):
            raise StudyError(f"--study: got {self.name}, but {self.path} is no study; accepted: another name")

    def _is_bare(self) -> bool:
        # A crash right after the start leaves a lock, or a space file that was not yet renamed.
        return all(entry.name.startswith(".") for entry in self.path.iterdir())

    def created(self, space: Space) -> StudyFolder:
        """Begin a study here. Raises :class:`StudyError` where there is one, or where the folder cannot be written."""
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_space(space, self.check_new)
        except (OSError, StudyError) as error:
            # Where nothing could be written, nothing is left behind.
            if self.path.is_dir() and self._is_bare() and not self.is_locked:
                shutil.rmtree(self.path, ignore_errors=True)
            raise (_unwritable(self.path, error) if isinstance(error, OSError) else error) from None
        return self

    def check_resume(self, space: Space, option: str = "--study") -> None:
        """Raise :class:`StudyError` where there is no such study, or where it was made from another space."""
        former = self.space()
        if former.sha256 != space.sha256:
            changed = _differences(former.to_dict(), space.to_dict())
            anew = f" ({line})" if (line := self._anew(former, space, changed)) else ""
            plan = "" if not self.plan_file.exists() else f", and whose plan is locked in {shown(self.plan_file)}"
            raise StudyError(
                f"{option}: got {self.name}, which was made from another space (they differ in {', '.join(changed)})"
                f"{plan}; accepted: the same space but for budget, resources and tracking, or a new study{anew}"
            )
        if not self.plan_file.exists():
            return
        for key in _BEFORE_THE_PLAN:
            before, after = getattr(former.budget, key), getattr(space.budget, key)
            if before != after:
                raise StudyError(
                    f"budget.{key}: got {_yaml_words(after)}, but {shown(self.plan_file)} was locked by a search with "
                    f"{_yaml_words(before)}, and nothing is searched after that; accepted: {_yaml_words(before)}, or a "
                    f"new study, which may begin with --warm-start {self.name}"
                )

    def _anew(self, former: Space, space: Space, changed: Sequence[str]) -> str:
        """The line that begins a new study with these changes, on seeds that this one has not used; nothing where the
        two spaces have little in common."""
        if len(changed) > _MOST_CHANGES:
            return ""
        seeds, values = former.seeds, space.to_dict()
        used = {*seeds.search, *seeds.select, *seeds.confirm, *seeds.earlier}
        settings = []
        for place in changed:
            value: Any = values
            for key in place.split("."):
                if not isinstance(value, dict) or key not in value:
                    return ""
                value = value[key]
            if place != _CONFIRM_SEEDS:
                settings.append(f"{place}={json.dumps(value, ensure_ascii=False)}")
        taken = used | {*space.seeds.search, *space.seeds.select}
        wanted = space.seeds.confirm
        if taken.isdisjoint(wanted) and list(wanted) == list(range(wanted[0], wanted[0] + len(wanted))):
            fresh = f"{{from: {wanted[0]}, to: {wanted[-1]}}}"
        else:
            fresh = str(list(wanted)) if taken.isdisjoint(wanted) else fresh_seeds(len(wanted), taken)
        searched = any(record.stage == SEARCH and record.status == COMPLETED for record in self.records.read())
        warm = searched and bool(space.search) and space.sampler.name != "grid"
        return new_study_command(self.path.absolute(), *settings, f"{_CONFIRM_SEEDS}={fresh}", warm=warm)

    def resumed(self, space: Space) -> StudyFolder:
        """Go on with a study. Budget, resources and tracking may have changed, nothing that a result depends on.

        Once a plan is locked the budget of what lies before it may not change either: it would be of no effect.
        """
        self.require()
        try:
            self._write_space(space, lambda: self.check_resume(space))
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return self

    def _write_space(self, space: Space, check: Callable[[], None]) -> None:
        from tune_bn.space.file import dump_yaml

        # Another process may work here, or have begun a study of this name in the meantime.
        with self.locked():
            check()
            write_text(self.space_file, dump_yaml(space.to_dict()))

    def require(self, option: str = "STUDY") -> None:
        """Raise :class:`StudyError`, which names the option, where no study was begun here."""
        if not self.exists:
            known = ", ".join(folder.name for folder in list_studies(self.path.parent)) or "none yet"
            raise StudyError(f"{option}: got {self.name}; accepted: a study in {self.path.parent} ({known})")

    def space(self) -> Space:
        """The space of the study, with every default written out."""
        self.require()

        # Many look into a folder, and few of them need pydantic.
        from tune_bn.space.loading import load_space

        return load_space(self.space_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer. The lock of a process that died is free again; it is the system that holds it."""
        from filelock import FileLock, Timeout

        lock = FileLock(self._lock_file)
        try:
            # `is_locked` of another process holds the lock for a moment too.
            lock.acquire(timeout=1, poll_interval=0.05)
        except Timeout:
            raise StudyError(
                f"{self.path}: another process works on this study; accepted: one at a time "
                f"({study_command('status', self.path)} shows it, {study_command('stop', self.path)} ends it)"
            ) from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def is_locked(self) -> bool:
        """Whether a process works on the study now; False too where this user may not know."""
        try:
            # For reading, so that this is known of the study of somebody else too.
            descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)
        finally:
            os.close(descriptor)

    def request_stop(self, *, expected: bool = False) -> None:
        """Ask the driver to stop the study; it looks once a second, and when it begins.

        ``expected``: one may be about to begin. Raises :class:`StudyError` where none works and none is expected.
        """
        if not (expected or self.is_locked):
            raise StudyError(f"STUDY: got {self.name}, which no driver works on; accepted: a study that runs")
        try:
            self.stop_file.touch()
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def writing_problem(self) -> str:
        """Why nothing can be written here, as on a full disk; empty where it can."""
        try:
            with tempfile.TemporaryFile(dir=self.path) as handle:
                # Of a full disk an empty file is often no problem.
                handle.write(bytes(4096))
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def forget_stop(self) -> None:
        """Whoever wants the study to go on calls this first: a request that was left meant the driver before."""
        if not self.is_locked:
            # Where it cannot be removed nothing else can be written, which is told in its own words.
            with suppress(OSError):
                self.stop_file.unlink(missing_ok=True)

    def log_lines(self, *, follow: bool = False) -> Iterator[str]:
        """The lines of ``driver.log``; with ``follow`` also those to come, until nobody works on the study."""
        if not self.log_file.exists() and not (follow and self.is_locked):
            raise StudyError(f"STUDY: {self.log_file} does not exist yet; accepted: a study that a driver worked on")
        position = 0
        while True:
            # Asked first: what is written while the lines are read belongs to them.
            working = follow and self.is_locked
            try:
                with self.log_file.open("rb") as handle:
                    handle.seek(position)
                    for line in handle:
                        if working and not line.endswith(b"\n"):
                            break
                        position += len(line)
                        yield line.decode("utf-8", "replace").rstrip("\n")
            except FileNotFoundError:
                pass
            except OSError as error:
                raise StudyError(f"{self.log_file}: cannot be read ({error.strerror}); accepted: a log") from None
            if not working:
                return
            time.sleep(_FOLLOW_SECONDS)

    def artifacts(self) -> list[Path]:
        """The files that the tracker mirrors, as far as they exist."""
        reports = [self.report_file, self.page_file]
        files = [self.space_file, self.data_file, self.records.path, self.early_order]
        files += [self.plan_file, self.verdict_file, *reports]
        found = [*sorted(self.diagnostics.glob("*.json")), *sorted(self.plots.glob("*.png"))]
        return [path for path in [*files, *found] if path.exists()]


def list_studies(output: Path) -> list[StudyFolder]:
    """The studies below ``output``, the one that was worked on last at the end, without those that others have closed.

    Raises:
        StudyError: the folder cannot be read.
    """
    try:
        if not output.is_dir():
            return []
        # Unlike Path.is_file this is no error where the folder may not be entered.
        found = [path for path in output.iterdir() if os.path.isfile(path / "space.yaml")]
        folders = [StudyFolder(path) for path in found if not _is_closed(path)]
        return sorted(folders, key=lambda folder: (last_written(folder), folder.name))
    except OSError as error:
        raise StudyError(f"--output: {output} cannot be read ({error.strerror}); accepted: a folder that can") from None


def closed_studies(output: Path) -> int:
    """How many folders below ``output`` belong to others who have closed them: studies, as far as anybody may know."""
    try:
        # Beside the studies lie artifacts and hidden things.
        named = [path for path in output.iterdir() if re.match(STUDY_NAME, path.name) and path.name != "mlartifacts"]
        return sum(map(_is_closed, named))
    except OSError:
        return 0


def _is_closed(path: Path) -> bool:
    """Whether this is a folder of somebody else's in which what ``tune_bn status`` reads is not for this user."""
    try:
        if path.lstat().st_uid == os.geteuid() or not path.is_dir():
            return False
    except OSError:
        return False
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
        return True
    files = [path / name for name in ("space.yaml", "records.jsonl", "driver.json", "verdict.json", ".lock")]
    return any(file.exists() and not os.access(file, os.R_OK, effective_ids=True) for file in files)


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
    try:
        str(place).encode()
    except UnicodeEncodeError:
        # Neither a URI nor a report can name it.
        raise StudyError(f"--output: got {str(place)!r}, which is not in UTF-8; accepted: a path that is") from None
    if os.path.expanduser(folder) != str(folder) and not Path(folder.parts[0]).exists():
        raise StudyError(
            f"--output: got {str(folder)!r}, which no shell expanded; accepted: {os.path.expanduser(folder)}, or a "
            f"folder {folder.parts[0]} that exists"
        )
    if len(place.parts) > _DEEPEST:
        raise StudyError(f"--output: got a path of {len(place.parts)} folders; accepted: at most {_DEEPEST}")
    try:
        while not place.exists():
            place = place.parent
        # Fails in a file too, which is no folder.
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(path: Path, error: OSError) -> StudyError:
    return StudyError(f"--output: {path} cannot be written ({error.strerror}); accepted: a folder that can")


def last_written(folder: StudyFolder) -> float:
    """When a study's space or records were written last, in seconds since 1970."""
    # Not the lock: asking whether it is held touches it.
    return max(path.stat().st_mtime for path in (folder.space_file, folder.records.path) if path.exists())


def _yaml_words(value: object) -> str:
    return "null" if value is None else str(value)


def _differences(former: Any, latter: Any, place: str = "") -> list[str]:
    if isinstance(former, dict) and isinstance(latter, dict):
        found = []
        for key in [*former, *(key for key in latter if key not in former)]:
            below = f"{place}.{key}" if place else str(key)
            if below not in ("budget", "resources", "tracking"):
                found += _differences(former.get(key), latter.get(key), below)
        return found
    return [] if former == latter else [place]
