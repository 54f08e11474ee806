"""Progress as text: a line for each run, and the view that a terminal shows live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_bn.analysis.wording import config_keys
from tune_bn.observers.console.progress import Progress, label, standing
from tune_bn.records.record import CONFIRM, DIVERGED, FAILED, Record

_MAX_TASKS_SHOWN = 10
_MAX_TASKS_IN_A_LINE = 4
_MAX_REASON = 100
_BAR_WIDTH = 24


def run_line(record: Record, progress: Progress) -> str:
    parts = [record.stage, f"{label(record.stage, record.arm, record.trial)} seed {record.seed}"]
    if record.config:
        parts.append(_config(record.config))
    parts.append(f"{record.status} {record.epochs}/{record.epochs_planned} {progress.score.step}s")
    if record.status in (FAILED, DIVERGED) and record.reason:
        parts.append(f"({_shortened(record.reason)})")
    if (score := progress.score_of(record)) is not None:
        parts.append(f"{score[0]} {progress.score.value_words(score[1])}")
    parts.append(f"{record.duration_seconds:.1f} s")
    where = [f"{progress.done}/{progress.planned}", *standing(progress)]
    if (left := progress.seconds_left) is not None:
        where.append(f"{duration_words(left)} left")
    return "  ".join([*parts, f"[{', '.join(where)}]"])


def heartbeat_line(progress: Progress) -> str:
    """Where a stage is, for those who see no live view: runs, the epochs of those at work, who leads, time left."""
    working = [
        f"{label(running.task.stage, running.task.arm, running.task.trial)} {progress.score.step} "
        f"{running.epoch}/{running.task.steps or '?'}"
        for running in list(progress.running.values())[:_MAX_TASKS_IN_A_LINE]
    ]
    more = len(progress.running) - len(working)
    parts = [f"{progress.done}/{progress.planned} runs", *standing(progress)]
    if working:
        parts.append(f"at work: {', '.join(working)}" + (f" and {more} more" if more else ""))
    else:
        parts.append("no run is at work")
    parts.append(f"{duration_words(progress.stage_elapsed)} so far")
    if (left := progress.seconds_left) is not None:
        parts.append(f"{duration_words(left)} left")
    return f"{progress.stage}  {'; '.join(parts)}"


def live_view(progress: Progress) -> RenderableType:
    if progress.decoded is not None:
        done, total = progress.decoded
        bar = _grid(3, yielding={1: _BAR_WIDTH})
        bar.add_row(Text("decoding"), _bar(done, total), Text(f"{done}/{total} images"))
        return bar
    times = f"{duration_words(progress.elapsed)} elapsed"
    if (left := progress.seconds_left) is not None:
        # The one is of the study, the other is not.
        times += f", {duration_words(left)} left in {progress.stage}"
    head = _grid(5, yielding={0: None, 2: _BAR_WIDTH})
    head.add_row(
        _whole_or_cut(progress.study, "bold"),
        Text(progress.stage, style="bold cyan"),
        _bar(progress.done, progress.planned),
        Text(f"{progress.done}/{progress.planned} runs"),
        Text(times, style="dim"),
    )
    parts: list[RenderableType] = [head]
    if progress.stage == CONFIRM:
        arms = _grid(4, yielding={3: None})
        for arm in progress.arms:
            cells = (arm.label, progress.score.value_words(arm.mean), f"n={len(arm.scores)}", _config(arm.config))
            arms.add_row(*(_whole_or_cut(cell, "green") for cell in cells))
        parts.append(arms)
    else:
        for words, leader in (("best so far", progress.best), ("baseline   ", progress.best_baseline)):
            if leader is not None:
                mean = progress.score.value_words(leader.mean)
                line = f"{words}  {mean}  {_config(leader.config)}  ({leader.label})"
                parts.append(Text(line, style="green" if leader is progress.best else "dim"))
    tasks = _grid(4, yielding={1: None})
    for running in list(progress.running.values())[:_MAX_TASKS_SHOWN]:
        task, val = running.task, running.validation(progress.score)
        tasks.add_row(
            Text(f"  {label(task.stage, task.arm, task.trial)} seed {', '.join(map(str, task.seeds))}"),
            _whole_or_cut(_config(task.overrides)),
            Text(f"{progress.score.step} {running.epoch}/{task.steps or '?'}"),
            Text("" if val is None else f"val {progress.score.value_words(val)}"),
        )
    parts.append(tasks)
    if (hidden := len(progress.running) - _MAX_TASKS_SHOWN) > 0:
        parts.append(Text(f"  and {hidden} more", style="dim"))
    return Group(*parts)


def _bar(done: int, total: int) -> ProgressBar:
    """In colours that every terminal has: of rich's own, 16 colours leave a full bar as grey as an empty one."""
    return ProgressBar(
        total=max(total, 1),
        completed=done,
        # None: as wide as its column, which is the first to give way on a narrow terminal.
        width=None,
        style="bright_black",
        complete_style="cyan",
        finished_style="cyan",
    )


def _grid(columns: int, *, yielding: Mapping[int, int | None]) -> Table:
    """Columns without lines. Where the terminal is too narrow for all, those that yield give way, the widest first.

    Args:
        columns: how many there are.
        yielding: columns and how wide they are at most.
    """
    grid = Table.grid(padding=(0, 2))
    for column in range(columns):
        # rich narrows columns that may wrap before any other; a bar does not wrap, nor does a text that is told so.
        grid.add_column(no_wrap=column not in yielding, max_width=yielding.get(column))
    return grid


def _whole_or_cut(text: str, style: str = "") -> Text:
    """What stands in a column that gives way."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _config(config: Mapping[str, Any]) -> str:
    """As ``--set`` takes it, gamma and c first whichever file it was read from."""
    values = ((key, config[key]) for key in config_keys([config]))
    return " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values)


def _shortened(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 3]}..."


def duration_words(seconds: float) -> str:
    """Seconds as ``0:35`` or ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
