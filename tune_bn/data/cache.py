"""Decoded images on disk: decoded once per machine, then mapped into memory.

An entry is a folder ``$XDG_CACHE_HOME/tune_bn/decoded/<key>`` with ``images.npy``, (N, C, H, W) uint8, and
``entry.json``, its SHA-256 and what it was made from. The key is a hash over the files in their order and over all that
their pixels depend on. Of each file it holds path, size, time of modification and time of change. The former can be
set, and tools that copy set it; the latter cannot, so that a file that was exchanged for one of the same size and date
is decoded anew. Where a file system has no time of change of its own, such an exchange goes unnoticed. Entries are
written aside and renamed; one that is damaged is made anew. Deleting the folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray

from tune_bn.data.decoding import BadImages, Decoder, OnDisk, reading
from tune_bn.errors import DataError
from tune_bn.host.user_cache import user_cache

Progress = Callable[[int, int], None]
"""Called with the number of images decoded so far and the number to decode."""

FORMAT = 1
"""Raised whenever entries change in a way that the key does not show."""
IMAGES, FACTS = "images.npy", "entry.json"
_LOCK, _PART = ".lock", ".part"


def load_decoded(
    lists: Sequence[Sequence[str]], decoder: Decoder, progress: Progress | None = None
) -> list[NDArray[np.uint8]]:
    """The images of each list of files, decoded now or by an earlier call.

    Processes that ask for the same images at the same time decode them once: one works, the others wait.

    Args:
        lists: absolute paths; each list is an entry of its own.
        decoder: how they are decoded.
        progress: told of the images of those lists that are not there yet; not called where all are.

    Returns:
        For each list a read-only array (N, C, H, W) that is mapped from disk.

    Raises:
        BadImages: some files do not decode; those of all lists are named.
        DataError: the cache folder cannot be written.
    """
    folder = user_cache() / "decoded"
    entries = [Entry(folder, paths, decoder) for paths in lists]
    found = [entry.read() for entry in entries]
    total = sum(len(entry.paths) for entry, images in zip(entries, found, strict=True) if images is None)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None and total:
            progress(done, total)

    advance(0)
    bad: list[BadImages] = []
    for position, entry in enumerate(entries):
        if found[position] is None:
            try:
                found[position] = entry.read_or_decode(advance)
            except BadImages as error:
                bad.append(error)
                if not error.whole:
                    break
    if bad:
        raise BadImages([problem for error in bad for problem in error.problems], bad[-1].whole)
    return [images for images in found if images is not None]


class Entry:
    """The decoded images of one list of files.

    Args:
        folder: the folder of all entries.
        paths: the files.
        decoder: how they are decoded.

    Raises:
        DataError: a file cannot be found.
    """

    def __init__(self, folder: Path, paths: Sequence[str], decoder: Decoder) -> None:
        self.folder = folder
        self.paths = paths
        self.decoder = decoder
        self.shape = (len(paths), *decoder.shape)
        self.facts: dict[str, Any] = {
            "format": FORMAT,
            "pillow": PIL.__version__,
            "shape": list(self.shape),
            "image_size": decoder.image_size,
            "resize": decoder.resize if decoder.image_size is not None else None,
            "exif": decoder.exif,
            "first_file": paths[0],
        }
        digest = hashlib.sha256(json.dumps(self.facts).encode())
        store = decoder.store or OnDisk()
        for path in paths:
            with reading(path):
                facts = [path, *store.facts(path)]
            digest.update(json.dumps(facts).encode())
        self.key = digest.hexdigest()[:32]
        self.path = folder / self.key

    def read(self) -> NDArray[np.uint8] | None:
        """The images, mapped read-only; None where they are not there, or damaged."""
        try:
            facts = json.loads((self.path / FACTS).read_text(encoding="utf-8"))
            mapped = np.load(self.path / IMAGES, mmap_mode="r", allow_pickle=False)
            # A plain array on the same memory: a memmap would travel between processes as a copy.
            images: NDArray[np.uint8] = np.asarray(mapped)
            if images.shape != self.shape or images.dtype != np.uint8 or not images.flags.c_contiguous:
                return None
            return images if hashlib.sha256(images.data).hexdigest() == facts["sha256"] else None
        # Damaged: the images are decoded again.
        except (OSError, EOFError, ValueError, KeyError, TypeError, SyntaxError, OverflowError, RecursionError):
            return None

    def read_or_decode(self, advance: Callable[[int], None]) -> NDArray[np.uint8]:
        """The images, decoded if no other process has done so in the meantime.

        Args:
            advance: told how many more images are there.

        Raises:
            DataError: a file does not decode, or the cache folder cannot be written.
        """
        from filelock import FileLock

        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock(self.key)):
                images = self.read()
                if images is not None:
                    advance(len(images))
                    return images
                self._clean_up()
                self._write(advance)
                images = self.read()
                if images is None:
                    raise OSError(f"{self.path} does not read as it was written")
                return images

    def _write(self, advance: Callable[[int], None]) -> None:
        size = int(np.prod(self.shape))
        if shutil.disk_usage(self.folder).free < size:
            raise OSError("not enough space")
        part = self.folder / f"{self.key}.{os.getpid()}{_PART}"
        part.mkdir()
        try:
            digest = hashlib.sha256()
            # Plain writes, not a writable map: on a full disk they fail, where a map would end the process.
            with open(part / IMAGES, "wb") as handle:
                header = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
                np.lib.format.write_array_header_1_0(handle, header)

                def take(block: NDArray[np.uint8]) -> None:
                    handle.write(block.data)
                    digest.update(block.data)
                    advance(len(block))

                self.decoder.decode(self.paths, take)
                _flush(handle)
            with open(part / FACTS, "wb") as handle:
                handle.write(json.dumps({"sha256": digest.hexdigest(), **self.facts}, indent=2).encode())
                _flush(handle)
            shutil.rmtree(self.path, ignore_errors=True)
            os.rename(part, self.path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _clean_up(self) -> None:
        """Delete what processes left behind that died while writing; the caller holds the lock of this entry."""
        from filelock import FileLock, Timeout

        for part in self.folder.glob(f"*{_PART}"):
            key = part.name.partition(".")[0]
            if key == self.key:
                shutil.rmtree(part, ignore_errors=True)
                continue
            try:
                with FileLock(self._lock(key), blocking=False):
                    shutil.rmtree(part, ignore_errors=True)
            except Timeout:
                continue  # its writer is alive

    def _lock(self, key: str) -> Path:
        return self.folder / f"{key}{_LOCK}"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        # Files that do not decode are errors of their own; what is left concerns the cache folder.
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            megabytes = -(-int(np.prod(self.shape)) // 10**6)
            raise DataError(
                f"{self.folder}: {reason}; accepted: a folder that can be written, with {megabytes} MB free for the "
                "decoded images (XDG_CACHE_HOME names another)"
            ) from None


def _flush(handle: BinaryIO) -> None:
    handle.flush()
    os.fsync(handle.fileno())
