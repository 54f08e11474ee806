"""CUB-200-2011 (Wah et al., 2011) as its authors publish it: 11,788 photographs of 200 species of birds.

The folder CUB_200_2011 holds ``images.txt`` (number, file below ``images/``), ``image_class_labels.txt`` (number,
class), ``train_test_split.txt`` (number, 1 for training) and ``classes.txt`` (class, name). Nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tune_bn.data.config import DataConfig
from tune_bn.data.sources.base import FileSet, ImageFiles, require_every_class, require_file, root_folder
from tune_bn.errors import DataError

FOLDER = "CUB_200_2011"
ARCHIVE = "CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158"
CLASSES, FILES, LABELS, SPLIT = "classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt"


def cub200(config: DataConfig) -> FileSet:
    """See :func:`list_cub200`."""
    return list_cub200(config.root)


def list_cub200(root: str | None) -> FileSet:
    """The source ``cub200``; ``root`` is the folder CUB_200_2011 or the one that holds it.

    Raises:
        DataError: a file is missing, or the files do not agree.
    """
    place = root_folder(root, f"the folder in which {ARCHIVE} is unpacked")
    home = place / FOLDER if os.path.isdir(place / FOLDER) else place
    for name in (CLASSES, FILES, LABELS, SPLIT, "images"):
        if not os.path.exists(home / name):
            parent = place.parent if place.name == FOLDER else place
            accepted = f"{ARCHIVE}, unpacked in {parent}"
            raise DataError(f"data.root: got {str(place)!r}, which has no {name}; accepted: {accepted}")
    names, files = _read(home / CLASSES, "a class and its name"), _read(home / FILES, "an image and its file")
    labels, parts = _read(home / LABELS, "an image and its class"), _read(home / SPLIT, "an image and 1 or 0")
    for table, name in ((labels, LABELS), (parts, SPLIT)):
        _require_same_images(files, table, home / name)
    label_of = {number: label for label, number in enumerate(sorted(names))}
    images = sorted(files)
    paths = _paths([files[image] for image in images], home)
    label = np.array([_label(labels[image], label_of, home / LABELS) for image in images], dtype=np.int64)
    training = np.array([_is_training(parts[image], home / SPLIT) for image in images], dtype=bool)
    classes = tuple(names[number][1] for number in label_of)
    found = []
    for chosen, split in ((training, "training"), (~training, "test")):
        require_every_class(label[chosen], classes, home / SPLIT, split)
        found.append(ImageFiles([path for path, kept in zip(paths, chosen, strict=True) if kept], label[chosen]))
    return FileSet("cub200", classes, train=found[0], test=found[1])


_Table = Mapping[int, tuple[int, str]]
"""Line and value by number."""


def _read(path: Path, what: str) -> _Table:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: unreadable ({error}); accepted: a text file") from None
    table: dict[int, tuple[int, str]] = {}
    for line, text in enumerate(lines, start=1):
        number, _, value = text.strip().partition(" ")
        if not number:
            continue
        if not (number.isascii() and number.isdigit() and value.strip()):
            raise DataError(f"{path}, line {line}: got {text!r}; accepted: the number of {what}")
        if int(number) in table:
            there = f"{number} again, as in line {table[int(number)][0]}"
            raise DataError(f"{path}, line {line}: got {there}; accepted: each number once")
        table[int(number)] = line, value.strip()
    return table


def _require_same_images(files: _Table, table: _Table, path: Path) -> None:
    if missing := sorted(set(files) - set(table)):
        raise DataError(f"{path}: lacks image {missing[0]}, which {FILES} has; accepted: the same images in both")
    if unknown := sorted(set(table) - set(files)):
        line = table[unknown[0]][0]
        raise DataError(f"{path}, line {line}: got image {unknown[0]}; accepted: an image of {FILES}")


def _paths(files: Sequence[tuple[int, str]], home: Path) -> list[str]:
    first: dict[str, int] = {}
    for line, file in files:
        if file in first:
            there = f"{file!r} again, as in line {first[file]}"
            raise DataError(f"{home / FILES}, line {line}: got {there}; accepted: each file once")
        first[file] = line
    paths = [os.path.join(home, "images", *file.split("/")) for _, file in files]
    for (line, _), path in zip(files, paths, strict=True):
        require_file(path, f"{FILES}, line {line},")
    return paths


def _is_training(entry: tuple[int, str], path: Path) -> bool:
    line, value = entry
    if value not in ("0", "1"):
        raise DataError(f"{path}, line {line}: got {value!r}; accepted: 1 (training) or 0 (test)")
    return value == "1"


def _label(entry: tuple[int, str], label_of: Mapping[int, int], path: Path) -> int:
    line, value = entry
    if not (value.isascii() and value.isdigit() and int(value) in label_of):
        raise DataError(f"{path}, line {line}: got class {value!r}; accepted: a class of {CLASSES}")
    return label_of[int(value)]
