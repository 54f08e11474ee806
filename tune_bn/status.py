"""``tune_bn status``: what the folders of the studies say. Reads files alone; the studies may be running."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tune_bn.analysis.wording import config_words
from tune_bn.errors import TuneBNError
from tune_bn.records import COMPLETED, CONFIRM, FAILED, SEARCH, SELECT, Record
from tune_bn.study_folder import StudyFolder
from tune_bn.validate import planned


def describe_study(folder: StudyFolder) -> dict[str, Any]:
    """One study as plain values: state, stage, runs done and planned by stage, best so far, verdict, hours."""
    row: dict[str, Any] = {"study": folder.name}
    try:
        space, records = folder.space(), folder.records.read()
    except TuneBNError as error:
        return row | {"state": "unreadable", "problem": str(error)}
    done = [record for record in records if record.status != FAILED]
    counts, plan = Counter(record.stage for record in done), planned(space)
    verdict = _verdict(folder)
    best = _best(done)
    return row | {
        "space": space.name,
        "state": "running" if folder.is_locked else "finished" if verdict is not None else "stopped",
        "stage": next(
            (stage for stage in (CONFIRM, SELECT, SEARCH) if counts[stage]), CONFIRM if space.claim.arms else SEARCH
        ),
        "runs": {
            stage: {"done": counts[stage], "planned": total}
            for stage, total in ((SEARCH, plan.search), (SELECT, plan.select), (CONFIRM, plan.confirm))
        },
        "failed": sum(record.status == FAILED for record in records),
        "best": None if best is None else {"config": dict(best.config), "val_accuracy": best.scores["val_accuracy"]},
        "hours": round(sum(record.duration_seconds for record in records) / 3600, 4),
        "verdict": verdict,
    }


def _best(records: Sequence[Record]) -> Record | None:
    search = [record for record in records if record.stage == SEARCH and record.status == COMPLETED]
    scored = [record for record in search if "val_accuracy" in record.scores]
    return max(scored, key=lambda record: record.scores["val_accuracy"], default=None)


def _verdict(folder: StudyFolder) -> str | None:
    try:
        return str(json.loads(folder.verdict_file.read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def table(rows: Sequence[Mapping[str, Any]], output: Path) -> str:
    """The studies for people, as wide as the terminal."""
    if not rows:
        return f"no studies in {output}"
    # No markup: the words of an error hold brackets. Into a pipe every column keeps its whole text.
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    shown = Table(box=None, pad_edge=False)
    for name in ("study", "state", "search", "select", "confirm", "best so far (validation)", "hours", "verdict"):
        shown.add_column(name)
    for row in rows:
        if row["state"] == "unreadable":
            shown.add_row(row["study"], "unreadable", "", "", "", row["problem"], "", "")
            continue
        best = row["best"]
        shown.add_row(
            row["study"],
            row["state"],
            *(f"{row['runs'][stage]['done']}/{row['runs'][stage]['planned']}" for stage in (SEARCH, SELECT, CONFIRM)),
            "" if best is None else f"{best['val_accuracy']:.2f} % with {config_words(best['config'])}",
            f"{row['hours']:.2f}",
            row["verdict"] or "",
        )
    with console.capture() as text:
        console.print(shown)
    return text.get().rstrip("\n")
