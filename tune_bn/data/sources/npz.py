"""Arrays in a file that ``numpy.savez`` wrote: ``data: {source: npz, root: FILE.npz}``."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tune_bn.data.config import DataConfig
from tune_bn.data.sources.arrays import SPLITS, checked_set
from tune_bn.data.sources.base import ArraySet, Outline
from tune_bn.errors import DataError, listed

NAMES = {split: (f"{split}_images", f"{split}_labels") for split in SPLITS}
KERAS = {split: (f"x_{split}", f"y_{split}") for split in SPLITS}
"""As ``mnist.npz`` of Keras and those after it call them."""
ACCEPTED = (
    "a file of numpy.savez with train_images, train_labels, test_images and test_labels (or x_train, y_train, …), "
    "perhaps val_images and val_labels, and classes"
)


class Npz:
    """The source ``npz``."""

    def outline(self, config: DataConfig) -> Outline:
        """See :meth:`read`: the arrays are checked whole."""
        return self.read(config).outline

    def read(self, config: DataConfig) -> ArraySet:
        """The arrays of the file. Pickled objects are not loaded.

        Raises:
            DataError: there is no such file, it is damaged, or it holds something else.
        """
        if config.root is None:
            raise DataError(f"data.root: got null; accepted: {ACCEPTED}")
        path = Path(os.path.expanduser(config.root)).absolute()
        if not os.path.isfile(path):
            what = "a folder" if os.path.isdir(path) else "which is no file"
            raise DataError(f"data.root: got {str(path)!r}, {what}; accepted: {ACCEPTED}")
        found = _arrays(path)
        names = next((names for names in (NAMES, KERAS) if names["train"][0] in found), NAMES)
        splits: dict[str, tuple[Any, Any]] = {}
        for split, pair in names.items():
            there = [name for name in pair if name in found]
            if len(there) == 1:
                other = next(name for name in pair if name not in found)
                raise DataError(f"{path}: has {there[0]} without {other}; accepted: {ACCEPTED}")
            if there:
                splits[split] = (found[pair[0]], found[pair[1]])
        if not splits:
            raise DataError(f"{path}: holds {listed(sorted(found)) or 'nothing'}; accepted: {ACCEPTED}")
        return checked_set(path.stem, f"{path}: has", splits, found.get("classes"))


def _arrays(path: Path) -> dict[str, Any]:
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no file of numpy.savez")
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except MemoryError:
        raise DataError(f"{path}: does not fit the memory of this machine; accepted: a smaller file") from None
    # On damaged files the reader raises almost anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, which are not loaded"
        raise DataError(f"{path}: unreadable ({reason}); accepted: {ACCEPTED}") from None


NPZ = Npz()
