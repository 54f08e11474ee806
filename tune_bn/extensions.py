"""Tables of what a space may name: the package's own rows, then those that installed packages add by entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
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
