"""CIFAR-10 and CIFAR-100 through torchvision, downloaded once per machine."""

from __future__ import annotations

import http.client
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tune_bn.data.config import DataConfig
from tune_bn.data.sources.base import ArraySet, Images, Outline
from tune_bn.data.splits import Labels
from tune_bn.errors import DataError
from tune_bn.host.user_cache import user_cache

_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Cifar:
    """The sources ``cifar10`` and ``cifar100``.

    Args:
        name: the source, which is also torchvision's class in lower case.
        classes: number of classes.
        train_per_class: training images of each class.
        test_per_class: test images of each class.
    """

    name: str
    classes: int
    train_per_class: int
    test_per_class: int

    def outline(self, config: DataConfig) -> Outline:
        """What the data is known to be, wherever its files are. Raises :class:`DataError` where the root is a file."""
        root = _root(config)
        if os.path.exists(root) and not os.path.isdir(root):
            accepted = f"a folder for the download of {self.name.upper().replace('CIFAR', 'CIFAR-')}"
            raise DataError(f"data.root: got {str(root)!r}, a file; accepted: {accepted}")
        every_class = np.arange(self.classes, dtype=np.int64)
        train, test = (every_class.repeat(count) for count in (self.train_per_class, self.test_per_class))
        return Outline(tuple(str(label) for label in every_class), train, test, _SHAPE)

    def remarks(self, config: DataConfig) -> list[str]:
        """What a user should know before a study begins: that the files are not there yet."""
        import torchvision.datasets

        source, root = getattr(torchvision.datasets, self.name.upper()), _root(config)
        names = [name for name, *_ in (*source.train_list, *source.test_list)]
        if all(os.path.isfile(root / source.base_folder / name) for name in names):
            return []
        return [
            f"{self.name} is not in {root} yet; a search downloads it first, from {source.url}, which was not tried"
        ]

    def read(self, config: DataConfig) -> ArraySet:
        """The images, downloaded if need be.

        Raises:
            DataError: they are not there and cannot be downloaded.
        """
        import torchvision.datasets
        from filelock import FileLock

        source = getattr(torchvision.datasets, self.name.upper())
        root = _root(config)
        try:
            train = source(root, train=True)
        except RuntimeError:
            # Absent or damaged. Studies that start together on one machine download it once.
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f".{self.name}.lock"):
                    train = source(root, train=True, download=True)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                reason = " ".join(str(error).split())
                raise DataError(
                    f"data.source: got {self.name!r}, which is not in {root} and cannot be downloaded ({reason}); "
                    f"accepted: a connection, or {source.filename} from {source.url} placed in {root}"
                ) from None
        return ArraySet(self.name, tuple(train.classes), _arrays(train), _arrays(source(root, train=False)))


def _root(config: DataConfig) -> Path:
    return user_cache() if config.root is None else Path(os.path.expanduser(config.root)).absolute()


def _arrays(split: Any) -> tuple[Images, Labels]:
    # torchvision holds its arrays as (N, H, W, C) views of (N, C, H, W) memory: turned back, nothing is copied.
    return split.data.transpose(0, 3, 1, 2), np.asarray(split.targets, dtype=np.int64)


CIFAR10 = Cifar("cifar10", 10, 5000, 1000)
CIFAR100 = Cifar("cifar100", 100, 500, 100)
