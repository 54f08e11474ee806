"""Runs of a few steps, and what they did: the means of a check."""

from __future__ import annotations

import io
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.errors import first_line
from tune_bn.protocols.trainer import Place, PreemptedError, Run, Session, Trainer
from tune_bn.protocols.trainers import BUILTIN
from tune_bn.space.space import Space
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.trainer import CommandSession

STEPS = 4
"""Steps of a short run, as far as the trainer has so many; it is stopped after them."""
LONGEST_SECONDS = 600.0
"""For a step of a short run."""


class StuckError(Exception):
    """A short run did not come to its steps; one line."""


@dataclass
class Short:
    """What a short run did."""

    values: list[float]
    first: float
    rest: float
    asked: set[str] | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    helper: bool = True
    evaluations: int | None = None
    """How often the script has reported its score; None: its trainer evaluates once a step."""
    rows: list[Mapping[str, float]] = field(default_factory=list)
    """All metrics of each step."""
    seed: int = 0
    marks: list[str] = field(default_factory=list)
    """Of its attempts, by which their processes are known."""

    def told(self, names: Sequence[str]) -> list[tuple[float | None, ...]]:
        """By step, its score and what else is compared."""
        return _told(self.values, self.rows, names)


def repeated(first: Short, again: Short) -> list[str]:
    """Names of metrics that one seed twice gives equally, and that are not that seed: no times."""
    found = []
    for name in sorted({name for row in first.rows for name in row}):
        told = _of(first, name)
        if told == _of(again, name) and any(value != first.seed for value in told if value is not None):
            found.append(name)
    return found


def results_of(first: Short, again: Short, others: Iterable[Short]) -> list[str]:
    """Names of those that another seed gives otherwise: results of the training, and no learning rate that a script
    repeats as it was told. Where the seed does nothing, all that are repeated."""
    names, others = repeated(first, again), list(others)
    found = [name for name in names if any(_of(first, name) != _of(other, name) for other in others)]
    return found or names


def spread_of(first: Short, others: Iterable[Short], names: Sequence[str]) -> str:
    """How far other seeds lie from the first: by the score, or where that is equal, by a metric that is not."""
    lists = [short.told(names) for short in (first, *others)]
    for place, name in enumerate(("", *names)):
        columns = [[row[place] for row in rows] for rows in lists]
        pairs = [(a, b) for column in columns[1:] for a, b in zip(columns[0], column, strict=False)]
        if spread := max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=0.0):
            return f"by up to {spread:.3g}" + f" in {name}" * bool(name)
    return "in nothing"


def too_coarse(short: Short, names: Iterable[str]) -> bool:
    """Whether its score and these metrics took so few values that another run may have the same ones by chance."""
    return len(set(short.values)) <= 2 and all(len(set(_of(short, name))) <= 2 for name in names)


def alike(one: Short, other: Short, names: Iterable[str] = ()) -> bool:
    """Whether two runs have the same scores, and the same of all these metrics."""
    return one.told([*names]) == other.told([*names])


def _told(
    values: Sequence[float], rows: Sequence[Mapping[str, float]], names: Sequence[str]
) -> list[tuple[float | None, ...]]:
    return [(value, *(row.get(name) for name in names)) for value, row in zip(values, rows, strict=True)]


def _of(short: Short, name: str) -> list[float | None]:
    return [row.get(name) for row in short.rows]


class ShortRuns:
    """Starts runs of a trainer, and takes them some steps far.

    Args:
        space: what is asked.
        trainer: of the space.
        place: where its runs are trained.
        folder: for the runs.
        config: of a run that says how many steps there are.
    """

    def __init__(self, space: Space, trainer: Trainer, place: Place, folder: Path, config: Mapping[str, Any]) -> None:
        self.space, self.trainer, self.folder = space, trainer, folder
        self.session: Session = trainer.without_test().open(place)
        self.steps = min(STEPS, trainer.steps(space.run_config(config)))
        self.log: Path | None = None
        """Where the words of a script that failed are kept: its folder is gone when the check ends."""
        self._count = 0

    def start(self, config: Mapping[str, Any], seed: int, name: str, state: Any = None, hold: int | None = None) -> Run:
        """Begin a run, or go on with one. ``hold``: the step at which a script is held."""
        if isinstance(self.session, CommandSession):
            self.session.hold = hold
            self.session.audit = self.folder / f"{name}.opened"
        return self.session.start(
            self.space.run_config(config), seed, name=name, folder=self.folder / name, state=state
        )

    def go(self, run: Run, steps: int) -> None:
        """Take a run so many steps far. Raises :class:`StuckError` where it does not come there."""
        end = time.monotonic() + LONGEST_SECONDS
        try:
            while run.steps < steps and not run.done:
                before = run.steps
                run.advance()
                if run.steps > before:
                    end = time.monotonic() + LONGEST_SECONDS
                if time.monotonic() > end:
                    raise StuckError(f"no step within {LONGEST_SECONDS:.0f} s")
        except (StuckError, PreemptedError):
            raise
        except Exception as error:
            raise StuckError(self._with_log(first_line(error), run)) from error

    def _with_log(self, words: str, run: Run) -> str:
        if self.log is None or not isinstance(run, ScriptRun):
            return words
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.files.log, self.log)
        except OSError:
            return words
        return words.replace(str(run.files.log), str(self.log))

    def values(self, run: Run, steps: int | None = None) -> list[float]:
        """Its validation scores so far; of the built-in loop its losses, of which no two are equal by chance."""
        name = "val_loss" if self.trainer.name == BUILTIN else self.trainer.score.validation
        found = [point[name] for point in run.curve][: steps or self.steps]
        # A number that is none is not equal to itself.
        return [value if math.isfinite(value) else math.inf for value in found]

    def told(self, run: Run, names: Sequence[str], steps: int | None = None) -> list[tuple[float | None, ...]]:
        """By step so far, its score and what else is compared."""
        values = self.values(run, steps)
        return _told(values, [point.metrics for point in run.curve][: len(values)], names)

    def kept(self, run: Run) -> Any:
        """What it would go on from in another process: written and read, as a worker does."""
        state = run.state()
        if state is None or isinstance(run, ScriptRun):
            return state
        import torch

        stream = io.BytesIO()
        torch.save(state, stream)
        stream.seek(0)
        return torch.load(stream, map_location=self.session.device, weights_only=True)

    def name(self) -> str:
        """Of a run, unique in this check."""
        self._count += 1
        return f"check-{self._count}"

    def short(self, config: Mapping[str, Any], seed: int, steps: int | None = None) -> Short:
        """A short run by itself."""
        steps = steps or self.steps
        name, began = self.name(), time.monotonic()
        run = self.start(config, seed, name)
        try:
            self.go(run, 1)
            first = time.monotonic() - began
            self.go(run, steps)
            rest = time.monotonic() - began - first
            values = self.values(run, steps)
        finally:
            run.close()
        rows = [point.metrics for point in run.curve][:steps]
        return self._seen(Short(values, first, rest, rows=rows, seed=seed), run, name)

    def pair(self, configs: Sequence[Mapping[str, Any]], seed: int) -> list[Short]:
        """Short runs that are started at once, and taken step by step side by side."""
        runs: list[tuple[Run, str]] = []
        try:
            for config in configs:
                name = self.name()
                runs.append((self.start(config, seed, name), name))
            for step in range(1, self.steps + 1):
                for run, _ in runs:
                    self.go(run, step)
            values = [self.values(run) for run, _ in runs]
        finally:
            for run, _ in runs:
                run.close()
        found = []
        for (run, name), told in zip(runs, values, strict=True):
            rows = [point.metrics for point in run.curve][: self.steps]
            found.append(self._seen(Short(told, 0.0, 0.0, rows=rows, seed=seed), run, name))
        return found

    def _seen(self, short: Short, run: Run, name: str) -> Short:
        if isinstance(run, ScriptRun):
            short.marks = [attempt["mark"] for attempt in run.files.attempts]
            short.notes = run.files.notes(len(run.files.attempts))
            short.asked = {note["key"] for note in short.notes if note.get("event") == "asked"}
            short.helper = run.settings.metrics is None
            # The script itself may be ahead, one more than another.
            short.evaluations = run.points.evaluations(len(short.values))
        for file in (self.folder / f"{name}.opened").glob("*"):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                if not line.startswith("h "):
                    (short.writes if line.startswith("w ") else short.reads).add(line[2:])
        return short
