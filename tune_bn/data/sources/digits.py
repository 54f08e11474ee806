"""The 1,797 scans of handwritten digits that scikit-learn ships, without a test split of their own."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tune_bn.data.config import DataConfig
from tune_bn.data.sources.base import ArraySet, Outline
from tune_bn.errors import DataError


class Digits:
    """The source ``digits``: (1, 8, 8), the 17 grey levels spread over 0..255."""

    def outline(self, config: DataConfig) -> Outline:
        """See :meth:`read`, which is as quick."""
        return self.read(config).outline

    def read(self, config: DataConfig) -> ArraySet:
        """All scans as the training split.

        Raises:
            DataError: scikit-learn is not installed, or a root is given.
        """
        if config.root is not None:
            raise DataError(f"data.root: got {config.root!r}; accepted: null for the source digits")
        values = _table()
        scans, target = values[:, :-1].reshape(-1, 8, 8), values[:, -1].astype(np.int64)
        images = np.round(scans * (255 / 16)).astype(np.uint8)[:, None]
        return ArraySet("digits", tuple(map(str, range(10))), (images, target), None)


def _table() -> NDArray[np.float64]:
    """The scans as scikit-learn keeps them: 64 grey levels and the digit in each row.

    Its file is read where it lies: ``sklearn.datasets`` takes seconds to load, in every process that reads the scans.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        spec = find_spec("sklearn")
        for folder in (spec and spec.submodule_search_locations) or ():
            path = Path(folder, "datasets", "data", "digits.csv.gz")
            if path.is_file():
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    return np.loadtxt(file, delimiter=",")
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("data.source: got 'digits', which needs scikit-learn; accepted: another source") from None
    # Another version may keep it elsewhere.
    bunch = load_digits()
    return np.column_stack((bunch.data, bunch.target))


DIGITS = Digits()
