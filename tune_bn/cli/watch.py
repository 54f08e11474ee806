"""``tune_bn watch``: one study on one screen, from its files alone, beside a running driver or long after it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tune_bn.analysis.monitoring import standing
from tune_bn.analysis.wording import config_keys, config_words, symbol
from tune_bn.cli.status import candidates_words, describe_study, duration_words
from tune_bn.errors import TuneBNError
from tune_bn.host.process import unread
from tune_bn.records.files import read_bytes
from tune_bn.records.record import CANDIDATE, COMPLETED, CONFIRM, FAILED, SEARCH, SELECT, STAGES, Record
from tune_bn.records.score import Score, read_score
from tune_bn.study.driver import LIVE_FILE
from tune_bn.study.folder import StudyFolder

WATCH_SECONDS = 1.0
BLOCKS = "▁▂▃▄▅▆▇█"
SHADES = "·░▒▓█"
SPARK = 20
TRIALS = 6
MAP_ROWS, MAP_COLUMNS = 5, 32

Lines = list[str]


def sparkline(values: Sequence[float], low: float, high: float, width: int = SPARK) -> str:
    """Values as blocks between two ends; of more than ``width`` values means of neighbours."""
    if len(values) > width:
        edges = [round(index * len(values) / width) for index in range(width + 1)]
        values = [fmean(values[a:b]) for a, b in pairwise(edges)]
    span = high - low or 1.0
    places = (0.0 if not math.isfinite(value) else (value - low) / span for value in values)
    return "".join(BLOCKS[min(len(BLOCKS) - 1, max(0, int(place * len(BLOCKS))))] for place in places)


def screen(folder: StudyFolder, width: int = 80, height: int = 24) -> Lines:
    """What is known of a study, in at most ``height`` lines of ``width`` letters. Reads files alone."""
    row = describe_study(folder)
    if row["state"] == "unreadable":
        return _fitted([f"{row['study']}  unreadable", row["problem"]], width, height)
    records = [record for record in folder.records.read() if record.status != FAILED]
    lines = _head(row)
    stage, score = row["stage"], read_score(folder.path)
    if stage == SEARCH:
        lines += ["", *_trials(folder, records, score), "", *_landscape(records, score)]
    elif stage == SELECT:
        lines += ["", *_trials(folder, records, score, most=3), "", *_race(records, score)]
    else:
        lines += ["", *_race(records, score, most=3), "", *_pairs(folder, records, score)]
    return _fitted(lines, width, height)


def _fitted(lines: Sequence[str], width: int, height: int) -> Lines:
    short = [line if len(line) <= width else f"{line[: width - 1]}…" for line in lines]
    return short if len(short) <= height else [*short[: height - 1], f"… {len(short) - height + 1} more lines"]


def _head(row: Mapping[str, Any]) -> Lines:
    cost = "" if row["cost"] is None else f", cost {row['cost']:.2f}"
    left = "" if row["seconds_left"] is None else f", ≤ {duration_words(row['seconds_left'])} left"
    lines = [f"{row['study']}  {row['state']}  {row['device_hours']:.2f} device-hours{cost}{left}"]
    for stage in STAGES:
        done, planned = row["runs"][stage]["done"], row["runs"][stage]["planned"]
        if planned:
            filled = min(30, round(30 * done / planned))
            now = f"  {row['running']} at work" if row["running"] and stage == row["stage"] else ""
            lines.append(f"{stage:<8} {'█' * filled}{'░' * (30 - filled)} {done}/{planned}{now}")
    best, baseline, candidates = row["best"], row["best_baseline"], row["candidates"]
    if candidates:
        lines.append(f"{'chosen' if len(candidates) == 1 else 'arms':<8} {candidates_words(candidates)}")
    elif best is not None:
        beside = "" if baseline is None else f"; baseline {baseline['words']}"
        lines.append(f"best     {best['words']} on validation with {config_words(best['config'])}{beside}")
    lines += [f"{row['state']}: {row['reason']}"] if row["reason"] else []
    return lines + ([f"verdict  {row['headline']}"] if row["headline"] else [])


def _trials(folder: StudyFolder, records: Sequence[Record], score: Score, most: int = TRIALS) -> Lines:
    """The newest trials and those at work, each with its course."""
    try:
        curves = folder.curves.read()
    except TuneBNError:
        curves = {}
    searched = [record for record in records if record.stage == SEARCH]
    courses = [
        (
            f"{'trial' if r.arm == CANDIDATE else r.arm} {r.trial}",
            r.config,
            [p.metrics.get(score.validation, math.nan) for p in curves[r.key]],
            r.status,
        )
        for r in searched
        if curves.get(r.key)
    ][-most:]
    live = [
        (one["name"], one["config"], one["scores"], f"{score.step} {len(one['scores'])}/{one['epochs']}")
        for one in _live(folder)
    ]
    shown = [*courses, *live][-(most + len(live)) :]
    finite = [value for *_, values, _ in shown for value in values if math.isfinite(value)]
    if not finite:
        return [f"no {score.step} of a trial is known yet"]
    low, high = min(finite), max(finite)
    lines = [f"trials as they learn, {score.value_words(low)} to {score.value_words(high)} on validation"]
    for name, config, values, state in shown:
        known = [value for value in values if math.isfinite(value)]
        best = score.value_words(max(known, key=score.objective)) if known else "–"
        lines.append(
            f"  {name:<11} {sparkline(values, low, high):<{SPARK}} {best:>8}  {state:<12} {config_words(config)}"
        )
    return lines


def _live(folder: StudyFolder) -> list[dict[str, Any]]:
    """What the driver tells of the tasks at work; nothing where it tells nothing, or does not work any more."""
    if not folder.is_locked:
        return []
    try:
        found = json.loads(read_bytes(folder.path / LIVE_FILE))["tasks"]
        return [one for one in found if one["scores"] and {"name", "config", "epochs"} <= set(one)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _landscape(records: Sequence[Record], score: Score) -> Lines:
    """Where the trials lay over the first two keys that vary, γ and c before others; darker is better."""
    whole = [
        record
        for record in records
        if (record.stage, record.arm, record.status) == (SEARCH, CANDIDATE, COMPLETED) and score.has(record.scores)
    ]
    varied = [key for key in config_keys([r.config for r in whole]) if _varies([r.config.get(key) for r in whole])]
    keys = varied[:2]
    if not keys:
        return []
    scores = [record.scores[score.validation] for record in whole]
    low, high = min(scores), max(scores)
    x = _places([record.config[keys[0]] for record in whole], MAP_COLUMNS)
    y = _places([record.config[keys[1]] for record in whole], MAP_ROWS) if len(keys) > 1 else [0] * len(whole)
    cells: dict[tuple[int, int], float] = {}
    for column, row, value in zip(x, y, scores, strict=True):
        cells[row, column] = max(value, cells.get((row, column), value), key=score.objective)
    ends = [
        f"{symbol(key)} {min(r.config[key] for r in whole):.3g} to {max(r.config[key] for r in whole):.3g}"
        for key in keys
    ]
    worst, best = sorted((low, high), key=score.objective)
    legend = f"{SHADES[0]} {score.value_words(worst)} … {SHADES[-1]} {score.value_words(best)}"
    lines = [f"landscape: {', '.join(ends)}; {legend}"]
    for row in reversed(range(MAP_ROWS if len(keys) > 1 else 1)):
        found = (cells.get((row, column)) for column in range(MAP_COLUMNS))
        lines.append("  │" + "".join(" " if value is None else _shade(value, worst, best) for value in found) + "│")
    return lines


def _varies(values: Sequence[Any]) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and len(set(values)) > 1


def _places(values: Sequence[float], count: int) -> list[int]:
    """Which of ``count`` cells each value lies in: on a logarithmic scale where all are above 0."""
    logs = [math.log(value) for value in values] if min(values) > 0 else list(values)
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    return [min(count - 1, int((value - low) / span * count)) for value in logs]


def _shade(value: float, worst: float, best: float) -> str:
    place = (value - worst) / ((best - worst) or 1.0)
    return SHADES[min(len(SHADES) - 1, int(place * len(SHADES)))]


def _race(records: Sequence[Record], score: Score, most: int = 10) -> Lines:
    """The finalists by their mean on the selection seeds."""
    found: dict[tuple[str, int | None], list[Record]] = {}
    for record in records:
        if record.stage == SELECT and score.has(record.scores):
            found.setdefault((record.arm, record.trial), []).append(record)
    if not found:
        return []
    rows = sorted(
        ((fmean(run.scores[score.validation] for run in runs), key, runs) for key, runs in found.items()),
        key=lambda row: -score.objective(row[0]),
    )
    lines = ["race of the finalists, validation over selection seeds"]
    for mean, (arm, trial), runs in rows[:most]:
        name = f"{'trial' if arm == CANDIDATE else arm} {trial}"
        lines.append(f"  {name:<13} {score.value_words(mean):>8}  n = {len(runs):<3} {config_words(runs[0].config)}")
    return lines


def _pairs(folder: StudyFolder, records: Sequence[Record], score: Score) -> Lines:
    """Each candidate's differences by seed, as signs and as their mean, and where its looks are."""
    from tune_bn.analysis.plan import read_plan

    try:
        plan = read_plan(folder.plan_file)
    except TuneBNError:
        return ["no plan yet"]
    scores: dict[str, dict[int, float]] = {arm.arm: {} for arm in plan.arms}
    for record in records:
        if record.stage == CONFIRM and record.arm in scores and plan.metric in record.scores:
            scores[record.arm][record.seed] = record.scores[plan.metric]
    held = standing(plan, scores)
    lines = [f"pairs of the confirmation: + better, - worse, = equal; {len(plan.seeds)} seeds"]
    for arm in plan.candidates:
        name, other = arm.arm, arm.opponent
        pairs = [scores[name][s] - scores[other][s] for s in plan.seeds if s in scores[name] and s in scores[other]]
        signs = "".join("=" if value == 0 else "+" if score.objective(value) > 0 else "-" for value in pairs)
        mean = "no pair yet"
        if pairs:
            gain = fmean(pairs)
            mean = f"{gain:+.{score.decimals_of(gain)}f} {score.difference_unit}".rstrip()
        outcome = held.outcomes.get(name)
        look = "" if outcome is None else f"  look at {outcome.last.n}: {outcome.last.decision}"
        lines.append(f"  {name:<14} {signs:<{min(30, len(plan.seeds))}} {mean}{look}")
    return lines


def still(folder: StudyFolder, width: int = 80, height: int = 24) -> str:
    """The screen as text, for a pipe, a page or a file."""
    return "\n".join(line.rstrip() for line in screen(folder, width, height))


_PLAIN = str.maketrans(f"{BLOCKS}{SHADES}│…", "._-=+*%#.:%##|~")


def for_encoding(text: str, encoding: str | None) -> str:
    """The text for a terminal or a file of an encoding, drawn with other signs where it has no blocks."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return text.translate(_PLAIN)
    return text


def watch(look: Callable[[], StudyFolder]) -> None:
    """Show a study until Ctrl-C; into a pipe once, and so on a terminal whose cursor does not move (TERM=dumb)."""
    # FORCE_COLOR asks for colours in a log, never for cursor movements.
    console = Console(force_terminal=sys.stdout.isatty(), markup=False, highlight=False)
    if not console.is_interactive:
        print(for_encoding(still(look()), sys.stdout.encoding), flush=True)
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while not unread():
            lines = screen(look(), console.width, console.height)
            live.update(Text(for_encoding("\n".join(lines), console.encoding)), refresh=True)
            time.sleep(WATCH_SECONDS)
