"""A folder of images: ``train/<class>/…`` and ``test/<class>/…``, at any depth below the class.

Hidden files, and those that an operating system hides (``Thumbs.db``), are passed over; any other has to be an image,
in any format that Pillow reads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tune_bn.errors import DataError
from tune_bn.training.decoding import check_readable, promised_format
from tune_bn.training.sources.base import FileSet, ImageFiles, root_folder

LAYOUT = "train/<class>/… and test/<class>/…"

# Not hidden by name, but written by the operating system and hidden by it.
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


def list_folder(root: str | None) -> FileSet:
    """The source ``folder``. Raises what :func:`scan` raises, and :class:`DataError` for a root that is none."""
    folder = root_folder(root, f"a folder with {LAYOUT}")
    return scan(folder, folder.name)


def scan(root: Path, name: str) -> FileSet:
    """List the images below ``root``; classes and paths are sorted, so the order is the same on every machine.

    Raises:
        DataError: a folder is missing, a class is empty or in one split alone, there are fewer than two classes, or a
            file that is not named like an image is none.
    """
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise DataError(f"data.root: got {str(root)!r}, which has no {split}/; accepted: a folder with {LAYOUT}")
    names = {split: _class_names(root / split) for split in ("train", "test")}
    for one, other in (("train", "test"), ("test", "train")):
        if missing := sorted(names[one] - names[other]):
            raise DataError(
                f"{root / other}: lacks the class {missing[0]!r}, which {one} has; accepted: the same classes in both"
            )
    classes = tuple(sorted(names["train"]))
    if len(classes) < 2:
        raise DataError(f"{root / 'train'}: got {len(classes)} class folders; accepted: at least 2")
    return FileSet(name, classes, *(_list_images(root / split, classes) for split in ("train", "test")))


def _class_names(folder: Path) -> set[str]:
    names = set()
    for entry in _entries(folder):
        if entry.is_dir():
            names.add(entry.name)
        elif promised_format(entry.name):
            raise DataError(f"{entry.path}: an image outside the class folders; accepted: {folder.name}/<class>/…")
    return names


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not _hidden(entry.name)]
    except OSError as error:
        raise _unreadable_folder(error) from None


def _unreadable_folder(error: OSError) -> DataError:
    return DataError(f"{error.filename}: {error.strerror}; accepted: a folder that can be read")


def _list_images(folder: Path, classes: Sequence[str]) -> ImageFiles:
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _walk(folder / name)
        if not found:
            raise DataError(f"{folder / name}: an empty class; accepted: at least one image")
        paths += found
        labels += [label] * len(found)
    return ImageFiles(paths, np.array(labels, dtype=np.int64))


def _walk(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise _unreadable_folder(error)

    found = []
    for place, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [os.path.join(place, name) for name in names if not _hidden(name)]
    # A subset may never decode such a file, so a text that counts as an image would stay unnoticed.
    check_readable([path for path in found if promised_format(path) is None])
    return sorted(found, key=lambda path: path.replace(os.sep, "/"))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES
