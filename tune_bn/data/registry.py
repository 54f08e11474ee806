"""The kinds of data that a space may name as ``data.source``. Loads no numpy: a reader comes with its first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_bn.host.extensions import Table, load


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
    Source("npz", "arrays in a file of numpy's", "tune_bn.data.sources.npz:NPZ", arrays=True),
    Source("parquet", "images in Parquet files", "tune_bn.data.sources.parquet:parquet", val_folder=True),
)
"""By name. Packages add rows by entry points of the group ``tune_bn.sources``."""

FUNCTION = "package.module:function"
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def is_source(name: Any) -> bool:
    """Whether ``name`` is a row, or has the form of a function of the user's; whether there is one shows later."""
    return isinstance(name, str) and (name in SOURCES or _FUNCTION.fullmatch(name) is not None)


def source_of(name: str) -> Source:
    """The row of that name; for a function of the user's, a row of its own.

    Raises:
        KeyError: there is none.
        ConfigError: as :class:`~tune_bn.host.extensions.Table` raises it.
    """
    return Source(name, "arrays that a function gives", name, arrays=True) if ":" in name else SOURCES[name]


def reader_of(name: str) -> Any:
    """What reads a source; see :attr:`Source.reader`."""
    if ":" in name:
        return load("tune_bn.data.sources.function:FunctionSource")(name)
    return load(SOURCES[name].reader)
