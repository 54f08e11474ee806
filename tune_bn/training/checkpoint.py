"""Checkpoints on disk: written aside and renamed, the one before kept, loaded without executing anything."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

LATEST, PREVIOUS = "latest.pt", "previous.pt"


class CheckpointStore:
    """The checkpoints of one task, in a folder of its own.

    A crash while writing leaves the checkpoint before; a checkpoint that does not load falls back to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any]) -> None:
        """Keep ``state`` as the latest checkpoint and the latest as the previous one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as handle:
                torch.save(state, handle)
                handle.flush()
                os.fsync(handle.fileno())
            if (self.folder / LATEST).exists():
                os.replace(self.folder / LATEST, self.folder / PREVIOUS)
            os.replace(aside, self.folder / LATEST)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, or None. Objects other than tensors and plain values are refused."""
        for name in (LATEST, PREVIOUS):
            state = _read(self.folder / name, device)
            if state is not None:
                return state
        return None

    def discard(self) -> None:
        """Delete the folder: the task is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The state in a file, or None where it is missing, damaged or not a checkpoint."""
    try:
        # torch.save stores checksums, but torch.load does not compare them: a flipped bit would pass as a weight.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        state = torch.load(path, map_location=device, weights_only=True)
    # Neither reader names the errors that a damaged file may raise, and whichever it is, the run goes on without it.
    except Exception:
        return None
    return state if isinstance(state, dict) else None
