"""Stanford Cars (Krause et al., 2013): 16,185 photographs of 196 models of cars.

As its authors published it, ``devkit/`` with the annotations beside ``cars_train/`` and ``cars_test/``, which is also
torchvision's layout; or as class folders, ``train/<class>/…`` and ``test/<class>/…``. Nothing is downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.data.config import DataConfig
from tune_bn.data.sources.base import FileSet, ImageFiles, require_every_class, require_file, root_folder
from tune_bn.data.sources.folder import LAYOUT, scan
from tune_bn.errors import DataError

FOLDER = "stanford_cars"
META, TRAIN, TEST = "devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"
ARCHIVES = {
    META: "car_devkit.tgz",
    TRAIN: "car_devkit.tgz",
    "cars_train": "cars_train.tgz",
    "cars_test": "cars_test.tgz",
}
"""Where each file comes from; ``cars_test_annos_withlabels.mat`` was published by itself."""


def cars(config: DataConfig) -> FileSet:
    """See :func:`list_cars`."""
    return list_cars(config.root, config.val_folder)


def list_cars(root: str | None, val_folder: str | None = None) -> FileSet:
    """The source ``cars``; ``root`` is the folder that holds the files, or the one that holds it as ``stanford_cars``.

    ``val_folder`` is for class folders, as in :func:`tune_bn.data.sources.folder.scan`.

    Raises:
        DataError: a file is missing or unreadable, or the files do not agree.
    """
    place = root_folder(root, _accepted("one folder"))
    home = place / FOLDER if os.path.isdir(place / FOLDER) else place
    official = any(os.path.exists(home / name) for name in ("devkit", TEST, "cars_train", "cars_test"))
    if not official and any(os.path.isdir(home / split) for split in ("train", "test")):
        return scan(home, "cars", val_folder)
    if val_folder is not None:
        raise DataError(
            f"data.val_folder: got {val_folder!r}; accepted: null for the devkit of cars, which has no val/"
        )
    # The labels of the test images were published later, apart from the devkit.
    test = next((path for path in (home / TEST, home / "devkit" / TEST) if os.path.exists(path)), home / TEST)
    for path in (home / META, home / TRAIN, test, home / "cars_train", home / "cars_test"):
        if not os.path.exists(path):
            name = str(path.relative_to(home))
            origin = f" (of {ARCHIVES[name]})" if name in ARCHIVES else ""
            accepted = _accepted(str(home))
            raise DataError(f"data.root: got {str(place)!r}, which has no {name}{origin}; accepted: {accepted}")
    classes = tuple(map(str, _variable(home / META, "class_names").tolist()))
    train = _annotated(home / TRAIN, home / "cars_train", classes, "training")
    return FileSet("cars", classes, train, _annotated(test, home / "cars_test", classes, "test"))


def _accepted(home: str) -> str:
    return (
        f"car_devkit.tgz, cars_train.tgz and cars_test.tgz unpacked in {home} with {TEST} beside them (the authors' "
        f"server no longer serves them, so take a copy), or {LAYOUT} there"
    )


def _annotated(path: Path, folder: Path, classes: tuple[str, ...], split: str) -> ImageFiles:
    annotations = _variable(path, "annotations")
    fields = annotations.dtype.names or ()
    for field in ("fname", "class"):
        if field not in fields:
            raise DataError(f"{path}: annotations has no field {field!r}; accepted: fname and class of each image")
    names, numbers = annotations["fname"].tolist(), annotations["class"].tolist()
    first: dict[str, int] = {}
    for position, (name, number) in enumerate(zip(names, numbers, strict=True), start=1):
        where = f"{path}, annotation {position}"
        if not isinstance(name, str):
            raise DataError(f"{where}: fname: got {name!r}; accepted: a file of {folder.name}")
        if name in first:
            there = f"{name!r} again, as in annotation {first[name]}"
            raise DataError(f"{where}: fname: got {there}; accepted: each image once")
        if not (np.isscalar(number) and number in range(1, len(classes) + 1)):
            raise DataError(f"{where}: class: got {number!r}; accepted: an integer from 1 to {len(classes)}")
        first[name] = position
        require_file(os.path.join(folder, name), f"{path}, annotation {position},")
    labels = np.array(numbers, dtype=np.int64) - 1
    require_every_class(labels, classes, path, split)
    return ImageFiles([os.path.join(folder, name) for name in names], labels)


def _variable(path: Path, name: str) -> NDArray[Any]:
    from scipy.io import loadmat

    try:
        content = loadmat(str(path), squeeze_me=True)
    # On damaged files the reader raises almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: unreadable ({reason}); accepted: a whole MATLAB file") from None
    if name not in content:
        raise DataError(f"{path}: no variable {name!r}; accepted: the file of that name in car_devkit.tgz")
    return np.atleast_1d(np.asarray(content[name]))
