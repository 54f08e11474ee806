"""``tune_bn status``: what the folders of the studies say. Reads files alone; the studies may be running, anywhere."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tune_bn.analysis.wording import config_words, spoken
from tune_bn.cli.status_index import StatusIndex
from tune_bn.cli.validate import planned
from tune_bn.errors import RecordError, TuneBNError
from tune_bn.host.process import unread
from tune_bn.observers.console.plain import plain_console, rendered
from tune_bn.records.files import read_bytes
from tune_bn.records.plan import Plan
from tune_bn.records.record import CANDIDATE, COMPLETED, CONFIRM, FAILED, SEARCH, SELECT, STAGES, Record
from tune_bn.records.score import Score, read_score
from tune_bn.records.verdict import verdict_from
from tune_bn.runners.ask.ledger import ASKED_FILE
from tune_bn.space.space import Space
from tune_bn.study.driver import BROKEN, LOST, WORKING, DriverState, checked_driver_state
from tune_bn.study.folder import StudyFolder

WATCH_SECONDS = 2.0

_ENDED = {WORKING: "died", LOST: "died", BROKEN: "failed"}

_MAX_CANDIDATES = 3

_COLUMNS = ("study", "state", "search", "select", "confirm", "device-h", "cost", "left")


def describe_study(folder: StudyFolder) -> dict[str, Any]:
    """One study as plain values.

    ``state`` is ``running``, ``finished`` (it has a verdict), ``stopped`` (on purpose; ``reason`` may say why),
    ``failed`` (its driver met an error), ``died`` (its driver was killed, or lost its cluster) or ``unreadable``
    (``problem`` says why).
    ``user`` is the owner of ``folder``; null where the system knows no name.
    ``hours`` are those of the recorded runs; ``device_hours`` those for which tasks held devices, failed attempts
    included. ``cost`` is an estimate from ``resources.price_per_device_hour``; null without it. ``seconds_left`` is an
    estimate too, at most, since runs may be stopped early; null where nothing runs. Times are in UTC.
    ``best`` is the best candidate of the search, ``best_baseline`` the best run of it that is the baseline or tunes it.
    ``candidates`` are the arms that the plan confirms, which the selection need not have chosen by ``best``; null
    without a plan.
    """
    row: dict[str, Any] = {"study": folder.name, "folder": str(folder.path), "user": _owner(folder)}
    try:
        space, records, score = folder.space(), folder.records.read(), read_score(folder.path)
    except TuneBNError as error:
        return row | {"state": "unreadable", "problem": str(error)}
    done = [record for record in records if record.status != FAILED]
    counts, most = Counter(record.stage for record in done), planned(space)
    locked = _locked_plan(folder)
    # Which tunings of the baseline are confirmed is known with the selection.
    confirm = most.confirm if locked is None else len(locked.arms) * len(locked.seeds)
    totals = {SEARCH: most.search, SELECT: most.select, CONFIRM: confirm}
    problem = ""
    try:
        driver = checked_driver_state(folder)
    except RecordError as error:
        driver, problem = None, str(error)
    verdict, headline = _verdict(folder)
    best, baseline = (_best(space, done, score, baseline=which) for which in (False, True))
    state = _state(folder, verdict, driver)
    reached = next((stage for stage in reversed(STAGES) if counts[stage]), CONFIRM if space.claim.arms else SEARCH)
    hours = sum(record.duration_seconds for record in records) / 3600
    device_hours = hours * space.resources.devices if driver is None else driver.device_hours
    price = space.resources.price_per_device_hour
    return row | {
        "space": space.name,
        "state": state,
        "reason": problem or ("" if driver is None or state != "stopped" else driver.reason),
        "stage": driver.stage if state == "running" and driver is not None and driver.stage else reached,
        "runs": {stage: {"done": counts[stage], "planned": totals[stage]} for stage in STAGES},
        "running": driver.running if state == "running" and driver is not None else 0,
        "failed": len(records) - len(done),
        "best": best,
        "best_baseline": baseline,
        "candidates": None if locked is None else _planned_candidates(locked, score),
        "hours": round(hours, 4),
        "device_hours": round(device_hours, 4),
        "cost": None if price is None else round(device_hours * price, 4),
        "seconds_left": _seconds_left(space, done, totals, driver) if state == "running" else None,
        "driver": None
        if driver is None
        else {"host": driver.host, "pid": driver.pid, "started_at": driver.started_at, "updated_at": driver.updated_at},
        "verdict": verdict,
        "headline": headline,
    }


def _owner(folder: StudyFolder) -> str | None:
    try:
        return folder.path.owner()
    except (OSError, KeyError):
        return None


def _state(folder: StudyFolder, verdict: str | None, driver: DriverState | None) -> str:
    if folder.is_locked:
        return "running"
    if verdict is not None:
        return "finished"
    # Its runs are trained by whoever asks for them; no driver works between two questions.
    if (folder.path / ASKED_FILE).exists():
        return "asked"
    # One that was killed while it stopped was told to.
    if driver is None or (driver.state == WORKING and driver.ended):
        return "stopped"
    return _ENDED.get(driver.state, "stopped")


def _seconds_left(
    space: Space, done: Sequence[Record], totals: Mapping[str, int], driver: DriverState | None
) -> float | None:
    """What is planned and not done, at the mean duration of the runs of its stage, on the devices that work now."""
    if driver is None or not driver.running or not done:
        return None
    whole = [record.duration_seconds for record in done if record.epochs == record.epochs_planned]
    seconds = 0.0
    for stage in STAGES if not space.claim.arms else (CONFIRM,):
        durations = [record.duration_seconds for record in done if record.stage == stage]
        left = max(0, totals[stage] - len(durations))
        seconds += left * fmean(durations or whole or [record.duration_seconds for record in done])
    return round(seconds / driver.running, 1)


def _best(space: Space, records: Sequence[Record], score: Score, *, baseline: bool) -> dict[str, Any] | None:
    """The best whole run of the search among the candidates, or among those that are the baseline or tune it."""
    search = [record for record in records if record.stage == SEARCH and record.status == COMPLETED]
    found = [
        record
        for record in search
        if score.has(record.scores) and (record.arm != CANDIDATE or space.is_baseline(record.config)) == baseline
    ]
    best = max(found, key=lambda record: score.objective_of(record.scores), default=None)
    if best is None:
        return None
    value = best.scores[score.validation]
    return {"config": dict(best.config), score.validation: value, "words": score.value_words(value)}


def _locked_plan(folder: StudyFolder) -> Plan | None:
    """None where there is none yet, or none that can be read."""
    if not folder.plan_file.exists():
        return None

    # Only now, since it loads the design of looks.
    from tune_bn.analysis.plan import read_plan

    try:
        return read_plan(folder.plan_file)
    except TuneBNError:
        return None


def _planned_candidates(plan: Plan, score: Score) -> list[dict[str, Any]]:
    """What the plan confirms: a verdict is about these, whatever led the search."""
    found = []
    for arm in plan.candidates:
        chosen = arm.selection or {}
        mean, n = chosen.get(f"{score.validation}_mean"), chosen.get("n")
        seeds = f"n = {n} selection seed{'' if n == 1 else 's'}"
        words = "" if mean is None else f"{score.value_words(mean)} on validation, {seeds}"
        found.append({"arm": arm.arm, "config": dict(arm.config), "words": words})
    return found


def candidates_words(candidates: Sequence[Mapping[str, Any]]) -> str:
    """``γ = 0.068, c = 933 (95.89 % on validation, n = 3 selection seeds)``; of several by name, the first ones."""
    if len(candidates) == 1:
        (only,) = candidates
        return config_words(only["config"]) + (f" ({only['words']})" if only["words"] else "")
    shown = [f"{one['arm']} {config_words(one['config'])}" for one in candidates[:_MAX_CANDIDATES]]
    more = len(candidates) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _verdict(folder: StudyFolder) -> tuple[str | None, str | None]:
    """The verdict, and its headline as people are told it."""
    try:
        found = verdict_from(json.loads(read_bytes(folder.verdict_file)))
        return found.verdict, spoken(found)
    except (OSError, ValueError, RecursionError):
        return None, None


def table(rows: Sequence[Mapping[str, Any]], output: Path) -> str:
    """The studies for people, as wide as the terminal."""
    if not rows:
        return _no_studies(output)
    return rendered(_table(rows))


@dataclass(frozen=True)
class View:
    """Studies to show."""

    folders: Sequence[StudyFolder]
    names: Mapping[Path, str] = field(default_factory=dict)
    """What studies are called where it is not by their name: those that others keep elsewhere."""
    remark: str = ""
    """A line about what is not shown."""

    def rows(self) -> list[dict[str, Any]]:
        """Each study as plain values. Those whose files are as they were are not read again."""
        index = StatusIndex(describe_study)
        rows = [index.row(folder) for folder in self.folders]
        index.save()
        return rows

    def named(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row for people, with the name by which the verbs find the study."""
        return {**row, "study": self.names.get(Path(row["folder"]), row["study"])}


def watch(look: Callable[[], View], output: Path) -> None:
    """Show the studies and keep the view up to date, until Ctrl-C. Files that did not change are not read again."""
    console = plain_console()
    index = StatusIndex(describe_study)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            view = look()
            rows = [view.named(index.row(folder)) for folder in view.folders]
            shown = [_table(rows) if rows else Text(_no_studies(output)), *([Text(view.remark)] if view.remark else [])]
            live.update(Group(*shown), refresh=True)
            if unread():
                return
            time.sleep(WATCH_SECONDS)


def _no_studies(output: Path) -> str:
    return f"no studies in {output}"


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row of numbers for each study, and below it, over the whole width, what it found and why it ended."""
    shown = Table(box=None, pad_edge=False, padding=0, show_header=False)
    shown.add_column(overflow="fold")
    widths = [max(map(len, cells)) for cells in zip(_COLUMNS, *map(_numbers, rows), strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join([first, *others]).rstrip()

    shown.add_row(Text(line(_COLUMNS), style="bold"))
    for row in rows:
        shown.add_row(Text(line(_numbers(row))))
        for words in _words(row):
            shown.add_row(Padding(Text(words), (0, 0, 0, 2)))
    return shown


def _numbers(row: Mapping[str, Any]) -> list[str]:
    if row["state"] == "unreadable":
        return [row["study"], row["state"], *[""] * (len(_COLUMNS) - 2)]
    cost, left = row["cost"], row["seconds_left"]
    return [
        row["study"],
        row["state"],
        *(f"{row['runs'][stage]['done']}/{row['runs'][stage]['planned']}" for stage in STAGES),
        f"{row['device_hours']:.2f}",
        "" if cost is None else f"{cost:.2f}",
        "" if left is None else f"≤ {duration_words(left)}",
    ]


def _words(row: Mapping[str, Any]) -> list[str]:
    if row["state"] == "unreadable":
        return [row["problem"]]
    best, baseline, candidates, found = row["best"], row["best_baseline"], row["candidates"], []
    if candidates:
        found.append(f"candidate{'s' if len(candidates) > 1 else ''}: {candidates_words(candidates)}")
    elif best is not None:
        beside = "" if baseline is None else f" (baseline: {baseline['words']})"
        found.append(f"best candidate on validation: {best['words']} with {config_words(best['config'])}{beside}")
    if row["reason"]:
        found.append(f"{row['state']}: {row['reason']}")
    if row["headline"]:
        found.append(f"verdict: {row['headline']}")
    return found


def duration_words(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.4 h``."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"
