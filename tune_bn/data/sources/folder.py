"""A folder of images: ``train/<class>/…`` and ``test/<class>/…``, at any depth below the class, and perhaps ``val/``.

``val/`` holds the validation images. Where there is no ``test/``, ``data.val_folder`` says whether it is the validation
or the test split, and the other one is drawn from the training split. What other programs leave beside images is passed
over and counted (:mod:`tune_bn.data.sources.leftovers`); any other file has to be an image, in any format that
Pillow reads.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tune_bn.data.config import DataConfig
from tune_bn.data.decoding import check_readable, promised_format
from tune_bn.data.sources.base import FileSet, ImageFiles, root_folder
from tune_bn.data.sources.leftovers import PassedOver, folder_label, same_name
from tune_bn.errors import DataError, listed

LAYOUT = "train/<class>/… and test/<class>/…"
SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What the folder of each split may be called, in capitals or not."""

TRAIN, VALIDATION, TEST = SPLITS


def folder(config: DataConfig) -> FileSet:
    """See :func:`list_folder`."""
    return list_folder(config.root, config.val_folder)


def list_folder(root: str | None, val_folder: str | None = None) -> FileSet:
    """The source ``folder``. Raises what :func:`scan` raises, and :class:`DataError` for a root that is none."""
    folder = root_folder(root, f"a folder with {LAYOUT}")
    return scan(folder, folder.name, val_folder)


def scan(root: Path, name: str, val_folder: str | None = None) -> FileSet:
    """List the images below ``root``; classes and paths are sorted, so the order is the same on every machine.

    Args:
        root: the folder that holds the splits.
        name: what the data is called.
        val_folder: which split ``val/`` is; None: validation, where there is a ``test/`` too.

    Raises:
        DataError: a folder is missing or cannot be read, a class is empty or missing in a split, there are fewer than
            two classes, a link leads nowhere or in a circle, or a file is no image.
    """
    places, notes = _splits(root, val_folder)
    _require_apart(places)
    work = _Scan()
    # An unlabelled test/ beside a labelled val/, as some data sets come.
    way_out = ", or data.val_folder: test, which takes val/ for it" if VALIDATION in places else ""
    folders = {split: work.classes(place, way_out if split == TEST else "") for split, place in places.items()}
    _require_same_classes(places, folders)
    classes = tuple(sorted(folders[TRAIN]))
    if len(classes) < 2:
        raise DataError(f"{places[TRAIN]}: got {len(classes)} class folders; accepted: at least 2")
    found = {split: work.images([folders[split][name] for name in classes]) for split in places}
    check_readable(work.unpromised)
    notes += work.notes()
    return FileSet(name, classes, found[TRAIN], found.get(TEST), found.get(VALIDATION), work.passed, tuple(notes))


def _splits(root: Path, val_folder: str | None) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split, and what to say of them."""
    kinds = {name: split for split, names in SPLITS.items() for name in names}
    found: dict[str, Path] = {}
    others = []
    for name in sorted(
        entry.name for entry in _entries(root) if _is_folder(entry) and folder_label(entry.name) is None
    ):
        split = kinds.get(name.casefold())
        if split is None:
            others.append(name)
        elif split in found:
            got = f"{str(root)!r} with both {found[split].name}/ and {name}/"
            raise DataError(f"data.root: got {got}; accepted: one folder of {split} images")
        else:
            found[split] = root / name
    if TRAIN not in found:
        raise DataError(_without_train(root, found, others))
    notes = [f"not read, since no split is called so: {listed([f'{name}/' for name in others])}"] if others else []
    ordered = {split: found[split] for split in SPLITS if split in found}
    if TEST not in found and VALIDATION not in found:
        names = [f"{found[TRAIN].name}/", *(f"{name}/" for name in others)]
        beside = "" if names == ["train/"] else f" beside {listed(names)}"
        raise DataError(
            f"data.root: got {str(root)!r}, which has no test/{beside}; accepted: a folder with {LAYOUT}, or "
            "with train/<class>/… and val/<class>/…"
        )
    return _with_val(root, ordered, val_folder, notes), notes


def _with_val(root: Path, found: dict[str, Path], val_folder: str | None, notes: list[str]) -> dict[str, Path]:
    """The splits after what ``data.val_folder`` says of ``val/``."""
    names = {split: f"{place.name}/" for split, place in found.items()}
    lacking = f"{root} has none of {', '.join(f'{name}/' for name in SPLITS[VALIDATION])}"
    chosen = choose_val(str(root), names, val_folder, notes, lacking)
    return {split: found[origin] for split, origin in chosen.items()}


def choose_val(
    root: str, names: Mapping[str, str], val_folder: str | None, notes: list[str], lacking: str
) -> Mapping[str, str]:
    """What each split is read from after what ``data.val_folder`` says of a validation split.

    Args:
        root: where the data lies.
        names: what each split that is there is called, in words.
        val_folder: of the space.
        notes: what to say of the splits is added here.
        lacking: why null alone is accepted where no validation split is there.

    Raises:
        DataError: the key says nothing of a validation split that has no test split beside it, or it says something
            of one that is not there.
    """
    got = f"data.val_folder: got {'null' if val_folder is None else repr(val_folder)}"
    every = {split: split for split in names}
    if VALIDATION not in names:
        if val_folder is not None:
            raise DataError(f"{got}; accepted: null, since {lacking}")
        return every
    train, val = names[TRAIN], names[VALIDATION]
    rest = {split: split for split in names if split != VALIDATION}
    if TEST in names:
        if val_folder == TEST:
            notes.append(f"not read, since data.val_folder says that {val} is the test split: {names[TEST]}")
            return rest | {TEST: VALIDATION}
        if val_folder != "unused":
            return every
        notes.append(f"not read, as data.val_folder says: {val}")
        return rest
    if val_folder == VALIDATION:
        notes.append(f"validation images are those of {val}; test images are drawn from {train}")
        return every
    if val_folder == TEST:
        notes.append(f"test images are those of {val}; validation images are drawn from {train}")
        return rest | {TEST: VALIDATION}
    raise DataError(
        f"{got}; accepted: test ({val} holds the test images, and validation images are drawn from {train}) or "
        f"validation (the other way round), since {root} has no test/"
    )


def _without_train(root: Path, found: Mapping[str, Path], others: list[str]) -> str:
    got = f"data.root: got {str(root)!r}"
    if found:
        return f"{got}, which has no train/ beside {next(iter(found.values())).name}/; accepted: a folder with {LAYOUT}"
    inner = [name for name in others if any(kind in _names(root / name) for kind in ("train", "test"))]
    if inner:
        return f"{got}, which has no train/; accepted: a folder with {LAYOUT}, such as {root / inner[0]}"
    flat = [name for name in others if any(promised_format(file) for file in _names(root / name))]
    if len(flat) > 1:
        return (
            f"{got}, which has no train/ but images in {listed([f'{name}/' for name in flat])}; accepted: a folder "
            f"with {LAYOUT}: move a part of each class to train/<class>/ and the rest to test/<class>/ "
            "(docs/data.md has a script for it)"
        )
    return f"{got}, which has no train/; accepted: a folder with {LAYOUT}"


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in _entries(folder)]
    except DataError:
        return []


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; accepted: a folder that can be read") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        raise DataError(f"{entry.path}: {error.strerror}; accepted: files and folders that can be read") from None


def _require_apart(places: Mapping[str, Path]) -> None:
    real: dict[str, Path] = {}
    for place in places.values():
        twin = real.setdefault(os.path.realpath(place), place)
        if twin is not place:
            raise DataError(f"{place}: is the same folder as {twin}; accepted: images of its own for each split")


def _require_same_classes(places: Mapping[str, Path], folders: Mapping[str, Mapping[str, Path]]) -> None:
    first, *others = places
    for split in others:
        for one, other in ((first, split), (split, first)):
            if missing := sorted(set(folders[one]) - set(folders[other])):
                alike = [name for name in folders[other] if _loosely(name) == _loosely(missing[0])]
                near = f" (but {alike[0]!r})" if alike else ""
                raise DataError(
                    f"{places[other]}: lacks the class {missing[0]!r}{near}, which {places[one].name} has; accepted: "
                    "the same classes in both"
                )


def _loosely(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True)
class _Place:
    """A folder, by the way that led to it and by the real folders on that way."""

    path: str
    real: str
    above: frozenset[str]

    @classmethod
    def at(cls, path: Path) -> _Place:
        real = os.path.realpath(path)
        return cls(str(path), real, frozenset((real,)))

    def below(self, entry: os.DirEntry[str]) -> _Place:
        """The folder of an entry. Raises :class:`DataError` where its way has come by before."""
        real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(self.real, entry.name)
        if real in self.above:
            raise DataError(f"{entry.path}: a link in a circle, back to {real}; accepted: links that lead elsewhere")
        return replace(self, path=entry.path, real=real, above=self.above | {real})


class _Scan:
    """Goes through the splits and keeps what it passes over."""

    def __init__(self) -> None:
        self.passed = PassedOver()
        self.unpromised: list[str] = []
        """Images by their content alone, if they are: nothing in their names says so."""
        self._below: Counter[str] = Counter()

    def classes(self, split: Path, way_out: str) -> dict[str, Path]:
        """The class folders of a split by their names; ``way_out`` is what else to do where it has none."""
        found: dict[str, Path] = {}
        for entry in sorted(_entries(split), key=lambda entry: entry.name):
            if _is_folder(entry):
                if self.passed.folder(entry):
                    continue
                twin = found.setdefault(same_name(entry.name), split / entry.name)
                if twin.name != entry.name:
                    raise DataError(
                        f"{entry.path}: is called like {twin.name!a} in another form of Unicode; accepted: one "
                        "folder for each class"
                    )
            elif not self.passed.file(entry):
                if promised_format(entry.name):
                    raise DataError(
                        f"{entry.path}: an image outside the class folders; accepted: {split.name}/<class>/…{way_out}"
                    )
                self.passed.files[entry.name] += 1
        if not found:
            raise DataError(f"{split}: got no class folders; accepted: {split.name}/<class>/…{way_out}")
        return found

    def images(self, folders: list[Path]) -> ImageFiles:
        """The images of the classes of one split, in this order."""
        paths: list[str] = []
        labels: list[int] = []
        for label, folder in enumerate(folders):
            found = self._walk(folder)
            paths += found
            labels += [label] * len(found)
        return ImageFiles(paths, np.array(labels, dtype=np.int64))

    def _walk(self, folder: Path) -> list[str]:
        found: list[str] = []
        before = self.passed.files.total()
        waiting = [_Place.at(folder)]
        while waiting:
            place = waiting.pop()
            for entry in _entries(place.path):
                if _is_folder(entry):
                    if not self.passed.folder(entry):
                        waiting.append(place.below(entry))
                elif self.passed.file(entry):
                    continue
                elif not entry.is_file():
                    what = "a link that leads nowhere" if entry.is_symlink() else "neither a file nor a folder"
                    raise DataError(f"{entry.path}: {what}; accepted: image files")
                else:
                    found.append(entry.path)
                    if promised_format(entry.name) is None:
                        self.unpromised.append(entry.path)
                    if place.path != str(folder):
                        self._below[os.path.basename(place.path)] += 1
        if not found:
            passed = self.passed.files.total() - before
            what = f"a class without an image ({passed} other files)" if passed else "an empty class"
            raise DataError(f"{folder}: {what}; accepted: at least one image")
        return sorted(found, key=lambda path: same_name(path.replace(os.sep, "/")))

    def notes(self) -> list[str]:
        """What a user may not expect of the images that count."""
        notes = []
        if self._below:
            names = [f"{name}/ {count:,}" for name, count in self._below.most_common()]
            count = self._below.total()
            notes.append(f"{count:,} of the images lie in folders below those of their classes: {listed(names)}")
        if self.unpromised:
            names = [os.path.basename(path) for path in sorted(self.unpromised)]
            notes.append(f"{len(names):,} images are known by their content, not by their names: {listed(names)}")
        return notes
