"""Scores from files of every kind: Parquet needs a library, which :mod:`tune_bn.analysis` may not load."""

from __future__ import annotations

import io
from pathlib import Path

from tune_bn.analysis.columns import Columns, Scores, scores_of
from tune_bn.analysis.columns import read_scores as read_text_scores
from tune_bn.analysis.tables import Table, read_content, table_of
from tune_bn.errors import ScoresError

_PARQUET = b"PAR1"
MOST_ROWS = 1_000_000


def read_scores(path: Path, columns: Columns) -> Scores:
    """The scores of a table: delimited text, JSON lines, a JSON list, or Parquet.

    Raises:
        ConfigError, ScoresError: as :func:`tune_bn.analysis.columns.read_scores`.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
    except (OSError, ValueError):
        is_parquet = False  # The reader of text says why.
    if is_parquet:
        return scores_of(_parquet(path), columns)
    return read_text_scores(path, columns=columns)


def _parquet(path: Path) -> Table:
    from pyarrow import ArrowException, parquet

    content = read_content(path)
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        if file.metadata.num_rows > MOST_ROWS:
            raise ScoresError(f"{path}: {file.metadata.num_rows:,} rows; accepted: at most {MOST_ROWS:,}")
        rows = file.read().to_pylist()
        header = tuple(file.schema_arrow.names)
    except (ArrowException, OSError, ValueError) as error:
        raise ScoresError(f"{path}: not Parquet ({error}); accepted: a table that Parquet readers take") from None
    table = table_of(path, [(f"{path}: row {number}", row) for number, row in enumerate(rows, 1)])
    # Without a row the names of the columns are still known.
    return table if rows else Table(str(path), header, ())
