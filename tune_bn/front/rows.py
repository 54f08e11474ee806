"""A table of plain rows, which becomes a pandas frame where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas

SHOWN = 20
"""Rows that a notebook shows."""


class Rows(Sequence[Mapping[str, Any]]):
    """Rows of a table, each a mapping from column to value; a column that a row lacks is None in it.

    A sequence of rows with the names of its columns; :meth:`to_pandas` makes a frame of it.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
        self.columns: tuple[str, ...] = tuple(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
        self._rows = [{name: row.get(name) for name in self.columns} for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Rows:
        if isinstance(index, slice):
            return Rows(self._rows[index], self.columns)
        return self._rows[index]

    def column(self, name: str) -> list[Any]:
        """The values of a column. Raises ``KeyError`` where there is none of that name."""
        if name not in self.columns:
            raise KeyError(name)
        return [row[name] for row in self._rows]

    def where(self, **values: Any) -> Rows:
        """The rows with these values, such as ``study.runs.where(stage="confirm")``.

        Raises:
            KeyError: there is no such column.
        """
        for name in values:
            self.column(name)
        found = [row for row in self._rows if all(row[name] == value for name, value in values.items())]
        return Rows(found, self.columns)

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a frame; whole numbers that some rows lack stay whole (``Int64``).

        Raises:
            MissingExtra: pandas is not installed.
        """
        from tune_bn.host.extras import require

        require("to_pandas()", "tables")

        from tune_bn.records.table import frame_of

        return frame_of(self._rows, self.columns)

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {', '.join(self.columns) or 'nothing'}>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) + "</tr>"
            for row in self._rows[:SHOWN]
        )
        more = f"<p>{len(self) - SHOWN} more rows</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
