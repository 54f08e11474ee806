"""One writer at a time for an SQLite store that several studies share, and tables that are there whole or not at all.

SQLite has locks of its own, but a writer that waits too long for them fails. And MLflow makes its tables by some sixty
migrations, which two processes must not do at once, and which a process that is killed leaves half done.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tune_bn.observers.mlflow.compat import make_tables
from tune_bn.observers.mlflow.uri import sqlite_path, sqlite_uri

WAIT_SECONDS = 60.0
"""How long one writer may hold its turn before that counts as an outage for the others: it may have been halted."""
POLL_SECONDS = 0.1
"""How often a writer that waits looks again; on NFS each look is a question to the server."""


class SqliteWriter:
    """Turns to write an SQLite database. Of another store every turn is free.

    Args:
        uri: of the store.
    """

    def __init__(self, uri: str) -> None:
        # Options of a URI may say that a file is not to be locked, or not to be made.
        path = None if "?" in uri else sqlite_path(uri)
        # Whatever links lead to it, the lock lies beside the file itself.
        self._database = None if path is None else Path(os.path.realpath(path))

    @contextmanager
    def turn(self, give_up: Callable[[], bool]) -> Iterator[None]:
        """Be the only writer. Where there is no database yet, one with MLflow's tables is there in the first turn.

        Args:
            give_up: asked while waiting.

        Raises:
            TimeoutError: one other writer holds its turn for long, or ``give_up`` said so.
            OSError: the folder cannot be written.
        """
        if self._database is None:
            yield
            return
        descriptor = _opened(self._database)
        try:
            _lock(descriptor, self._database, give_up)
            if not self._database.exists():
                _make(self._database)
            yield
        finally:
            os.close(descriptor)


def _opened(database: Path) -> int:
    database.parent.mkdir(parents=True, exist_ok=True)
    path = database.with_name(f"{database.name}.lock")
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except PermissionError:
        # That of another user, whose database this user may be allowed to write.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _lock(descriptor: int, database: Path, give_up: Callable[[], bool]) -> None:
    deadline, held_since = time.monotonic() + WAIT_SECONDS, -1
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The others see that turns are taken, however long they wait.
            with suppress(OSError):
                os.utime(descriptor)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                # The file system locks nothing; what SQLite does there is all that can be done.
                return
        if (taken := os.fstat(descriptor).st_mtime_ns) != held_since:
            deadline, held_since = time.monotonic() + WAIT_SECONDS, taken
        if give_up() or time.monotonic() > deadline:
            raise TimeoutError(f"another study has been writing to {database} for long")
        time.sleep(POLL_SECONDS)


def _make(database: Path) -> None:
    """MLflow's tables, aside and then under their name. Only one process does so, the one whose turn it is."""
    # No longer than the usual mlflow.db: SQLite opens no path of more than some five hundred bytes.
    aside = database.with_name(f".{zlib.crc32(os.fsencode(database.name)):08x}")
    for left in (aside, aside.with_name(f"{aside.name}-journal")):
        left.unlink(missing_ok=True)
    try:
        make_tables(sqlite_uri(aside))
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    # Not over one that a program without these turns, such as MLflow's own server, made in the meantime.
    try:
        os.link(aside, database)
    except FileExistsError:
        pass
    except OSError:
        # Not every file system has links.
        if not database.exists():
            aside.rename(database)
            return
    aside.unlink()
