"""Raw results as CSV, what they were made with as JSON, tables as Markdown: all below ``benchmarks/results``."""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from tune_bn.records.files import write_json, write_text
from tune_bn.training.versions import commit

RESULTS = Path(__file__).parent / "results"
# Of the code that is loaded now; the checkout may have moved on by the time a long run ends.
COMMIT = commit()
Row = Mapping[str, Any]
Given = TypeVar("Given")
Made = TypeVar("Made")


def stamp(started: float) -> dict[str, Any]:
    """What a result was made with; ``started`` is ``time.monotonic()`` of the beginning."""
    spec = sys.modules["__main__"].__spec__
    return {
        "command": shlex.join(["python", "-m", spec.name if spec else Path(sys.argv[0]).stem, *sys.argv[1:]]),
        "commit": COMMIT,
        "versions": {"python": platform.python_version()} | versions("numpy", "scipy", "torch", "optuna", "ray"),
        "seconds": round(time.monotonic() - started),
    }


def simulate(
    name: str,
    doc: str | None,
    *,
    studies: int,
    measure: Callable[[int], list[dict[str, Any]]],
    title: Callable[[list[dict[str, Any]], int], str],
    summary: Callable[[list[dict[str, Any]]], str],
) -> None:
    """The whole of a benchmark that simulates ``--studies`` studies a row, and writes ``NAME.csv``.

    Args:
        name: of the result.
        doc: of its module.
        studies: where the command line says nothing.
        measure: gives the rows, from the number of studies.
        title: of the table, from the rows and that number.
        summary: the table, as Markdown.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=studies)
    given = parser.parse_args()
    started = time.monotonic()
    rows = measure(given.studies)
    save(name, rows, stamp(started), {title(rows, given.studies): summary(rows)})


def speed_parser(doc: str | None, rounds: int | None = 5) -> argparse.ArgumentParser:
    """The options that every benchmark of speed has: ``--results``, and ``--rounds`` where contenders take turns."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each contender (default: {rounds})")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    return parser


def read(name: str, folder: Path = RESULTS) -> list[dict[str, str]]:
    """The rows of ``NAME.csv``."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def versions(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def save(name: str, rows: Sequence[Row], made: Row, tables: Mapping[str, str], folder: Path = RESULTS) -> None:
    """Write ``NAME.csv`` (the rows), ``NAME.json`` (what made them) and ``NAME.md`` (the tables by their titles)."""
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / f"{name}.csv", text.getvalue())
    write_json(folder / f"{name}.json", made)
    commit_words = f" at commit {made['commit'][:12]}" if made["commit"] else ""
    head = f"Written by `{made['command']}`{commit_words} in {made['seconds']} s.\n"
    body = "".join(f"\n{title}\n\n{table}\n" for title, table in tables.items())
    write_text(folder / f"{name}.md", head + body)
    print(json.dumps(made))
    print(body)


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = [list(row) for row in rows]
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rate_words(hits: int, n: int, *, digits: int = 1) -> str:
    """A rate in percent with its exact 95 % binomial interval (Clopper and Pearson)."""
    low, high = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    return f"{100 * hits / n:.{digits}f} % ({100 * low:.{digits}f} to {100 * high:.{digits}f})"


def mean_words(values: Sequence[float], digits: int = 2) -> str:
    """Mean ± standard deviation (ddof 1) of single values, not of their mean."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


def in_processes(work: Callable[[Given], Made], items: Sequence[Given], jobs: int) -> list[Made]:
    """``work`` of every item, in their order, on so many processes."""
    if jobs == 1:
        return [work(item) for item in items]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(work, items, chunksize=8))
