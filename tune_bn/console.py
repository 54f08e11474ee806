"""Progress on the console: a live view on a terminal, plain lines into a pipe or a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_bn.analysis.wording import detectable_words
from tune_bn.records import CANDIDATE, CONFIRM, DIVERGED, FAILED, PRUNED, Record
from tune_bn.runners.base import EpochPoint, Task
from tune_bn.tracking.base import Observer, StudyInfo

REFRESH_PER_SECOND = 4
DECODING_LINE_SECONDS = 30
_MAX_TASKS_SHOWN = 10
_MAX_REASON = 100


@dataclass
class _Running:
    """A task at work, as far as its learning curves have come."""

    task: Task
    points: dict[int, EpochPoint] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        return max((point.epoch for point in self.points.values()), default=0)

    @property
    def val_accuracy(self) -> float | None:
        return fmean(point.val_accuracy for point in self.points.values()) if self.points else None


@dataclass
class _Configuration:
    """The scores of one configuration in one stage, one per seed."""

    label: str
    config: Mapping[str, Any]
    scores: list[float] = field(default_factory=list)
    stopped: bool = False
    """A run of it was pruned or diverged: the mean over its other seeds would flatter it."""

    @property
    def mean(self) -> float:
        return fmean(self.scores)


class _Progress:
    """What is known about the study so far. Not safe for threads: its owner holds a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.study = ""
        self.study_started = clock()
        self.stage = ""
        self.stage_started = clock()
        self.planned = 0
        self.done = 0
        self.decoded: tuple[int, int] | None = None
        self.running: dict[str, _Running] = {}
        self.configurations: dict[str, dict[tuple[str, int | None], _Configuration]] = {}
        self._finished = 0
        self._last_finish = clock()

    def begin_stage(self, stage: str, planned_runs: int, done_runs: int) -> None:
        self.stage, self.planned, self.done = stage, planned_runs, done_runs
        self.stage_started = self._clock()
        self.running.clear()
        self._finished = 0

    def add(self, record: Record) -> None:
        """Count what a record says about its configuration."""
        group = self.configurations.setdefault(record.stage, {})
        empty = _Configuration(label(record.stage, record.arm, record.trial), record.config)
        entry = group.setdefault((record.arm, record.trial), empty)
        score = _score(record)
        if record.stage != CONFIRM and record.status in (PRUNED, DIVERGED):
            entry.stopped = True
        elif score is not None and record.status != FAILED:
            entry.scores.append(score[1])

    def finish(self, record: Record) -> None:
        """Count a run that ended now."""
        self.add(record)
        self.done += 1
        self._finished += 1
        self._last_finish = self._clock()
        for key, running in self.running.items():
            if running.task.run_key(record.seed) == record.key:
                del self.running[key]
                break

    @property
    def best(self) -> _Configuration | None:
        """The configuration with the highest mean in this stage, among those that no run of was stopped."""
        group = self.configurations.get(self.stage, {}).values()
        return max((c for c in group if c.scores and not c.stopped), key=lambda c: c.mean, default=None)

    @property
    def arms(self) -> list[_Configuration]:
        """The arms of the stage that have a score."""
        return [c for c in self.configurations.get(self.stage, {}).values() if c.scores]

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the stage at the pace of its finished runs; None while there is none."""
        if not self._finished or self.done >= self.planned:
            return None
        pace = (self._last_finish - self.stage_started) / self._finished
        return max(0.0, (self.planned - self.done) * pace - (self._clock() - self._last_finish))

    @property
    def elapsed(self) -> float:
        return self._clock() - self.study_started

    @property
    def stage_elapsed(self) -> float:
        return self._clock() - self.stage_started


class ConsoleObserver(Observer):
    """Shows a study's progress.

    On a terminal there is one live view, refreshed at most four times a second, and one lasting line per finished
    stage. Elsewhere there is one line per started stage, finished run and warning, with no escape codes. When the
    reader of a pipe goes away the observer falls silent and the study goes on.

    Args:
        console: where to write; None: standard output, live where that is a terminal.
        clock: seconds that only grow.
        stamped: begin each line with the time (UTC).
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        stamped: bool = False,
    ) -> None:
        # FORCE_COLOR asks for colours in a log, never for cursor movements: only a real terminal gets the live view.
        self._console = console or Console(force_terminal=sys.stdout.isatty(), highlight=False)
        self._lock = threading.RLock()
        self._progress = _Progress(clock)
        self._live: Live | None = None
        self._silent = False
        self._clock = clock
        self._stamped = stamped
        self._last_decoding_line = clock()

    def __enter__(self) -> ConsoleObserver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decoding(self, done: int, total: int) -> None:
        """Images are being read before the study starts: so many of so many are decoded."""
        with self._lock:
            self._progress.decoded = (done, total) if done < total else None
        if self._console.is_interactive:
            if done < total:
                self._start_live()
            else:
                self.close()
        elif done == total or self._clock() - self._last_decoding_line >= DECODING_LINE_SECONDS:
            self._last_decoding_line = self._clock()
            self._print(f"data  {done}/{total} images decoded")

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        with self._lock:
            self._progress.study = info.name
            for record in records:
                self._progress.add(record)

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        self._end_stage()
        with self._lock:
            self._progress.begin_stage(stage, planned_runs, done_runs)
        if self._console.is_interactive:
            self._start_live()
        else:
            before = f", {done_runs} done before" if done_runs else ""
            self._print(f"{stage}  {planned_runs} runs planned{before}")

    def plan_locked(self, plan: Mapping[str, Any]) -> None:
        """What is going to be claimed, and what can be found, in two lasting lines."""
        candidates, rule = plan["candidates"], plan.get("design")
        spreads = [arm["selection"].get("val_accuracy_std") for arm in candidates if "selection" in arm]
        known = [spread for spread in spreads if spread is not None]
        looks = "" if rule is None else f", looks at {', '.join(map(str, rule['looks']))} pairs"
        arms = ", ".join(arm["arm"] for arm in candidates)
        self._print(
            f"plan  {plan['plan_sha256'][:12]} locked: {arms} on {len(plan['seeds'])} seeds, {plan['stopping']}{looks}"
        )
        found = detectable_words(len(plan["seeds"]), plan["alpha"], len(candidates), max(known, default=None))
        self._print(f"power  {found}" + (", as on the selection seeds" if known else ""))

    def task_started(self, task: Task) -> None:
        with self._lock:
            self._progress.running[task.key] = _Running(task)

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[EpochPoint]]) -> None:
        with self._lock:
            if (running := self._progress.running.get(task.key)) is not None:
                running.points |= {seed: points[-1] for seed, points in curves.items() if points}

    def task_killed(self, task: Task) -> None:
        with self._lock:
            self._progress.running.pop(task.key, None)

    def run_recorded(self, record: Record, curve: Sequence[EpochPoint]) -> None:
        with self._lock:
            self._progress.finish(record)
            line = _run_line(record, self._progress)
        if not self._console.is_interactive:
            self._print(line)

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """Files are not progress."""

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        self._end_stage()
        self.close()

    def note(self, line: str) -> None:
        """Print one line that is no progress."""
        self._print(" ".join(line.split()))

    def warn(self, message: str) -> None:
        """Print a warning as one line, above the live view where there is one."""
        self._print(f"warning: {' '.join(message.split())}", style="yellow")

    def close(self) -> None:
        """Take the live view off the screen and give the terminal back. May be called twice."""
        live, self._live = self._live, None
        if live is not None:
            # Also where the console is gone: it gives back stdout and ends the thread of the live view.
            self._silent = not _survives(live.stop) or self._silent

    def _end_stage(self) -> None:
        """Leave one lasting line about the stage that the live view showed."""
        if self._live is None:
            return
        with self._lock:
            progress = self._progress
            counts = f"{progress.done}/{progress.planned} runs in {_duration(progress.stage_elapsed)}"
            line = "  ".join([progress.stage, counts, *_standing(progress)])
        self._print(line)

    def _start_live(self) -> None:
        if self._live is None and not self._silent:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=REFRESH_PER_SECOND,
                transient=True,
            )
            self._write(self._live.start)

    def _print(self, line: str, style: str | None = None) -> None:
        if self._stamped:
            line = f"{datetime.now(UTC).isoformat(timespec='seconds')}  {line}"
        # What the terminal's encoding lacks is shown as a question mark rather than lost with its line.
        encoding = self._console.encoding
        text = Text(line.encode(encoding, "replace").decode(encoding), style=style or "")
        # The lock of the progress must not be held here: the thread of the live view takes both, in the other order.
        self._write(lambda: self._console.print(text, soft_wrap=True))

    def _write(self, action: Callable[[], None]) -> None:
        """Do something to the console; fall silent for good where it is gone (a closed pipe, a lost terminal)."""
        self._silent = self._silent or not _survives(action)

    def _render(self) -> RenderableType:
        with self._lock:
            return _live_view(self._progress)


@contextmanager
def console_log(path: Path) -> Iterator[ConsoleObserver]:
    """The console's lines once more, with their times, at the end of a file: for whoever looks later, or elsewhere."""
    with path.open("a", encoding="utf-8", errors="replace", buffering=1) as handle:
        yield ConsoleObserver(Console(file=handle, force_terminal=False, no_color=True, highlight=False), stamped=True)


def _survives(action: Callable[[], None]) -> bool:
    """Run ``action``; False where the console did not take its output."""
    try:
        action()
    except (OSError, ValueError, SystemExit):  # rich answers a broken pipe with SystemExit
        return False
    return True


def label(stage: str, arm: str, trial: int | None) -> str:
    """What a configuration is called on the console: ``trial 7``, ``baseline``, ``candidate-1``."""
    if stage == CONFIRM or trial is None:
        return arm
    return f"trial {trial}" if arm == CANDIDATE else f"{arm} trial {trial}"


def _score(record: Record) -> tuple[str, float] | None:
    """The accuracy that counts in the record's stage, and its short name."""
    if record.stage == CONFIRM:
        for metric in ("test_accuracy", "final_test_accuracy"):
            if metric in record.scores:
                return "test", record.scores[metric]
    if "val_accuracy" in record.scores:
        return "val", record.scores["val_accuracy"]
    return None


def _standing(progress: _Progress) -> list[str]:
    """Who leads: in confirm the mean of every arm, before it the best configuration."""
    if progress.stage == CONFIRM:
        return [f"{arm.label} {arm.mean:.2f} % (n={len(arm.scores)})" for arm in progress.arms]
    best = progress.best
    return [] if best is None else [f"best {best.mean:.2f} %"]


def _run_line(record: Record, progress: _Progress) -> str:
    parts = [record.stage, f"{label(record.stage, record.arm, record.trial)} seed {record.seed}"]
    if record.config:
        parts.append(_config(record.config))
    parts.append(f"{record.status} {record.epochs}/{record.epochs_planned} epochs")
    if record.status in (FAILED, DIVERGED) and record.reason:
        parts.append(f"({_shortened(record.reason)})")
    if (score := _score(record)) is not None:
        parts.append(f"{score[0]} {score[1]:.2f} %")
    parts.append(f"{record.duration_seconds:.1f} s")
    where = [f"{progress.done}/{progress.planned}", *_standing(progress)]
    if (left := progress.seconds_left) is not None:
        where.append(f"{_duration(left)} left")
    return "  ".join([*parts, f"[{', '.join(where)}]"])


def _live_view(progress: _Progress) -> RenderableType:
    if progress.decoded is not None:
        done, total = progress.decoded
        bar = _grid(3)
        bar.add_row(
            Text("decoding"), ProgressBar(total=total, completed=done, width=24), Text(f"{done}/{total} images")
        )
        return bar
    times = f"{_duration(progress.elapsed)} elapsed"
    if (left := progress.seconds_left) is not None:
        times += f", {_duration(left)} left"
    head = _grid(5)
    head.add_row(
        Text(progress.study, style="bold"),
        Text(progress.stage, style="bold cyan"),
        ProgressBar(total=max(progress.planned, 1), completed=progress.done, width=24),
        Text(f"{progress.done}/{progress.planned} runs"),
        Text(times, style="dim"),
    )
    parts: list[RenderableType] = [head]
    if progress.stage == CONFIRM:
        arms = _grid(4)
        for arm in progress.arms:
            cells = (arm.label, f"{arm.mean:.2f} %", f"n={len(arm.scores)}", _config(arm.config))
            arms.add_row(*(Text(cell, style="green") for cell in cells))
        parts.append(arms)
    elif (best := progress.best) is not None:
        parts.append(Text(f"best so far  {best.mean:.2f} %  {_config(best.config)}  ({best.label})", style="green"))
    tasks = _grid(4)
    for running in list(progress.running.values())[:_MAX_TASKS_SHOWN]:
        task, val = running.task, running.val_accuracy
        tasks.add_row(
            Text(f"  {label(task.stage, task.arm, task.trial)} seed {', '.join(map(str, task.seeds))}"),
            Text(_config(task.overrides)),
            Text(f"epoch {running.epoch}/{task.config.train.epochs}"),
            Text("" if val is None else f"val {val:.2f} %"),
        )
    parts.append(tasks)
    if (hidden := len(progress.running) - _MAX_TASKS_SHOWN) > 0:
        parts.append(Text(f"  and {hidden} more", style="dim"))
    return Group(*parts)


def _grid(columns: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in range(columns):
        grid.add_column(no_wrap=True)
    return grid


def _config(config: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in config.items())


def _shortened(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 3]}..."


def _duration(seconds: float) -> str:
    """Seconds as ``0:35`` or ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
