"""Files of a study: canonical JSON, hashes, and writing that leaves the old file or the new one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tune_bn.errors import StudyError

# Made once: `json.dumps` and `json.loads` would make their own for every line of a long file.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes. Raises ``ValueError`` on NaN and infinity."""
    return _CANONICAL.encode(value)


def sha256_of(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


MOST_BYTES = 2**31
"""A file of a study that is larger is none."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most so many bytes; a folder of a stranger may hold other things.

    Raises:
        OSError: it cannot be read, is too large, or is a pipe or a device, which might never end.
    """
    # Opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as handle:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return handle.read(most)


def open_aside(path: Path, suffix: str = "", *, mode: int = 0o666) -> tuple[int, Path]:
    """A new file beside ``path``, open for writing; its name begins with a dot. The umask takes a part of ``mode``."""
    while True:
        aside = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}{suffix}")
        with suppress(FileExistsError):
            return not_linked(str(aside), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode), aside


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into the :class:`StudyError` that a full or read-only disk deserves."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            f"{path}: cannot be written ({error.strerror or error}); what finished is kept; accepted: a disk with room "
            "and permission to write there, then --resume"
        ) from error


def not_linked(path: str, flags: int, mode: int = 0o666) -> int:
    """For ``opener=``: files of a study that are written in place are no links, which might lead out of its folder."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def write_text(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a whole file or nothing: aside first, flushed to disk, then renamed over ``path``.

    It has ``mode``, less what the umask takes, from its first byte on.
    """
    descriptor, aside = open_aside(path, mode=mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
