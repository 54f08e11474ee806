"""From a table to scores: which columns hold the arms, the pairs and the scores.

A table is long (one row for each arm and pair), wide (one column for each arm), or what ``tune_bn export`` and
``records.jsonl`` hold. Names of columns are found whatever their capitals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tune_bn.analysis.goals import differing
from tune_bn.analysis.notation import like_number, looks_like_number, mark_of, numbers_of
from tune_bn.analysis.tables import Row, Table, read_table, without_invisible
from tune_bn.errors import ConfigError, ScoresError, listed
from tune_bn.records.record import BASELINE, COMPLETED, CONFIRM, DIVERGED

_NO_ARM = (
    r"epochs?|steps?|iters?|iterations?|index|idx|id|runs?|folds?|splits?|repeats?|repetitions?|reps?|trials?|lr|batch"
    r"|size|batchsize|time|date|year|gpus?|params?|parameters|durations?|seconds|hours|wall|timestamp|rank|seed|seeds"
    r"|mean|avg|average|std|sd|stdev|sem|var|min|max|median|sum|total|diff|difference|delta|gain|improvement|p|pvalue|n"
    r"|count|rows?|values?"
)
_BOOKKEEPING = re.compile(rf"(?:(?:{_NO_ARM})[\W\d_]*)+|[\W_]*[Δδσμµø∅±][\W_]*", re.IGNORECASE)


@dataclass(frozen=True)
class Scores:
    """The scores of a table, in their order; nothing is judged yet."""

    source: str
    """Name of the file, without its folder."""
    paired_by: str
    """The column whose values make the pairs; several are joined by ``/``. Empty where rows have no such value."""
    rows: tuple[tuple[str, str, float], ...]
    """Arm, pair and score; the score may be NaN or infinite, and rows may repeat."""
    metric: str = "score"
    """The column of the scores."""
    baseline: str | None = None
    """The arm that the table itself calls the baseline; None where it calls none so."""
    wide: bool = False
    """Every arm was a column."""
    remarks: tuple[str, ...] = ()
    """What was passed over on the way, for the reader of the verdict."""

    @property
    def arms(self) -> list[str]:
        """The arms, in the order of their first rows."""
        return list(dict.fromkeys(arm for arm, _, _ in self.rows))


@dataclass(frozen=True)
class Columns:
    """Where arms, pairs and scores stand, as far as it was said."""

    arm: Sequence[str] = ()
    """The column of the arms; two or more are arms themselves, in a wide table, or name an arm together where ``score``
    is given."""
    pair: Sequence[str] = ()
    """The columns that make a pair; default ``seed``."""
    score: str | None = None
    decimal: str | None = None
    """``"comma"`` or ``"point"``; None: as the numbers show."""
    paired: bool = True
    """Rows have to say which pair they belong to."""
    one_arm: bool = False
    """A table of one arm needs no column of arms."""
    folds: bool = False
    """The pairs are folds: without another word, of the columns ``fold`` and, where they are repeated, ``repeat``."""


def read_scores(path: Path, *, paired_by: str | None = None, columns: Columns | None = None) -> Scores:
    """The scores of a text or JSON file; :func:`tune_bn.front.score_files.read_scores` reads Parquet too.

    A long table has the columns ``arm``, ``score`` and ``paired_by``, and perhaps others, which are ignored. ``nan``
    and ``inf`` are read, and make the verdict invalid. Spaces around a value do not count. Pairs are text.

    Args:
        path: the file.
        paired_by: the column whose values make the pairs; default ``seed``.
        columns: what more is to be said of the columns.

    Raises:
        ConfigError, ScoresError: as :func:`scores_of` and :func:`tune_bn.analysis.tables.read_table` raise them.
    """
    chosen = columns or Columns()
    if paired_by is not None:
        chosen = replace(chosen, pair=(paired_by,))
    _refuse_double_use(chosen)
    return scores_of(read_table(path), chosen)


def scores_of(table: Table, columns: Columns) -> Scores:
    """The scores of a table.

    Raises:
        ConfigError: a column is asked for two things, or ``decimal`` is unknown.
        ScoresError: a column is missing or stands twice, a cell is empty or no number, or it cannot be told what is
            an arm; the message names file, line and column.
    """
    if columns.decimal not in (None, "comma", "point"):
        raise ConfigError("decimal", columns.decimal, "comma or point")
    _refuse_double_use(columns)
    if not columns.arm and _is_export(table):
        found = _export(table, columns)
    elif _is_wide(table, columns):
        found = _wide(table, columns)
    else:
        found = _long(table, columns)
    return replace(found, remarks=(*table.remarks, *found.remarks))


def _refuse_double_use(columns: Columns) -> None:
    pair = columns.pair or (() if columns.folds else ("seed",))
    taken: dict[str, Sequence[str]] = {"arm": columns.arm or ("arm",), "pair": pair}
    taken["score"] = () if len(columns.arm) > 1 and columns.score is None else (columns.score or "score",)
    seen: dict[str, str] = {}
    for use, names in taken.items():
        for name in names:
            other = seen.setdefault(name, use)
            key = "paired_by" if columns.pair and "pair" in (other, use) else "score"
            if not name:
                raise ConfigError("paired_by" if use == "pair" else use, name, "the name of a column")
            if other != use or list(names).count(name) > 1:
                raise ConfigError(key, name, "a column beside arm and score")


def _find(table: Table, name: str, option: str | None = None) -> int:
    index = _place_of(table, name)
    if index is not None:
        return index
    more = "" if option is None else f", or {option} NAME"
    where = f"{table.path}:1: column {name} is missing ({_header_words(table)})"
    raise ScoresError(f"{where}; accepted: a header that names it once{more}")


def _header_words(table: Table) -> str:
    if any(looks_like_number(name) for name in table.header):
        return f"the first line is {listed(table.header)}, which holds a number and is no header"
    parted = "" if table.delimiter is None or len(table.header) != 1 else ", parted by no comma, semicolon, tab or bar"
    return f"the header has {listed(table.header) or 'nothing'}{parted}"


def _place_of(table: Table, name: str) -> int | None:
    """Where a column stands; None where there is none of that name."""
    found = [index for index, column in enumerate(table.header) if column == name]
    if not found:
        found = [index for index, column in enumerate(table.header) if column.casefold() == name.strip().casefold()]
    if len(found) > 1:
        raise ScoresError(f"{table.path}:1: column {name} stands twice; accepted: a header that names it once")
    return found[0] if found else None


def _pair_columns(table: Table, columns: Columns) -> tuple[str, list[int]]:
    """The name of what makes a pair, and its columns; none where rows need not be paired and have no seed."""
    if columns.pair:
        return "/".join(columns.pair), [_find(table, name) for name in columns.pair]
    if columns.folds and (fold := _place_of(table, "fold")) is not None:
        for name in ("repeat", "repetition", "rep", "seed"):
            repeat = _place_of(table, name)
            if repeat is not None:
                return f"{name}/fold", [repeat, fold]
        return "fold", [fold]
    found = _place_of(table, "seed")
    if found is not None:
        return "seed", [found]
    if columns.paired:
        raise ScoresError(
            f"{table.path}:1: column seed is missing ({_header_words(table)}); accepted: a header that names it once, "
            "--seed NAME for the column whose values make the pairs, or --unpaired where no run of one arm belongs to "
            "a run of another"
        )
    return "", []


def _no_rows(table: Table, what: str) -> ScoresError:
    return ScoresError(f"{table.path}: has no row below its header; accepted: {what}")


def _long(table: Table, columns: Columns) -> Scores:
    arms = [_find(table, named, "--arm") for named in columns.arm]
    if not arms and (not columns.one_arm or _place_of(table, "arm") is not None):
        arms = [_find(table, "arm", "--arm")]
    paired_by, pair = _pair_columns(table, columns)
    name = columns.score or "score"
    logged = [column for column in table.header if column.startswith("scores.")]
    if columns.score is None and len(logged) == 1 and _place_of(table, name) is None:
        name = logged[0]
    score = _find(table, name, "--score")
    if not table.rows:
        raise _no_rows(table, f"one row per arm and {paired_by or 'run'}")
    values = [(row.place, row.cells[score]) for row in table.rows]
    numbers = numbers_of(name, values, columns.decimal or mark_of(name, values))
    rows, counts = [], dict[str, int]()
    for row in table.rows:
        of = "/".join(_name(row, arm, table.header[arm]) for arm in arms) if arms else table.source
        counts[of] = counts.get(of, 0) + 1
        rows.append((of, _pair(row, pair, paired_by, table, counts[of]), next(numbers)))
    metric = table.header[score].removeprefix("scores.")
    return Scores(table.source, paired_by, tuple(rows), metric=metric, remarks=_unfinished(table))


_STATE = ("status", "state", "run_state", "run_status")
_UNFINISHED = re.compile(
    r"fail(ed|ure)?|crash(ed)?|kill(ed)?|abort(ed)?|cancel+ed|interrupted|preempted|running|pending|queued|scheduled"
    r"|pruned|stopped|timed?[ _-]?out|oom|error|diverged|incomplete|unfinished|terminated",
    re.IGNORECASE,
)


def _unfinished(table: Table) -> tuple[str, ...]:
    """A remark on rows that the table itself calls failed, crashed, running, …"""
    for name in _STATE:
        index = _place_of(table, name)
        states = [] if index is None else [str(row.cells[index]) for row in table.rows]
        odd = [state for state in states if _UNFINISHED.fullmatch(state.strip())]
        if odd and index is not None:
            rows = "1 row is" if len(odd) == 1 else f"{len(odd)} rows are"
            return (f"column {table.header[index]}: {rows} {listed(sorted(set(odd)))}, and counted all the same",)
    return ()


def _is_wide(table: Table, columns: Columns) -> bool:
    if len(columns.arm) != 1 and columns.score is None:
        return len(columns.arm) > 1 or (_place_of(table, "arm") is None and _place_of(table, "score") is None)
    return False


def _wide(table: Table, columns: Columns) -> Scores:
    if len(columns.arm) > 1:
        chosen, left_out = [_find(table, name) for name in columns.arm], list[str]()
        paired_by, pair = _pair_columns(table, columns)
    else:
        chosen, left_out, odd = _numeric(table, columns)
        if len(chosen) + len(odd) < (1 if columns.one_arm else 2):
            _find(table, "arm", "--arm")
        paired_by, pair = _pair_columns(table, columns)
        odd = odd or differing([table.header[index] for index in chosen])
        if odd:
            raise ScoresError(
                f"{table.path}:1: column {listed(odd)}: it cannot be told whether {'they are' if odd[1:] else 'it is'} "
                f"scores of an arm; accepted: --arm NAME once for each column that is an arm, of {listed(table.header)}"
            )
    if not table.rows:
        raise _no_rows(table, f"one row per {paired_by or 'run'}")
    cells = [(row, index) for index in chosen for row in table.rows if row.cells[index] not in ("", None)]
    cells_of = [(row.place, row.cells[index]) for row, index in cells]
    mark = columns.decimal or mark_of(listed([table.header[index] for index in chosen]), cells_of)
    numbers: list[float] = []
    for index in chosen:
        values = [value for value, (_, at) in zip(cells_of, cells, strict=True) if at == index]
        numbers += numbers_of(table.header[index], values, mark)
    rows, counts = [], dict[int, int]()
    for (row, index), number in zip(cells, numbers, strict=True):
        counts[index] = counts.get(index, 0) + 1
        rows.append((table.header[index], _pair(row, pair, paired_by, table, counts[index]), number))
    remarks = (f"columns without numbers left out: {listed(left_out)}",) if left_out else ()
    # A column that is alone is called after what it holds.
    metric = table.header[chosen[0]] if len(chosen) == 1 else "score"
    return Scores(table.source, paired_by, tuple(rows), metric=metric, wide=True, remarks=remarks)


def _numeric(table: Table, columns: Columns) -> tuple[list[int], list[str], list[str]]:
    """The columns that may be arms; the names of those without numbers; the names of those that look like no arm."""
    taken = {_place_of(table, name) for name in columns.pair or ("seed",)}
    chosen: list[int] = []
    left_out: list[str] = []
    odd: list[str] = []
    for index, name in enumerate(table.header):
        values = [row.cells[index] for row in table.rows if row.cells[index] not in ("", None)]
        # The index that pandas writes, and reads again.
        if index in taken or re.fullmatch(r"|Unnamed: \d+", name) or (table.rows and not values):
            continue
        # A cell such as "NA" among numbers is refused with its place, later; it costs no arm.
        if 2 * sum(map(like_number, values)) < len(values):
            left_out.append(name)
        elif "=" not in name and _BOOKKEEPING.fullmatch(name):
            odd.append(name)
        else:
            chosen.append(index)
    return chosen, left_out, odd


def _is_export(table: Table) -> bool:
    """True for what ``tune_bn export`` writes, and for the records of a study themselves."""
    return {"stage", "arm", "seed", "status"} <= set(table.header) and any(
        name.startswith("scores.") for name in table.header
    )


def _export(table: Table, columns: Columns) -> Scores:
    place = {name: index for index, name in enumerate(table.header)}
    stages = [row.cells[place["stage"]] for row in table.rows]
    confirmed = [row for row, stage in zip(table.rows, stages, strict=True) if stage == CONFIRM]
    if not confirmed:
        raise ScoresError(
            f"{table.path}: column stage: no row is of stage {CONFIRM}; accepted: the table of a study that was "
            "confirmed, or --arm, --seed and --score for columns of it"
        )
    studies = {row.cells[place["study"]] for row in confirmed} if "study" in place else set()
    if len(studies) > 1:
        raise ScoresError(
            f"{table.path}: column study: runs of {listed(sorted(studies))}; accepted: those of one study"
        )
    status = place["status"]
    diverged = [row for row in confirmed if row.cells[status] == DIVERGED]
    if diverged:
        raise ScoresError(
            f"{diverged[0].place}: column status: got {DIVERGED}, which the plan of the study gives a score; accepted: "
            "`tune_bn verify STUDY`, which knows the plan"
        )
    done = [row for row in confirmed if row.cells[status] == COMPLETED]
    settings = sorted({str(row.cells[place["arm"]]) for row in done})
    if any(name.startswith(f"{BASELINE}.") for name in settings):
        raise ScoresError(
            f"{table.path}: column arm: {listed([a for a in settings if a.startswith(f'{BASELINE}.')])}: each setting "
            "has a baseline of its own; accepted: `tune_bn verify STUDY`, which knows the plan"
        )
    metric = columns.score or _confirmed_metric(table, confirmed)
    found = _long(replace(table, rows=tuple(done)), replace(columns, arm=("arm",), score=metric))
    remarks = (
        [f"{len(table.rows) - len(confirmed)} rows of other stages left out"] if confirmed != list(table.rows) else []
    )
    if len(done) < len(confirmed):
        remarks.append(f"{len(confirmed) - len(done)} rows that are not {COMPLETED} left out")
    baseline = BASELINE if BASELINE in found.arms else None
    return replace(found, metric=metric.removeprefix("scores."), baseline=baseline, remarks=tuple(remarks))


def _confirmed_metric(table: Table, confirmed: Sequence[Row]) -> str:
    """The score that the confirmation alone has: the one on test data."""
    names = [name for name in table.header if name.startswith("scores.")]
    place = {name: table.header.index(name) for name in names}

    def holds(row: Row, name: str) -> bool:
        value = row.cells[place[name]]
        return value not in ("", None) and not (isinstance(value, float) and math.isnan(value))

    stage = table.header.index("stage")
    elsewhere = [row for row in table.rows if row.cells[stage] != CONFIRM]
    own = [
        name
        for name in names
        if any(holds(row, name) for row in confirmed) and not any(holds(row, name) for row in elsewhere)
    ]
    if len(own) != 1 and not elsewhere:
        own = [name for name in names if name.removeprefix("scores.").startswith("test_")]
    if len(own) != 1:
        raise ScoresError(
            f"{table.path}: columns {listed(names)}: it cannot be told which was confirmed; accepted: --score with one "
            "of them"
        )
    return own[0]


def _name(row: Row, index: int, column: str) -> str:
    """A cell as a name. Programs write a whole number in a column of floats as ``1.0``."""
    value = row.cells[index]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        value = ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = without_invisible(str(value))
    if not text:
        raise ScoresError(f"{row.place}: column {column}: got ''; accepted: text")
    return text


def _pair(row: Row, indexes: Sequence[int], paired_by: str, table: Table, number: int) -> str:
    if not indexes:
        return str(number)
    return "/".join(_name(row, index, table.header[index]) for index in indexes)
