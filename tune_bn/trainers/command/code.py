"""The user's code, frozen when a study begins: a copy that travels with the trainer, and its hash.

Each run gets a copy of its own. Links would not do: Python resolves them, and modules beside the original then win.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_bn.errors import ConfigError

MOST_BYTES = 200 * 2**20
"""Code that is larger holds data."""
SOURCES = {
    *(".py", ".pyi", ".sh", ".bash", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".json", ".jsonnet", ".gin", ".txt"),
    *(".lua", ".jl", ".r", ".m", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".ipynb", ".env", ""),
}
"""Endings of files that count as code where git does not know them and does not ignore them."""
LARGEST_SOURCE = 2**20
MOST_FILES = 20_000
"""Each run gets a copy of all."""
DATA_TOO, MOST_ALIKE = {".txt", ".json", ""}, 200
"""Of such files that git does not know, more in one folder are data: the labels of a data set."""
NEVER = {".git", "__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache"}
LEFT_OUT = {*NEVER, ".venv", "node_modules"}
"""Folders that hold no code of the user's own; of these environments are linked, since a command may begin in one."""


@dataclass(frozen=True)
class FrozenCode:
    """Files by their paths, packed."""

    digest: str
    """SHA-256 over paths, modes and contents."""
    files: int
    archive: bytes
    origin: str
    """The folder they come from; what is there besides is linked into each copy."""
    links: tuple[str, ...]
    """Entries there that are no code: data, and whatever git ignores."""

    @property
    def names(self) -> list[str]:
        """The paths of the files."""
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            return archive.getnames()

    def read(self, name: str) -> bytes:
        """The content of a file. Raises ``KeyError`` where there is none."""
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            held = archive.extractfile(name)
            return b"" if held is None else held.read()

    def unpack(self, folder: Path) -> None:
        """Write the files into a folder that is made, and link what is no code, as far as it is on this machine.

        Raises:
            OSError: the disk does not take it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            archive.extractall(folder, filter="data")
        for name in self.links:
            source, target = Path(self.origin, name), folder / name
            if source.exists() and not os.path.lexists(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)


def freeze(
    folder: Path, code: str | Sequence[str], *, leave_out: Sequence[Path] = (), data: Sequence[Path] = ()
) -> FrozenCode:
    """Freeze the code of a folder.

    Args:
        folder: that of the space file.
        code: ``git``: what git tracks there, and new source files that it does not ignore; or files and folders.
        leave_out: folders that are never code, such as that of the studies.
        data: files and folders that are code as far as git tracks them.

    Raises:
        ConfigError: there is no git repository, no such file, or too much.
    """
    if code == "git":
        beside = [place.resolve() for place in data]
        paths = _of_git(folder, [place for place in beside if not folder.resolve().is_relative_to(place)])
        if not paths:
            accepted = f"a repository with files in {folder}, or a list of files and folders"
            raise ConfigError("trainer.code", "git", accepted)
    else:
        assert not isinstance(code, str)
        paths = _of_list(folder, code)
    away = [path.resolve() for path in leave_out]
    found = sorted(path for path in paths if not any((folder / path).resolve().is_relative_to(one) for one in away))
    _refuse_data(folder, code, found)
    buffer, digest = io.BytesIO(), hashlib.sha256()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in found:
            content = (folder / path).read_bytes()
            mode = 0o755 if os.access(folder / path, os.X_OK) else 0o644
            digest.update(f"{path.as_posix()}\0{mode}\0{len(content)}\0".encode() + content)
            entry = tarfile.TarInfo(path.as_posix())
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    links = tuple(_rest(folder, found, away))
    return FrozenCode(digest.hexdigest(), len(found), buffer.getvalue(), str(folder.absolute()), links)


def is_source(path: Path) -> bool:
    """Whether a file is something that a person wrote for a program to read, and no program itself."""
    try:
        if not path.is_file() or path.suffix:
            return path.is_file() and path.suffix.lower() in SOURCES
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except (OSError, ValueError):  # A word of a command may be longer than any path.
        return False


def _refuse_data(folder: Path, code: str | Sequence[str], found: Sequence[Path]) -> None:
    """Each run gets a copy of the code, so what is large is named and not copied."""
    sizes = {path: (folder / path).stat().st_size for path in found}
    total = sum(sizes.values())
    if total <= MOST_BYTES and len(sizes) <= MOST_FILES:
        return
    by_folder: Counter[Path] = Counter()
    for path, size in sizes.items():
        by_folder[path.parent] += size if total > MOST_BYTES else 1
    place, most = by_folder.most_common(1)[0]
    largest = max(found, key=lambda path: sizes[path])
    if total > MOST_BYTES:
        if 2 * sizes[largest] >= most:
            place, most = largest, sizes[largest]
        what = f"{total / 2**20:,.0f} MiB, of which {place.as_posix()} has {most / 2**20:,.0f}"
    else:
        what = f"{len(sizes):,} files, of which {place.as_posix()} has {most:,}"
    rest = "what .gitignore names" if code == "git" else "what the list does not name"
    accepted = (
        f"code of at most {MOST_BYTES >> 20} MiB and {MOST_FILES:,} files, since each run gets a copy (it has {what}); "
        f"{rest} is linked"
    )
    raise ConfigError("trainer.code", code, accepted)


def _of_git(folder: Path, data: Sequence[Path]) -> list[Path]:
    """What git tracks, and new source files; of repositories within it too, be they submodules or not."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached"]
    others = [*command[:-1], "--others", "--exclude-standard"]
    try:
        tracked = subprocess.run(command, capture_output=True, check=True).stdout
        new = subprocess.run(others, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        accepted = f"a list of files and folders such as [train.py, src], since {folder} is in no git repository"
        raise ConfigError("trainer.code", "git", accepted) from None
    files, inner = [], []
    for path in _paths(tracked):
        place = folder / path
        if place.is_file():
            files.append(path)
        elif place.is_symlink():
            files += _behind(folder, path)
        elif place.is_dir():
            inner.append(path)
    fresh = []
    for path in _paths(new):
        place = folder / path
        if any(place.resolve().is_relative_to(one) for one in data):
            continue
        if place.is_dir() and place.is_symlink():
            files += _behind(folder, path)
        elif place.is_dir():
            inner.append(path)
        elif path.suffix.lower() in SOURCES and place.is_file() and place.stat().st_size <= LARGEST_SOURCE:
            fresh.append(path)
    alike = Counter((path.parent, path.suffix) for path in fresh)
    files += [path for path in fresh if path.suffix not in DATA_TOO or alike[path.parent, path.suffix] <= MOST_ALIKE]
    for path in inner:
        if (folder / path / ".git").exists():
            files += [path / one for one in _of_git(folder / path, data)]
    return files


def _paths(listed: bytes) -> Iterator[Path]:
    return (Path(os.fsdecode(name)) for name in listed.split(b"\0") if name)


def _behind(folder: Path, link: Path) -> list[Path]:
    """Source files behind a link to a folder, if it leads to code: not more of them than code has."""
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder / link, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(set(folders) - LEFT_OUT)
        if real in seen:
            continue
        seen.add(real)
        for name in files:
            path = Path(place, name)
            if path.suffix.lower() in SOURCES and path.is_file() and path.stat().st_size <= LARGEST_SOURCE:
                found.append(path.relative_to(folder))
            if len(found) > MOST_ALIKE or len(seen) > MOST_ALIKE:
                return []
    return found if any(path.suffix == ".py" for path in found) else []


def _of_list(folder: Path, names: Iterable[str]) -> list[Path]:
    found: set[Path] = set()
    for name in names:
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigError("trainer.code", name, f"a path below {folder}")
        if path.is_file():
            found.add(Path(name))
        elif path.is_dir():
            for place, folders, files in os.walk(path):
                folders[:] = [one for one in folders if one not in LEFT_OUT]
                for one in folders:
                    if (Path(place) / one).is_symlink():
                        found |= set(_behind(folder, (Path(place) / one).relative_to(folder)))
                found |= {(Path(place) / file).relative_to(folder) for file in files if not file.endswith(".pyc")}
        else:
            raise ConfigError("trainer.code", name, f"a file or folder in {folder}")
    return [path for path in found if (folder / path).is_file()]


def _rest(folder: Path, code: Sequence[Path], away: Sequence[Path]) -> list[str]:
    """What is beside the code: whole folders that hold none of it, and single files."""
    held = {*code, *(parent for path in code for parent in path.parents)}
    rest: list[str] = []

    def walk(place: Path) -> None:
        for entry in sorted(os.scandir(folder / place), key=lambda one: one.name):
            path = place / entry.name
            if entry.name in NEVER or Path(entry.path).resolve() in away:
                continue
            if path not in held:
                rest.append(path.as_posix())
            elif entry.is_dir():
                walk(path)

    walk(Path())
    return rest
