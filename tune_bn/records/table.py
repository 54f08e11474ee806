"""``tune_bn export``: the records of a study as a table, for a spreadsheet, pandas or R."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import StudyError
from tune_bn.records.files import open_aside
from tune_bn.records.record import Record

if TYPE_CHECKING:
    import pandas


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One flat row per record: nested keys are joined by dots, such as ``config.gamma`` and ``scores.val_accuracy``.

    A γ per stage of the network becomes ``config.gamma.per_stage``, its list as text.
    """
    return [
        {key: value for key, value in _flat(asdict(record)) if key not in ("previous_sha256", "schema_version")}
        for record in records
    ]


def _flat(content: Mapping[str, Any], place: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{place}{key}.")
        else:
            found.append((f"{place}{key}", str(value) if isinstance(value, list | tuple) else value))
    return found


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """The rows as a frame; whole numbers that some rows lack stay whole (``Int64``)."""
    import pandas

    frame = pandas.DataFrame(list(rows), columns=list(columns))
    values = {name: [row[name] for row in rows if row[name] is not None] for name in columns}
    gaps = {name: found for name, found in values.items() if 0 < len(found) < len(rows)}
    whole = [name for name, found in gaps.items() if {*map(type, found)} == {int}]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def write_table(records: Sequence[Record], path: Path) -> int:
    """Write the rows to a new ``.csv`` or ``.parquet`` file, whole or not at all; returns their number.

    Raises:
        StudyError: another ending, a file that exists, or a folder that cannot be written.
    """
    writers: dict[str, Callable[[pandas.DataFrame, str], None]] = {
        ".csv": lambda frame, name: frame.to_csv(name, index=False),
        ".parquet": lambda frame, name: frame.to_parquet(name, index=False),
    }
    write = writers.get(path.suffix.lower())
    if write is None:
        raise StudyError(f"FILE: got {str(path)!r}; accepted: a name that ends in .csv or .parquet")
    if os.path.lexists(path):
        raise StudyError(f"FILE: got {str(path)!r}, which exists; accepted: a new file")

    import pandas

    # The number of a trial stays a whole number where others have none.
    frame = pandas.DataFrame(rows_of(records), columns=None if records else ["trial"]).astype({"trial": "Int64"})
    aside = None
    try:
        descriptor, aside = open_aside(path, path.suffix)
        os.close(descriptor)
        write(frame, str(aside))
        os.rename(aside, path)
    except OSError as error:
        if aside is not None:
            aside.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StudyError(f"FILE: {path} cannot be written ({reason}); accepted: a folder that can") from None
    return len(frame)
