"""Which files a run opened: the test's, copies of them, its own."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from tune_bn.trainers.command.code import FrozenCode

PACKAGE = Path(__file__).parents[1]
_TEMPORARY = ("/tmp", "/var/tmp")
_NAME_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
SMALL_FILE = 1 << 26
"""Larger files are compared by their paths alone."""


def files_below(place: Path) -> set[str]:
    if place.is_file():
        return {os.path.realpath(place)}
    return {os.path.realpath(Path(folder) / name) for folder, _, names in os.walk(place) for name in names}


def copies(reads: Iterable[str], test: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Files of the one kind whose content is that of one of the other; only those of equal sizes are read."""
    sizes = {place: os.path.getsize(place) for place in reads if os.path.isfile(place)}
    wanted, found = set(sizes.values()), dict[str, str]()
    for place in test:
        with suppress(OSError):
            if os.path.getsize(place) in wanted and (content := _content(place)):
                found[content] = place
    alike = {os.path.getsize(place) for place in found.values()}
    for place, size in sizes.items():
        if size in alike and (content := _content(place)) in found and content is not None:
            yield place, found[content]


def _content(place: str) -> str | None:
    """A hash of a file that is not empty and not large."""
    try:
        if not os.path.isfile(place) or not 64 <= os.path.getsize(place) <= SMALL_FILE:
            return None
        with open(place, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None


def is_own(place: str, folder: Path, env: Mapping[str, object] = MappingProxyType({})) -> bool:
    """Whether a file that is written to belongs to the run, to the system, to a temporary folder or to a cache.

    Args:
        place: its real path.
        folder: the run's.
        env: variables that the run has beside those of this process.
    """
    named = [str(env.get(name, os.environ.get(name, ""))) for name in _NAME_TEMPORARY]
    temporary = (os.path.realpath(path) + os.sep for path in (*_TEMPORARY, *named) if os.path.isabs(path))
    own = (os.path.realpath(folder), "/dev/", "/proc/", "/sys/", "pipe:", "socket:", *temporary)
    if place.startswith(own):
        return True
    return "__pycache__" in place or "/.cache/" in place or "/.config/" in place


def not_frozen(reads: Iterable[str], code: FrozenCode, own: Iterable[Path]) -> list[str]:
    """Modules of Python that lie beside the frozen code, or below it, and were run from there and not from a copy.

    Args:
        reads: files that were opened, by their real paths.
        code: what was frozen.
        own: folders in it that are no code of the user's: of runs, and of an environment.
    """
    home = os.path.realpath(code.origin)
    # What is no code is linked, and links lead anywhere.
    homes = {home, *(os.path.realpath(os.path.join(home, name)) for name in code.links)}
    below = tuple(place + os.sep for place in homes)
    away = tuple(os.path.realpath(place) + os.sep for place in (*map(str, own), sys.prefix, str(PACKAGE)))
    found = set()
    for place in reads:
        folder, name = os.path.split(place)
        if name.endswith(".pyc") and os.path.basename(folder) == "__pycache__":
            place = os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")
        library = "/site-packages/" in place or "/lib/python3." in place
        inner = place.startswith(below) and not place.startswith(away) and not library
        if inner and place.endswith(".py"):
            found.add(os.path.relpath(place, home) if place.startswith(home + os.sep) else place)
    return sorted(found)


def loaded_modules() -> set[str]:
    """The files of all modules of this process, by their real paths."""
    files = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    # Python knows each by its whole path; a mere name, such as torch's `_classes.py`, is of what was never a file.
    return {os.path.realpath(file) for file in files if isinstance(file, str) and os.path.isabs(file)}
