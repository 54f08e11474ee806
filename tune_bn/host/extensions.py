"""Tables of what a space may name: the package's own rows, then those that installed packages add by entry points."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tune_bn.errors import ConfigError, first_line


class Row(Protocol):
    """What every row has."""

    @property
    def name(self) -> str:
        """What a space file calls it."""


R = TypeVar("R", bound=Row)


class Table(Mapping[str, R], Generic[R]):
    """Rows by name.

    A package adds a row by an entry point, whose name is the row's and whose object is the row::

        [project.entry-points."tune_bn.norms"]
        my_norm = "my_package.norms:MY_NORM"

    It is loaded when it is first asked for; its name is known before. A name of the package's own cannot be taken.

    Args:
        group: of the entry points.
        kind: the class of a row.
        rows: the package's own.
    """

    def __init__(self, group: str, kind: type[R], *rows: R) -> None:
        self.group, self.kind = group, kind
        self._rows = {row.name: row for row in rows}

    @cached_property
    def _added(self) -> Mapping[str, EntryPoint]:
        return {found.name: found for found in entry_points(group=self.group) if found.name not in self._rows}

    def __getitem__(self, name: str) -> R:
        """The row of that name.

        Raises:
            KeyError: there is none.
            ConfigError: an installed package names one that cannot be loaded, or is none.
        """
        if name not in self._rows:
            self._rows[name] = self._load(name, self._added[name])
        return self._rows[name]

    def _load(self, name: str, found: EntryPoint) -> R:
        accepted = f"a {self.kind.__name__} of that name behind the entry point {found.value} of {self.group}"
        try:
            row = found.load()
        except Exception as error:  # A package of somebody else's may raise anything.
            raise ConfigError(self.group, name, f"{accepted} ({first_line(error)})") from error
        if not isinstance(row, self.kind) or row.name != name:
            raise ConfigError(self.group, name, accepted)
        return row

    def __contains__(self, name: object) -> bool:
        return name in self._rows or name in self._added

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._rows, *self._added])

    def __len__(self) -> int:
        return len({*self._rows, *self._added})


def load(place: str) -> Any:
    """The object at ``package.module:name``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def added_code(*groups: str) -> str:
    """The packages that add rows to these groups, such as ``my_layers 1.2 (3f0c…)``; empty: none is installed.

    Beside the version stands a hash of the Python files, which tells two states of a package apart that is installed as
    a checkout. Whether a row is used does not matter: what a study names is not known here.
    """
    found = {}
    for group in groups:
        for entry in entry_points(group=group):
            top = entry.module.partition(".")[0]
            known = "?" if entry.dist is None else entry.dist.version
            found[top] = f"{top} {known} ({_hash_of(top)})"
    return ", ".join(found[top] for top in sorted(found))


def code_of(place: str) -> str:
    """The package that holds ``package.module:name``, with the hash of its Python files: ``my_layers (3f0c…)``."""
    top = place.partition(":")[0].partition(".")[0]
    return f"{top} ({_hash_of(top)})"


def _hash_of(module: str) -> str:
    """First 16 hex digits of the SHA-256 of a top-level module's Python files; ``none`` where it has none."""
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    files = [(path.relative_to(folder).as_posix(), path) for folder in folders for path in Path(folder).rglob("*.py")]
    if not folders and spec is not None and spec.origin is not None and Path(spec.origin).is_file():
        files = [(Path(spec.origin).name, Path(spec.origin))]
    digest = hashlib.sha256()
    for name, path in sorted(files):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16] if files else "none"
