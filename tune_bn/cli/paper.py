"""The verbs of the paper's tables: paper, reproduce."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tune_bn.cli.common import (
    STUDIES,
    AddressOption,
    JsonOption,
    OutputOption,
    SetOption,
    app,
    carry_out,
    print_verdict,
    say,
    shown,
    study_name,
)
from tune_bn.errors import StudyError, TuneBNError
from tune_bn.front.surroundings import naming
from tune_bn.study.folder import StudyFolder, list_studies, new_study, require_writable

if TYPE_CHECKING:
    from tune_bn.data.config import DataConfig
    from tune_bn.paper.reproduction import Column
    from tune_bn.space.space import Space

TABLE_WORDS = "table1a, table2a or table2b"
PAPER_SEEDS = "1-15"


@app.command()
def paper(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help=f"{TABLE_WORDS}; default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the paper's tables, and which cells their numbers put above BASE.

    --json prints a list of tables, each with `table`, `title`, `readings` and
    `cells`. A cell has its keys (`network`, `dataset`, `method`, `gamma`, `lr`;
    `gamma` is null where the row states none), `mean` and `std` of the test
    accuracy in percent, `n` runs, `welch_p` (Welch's one-sided t-test against
    BASE; null for BASE itself) and `above_base` (`welch_p` ≤ 0.05).
    """
    from tune_bn.paper.tables import TABLES, cells
    from tune_bn.paper.text import as_rows, as_text

    if table is not None:
        cells(table)
    tables = TABLES if table is None else (table,)
    say(json.dumps(as_rows(tables), indent=2, ensure_ascii=False) if as_json else as_text(tables))


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=TABLE_WORDS)],
    cell: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,…", help="Cells, such as gamma=0.1,lr=0.1; a key left out takes all; or all."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of every arm, such as 1-15 or 1,2,5.")] = PAPER_SEEDS,
    set_: SetOption = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; with several columns, what their names begin with.")
    ] = None,
    output: OutputOption = STUDIES,
    address: AddressOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest studies of the same cells and settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run cells of a table with the paper's recipe; print ours beside the published.

    Each column (network, data set and learning rate) is a study of its own:
    BASE and the asked cells on the same seeds, then a verdict as in `search`.
    The comparison is also written into the study's folder, as paper.md.

    --json prints a list of columns, each with `table`, `column`, `study`,
    `verdict`, `headline`, `reason`, `seeds`, `deviations` (from the paper's
    setting; empty: none), `diverged` runs and `cells`. A cell has its keys, its
    `arm` in the study, `published` and `ours` (`mean` and `std` in percent, `n`,
    and the 95 % t-`interval` of the mean), `difference` (ours − published, in
    percentage points) and `intervals_overlap`. What else is printed goes to
    stderr.
    """
    from tune_bn.paper.reproduction import OVERLAP_NOTE, as_row, asked_cells, columns, parse_seeds, write_comparison

    asked = asked_cells(table, cell or [])
    parts = columns(table, asked, parse_seeds(seeds), set_ or [])
    require_writable(output)
    aside = partial(redirect_stdout, sys.stderr) if as_json else nullcontext
    folders = openers(parts, study, output, resume)
    with aside():
        _check_data(parts)

    from tune_bn.paper.text import announcement, comparison_text, wrapped

    options = {
        "--cell": cell,
        "--seeds": [seeds] if seeds != PAPER_SEEDS else [],
        "--set": set_,
        "--study": [study] if study is not None else [],
        "--output": [str(output)] if output != STUDIES else [],
        "--address": [address] if address is not None else [],
    }
    again = [word for option, values in options.items() for value in values or [] for word in (option, value)]
    to_go_on = ["tune_bn", "reproduce", table, *again, *(["--json"] if as_json else []), "--resume"]
    rows, texts = [], []
    with aside():
        for column, opener in zip(parts, folders, strict=True):
            opening = partial(_announced, announcement(column), opener)
            place: dict[str, Any] = {"to_go_on": to_go_on, "going_on": opener.going_on}
            folder, verdict = carry_out(opening, column.space, column.source, address, output, **place)
            path = write_comparison(folder.path, column, verdict)
            with suppress(typer.Exit):
                print_verdict(folder, verdict)
            rows.append(as_row(column, verdict))
            texts.append(f"{comparison_text(column, verdict)}\n\npaper:   {shown(path)}")
    if as_json:
        say(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        say("\n" + "\n\n".join([*texts, wrapped(OVERLAP_NOTE)]))
    if any(row["verdict"] == "invalid" for row in rows):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Opener:
    """Makes or opens the folder of a study when it is called."""

    open: Callable[[], StudyFolder]
    going_on: StudyFolder | None = None
    """That folder, where it holds the study already."""

    def __call__(self) -> StudyFolder:
        return self.open()


def _announced(words: str, opener: Callable[[], StudyFolder]) -> StudyFolder:
    folder = opener()
    say(words)
    return folder


def _check_data(parts: Sequence[Column]) -> None:
    """What the last column lacks is said before the first one has taken its hours."""
    from tune_bn.data.dataset import load_dataset
    from tune_bn.front.surroundings import check_surroundings
    from tune_bn.observers.console.observer import ConsoleObserver

    for column in parts:
        with naming(column.source):
            check_surroundings(column.space)
    seen: list[DataConfig] = []
    for column in parts:
        if column.space.data not in seen:
            with naming(column.source), ConsoleObserver() as console:
                load_dataset(column.space.data, progress=console.decoding)
            seen.append(column.space.data)


def openers(parts: Sequence[Column], study: str | None, output: Path, resume: bool) -> list[Opener]:
    """What makes or opens the folder of each column's study; a resume begins the columns that it had not come to."""
    if study is not None:
        names = [study_name(study if len(parts) == 1 else f"{study}-{column.name}") for column in parts]
        folders: list[StudyFolder | None] = [StudyFolder(output / name) for name in names]
    else:
        folders = [_newest(output, column.space) if resume else None for column in parts]
    if resume and not any(folder is not None and folder.exists for folder in folders):
        which = "of these cells and settings" if study is None else study
        raise StudyError(f"--resume: {output} has no study {which}; accepted: the options that it was begun with")
    return [_opener(column.space, folder, output, resume) for column, folder in zip(parts, folders, strict=True)]


def _opener(space: Space, folder: StudyFolder | None, output: Path, resume: bool) -> Opener:
    if folder is None:
        return Opener(lambda: new_study(output, space.name).created(space))
    if resume and folder.exists:
        folder.check_resume(space)
        return Opener(partial(folder.resumed, space), going_on=folder)
    folder.check_new()
    return Opener(partial(folder.created, space))


def _newest(output: Path, space: Space) -> StudyFolder | None:
    same = [folder for folder in list_studies(output) if _sha256(folder) == space.sha256]
    return same[-1] if same else None


def _sha256(folder: StudyFolder) -> str | None:
    try:
        return folder.space().sha256
    except TuneBNError:
        return None  # another study, whose file was spoilt, is no concern of this one
