"""``tune_bn verify --scores`` for Python: a verdict on a table of scores, wherever the table lives."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_bn.errors import ScoresError
from tune_bn.front.verdict import Verdict

if TYPE_CHECKING:
    from tune_bn.analysis.tables import Table

ACCEPTED = "a path, a pandas or polars frame, or a list of rows, each a dict such as {'arm': …, 'seed': …, 'score': …}"
_FRAME = "the table"
_FLAGS = ("unpaired",)


def verify_scores(
    table: str | PathLike[str] | Iterable[Mapping[str, Any]] | Any,
    *,
    baseline: str | None = None,
    goal: str | None = None,
    arm: str | Sequence[str] = (),
    seed: str | Sequence[str] = (),
    score: str | None = None,
    decimal: str | None = None,
    alpha: float = 0.05,
    unpaired: bool = False,
    threshold: float | None = None,
    folds: int | None = None,
    looks: Sequence[int] | None = None,
    kind: str | None = None,
    margin: float | None = None,
    correction: str = "holm",
    accept: str | Sequence[str] = (),
) -> Verdict:
    """Is an arm of this table really better than the baseline? The test of a confirmation, without its plan.

    The same verdict as ``tune_bn verify --scores``, which describes the tests; see
    :func:`tune_bn.analysis.verdict_on_scores` for the rules that make it invalid.

    Args:
        table: a file (CSV, TSV, JSON lines, Parquet), a pandas or polars frame, or rows as dicts, such as
            :attr:`Study.runs`; one row for each arm and seed, or one column for each arm. The index of a frame counts
            as columns where it has names.
        baseline: the arm to compare the others with.
        goal: ``"max"`` or ``"min"``; asked for where the score's name leaves doubt.
        arm: the column of the arms (default ``arm``); several: the columns that are arms.
        seed: the column whose values make the pairs (default ``seed``); several make a pair together.
        score: the column of the scores (default ``score``).
        decimal: ``"comma"`` or ``"point"``, where text such as ``1,234`` may be read in two ways.
        alpha: level of the one-sided test, for all arms together.
        unpaired: no run of one arm belongs to one of another: Welch's test.
        threshold: compare every arm with a number instead of a baseline.
        folds: the pairs are folds of cross-validations with so many folds.
        looks: the table is judged after so many pairs each: the group-sequential test.
        kind: what is claimed: ``"superior"`` (None), ``"noninferior"`` or ``"equivalent"``, by ``margin``.
        margin: in the unit of the score; for a superior arm the gain that has to be exceeded.
        correction: for several arms, ``"holm"`` or ``"max_t"``.
        accept: findings that are said instead of refused: ``names``, ``repeats``, ``summaries``, ``units``.

    Returns:
        The verdict; ``supported``, ``not_supported`` or ``invalid``, and why.

    Raises:
        ScoresError: the table cannot be read, or it cannot be told what is an arm, a pair or a score.
        ConfigError: an argument is out of range or does not go with another.
    """
    from tune_bn.analysis.columns import Columns
    from tune_bn.analysis.scores import verdict_on_scores
    from tune_bn.analysis.table_test import TableTest

    columns = Columns(
        arm=_names(arm),
        pair=_names(seed),
        score=score,
        decimal=decimal,
        paired=not unpaired and threshold is None,
        one_arm=threshold is not None,
        folds=folds is not None,
    )
    try:
        scores = _scores(table, columns)
        asked = TableTest(
            baseline=None if baseline is None else str(baseline),
            alpha=alpha,
            goal=goal,
            unpaired=unpaired,
            threshold=threshold,
            folds=folds,
            looks=looks,
            kind=kind,
            margin=margin,
            correction=correction,
            accept=_names(accept),
        )
        verdict = verdict_on_scores(scores, asked)
    except ScoresError as error:
        raise ScoresError(_as_arguments(str(error))) from None
    return Verdict(verdict.to_json())


def _scores(table: Any, columns: Any) -> Any:
    from tune_bn.analysis.columns import scores_of

    if isinstance(table, str | PathLike):
        from tune_bn.front.score_files import read_scores

        return read_scores(Path(fspath(table)), columns)
    return scores_of(_table_of(table), columns)


def _table_of(table: Any) -> Table:
    from tune_bn.analysis.tables import table_of

    rows = list(_rows(table))
    return table_of(Path(_FRAME), [(f"{_FRAME}: row {number}", row) for number, row in enumerate(rows, 1)])


def _rows(table: Any) -> Iterable[Mapping[str, Any]]:
    """The rows of a frame or of a list, with plain values."""
    if hasattr(table, "columns") and hasattr(table, "itertuples"):
        return _frame_rows(table)
    for name in ("to_dicts", "to_pylist"):
        # Polars and Arrow.
        if callable(read := getattr(table, name, None)):
            return _rows(read())
    if isinstance(table, Mapping | bytes) or not isinstance(table, Iterable):
        raise ScoresError(f"table: got {type(table).__name__}; accepted: {ACCEPTED}")
    return [_plain_row(row, number) for number, row in enumerate(table, 1)]


def _frame_rows(frame: Any) -> list[Mapping[str, Any]]:
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    names = list(frame.columns)
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ScoresError(f"table: column {twice[0]} stands twice; accepted: a frame that names it once")
    if any(isinstance(name, tuple) for name in names):
        raise ScoresError(f"table: columns of several levels ({names[0]}, …); accepted: a frame with one level")
    texts = list(map(str, names))
    rows = frame.itertuples(index=False, name=None)
    return [_plain_row(dict(zip(texts, row, strict=True)), number) for number, row in enumerate(rows, 1)]


def _plain_row(row: Any, number: int) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise ScoresError(f"table: row {number}: got {type(row).__name__}; accepted: {ACCEPTED}")
    texts = [str(name) for name in row]
    if len(set(texts)) < len(texts):
        raise ScoresError(f"table: row {number}: a column stands twice ({', '.join(texts)}); accepted: one of each")
    return {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """A cell as JSON would hold it: numbers of numpy, torch and decimal as Python's, missing values as None."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if callable(item := getattr(value, "item", None)):
        # Arrays and tensors of one number; of more they raise, and are refused as what they are.
        try:
            found = item()
        except (TypeError, ValueError, RuntimeError):
            return str(value)
        return found if isinstance(found, str | bool | int | float) else str(found)
    if hasattr(value, "as_tuple") or type(value).__name__ == "Fraction":
        number = float(value)
        return number if math.isfinite(number) else str(value)
    return str(value)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _as_arguments(message: str) -> str:
    """Options of the command line as arguments: ``--arm NAME`` becomes ``arm=NAME``."""

    def argument(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        if name in _FLAGS:
            return f"{name}=True{found[2] or ''}"
        return f"{name}={found[2].strip()}" if found[2] and found[2].strip().isupper() else f"{name}=…{found[2] or ''}"

    return re.sub(r"--([a-z][a-z-]*)( [A-Za-z]+)?", argument, message)
