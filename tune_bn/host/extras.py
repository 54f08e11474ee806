"""What is installed besides the light front door: ``pip install 'tune_bn[train]'`` and its like.

Verbs import a heavy library where they need it. Where it is missing, the error names the extra that brings it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

from tune_bn.errors import MissingExtra

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision"),
    "ray": ("ray",),
    "mlflow": ("mlflow",),
    "tables": ("pandas", "pyarrow"),
    "cluster": ("supervisor", "psycopg"),
}
"""The optional extras of ``pyproject.toml`` but ``all`` and those of developers, and the modules that show each."""


def installed(module: str) -> bool:
    """Whether a library can be found; it is not loaded."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(what: str, *extras: str) -> None:
    """Raise :class:`MissingExtra` where libraries of these extras are missing, before anything is begun.

    Args:
        what: what needs them, such as ``tune_bn search``.
        extras: names in :data:`EXTRAS`.
    """
    missing = {extra: [name for name in EXTRAS[extra] if not installed(name)] for extra in extras}
    lacking = [extra for extra, names in missing.items() if names]
    if lacking:
        raise _missing(what, [name for names in missing.values() for name in names], lacking)


def missing_extra(error: BaseException, what: str = "this") -> MissingExtra | None:
    """The error that names the extra, where an import failed for want of a library of one; else None."""
    if isinstance(error, MissingExtra):
        return error
    if not isinstance(error, ImportError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    # An installed library that lacks a part of itself is broken, and another install of the extra would not say so.
    extra = next((extra for extra, names in EXTRAS.items() if module in names), None)
    return None if extra is None or installed(module) else _missing(what, [module], [extra])


def _missing(what: str, names: list[str], extras: list[str]) -> MissingExtra:
    are = "is" if len(names) == 1 else "are"
    listing = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    wanted = "all" if len(extras) > 2 else ",".join(extras)
    return MissingExtra(f"{what} needs {listing}, which {are} not installed; accepted: pip install 'tune_bn[{wanted}]'")
