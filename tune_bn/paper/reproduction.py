"""``tune_bn reproduce``: from cells of the paper's tables to studies, and from their verdicts to a comparison.

A column of a table (one network, data set and learning rate) has a baseline of its own, so it is a study of its own:
BASE and the asked cells are its arms, confirmed on the same seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tune_bn.analysis.wording import spread_words
from tune_bn.errors import SpecError
from tune_bn.paper.tables import (
    BASE,
    DATASETS,
    LAYOUT,
    NORMS,
    READINGS,
    SEEDS,
    Cell,
    arm,
    base_of,
    cells,
    column,
    group_words,
    t_interval,
)
from tune_bn.records.files import write_text
from tune_bn.records.verdict import StudyArm, Verdict
from tune_bn.space.file import parse_yaml
from tune_bn.space.loading import parse_space, source_words, with_override
from tune_bn.space.locate import shipped_spaces
from tune_bn.space.space import Space

ALL = "all"
COMPARISON_FILE = "paper.md"
SETTABLE = ("model", "data", "train", "budget", "resources", "tracking")
LARGEST_SEED = 2**31 - 1
_NORM_OF = {method.lower(): norm for method, norm in NORMS.items()}

OVERLAP_NOTE = (
    "Intervals: 95 % t-interval of each mean, from mean, std and n. Two that do not overlap are further apart than the "
    "spread over seeds explains; that two overlap does not show the means to be equal."
)


@dataclass(frozen=True)
class Column:
    """The cells of one study, and its space."""

    cells: tuple[Cell, ...]
    """The asked cells, without BASE."""
    space: Space
    source: str
    """What an error calls the space."""
    deviations: tuple[str, ...]
    """What differs from the paper's setting, such as ``train.epochs=5 (paper: 180)``."""

    @property
    def name(self) -> str:
        """Name of the column among those of its table: ``lr0.1``, ``resnet50-lr0.1``, ``cifar10-lr0.1``."""
        return column_name(self.cells[0])

    @property
    def shortened(self) -> bool:
        """Whether runs are shorter than the paper's."""
        return any(words.startswith(("train.epochs=", "data.train_size=")) for words in self.deviations)


@dataclass(frozen=True)
class Comparison:
    """A published cell beside ours. Accuracies in percent, the difference (ours − published) in percentage points."""

    cell: Cell
    n: int
    """Our runs that have a score."""
    mean: float | None
    std: float | None
    """Standard deviation over our runs (ddof = 1); None for fewer than two."""

    @property
    def difference(self) -> float | None:
        """Ours − published."""
        return None if self.mean is None else self.mean - self.cell.mean

    @property
    def published_interval(self) -> tuple[float, float]:
        """95 % t-interval of the published mean."""
        return t_interval(self.cell.mean, self.cell.std, self.cell.n)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t-interval of our mean."""
        return None if self.mean is None or self.std is None else t_interval(self.mean, self.std, self.n)

    @property
    def overlap(self) -> bool | None:
        """Whether the two intervals overlap; None where ours is not known."""
        if self.interval is None:
            return None
        (low, high), (published_low, published_high) = self.interval, self.published_interval
        return low <= published_high and published_low <= high

    def as_row(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        cell = self.cell
        return {
            **{key: getattr(cell, key) for key in ("network", "dataset", "method", "gamma", "lr")},
            "arm": arm_name(cell),
            "published": {"mean": cell.mean, "std": cell.std, "n": cell.n, "interval": list(self.published_interval)},
            "ours": {
                "mean": self.mean,
                "std": self.std,
                "n": self.n,
                "interval": None if self.interval is None else list(self.interval),
            },
            "difference": self.difference,
            "intervals_overlap": self.overlap,
        }


def asked_cells(table: str, asked: Sequence[str]) -> list[Cell]:
    """The cells that ``--cell`` names, in the order of the table. A key that is left out takes all its values.

    Raises:
        SpecError: nothing is asked, or a key or value is not one of the table.
    """
    there = [cell for cell in cells(table) if cell.method != BASE]
    accepted = f"{ALL}, or keys of {table}: {_key_words(table, there)}; BASE is run with every column"
    if not asked:
        raise SpecError(f"--cell: is missing; accepted: {accepted}")
    found = set[Cell]()
    for text in asked:
        wanted: dict[str, str] = {}
        for part in [] if text == ALL else text.split(","):
            key, sign, value = (piece.strip() for piece in part.partition("="))
            known = {_plain(key, getattr(cell, key)) for cell in there} if key in LAYOUT[table].keys else set()
            value = _plain(key, value)
            if not sign or value not in known or key in wanted:
                raise SpecError(f"--cell: got {text!r}; accepted: {accepted}")
            wanted[key] = value
        found |= {cell for cell in there if all(_plain(key, getattr(cell, key)) == wanted[key] for key in wanted)}
    return [cell for cell in there if cell in found]


def _key_words(table: str, there: Sequence[Cell]) -> str:
    values = {key: dict.fromkeys(_plain(key, getattr(cell, key)) for cell in there) for key in LAYOUT[table].keys}
    return ", ".join(f"{key} ({' | '.join(known)})" for key, known in values.items())


def _plain(key: str, value: Any) -> str:
    """A value as it is typed: ``0.1`` of 0.10; ``rbn_star`` of ``RBN*``, which a shell would expand; ``ours``."""
    text = str(value).lower()
    if key == "method":
        return text if text == "ours" else _NORM_OF.get(text, text)
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def parse_seeds(text: str) -> list[int]:
    """The seeds of ``1-15``, ``1,2,5`` or ``1-3,7``. Raises :class:`SpecError` on anything else."""
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part.strip())
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last <= LARGEST_SEED or last - first >= 100_000:
            seeds = []
            break
        seeds += range(first, last + 1)
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise SpecError(f"--seeds: got {text!r}; accepted: two or more different seeds, such as 1-15 or 1,2,5")
    return seeds


def seed_words(seeds: Iterable[int]) -> str:
    """``1-3,7`` of 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def column_name(cell: Cell) -> str:
    """See :attr:`Column.name`."""
    group = LAYOUT[cell.table].group
    return f"{'' if group is None else f'{getattr(cell, group)}-'}lr{cell.lr:g}"


def arm_name(cell: Cell) -> str:
    """What the cell is called in a study: ``gamma-0.10``, ``ours``, ``rbn_star``, ``baseline``."""
    if cell.gamma is not None:
        return f"gamma-{cell.row}"
    return "baseline" if cell.method == BASE else _plain("method", cell.method)


def columns(table: str, asked: Sequence[Cell], seeds: Sequence[int], overrides: Sequence[str] = ()) -> list[Column]:
    """The studies for these cells, in the order of the table.

    Raises:
        SpecError: an override is not acceptable.
    """
    for override in overrides:
        section = override.partition("=")[0].strip().split(".")[0]
        if section not in SETTABLE:
            accepted = f"a key of {', '.join(SETTABLE)}; the arms come from --cell, their seeds from --seeds"
            raise SpecError(f"--set {override}: accepted: {accepted}")
    found = {
        key: tuple(cell for cell in asked if cell.column == key)
        for key in dict.fromkeys(cell.column for cell in cells(table))
    }
    return [_column(table, members, seeds, overrides) for members in found.values() if members]


def _column(table: str, members: tuple[Cell, ...], seeds: Sequence[int], overrides: Sequence[str]) -> Column:
    path = shipped_spaces() / f"{table}.yaml"
    paper = parse_space(_content(path, members, SEEDS), str(path))
    content, source = _content(path, members, seeds), source_words(path, overrides)
    for override in overrides:
        content = with_override(content, override)
    space = parse_space(content, source)
    return Column(members, space, source, tuple(deviations(space, paper)))


def _content(path: Path, members: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Any]:
    """The table's space with the keys of the column, its cells as arms, and the seeds."""
    content: dict[str, Any] = parse_yaml(path)
    for section, values in column(members[0]).items():
        content[section] = {**content[section], **values}
    # Nothing is searched or selected; the seeds of these stages only have to be others.
    unused = max(seeds) + 1
    own_norm = content["model"]["norm"]
    arms = {arm_name(cell): {k: v for k, v in arm(cell).items() if v != own_norm} for cell in members}
    return content | {
        "name": f"{content['name']}-{column_name(members[0])}",
        "seeds": {"search": [unused], "select": [unused + 1], "confirm": list(seeds)},
        "claim": {**content["claim"], "baseline": arm(base_of(members[0])), "arms": arms},
    }


def deviations(space: Space, paper: Space) -> list[str]:
    """In which keys of ``model``, ``data`` and ``train``, and in which seeds, a space differs from the paper's.

    Where the data lies is no difference.
    """
    found = []
    for section in ("train", "model", "data"):
        ours, theirs = asdict(getattr(space, section)), asdict(getattr(paper, section))
        found += [
            f"{section}.{key}={_value(key, value)} (paper: {_value(key, theirs[key])})"
            for key, value in ours.items()
            if value != theirs[key] and (section, key) != ("data", "root")
        ]
    seeds, expected = sorted(space.seeds.confirm), sorted(paper.seeds.confirm)
    if seeds != expected:
        found.append(f"seeds {seed_words(seeds)} (paper: {seed_words(expected)})")
    return found


def _value(key: str, value: Any) -> str:
    if value is None:
        return "all" if key in ("train_size", "test_size") else "not set"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def deviation_words(column: Column) -> str:
    """The differences from the paper's setting in words, or that there are none."""
    dataset = column.cells[0].dataset
    unknown = f" The paper's recipe for {DATASETS[dataset]} is not known; this one is our choice."
    if column.deviations:
        how = "At reduced length" if column.shortened else "In another setting"
        words = f"{how}: {', '.join(column.deviations)}; not a reproduction of the published values."
    else:
        words = "The paper's setting as far as it is known; tune_bn paper says what is our reading."
    return words if dataset == "cifar10" else words + unknown


def compare(column: Column, verdict: Verdict) -> list[Comparison]:
    """The column's cells, then its BASE, beside what the study found.

    Args:
        column: what was asked.
        verdict: of the study; an invalid one too.
    """
    found: dict[str, StudyArm] = {arm.arm: arm for arm in (*verdict.baselines[:1], *verdict.candidates)}
    rows = []
    for cell in (*column.cells, base_of(column.cells[0])):
        ours = found.get(arm_name(cell))
        rows.append(
            Comparison(cell, 0, None, None) if ours is None else Comparison(cell, len(ours.scores), ours.mean, ours.std)
        )
    return rows


def as_row(column: Column, verdict: Verdict) -> dict[str, Any]:
    """The comparison of a column as plain values; the help of the verb describes them."""
    return {
        "table": column.cells[0].table,
        "column": column.name,
        "study": verdict.study,
        "verdict": verdict.verdict,
        "headline": verdict.headline,
        "reason": verdict.reason,
        "seeds": column.space.seeds.confirm,
        "deviations": list(column.deviations),
        "diverged": list(verdict.diverged),
        "cells": [row.as_row() for row in compare(column, verdict)],
    }


def write_comparison(folder: Path, column: Column, verdict: Verdict) -> Path:
    """Write ``paper.md`` into the study's folder, whole or not at all."""
    path = folder / COMPARISON_FILE
    rows = compare(column, verdict)
    table = column.cells[0].table
    header = ["", "published", "95 % interval", "ours", "n", "95 % interval", "difference", "overlap"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for row in rows:
        published = spread_words(row.cell.mean, row.cell.std)
        numbers = [published, _interval(row.published_interval), ours_words(row), str(row.n), _interval(row.interval)]
        label = row.cell.row if row.cell.gamma is None else f"γ = {row.cell.row}"
        lines.append([label, *numbers, difference_words(row), overlap_words(row)])
    sections = [
        f"# {folder.name} beside the paper",
        f"{heading(column)}. Test accuracy in percent, mean ± standard deviation; published: n = {len(SEEDS)} seeds.",
        f"**{deviation_words(column)}**",
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        *diverged_words(verdict),
        OVERLAP_NOTE,
        "What is known of the paper's setting, and what is our reading:\n\n"
        + "\n".join(f"- {reading}" for reading in READINGS[table]),
    ]
    write_text(path, "\n\n".join(sections) + "\n")
    return path


def heading(column: Column) -> str:
    """``Table 2.a, ResNet-50, learning rate 0.1``."""
    cell = column.cells[0]
    title = LAYOUT[cell.table].title.partition(":")[0]
    return ", ".join([title, *filter(None, [group_words(cell)]), f"learning rate {cell.lr:g}"])


def diverged_words(verdict: Verdict) -> list[str]:
    """Which runs count as chance, where any does."""
    return [f"Diverged, scored as chance: {', '.join(verdict.diverged)}."] if verdict.diverged else []


def ours_words(row: Comparison) -> str:
    """Our mean and standard deviation, as far as they are known."""
    if row.mean is None:
        return "–"
    return f"{row.mean:.2f}" if row.std is None else spread_words(row.mean, row.std)


def difference_words(row: Comparison) -> str:
    """Ours − published, with its sign."""
    return "–" if row.difference is None else f"{row.difference:+.2f}"


def overlap_words(row: Comparison) -> str:
    """``yes``, ``no``, or that it is not known."""
    return "–" if row.overlap is None else "yes" if row.overlap else "no"


def _interval(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
