"""Checkpoints of a script: written aside, renamed, marked as whole; two are kept, and the best for a test."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tune_bn.script.folder import MARK, write_aside

KEPT = 2


class Checkpoints:
    """The folder ``checkpoint/`` of a run. ``whole.json`` in it names those that are whole, newest first."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self.run = run

    def whole(self) -> list[dict[str, Any]]:
        """The marks of this run's checkpoints that are there, newest first."""
        try:
            mark = json.loads((self.folder / MARK).read_text(encoding="utf-8"))
            saves = [save for save in mark["saves"] if mark["run"] == self.run]
            return [save for save in saves if size_of(self.folder / save["name"]) == save["bytes"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def save(self, write: Callable[[Path], Any], *, step: int, done: int, attempt: int, best: bool) -> None:
        """Have ``write`` write one, and mark it; ``done`` is the number of steps that lie behind it.

        Raises:
            OSError: the disk does not take it.
            ValueError: ``write`` wrote nothing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{step:08d}.{attempt}"
        aside = self.folder / f"{name}.partial"
        self._remove(aside)
        write(aside)
        # numpy adds an ending of its own to a name that has none.
        found = [aside] if aside.exists() else sorted(self.folder.glob(f"{name}.partial*"))
        if len(found) != 1:
            raise ValueError(
                f"save: wrote nothing to {aside}; accepted: a function that writes to the path it is given"
            )
        _flush(found[0])
        path = self.folder / name
        self._remove(path)
        os.replace(found[0], path)
        mark = {"name": name, "step": step, "done": done, "attempt": attempt, "best": best, "bytes": size_of(path)}
        saves = [mark, *(save for save in self.whole() if save["name"] != name)]
        newest_best = next((save for save in saves if save["best"]), None)
        kept = [save for place, save in enumerate(saves) if place < KEPT or save is newest_best]
        write_aside(self.folder / MARK, json.dumps({"run": self.run, "saves": kept}))
        for save in saves:
            if save not in kept:
                self._remove(self.folder / save["name"])

    @staticmethod
    def _remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif os.path.lexists(path):
            path.unlink()


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; None where there is nothing."""
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    except OSError:
        return None


def _flush(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
