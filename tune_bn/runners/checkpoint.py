"""Checkpoints on disk: written aside and renamed, the one before kept, loaded without executing anything.

:class:`CheckpointStore` is the folder of a task. :class:`CheckpointWriter` writes into it while the training goes on.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import first_line, own_fault
from tune_bn.records.files import open_aside

# torch is loaded where a state is written or read: a worker whose trainer needs none starts in a third of the time.
if TYPE_CHECKING:
    import torch

LATEST, PREVIOUS = "latest.pt", "previous.pt"

CHECKPOINT_SHARE = 0.02
"""Largest share of the run time for which checkpoints may hold up the training."""


class CheckpointStore:
    """The checkpoints of one task, in a folder of its own.

    A crash while writing leaves the checkpoint before; a checkpoint that does not load falls back to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any]) -> None:
        """Keep ``state`` as the latest checkpoint and the latest as the previous one."""
        self.make_folder()
        self.write(state)

    def make_folder(self) -> None:
        """Make the folder, where it does not exist. Raises ``OSError``."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, state: Mapping[str, Any]) -> None:
        """:meth:`save` into a folder that exists. Raises ``OSError`` where it does not, and never makes it."""
        import torch

        descriptor, aside = open_aside(self.folder / LATEST, ".tmp")
        try:
            with os.fdopen(descriptor, "wb") as handle:
                torch.save(state, handle)
                handle.flush()
                os.fsync(handle.fileno())
            if (self.folder / LATEST).exists():
                os.replace(self.folder / LATEST, self.folder / PREVIOUS)
            os.replace(aside, self.folder / LATEST)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def load(self, device: torch.device | str) -> dict[str, Any] | None:
        """The newest checkpoint that is whole, or None. Objects other than tensors and plain values are refused."""
        for name in (LATEST, PREVIOUS):
            state = _read(self.folder / name, device)
            if state is not None:
                return state
        return None

    def keep(self, file: Path) -> None:
        """Make the latest checkpoint that file; where there is none, or it cannot be, the weights are lost, no more."""
        with suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            os.replace(self.folder / LATEST, file)

    def discard(self) -> None:
        """Delete the folder: the task is finished. A write that still goes on elsewhere does not bring it back."""
        # Under another name first: a file that appears while its folder is emptied would keep the folder in place.
        aside = self.folder.with_name(f".{self.folder.name}.discarded")
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            os.replace(self.folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


class CheckpointWriter:
    """Writes the checkpoints of one task in a thread of its own; the training waits for the copy to the host alone.

    One write is in flight at most. The next checkpoint is due once that has ended, and after ``seconds``, or later
    where copying is slow: it may take :data:`CHECKPOINT_SHARE` of the time. A checkpoint that cannot be written is no
    error of the training: :attr:`problem` tells, and the next one is tried when it is due.

    Args:
        store: where they go.
        seconds: least time between two checkpoints, and before the first one.
        clock: seconds that pass.
    """

    def __init__(self, store: CheckpointStore, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.seconds = seconds
        self._clock = clock
        self._saved_at = clock()
        self._held_up = 0.0
        self._thread: threading.Thread | None = None
        self._problem: str | None = None
        self._fault: Exception | None = None

    @property
    def problem(self) -> str | None:
        """Why the last checkpoint could not be written, in one line; None where it could, and while it is written."""
        return None if self.writing else self._problem

    @property
    def interval(self) -> float:
        """Seconds from one checkpoint to the next."""
        return max(self.seconds, self._held_up / CHECKPOINT_SHARE)

    @property
    def writing(self) -> bool:
        """Whether a write is in flight."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def due(self) -> bool:
        """Whether the next checkpoint should be taken now."""
        return not self.writing and self._clock() - self._saved_at >= self.interval

    def save(self, state: Mapping[str, Any]) -> bool:
        """Copy ``state`` (see :func:`snapshot`) and begin to write it, unless a write is in flight.

        Returns:
            Whether the checkpoint was taken.

        Raises:
            Exception: what the last write raised, where that is no fault of the disk.
        """
        if self.writing:
            return False
        if self._fault is not None:
            raise self._fault
        start = self._saved_at = self._clock()
        try:
            self.store.make_folder()
        except OSError as error:
            self._problem = _words_of(error)
            return False
        copied = snapshot(state)
        self._thread = threading.Thread(target=self._write, args=(copied,), name="checkpoint", daemon=True)
        self._thread.start()
        self._saved_at = self._clock()
        self._held_up = self._saved_at - start
        return True

    def flush(self) -> None:
        """Wait for the write in flight, whatever becomes of it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, state: Mapping[str, Any]) -> None:
        try:
            self.store.write(state)
            self._problem = None
        # A full disk is an OSError here and a RuntimeError of torch's there.
        except (OSError, RuntimeError) as error:
            self._problem = _words_of(error)
        # No disk is to blame for a state that cannot be written at all: no run would have checkpoints any more.
        except Exception as error:
            self._problem, self._fault = _words_of(error), error


def _words_of(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or first_line(error)


def snapshot(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy on the host that no later step changes.

    Args:
        state: plain values and tensors in mappings, lists, tuples and iterators. An iterator becomes a list; each of
            its values is copied before the next is asked for, since runs that share an engine have the same tensors
            in turn.
    """
    import torch

    devices: set[torch.device] = set()
    copied = {key: _copied(value, devices) for key, value in state.items()}
    for device in devices:
        torch.cuda.synchronize(device)
    return copied


def _copied(value: Any, devices: set[torch.device]) -> Any:
    """The value with tensors of its own on the host; those of ``devices`` are complete once these are synchronized."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_cuda:
            devices.add(value.device)
        # Without blocking, torch copies into page-locked memory.
        return value.detach().to("cpu", non_blocking=value.is_cuda, copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item, devices) for key, item in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [_copied(item, devices) for item in value]
    return value


def _read(path: Path, device: torch.device | str) -> dict[str, Any] | None:
    """The state in a file, or None where it is missing, damaged or not a checkpoint."""
    if not os.path.exists(path):
        return None
    import torch

    try:
        # torch.save stores checksums, but torch.load does not compare them: a flipped bit would pass as a weight.
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        state = torch.load(path, map_location=device, weights_only=True)
    # Neither reader names the errors that a damaged file may raise, and whichever it is, the run goes on without it.
    except Exception as error:
        if own_fault(error) is not None:
            raise
        return None
    return state if isinstance(state, dict) else None
