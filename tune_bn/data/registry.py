"""The kinds of data that a space may name as ``data.source``. Loads no numpy: a reader comes with its first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_bn.extensions import Table


@dataclass(frozen=True)
class Source:
    """One kind of data: a row of :data:`SOURCES`."""

    name: str
    doc: str
    """What it is, in a few words."""
    reader: str
    """``package.module:name``. Of image files: a function of :class:`tune_bn.data.config.DataConfig` that returns a
    :class:`tune_bn.data.sources.base.FileSet`. Of arrays: an object with two such functions, ``outline`` and ``read``,
    which return an :class:`~tune_bn.data.sources.base.Outline` and an :class:`~tune_bn.data.sources.base.ArraySet`; a
    third, ``remarks``, may return lines on what is not there yet."""
    arrays: bool = False
    """Whether it gives arrays rather than image files that are still to be decoded."""
    val_folder: bool = False
    """Whether it may have class folders of its own for validation."""
    null_means: Mapping[str, Any] = field(default_factory=dict)
    """What a key of the data that is null stands for; ``crop_size`` where ``image_size`` is null too."""


_PHOTO = {"image_size": 256, "crop_size": 224}

SOURCES = Table(
    "tune_bn.sources",
    Source,
    Source(
        "digits",
        "scikit-learn's 8×8 scans",
        "tune_bn.data.sources.digits:DIGITS",
        arrays=True,
        null_means={"val_size": 600, "test_size": 897},
    ),
    Source("cifar10", "CIFAR-10 through torchvision", "tune_bn.data.sources.cifar:CIFAR10", arrays=True),
    Source("cifar100", "CIFAR-100 through torchvision", "tune_bn.data.sources.cifar:CIFAR100", arrays=True),
    Source("cub200", "CUB-200-2011", "tune_bn.data.sources.cub200:cub200", null_means=_PHOTO),
    Source("cars", "Stanford Cars", "tune_bn.data.sources.cars:cars", val_folder=True, null_means=_PHOTO),
    Source("folder", "a folder of images", "tune_bn.data.sources.folder:folder", val_folder=True),
)
"""By name. Packages add rows by entry points of the group ``tune_bn.sources``."""
