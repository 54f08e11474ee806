"""The bounds within which :mod:`benchmarks.hostile.fuzz` feeds its inputs: time, and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

LIMIT = 10.0
"""Seconds for one input."""


class Hang(BaseException):
    """An input took too long; no ``except Exception`` may swallow it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise :class:`Hang` where the block takes longer."""

    def ring(*_: object) -> None:
        raise Hang

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@contextlib.contextmanager
def isolated() -> Iterator[Path]:
    """A folder for everything that the inputs make; home and caches lie in it too."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    former = dict(os.environ)
    for name, place in (("HOME", "home"), ("XDG_CACHE_HOME", "cache"), ("MPLCONFIGDIR", "plots")):
        (folder / place).mkdir()
        os.environ[name] = str(folder / place)
    try:
        # The disk is not what is tested here.
        with patch("os.fsync"):
            yield folder
    finally:
        os.environ.clear()
        os.environ.update(former)
        shutil.rmtree(folder, ignore_errors=True)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and the time of its last change."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(place, name))
            found[os.path.join(place, name)] = (status.st_size, status.st_mtime_ns)
    return found
