"""Folders of a process for Ray's files: its own, gone with it, and short enough for sockets where Ray starts here."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tune_bn.errors import RunnerError

VARIABLE = "RAY_TMPDIR"
LEAST_ROOM = 64 << 20
"""Bytes that a Ray of this machine needs for its logs and sockets."""
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes that a socket's path may have."""
_RAY = "r"
_BELOW = len(f"/{_RAY}/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")
"""Bytes that a socket's path may have below the folder; the number is the largest process id."""
_NAMES = ("tune_bn-ray-", "r")
_TUNE = "tune_bn-tune-"
_LOCK = "tune_bn.lock"
_UNSAFE = set(" \t\n\r\"'\\?#%&;:$`*")
"""Ray hands paths over in command lines and in URIs."""


class OwnFolder:
    """A folder of this process, which the next one that makes such a folder removes where this one was killed.

    Args:
        path: the folder, just made.
        siblings: patterns of the names of such folders beside it.
    """

    def __init__(self, path: Path, siblings: Iterable[str]) -> None:
        self.path = path
        # Held by this process alone, however it ends: a file that is not locked tells of a folder that is left over.
        fresh = self.path / f"{_LOCK}.new"
        self._lock = os.open(fresh, os.O_CREAT | os.O_RDWR, 0o600)
        # Some network file systems lock nothing; nobody removes anything there either.
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        fresh.rename(self.path / _LOCK)
        _sweep(self.path.parent, siblings)

    def remove(self) -> None:
        """Remove the folder with all that is in it. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def tune_folder(base: Path | None) -> OwnFolder:
    """A new folder for what Tune writes of an experiment, in ``base``, or where this process keeps temporary files."""
    made = tempfile.mkdtemp(prefix=_TUNE, dir=base)
    return OwnFolder(Path(made), [f"{_TUNE}{'[0-9a-z_]' * 8}"])


class RayFolder(OwnFolder):
    """A new folder for Ray, of this user alone: in ``$RAY_TMPDIR``, else in ``$TMPDIR``, else in another that will do.

    Ray's own choice, ``/tmp/ray``, belongs to the first user of the machine who started one. Folders of processes that
    were killed are removed when the next one is made.

    Args:
        environment: the environment variables.
        fallbacks: folders to try where the environment names none that will do.
        place: the folder to make, as another host made it; None: as the environment says.
        tell: takes one line where the environment's folder will not do.

    Raises:
        RunnerError: ``$RAY_TMPDIR`` or ``place`` will not do, or no folder at all.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        *,
        fallbacks: tuple[str, ...] = ("/tmp", "/var/tmp", "/dev/shm"),
        place: Path | None = None,
        tell: Callable[[str], None],
    ) -> None:
        made = _made(environment, fallbacks, tell) if place is None else _made_at(place)
        super().__init__(made, [f"{name}{'[0-9a-f]' * 4}" for name in _NAMES])
        # Ray opens its folder to all, so it is one within ours, which lets nobody in.
        self.ray.mkdir(exist_ok=True)

    @property
    def ray(self) -> Path:
        """What Ray is to take for its folder."""
        return self.path / _RAY


def _made(environment: Mapping[str, str], fallbacks: tuple[str, ...], tell: Callable[[str], None]) -> Path:
    if given := environment.get(VARIABLE, ""):
        # As Ray does with it.
        with suppress(OSError):
            os.makedirs(given, exist_ok=True)
        made, reason = _try(given)
        if made is None:
            raise RunnerError(f"{VARIABLE}: Ray's files would go to {given}, {reason}; accepted: {_accepted()}")
        return made
    wanted = environment.get("TMPDIR", "")
    reasons: list[str] = []
    for place in (wanted, *fallbacks) if wanted else fallbacks:
        made, reason = _try(place)
        if made is not None:
            if reasons and wanted:
                tell(f"Ray's files go to {made.parent}, not to TMPDIR: {reasons[0]} ({VARIABLE} names another)")
            return made
        reasons.append(f"{place}, {reason}")
    raise RunnerError(f"{VARIABLE}: no folder for Ray's files ({'; '.join(reasons)}); accepted: {_accepted()}")


def _made_at(place: Path) -> Path:
    """The folder of another host, on this one too: the nodes of a Ray name files of each other."""
    try:
        room = shutil.disk_usage(place.parent).free
        if room < LEAST_ROOM:
            raise OSError(f"{room >> 20} MiB are left")
        place.mkdir(mode=0o700)
    except OSError as error:
        raise RunnerError(
            f"{place}: the head's folder for Ray's files cannot be made on this node ({error.strerror or error}); "
            f"accepted: {VARIABLE}=FOLDER in which every node can make one"
        ) from None
    return place


def _sweep(base: Path, siblings: Iterable[str]) -> None:
    """Remove the folders that processes of this user left behind when they were killed."""
    for folder in [found for pattern in siblings for found in base.glob(pattern)]:
        with suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                mine = folder.stat(follow_symlinks=False).st_uid == os.geteuid()
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if mine:
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _accepted() -> str:
    longest = LONGEST_SOCKET - _BELOW - len(_NAMES[-1]) - 5
    return (
        f"a folder that can be written to, with at least {LEAST_ROOM >> 20} MiB and a path of at most {longest} bytes "
        "without blanks, quotes or any of ?#%&;:$*"
    )


def _try(place: str) -> tuple[Path | None, str]:
    """A folder of our own in ``place``, or why there is none."""
    base = os.path.abspath(place)
    if unsafe := sorted(_UNSAFE & set(base)) or [char for char in base if not char.isprintable()]:
        return None, f"whose name has {unsafe[0]!r}, which Ray does not take"
    names = [f"{name}{secrets.token_hex(2)}" for name in _NAMES for _ in range(20)]
    short = [name for name in names if len(os.fsencode(f"{base}/{name}")) + _BELOW <= LONGEST_SOCKET]
    if not short:
        return None, f"whose path of {len(os.fsencode(base))} bytes is too long for a socket in it"
    try:
        room = shutil.disk_usage(base).free
        if room < LEAST_ROOM:
            return None, f"where {room >> 20} MiB are left (No space left on device)"
        for name in short:
            try:
                path = Path(base, name)
                path.mkdir(mode=0o700)
                return path, ""
            except FileExistsError:
                continue
        return None, "where every name is taken"
    except OSError as error:
        return None, f"where none can be made ({error.strerror or error})"
