"""The 1,797 scans of handwritten digits that scikit-learn ships, without a test split of their own."""

from __future__ import annotations

import numpy as np

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
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DataError("data.source: got 'digits', which needs scikit-learn; accepted: another source") from None
        bunch = load_digits()
        images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
        classes = tuple(str(name) for name in bunch.target_names)
        return ArraySet("digits", classes, (images, bunch.target.astype(np.int64)), None)


DIGITS = Digits()
