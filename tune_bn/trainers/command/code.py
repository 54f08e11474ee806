"""The user's code, frozen when a study begins: a copy that travels with the trainer, and its hash.

Each run gets a copy of its own. Links would not do: Python resolves them, and modules beside the original then win.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
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
LEFT_OUT = {".git", "__pycache__", ".venv", "node_modules", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache"}


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


def freeze(folder: Path, code: str | Sequence[str], *, leave_out: Sequence[Path] = ()) -> FrozenCode:
    """Freeze the code of a folder.

    Args:
        folder: that of the space file.
        code: ``git``: what git tracks there, and new source files that it does not ignore; or files and folders.
        leave_out: folders that are never code, such as that of the studies.

    Raises:
        ConfigError: there is no git repository, no such file, or too much.
    """
    if code == "git":
        paths = _of_git(folder)
    else:
        assert not isinstance(code, str)
        paths = _of_list(folder, code)
    away = [path.resolve() for path in leave_out]
    found = sorted(path for path in paths if not any((folder / path).resolve().is_relative_to(one) for one in away))
    buffer, digest, total = io.BytesIO(), hashlib.sha256(), 0
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in found:
            content = (folder / path).read_bytes()
            total += len(content)
            if total > MOST_BYTES:
                accepted = f"code of at most {MOST_BYTES >> 20} MiB; leave data out of it"
                raise ConfigError("trainer.code", code, accepted)
            mode = 0o755 if os.access(folder / path, os.X_OK) else 0o644
            digest.update(f"{path.as_posix()}\0{mode}\0{len(content)}\0".encode() + content)
            entry = tarfile.TarInfo(path.as_posix())
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    links = tuple(_rest(folder, found, away))
    return FrozenCode(digest.hexdigest(), len(found), buffer.getvalue(), str(folder.absolute()), links)


def _of_git(folder: Path) -> list[Path]:
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached"]
    others = [*command[:-1], "--others", "--exclude-standard"]
    try:
        tracked = subprocess.run(command, capture_output=True, check=True).stdout
        new = subprocess.run(others, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        accepted = f"a list of files and folders such as [train.py, src], since {folder} is in no git repository"
        raise ConfigError("trainer.code", "git", accepted) from None
    files = [Path(os.fsdecode(name)) for name in tracked.split(b"\0") if name]
    for name in new.split(b"\0"):
        path = Path(os.fsdecode(name))
        if name and path.suffix.lower() in SOURCES and (folder / path).stat().st_size <= LARGEST_SOURCE:
            files.append(path)
    found = [path for path in files if (folder / path).is_file()]
    if not found:
        raise ConfigError("trainer.code", "git", f"a repository with files in {folder}, or a list of files and folders")
    return found


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
            if entry.name in LEFT_OUT or Path(entry.path).resolve() in away:
                continue
            if path not in held:
                rest.append(path.as_posix())
            elif entry.is_dir(follow_symlinks=False):
                walk(path)

    walk(Path())
    return rest
