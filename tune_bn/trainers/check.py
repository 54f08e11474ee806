"""``tune_bn check``: a few short runs against the ways to a wrong verdict.

Nothing here knows more of a trainer than its port tells, but of scripts, whose folders say what they opened, which
keys they asked for, and what the package did in them.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tune_bn.errors import first_line
from tune_bn.protocols.distributions import Cases, Choice
from tune_bn.protocols.trainer import Place, PreemptedError, Run, Session, Trainer
from tune_bn.records.files import write_json
from tune_bn.script.folder import ATTEMPT_VARIABLE
from tune_bn.space.space import Space
from tune_bn.trainers.command import keeper
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.seal import SealedRun, TestError
from tune_bn.trainers.command.settings import SealedTest
from tune_bn.trainers.command.trainer import CommandSession, CommandTrainer

OK, WRONG, UNKNOWN = "ok", "WRONG", "not tried"
STEPS = 4
"""Steps of a short run, as far as the trainer has so many; it is stopped after them."""
LONGEST_SECONDS = 600.0
"""For a step of a short run."""
_TEMPORARY = ("/tmp/", "/var/tmp/")
SMALL_FILE = 1 << 26
"""Larger files are compared by their paths alone."""


@dataclass(frozen=True)
class Finding:
    """A line of the table."""

    trap: str
    verdict: str
    words: str


@dataclass
class Checked:
    """What the check has found."""

    findings: list[Finding] = field(default_factory=list)
    seconds_per_step: float = math.nan
    seconds_to_start: float = math.nan
    commands: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return all(finding.verdict != WRONG for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        numbers = {
            name: value if math.isfinite(value) else None
            for name, value in (("per_step", self.seconds_per_step), ("to_start", self.seconds_to_start))
        }
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings], "seconds": numbers}


class _Stuck(Exception):
    """A short run did not come to its steps; one line."""


@dataclass
class _Short:
    """What a short run did."""

    values: list[float]
    first: float
    rest: float
    asked: set[str] | None = None
    notes: list[dict[str, Any]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    helper: bool = True


class Checker:
    """Tries a trainer.

    Args:
        space: what is asked.
        trainer: of the space.
        place: where its runs are trained.
        folder: for the runs; emptied before and after.
        say: hears a finding as soon as it is there.
    """

    def __init__(
        self,
        space: Space,
        trainer: Trainer,
        place: Place,
        folder: Path,
        say: Callable[[Finding], None] = lambda _: None,
    ) -> None:
        self.space, self.trainer, self.folder, self._say = space, trainer, folder.absolute(), say
        if isinstance(trainer, CommandTrainer):
            # Each step can be gone on from, so that a run that is killed has something to go on from.
            self.trainer = trainer = replace(trainer, settings=replace(trainer.settings, save_every=1e-9))
        self.session: Session = trainer.without_test().open(place)
        self.place = place
        self.checked = Checked()
        self.base = {**_nuisance(space), **space.baseline}
        self.candidate = self._other(self.base, space.scientific)
        config = space.run_config(self.base)
        self.steps = min(STEPS, trainer.steps(config))
        self._count = 0

    def run(self) -> Checked:
        """All of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._commands()
            try:
                first = self._short(self.base, self._seed("search"))
            except (_Stuck, PreemptedError) as error:
                self._found("it trains", WRONG, str(error))
                return self.checked
            self._costs(first)
            self._found("it trains", OK, f"{len(first.values)} steps of {self.trainer.score.validation}")
            for trap in (self._sealed, self._seeds, self._effects, self._resumes, self._apart, self._tests):
                try:
                    trap(first)
                except (_Stuck, PreemptedError) as error:
                    self._found(_NAMES[trap.__name__], WRONG, str(error))
            return self.checked
        finally:
            self.session.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _found(self, trap: str, verdict: str, words: str) -> None:
        finding = Finding(trap, verdict, words)
        self.checked.findings.append(finding)
        self._say(finding)

    def _seed(self, stage: str) -> int:
        return int(min(getattr(self.space.seeds, stage)))

    def _other(self, config: Mapping[str, Any], keys: Sequence[str] | frozenset[str]) -> dict[str, Any]:
        """The configuration with each of these keys moved away from its value, as far as the space says whereto."""
        moved = dict(config)
        for name, distribution in self.space.distributions.items():
            if name in keys:
                if isinstance(distribution, Cases):
                    continue
                moved[name] = next((value for value in distribution.corners if value != config.get(name)), None)
                if moved[name] is None:
                    del moved[name]
        for arm in self.space.claim.arms.values():
            moved |= {key: value for key, value in arm.items() if key in keys and value != config.get(key)}
        return moved

    # Short runs

    def _start(
        self, config: Mapping[str, Any], seed: int, name: str, state: Any = None, hold: int | None = None
    ) -> Run:
        if isinstance(self.session, CommandSession):
            self.session.hold = hold
            self.session.audit = self.folder / f"{name}.opened"
        return self.session.start(
            self.space.run_config(config), seed, name=name, folder=self.folder / name, state=state
        )

    def _go(self, run: Run, steps: int) -> None:
        end = time.monotonic() + LONGEST_SECONDS
        try:
            while run.steps < steps and not run.done:
                before = run.steps
                run.advance()
                if run.steps > before:
                    end = time.monotonic() + LONGEST_SECONDS
                if time.monotonic() > end:
                    raise _Stuck(f"no step within {LONGEST_SECONDS:.0f} s")
        except (_Stuck, PreemptedError):
            raise
        except Exception as error:
            raise _Stuck(first_line(error)) from error

    def _values(self, run: Run, steps: int | None = None) -> list[float]:
        return [point[self.trainer.score.validation] for point in run.curve][: steps or self.steps]

    def _name(self) -> str:
        self._count += 1
        return f"check-{self._count}"

    def _short(self, config: Mapping[str, Any], seed: int, steps: int | None = None) -> _Short:
        steps = steps or self.steps
        name, began = self._name(), time.monotonic()
        run = self._start(config, seed, name)
        try:
            self._go(run, 1)
            first = time.monotonic() - began
            self._go(run, steps)
            rest = time.monotonic() - began - first
            values = self._values(run, steps)
        finally:
            run.close()
        return self._seen(_Short(values, first, rest), run, name)

    def _seen(self, short: _Short, run: Run, name: str) -> _Short:
        if isinstance(run, ScriptRun):
            short.notes = run.files.notes(len(run.files.attempts))
            short.asked = {note["key"] for note in short.notes if note.get("event") == "asked"}
            short.helper = run.settings.metrics is None
        for file in (self.folder / f"{name}.opened").glob("*"):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                (short.writes if line.startswith("w ") else short.reads).add(line[2:])
        return short

    # The traps

    def _sealed(self, first: _Short) -> None:
        """1. The validation score is the test set."""
        trap = _NAMES["_sealed"]
        score = self.trainer.score
        if not isinstance(self.trainer, CommandTrainer):
            self._found(trap, OK, "the built-in loop is not given the test images before the confirmation")
            return
        sealed = self.trainer.sealed
        if sealed is None or sealed.data is None:
            self._found(trap, UNKNOWN, "trainer.data.test does not say where the test data is: its seal is your word")
            return
        if not first.reads:
            self._found(trap, UNKNOWN, "no Python of it told which files it opens: its seal is your word")
            return
        test = _files_below(Path(sealed.data))
        met = sorted(place for place in first.reads if place in test)
        if not met:
            met = [f"{place}, which equals {other}" for place, other in _copies(first.reads, test)]
        if met:
            self._found(
                trap, WRONG, f"training reads test data: {met[0]}" + f" and {len(met) - 1} more" * (len(met) > 1)
            )
            return
        words = "; the script itself reports" if not sealed.command else "; the test command gives"
        self._found(trap, OK, f"none of {len(first.reads)} files that training opens is test data{words} {score.test}")

    def _seeds(self, first: _Short) -> None:
        """2. The seed does nothing, or not all."""
        trap = _NAMES["_seeds"]
        again = self._short(self.base, self._seed("search"))
        others = {stage: self._short(self.base, self._seed(stage)) for stage in ("select", "confirm")}
        self._spread = max(
            abs(a - b) for other in others.values() for a, b in zip(first.values, other.values, strict=False)
        )
        if again.values != first.values:
            self._found(trap, WRONG, f"the same seed twice gives {_differ(first.values, again.values)}")
            return
        for stage, other in others.items():
            if other.values == first.values:
                seeds = f"{self._seed('search')} and {self._seed(stage)}"
                self._found(trap, WRONG, f"seeds {seeds} give the same scores: the seed does nothing")
                return
        self._found(trap, OK, f"one seed twice is equal bit for bit; others differ by up to {self._spread:.3g}")

    _spread = 0.0

    def _effects(self, first: _Short) -> None:
        """3. A key is not in effect, or is something else."""
        trap = _NAMES["_effects"]
        wrong: list[str] = []
        keys = [*self.space.search] or sorted(
            self.space.scientific & {k for a in self.space.claim.arms.values() for k in a}
        )
        moved: list[_Short] = []
        for key in keys:
            config = self._other(self.base, [key, *(n for n in self.space.distributions if n.partition(".")[0] == key)])
            if config == self.base:
                continue
            other = self._short(config, self._seed("search"))
            moved.append(other)
            if other.values == first.values:
                unasked = first.asked is not None and first.helper and key not in first.asked
                wrong.append(f"{key} changes nothing" + " and was never asked for" * unasked)
        if isinstance(self.trainer, CommandTrainer):
            wrong += list(self._meanings([first, *moved]))
        if wrong:
            self._found(trap, WRONG, "; ".join(wrong))
            return
        self._found(trap, OK, f"each of {', '.join(keys)} alone changes the scores")

    def _meanings(self, shorts: Sequence[_Short]) -> Iterator[str]:
        """Whether what is called gamma and c is what the claim takes it for."""
        section = self.space.trainer
        notes = [note for short in shorts for note in short.notes]
        for key, event in (("gamma", "scale_batchnorm"), ("c", "parameter_groups")):
            if section is None or key not in self.space.search or key in section.meaning:
                continue
            if not any(note.get("event") == event for note in notes):
                yield (
                    f"{key} is searched, but the script does not call tune_bn.{event}; accepted: that call, or "
                    f"trainer.meaning.{key} that says what it is"
                )
            elif key == "c" and not any(note.get("event") == "learns" for note in notes):
                yield "no optimizer steps with the groups of tune_bn.parameter_groups"

    def _resumes(self, first: _Short) -> None:
        """4. A run that was cut counts as a whole one, or goes on otherwise than it was."""
        trap = _NAMES["_resumes"]
        if self.steps < 3:
            self._found(trap, UNKNOWN, f"a run has {self.steps} steps")
            return
        told, wrong, through = [], [], []
        total = self.trainer.steps(self.space.run_config(self.base))
        whole = {self.steps: first.values}
        for way in ("a stop", "SIGTERM", "SIGKILL"):
            name = self._name()
            run = self._start(self.base, self._seed("search"), name, hold=2)
            try:
                self._go(run, 2)
                state = run.state()
                if way != "a stop" and not (isinstance(run, ScriptRun) and run.leader):
                    continue
                if way != "a stop" and isinstance(run, ScriptRun) and run.leader:
                    with suppress(OSError):
                        os.kill(run.leader, signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL)
                    run.wait_for_end()
            finally:
                run.close()
            cut = run.reported if isinstance(run, ScriptRun) else run.steps
            if cut >= total:
                through.append(way)
                continue
            # A script that was ahead is compared beyond the step at which it was cut.
            target = max(self.steps, min(total, cut + 2))
            if target not in whole:
                whole[target] = self._short(self.base, self._seed("search"), target).values
            again = self._start(self.base, self._seed("search"), name, state)
            try:
                begun = again.steps
                self._go(again, target)
                values = self._values(again, target)
                inexact = again.points.inexact if isinstance(again, ScriptRun) else None
            finally:
                again.close()
            if values != whole[target] or inexact is not None:
                wrong.append(f"after {way} it goes on otherwise: {inexact or _differ(whole[target], values)}")
            known = isinstance(again, ScriptRun) and again.goes_on
            place = f"from step {begun}" if begun else "from its checkpoint" if known else "from the beginning"
            told.append(f"after {way} at step {cut} {place}")
        if wrong:
            self._found(trap, WRONG, f"{'; '.join(wrong)} (seeds differ by up to {self._spread:.3g})")
            return
        if through:
            words = f"the script was through before it could be ended by {', '.join(through)}"
            self._found(trap, UNKNOWN, "; ".join([words, *told]))
            return
        self._found(trap, OK, f"bit for bit {', '.join(told)}")

    def _apart(self, first: _Short) -> None:
        """5. Runs touch each other, or leave something behind."""
        trap = _NAMES["_apart"]
        seed, names = self._seed("search"), (self._name(), self._name())
        if isinstance(self.session, CommandSession) and self.session.trainer.settings.function:
            self._found(trap, UNKNOWN, "a worker calls a function once at a time")
            return
        runs = [
            self._start(config, seed, name) for config, name in zip((self.base, self.candidate), names, strict=True)
        ]
        try:
            for step in range(1, self.steps + 1):
                for run in runs:
                    self._go(run, step)
            together = [self._values(run) for run in runs]
        finally:
            for run in runs:
                run.close()
        alone = [first.values, self._short(self.candidate, seed).values]
        for values, expected in zip(together, alone, strict=True):
            if values != expected:
                self._found(trap, WRONG, f"started beside another it gives {_differ(expected, values)}")
                return
        left = [
            pid
            for run in runs
            if isinstance(run, ScriptRun)
            for attempt in run.files.attempts
            for pid in keeper.marked(ATTEMPT_VARIABLE, attempt["mark"])
        ]
        if left:
            self._found(trap, WRONG, f"processes {', '.join(map(str, left))} live on")
            return
        outside = sorted(place for place in first.writes if not _is_own(place, self.folder))
        words = "two at once are each as they are alone, and nothing lives on"
        if outside:
            self._found(trap, WRONG, f"{words}, but it writes outside its run's folder: {outside[0]}")
            return
        self._found(trap, OK, words)

    def _tests(self, first: _Short) -> None:
        """The test looks at the checkpoint that it is given. It is tried on the data of the search."""
        trap = _NAMES["_tests"]
        del first
        if (
            not isinstance(self.trainer, CommandTrainer)
            or self.trainer.sealed is None
            or not self.trainer.sealed.command
        ):
            return
        sealed = SealedTest(self.trainer.sealed.command, self.trainer.settings.search_data)
        found: list[float | str] = []
        for stage in ("search", "confirm", None):
            run = self._start(self.base, self._seed(stage or "search"), self._name())
            assert isinstance(run, ScriptRun)
            try:
                self._go(run, self.steps)
                run.close()
                going_on = run.files.checkpoint()
                if going_on is None:
                    self._found(trap, UNKNOWN, f"after {self.steps} steps there is no whole checkpoint yet")
                    return
                path = going_on.path if stage else run.files.path / "no such checkpoint"
                test = SealedRun(
                    run.settings, sealed, run.files, values=run.values(going_on), checkpoint=path, place=self.place
                )
                while not test.poll(1.0):
                    pass
                try:
                    found.append(test.score())
                except TestError as error:
                    found.append(str(error))
            finally:
                run.close()
        one, other, none = found
        if isinstance(one, str) or isinstance(other, str):
            problem = next(text for text in (one, other) if isinstance(text, str))
            self._found(trap, UNKNOWN, f"on the data of the search it gives no score: {problem}")
        elif one == other:
            self._found(trap, WRONG, f"checkpoints of two seeds give the same score {one:.6g}")
        elif not isinstance(none, str):
            self._found(trap, WRONG, f"without a checkpoint it gives a score, {none:.6g}")
        else:
            self._found(trap, OK, "another checkpoint gives another score, and none fails")

    # What it costs

    def _costs(self, first: _Short) -> None:
        later = max(1, len(first.values) - 1)
        self.checked.seconds_per_step = first.rest / later if len(first.values) > 1 else first.first
        self.checked.seconds_to_start = max(0.0, first.first - self.checked.seconds_per_step)

    def _commands(self) -> None:
        if not isinstance(self.trainer, CommandTrainer):
            return
        from tune_bn.trainers.command.placeholders import fill

        settings, sealed = self.trainer.settings, self.trainer.sealed
        if settings.function:
            self.checked.commands.append(f"{settings.function}(run)")
            return
        values = {**self.space.run_config(self.base), "seed": self._seed("search"), "steps": settings.steps}
        run = "RUN"
        checkpoint = "RUN/checkpoint/STEP" if settings.checkpoint is None else f"RUN/work/{settings.checkpoint}"
        told = {**values, "run": run, "checkpoint": checkpoint, "data": settings.search_data or ""}
        lines = [("search", settings.command, told)]
        if settings.resume:
            lines.append(("resume", (*settings.command, *settings.resume), told))
        if sealed is not None and sealed.command:
            lines.append(("test", sealed.command, {**told, "data": sealed.data or ""}))
        self.checked.commands += [
            f"{name:<7} {' '.join(fill(word, given) for word in words)}" for name, words, given in lines
        ]


_NAMES = {
    "_sealed": "1 the test set is sealed",
    "_seeds": "2 the seed decides",
    "_effects": "3 the keys are in effect",
    "_resumes": "4 a resume is exact",
    "_apart": "5 runs do not touch",
    "_tests": "  the test command",
}


def _nuisance(space: Space) -> dict[str, Any]:
    """A value in the middle of each nuisance key, which the baseline leaves to its own search."""
    found: dict[str, Any] = {}
    for name, distribution in space.searched.only(space.nuisance).distributions.items():
        if isinstance(distribution, Cases):
            distribution = distribution.cases[0][1]
        if isinstance(distribution, Choice):
            found[name] = distribution.values[0]
            continue
        low, high = distribution.low, distribution.high
        middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
        found[name] = round(middle) if distribution.integer else middle
    return found


def _differ(one: Sequence[float], other: Sequence[float]) -> str:
    """Where two curves part."""
    for step, (a, b) in enumerate(zip(one, other, strict=False), start=1):
        if a != b:
            return f"{b:.9g} in place of {a:.9g} at step {step}"
    return f"{len(other)} steps in place of {len(one)}"


def _files_below(place: Path) -> set[str]:
    if place.is_file():
        return {os.path.realpath(place)}
    return {os.path.realpath(Path(folder) / name) for folder, _, names in os.walk(place) for name in names}


def _copies(reads: Iterable[str], test: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Files of the one kind whose content is that of one of the other; only those of equal sizes are read."""
    sizes = {place: os.path.getsize(place) for place in reads if os.path.isfile(place)}
    wanted, found = set(sizes.values()), dict[str, str]()
    for place in test:
        with suppress(OSError):
            if os.path.getsize(place) in wanted and (content := _content(place)):
                found[content] = place
    alike = {os.path.getsize(place) for place in found.values()}
    for place, size in sizes.items():
        if size in alike and (content := _content(place)) in found and content is not None:
            yield place, found[content]


def _content(place: str) -> str | None:
    """A hash of a file that is not empty and not large."""
    try:
        if not os.path.isfile(place) or not 64 <= os.path.getsize(place) <= SMALL_FILE:
            return None
        with open(place, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return None


def _is_own(place: str, folder: Path) -> bool:
    """Whether a file that is written to belongs to the run, to the system, or to a cache."""
    own = (os.path.realpath(folder), "/dev/", "/proc/", "/sys/", "pipe:", "socket:", *_TEMPORARY)
    if place.startswith(own):
        return True
    return "__pycache__" in place or "/.cache/" in place or "/.config/" in place


def forecast_hours(space: Space, trainer: Trainer, checked: Checked, runs: int, at_once: int) -> float:
    """Hours of a whole study without early stopping."""
    steps = trainer.steps(space.run_config({**_nuisance(space), **space.baseline}))
    return runs * (checked.seconds_to_start + steps * checked.seconds_per_step) / 3600 / max(1, at_once)


def check_file(output: Path, space: Space, trainer: Trainer) -> Path:
    """Where the outcome for this space and this code is kept."""
    key = hashlib.sha256(f"{space.sha256} {dict(trainer.versions()).get('trainer', '')}".encode()).hexdigest()[:16]
    return output / "checks" / f"{space.name}-{key}.json"


def keep(output: Path, space: Space, trainer: Trainer, checked: Checked) -> Path:
    """Keep the outcome, for the search and its report."""
    path = check_file(output, space, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**checked.to_json(), "space": space.sha256})
    return path


__all__ = ["Checked", "Checker", "Finding", "check_file", "forecast_hours", "keep"]
