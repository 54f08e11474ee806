"""A whole study of ours beside the same study as written from the documentation of Ray Tune, Optuna and MLflow.

    python -m benchmarks.speed.end_to_end [--rounds 5] [--small] [--add]

Each contender is a command that starts in an empty folder, alone on the machine, and is timed from its start to its
end: imports, Ray, search, confirmation, tracking, report. The contenders take turns, and the order turns by one from
round to round. A round takes ten minutes and is written at its end; ``--add`` goes on after the rounds that were
written before on such a machine with the same versions, and each row says at which commit it was measured.

``plain`` is ``benchmarks.speed.plain_tune`` as it stands, ``plain, actors reused`` the same with the one option of Tune
that keeps its workers. ``ours`` is ``tune_bn search --space digits.yaml`` as a user types it, which trains more: no
trial is stopped before that is known to be safe, and there is the selection. ``ours, the same work`` trains what
``plain`` trains, by the same early stopping, and one run more, the smallest selection that there is. Searches differ in
what they try, and so in how much ASHA stops: the tables say how many epochs each contender trained.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from scipy import stats

from benchmarks.measure import Spread, hardware, hardware_words, take_turns
from benchmarks.results import COMMIT, markdown, mean_words, read, save, speed_parser, stamp
from tune_bn.records.log import RecordLog
from tune_bn.records.record import CONFIRM, SEARCH, SELECT, Record

NAME = "end_to_end"
TOP = Path(__file__).parents[2]
ORDER = (SEARCH, SELECT, CONFIRM)
PLAIN, REUSED, OURS, SAME_WORK = "plain", "plain, actors reused", "ours", "ours, the same work"
STAGES = ("search_seconds", "select_seconds", "confirm_seconds")
FIRST_RUN, NEXT_STAGE, PROMPT = "first_run_seconds", "next_stage_seconds", "prompt_seconds"
WAITS = {
    FIRST_RUN: "from the command to the first run",
    NEXT_STAGE: "from a stage's last run to the next's first (the longer of both)",
    PROMPT: "from the last run to the prompt",
}
"""What a user waits for while nothing trains."""
Lines = Sequence[tuple[float, str]]
"""What a command printed, each line with the seconds since its start."""


@dataclass(frozen=True)
class Size:
    """How large the study is, for all contenders."""

    trials: int
    pairs: int
    epochs: int
    grace: int


FULL = Size(trials=24, pairs=15, epochs=40, grace=10)
SMALL = Size(trials=6, pairs=3, epochs=10, grace=3)


def plain(size: Size, options: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run the plain study: the columns of its row."""
    amounts = [f"--{key}={value}" for key, value in vars(size).items()]
    lines = timed_lines(["-m", "benchmarks.speed.plain_tune", "--folder", str(folder), *amounts, *options])
    return plain_columns(json.loads(next(line for _, line in reversed(lines) if line.startswith("{"))))


def plain_columns(printed: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row, from what ``benchmarks.speed.plain_tune`` printed."""
    return {
        "runs": printed["runs"],
        "epochs_trained": printed["epochs_trained"],
        "search_seconds": printed["search_seconds"],
        "select_seconds": 0.0,
        "confirm_seconds": printed["confirm_seconds"],
        **dict.fromkeys(WAITS),
        **_result(printed["best"], printed["baseline"], printed["candidate"], printed["p_value"]),
        "verdict": None,
    }


def ours(size: Size, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run our study: the columns of its row."""
    if size != FULL:
        overrides = [
            f"budget.trials={size.trials}",
            f"train.epochs={size.epochs}",
            f"seeds.confirm={{from: 1, to: {size.pairs}}}",
            *overrides,
        ]
    options = [word for override in overrides for word in ("--set", override)]
    started = time.monotonic()
    lines = timed_lines(["-m", "tune_bn", "search", "--space", "digits.yaml", "--output", str(folder), *options])
    return ours_columns(folder / "digits-1", lines, time.monotonic() - started)


def ours_columns(study: Path, lines: Lines, seconds: float) -> dict[str, Any]:
    """The columns of a row, from the folder of a study, what its command printed, and how long it took."""
    records = RecordLog(study / "records.jsonl").read()
    verdict = json.loads((study / "verdict.json").read_text(encoding="utf-8"))
    candidate = verdict["candidates"][0]
    return {
        "runs": len(records),
        "epochs_trained": sum(record.epochs for record in records),
        **stage_seconds(lines),
        **waits(lines, records, seconds),
        **_result(candidate["config"], verdict["baseline"], candidate, candidate["p_value"]),
        "verdict": verdict["verdict"],
    }


def stage_seconds(lines: Lines) -> dict[str, float]:
    """How long each stage of ours took, its workers' start included: by the lines that announce the stages."""
    begins = {
        stage: next(at for at, line in lines if line.startswith(f"{stage} ") and "planned" in line) for stage in ORDER
    }
    end = max(at for at, line in lines if line.startswith(f"{CONFIRM} "))
    times = [*begins.values(), end]
    return {name: round(after - before, 2) for name, (before, after) in zip(STAGES, pairwise(times), strict=True)}


def waits(lines: Lines, records: Sequence[Record], seconds: float) -> dict[str, float]:
    """Seconds of :data:`WAITS`: a run has a line at its end, in the order of the records, which say how long it took.

    Args:
        lines: what the command printed.
        records: of its study.
        seconds: until the command's end.
    """
    ends = [at for at, line in lines if re.match(rf"({'|'.join(ORDER)})  .* seed \d+  ", line)]
    runs = [(record.stage, at - record.duration_seconds, at) for record, at in zip(records, ends, strict=True)]
    first = {stage: min(begun for of, begun, _ in runs if of == stage) for stage in ORDER}
    last = {stage: max(ended for of, _, ended in runs if of == stage) for stage in ORDER}
    found = (
        first[SEARCH],
        max(first[after] - last[before] for before, after in pairwise(ORDER)),
        seconds - last[CONFIRM],
    )
    return {name: round(value, 2) for name, value in zip(WAITS, found, strict=True)}


def _result(
    config: Mapping[str, float], baseline: Mapping[str, Any], candidate: Mapping[str, Any], p_value: float | None
) -> dict[str, Any]:
    return {
        "gamma": config["gamma"],
        "c": config["c"],
        "baseline_scores": json.dumps(baseline["scores"]),
        "candidate_scores": json.dumps(candidate["scores"]),
        "p_value": p_value,
    }


def timed_lines(arguments: Sequence[str]) -> Lines:
    """Run Python with these arguments until it ends: both of its streams, line by line.

    Raises:
        RuntimeError: it failed; the message ends with what it printed last.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    environment.pop("RAY_ADDRESS", None)
    started, lines = time.monotonic(), []
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=TOP,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append((time.monotonic() - started, line.rstrip("\n")))
    if process.returncode != 0:
        last = "\n".join(line for _, line in lines[-20:])
        raise RuntimeError(f"{' '.join(arguments)}: exit status {process.returncode}\n{last}")
    return lines


def contenders(size: Size) -> dict[str, Callable[[Path], dict[str, Any]]]:
    """By name: runs the study in an empty folder, and returns the columns of its row."""
    return {
        PLAIN: partial(plain, size, ()),
        REUSED: partial(plain, size, ("--reuse-actors",)),
        OURS: partial(ours, size, ()),
        SAME_WORK: partial(ours, size, (f"scheduler.grace={size.grace}", "budget.finalists=1", "seeds.select=[201]")),
    }


def measured_before(folder: Path, like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the results in ``folder``, to be added to; none where there are no results.

    Args:
        folder: of results.
        like: what must be the same as now, by its name in the results: machine, versions, size.

    Raises:
        SystemExit: it is not.
    """
    if not (folder / f"{NAME}.json").exists():
        return []
    made = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    for name, value in like.items():
        if made[name] != value:
            raise SystemExit(f"{folder / NAME}.json: {name}: {made[name]}; accepted by --add: the present one, {value}")
    return [
        {"commit": made["commit"]} | {key: _number(value) for key, value in row.items()} for row in read(NAME, folder)
    ]


def _number(text: str) -> float | str | None:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text or None


def measure(size: Size, rounds: int, rows: Sequence[dict[str, Any]] = ()) -> Iterator[list[dict[str, Any]]]:
    """After each round all rows so far: one per round and contender.

    Args:
        size: of the study.
        rounds: to be measured.
        rows: of the rounds before.
    """
    rows, columns = list(rows), []
    first = 1 + max((row["round"] for row in rows), default=-1)

    def turn(study: Callable[[Path], dict[str, Any]]) -> float:
        with tempfile.TemporaryDirectory(prefix="end_to_end-") as folder:
            columns.append(study(Path(folder)))
        return 1.0

    # Whoever comes first must not be the one who reads the libraries from the disk.
    timed_lines(["-c", "import benchmarks.speed.plain_tune, tune_bn.front.wiring, tune_bn.runners.ray.runner"])
    studies = contenders(size)
    names = list(studies)
    for number in range(first, first + rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        timings = take_turns({name: partial(turn, studies[name]) for name in order}, 1, warm_up=0)
        rows += [
            {"commit": COMMIT, "round": number, "contender": timing.contender, "seconds": round(timing.seconds, 2)}
            | found
            for timing, found in zip(timings, columns, strict=True)
        ]
        columns.clear()
        yield rows


def speed_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Seconds of each contender, and how many times as fast as each plain one it is within a round."""
    seconds = {(row["round"], row["contender"]): row["seconds"] for row in rows}
    rounds = sorted({row["round"] for row in rows})
    lines: list[tuple[str, ...]] = [
        ("contender", "seconds", "runs", "epochs trained", f"times as fast as {PLAIN}", f"as {REUSED}")
    ]
    for name in _names(rows):
        ratios = [
            "" if name == against else Spread.of([seconds[r, against] / seconds[r, name] for r in rounds]).words()
            for against in (PLAIN, REUSED)
        ]
        own = [row for row in rows if row["contender"] == name]
        amounts = [f"{median(row[key] for row in own):.0f}" for key in ("runs", "epochs_trained")]
        lines.append((name, Spread.of([row["seconds"] for row in own]).words(1), *amounts, *ratios))
    return markdown(lines)


def stage_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Median seconds of each stage; the rest is imports, the start of Ray, verdict, report and exit."""
    lines: list[tuple[str, ...]] = [("contender", "search", "selection", "confirmation", "rest")]
    for name in _names(rows):
        own = [row for row in rows if row["contender"] == name]
        stages = [median(row[key] for row in own) for key in STAGES]
        rest = median(row["seconds"] - sum(row[key] for key in STAGES) for row in own)
        lines.append((name, *(f"{value:.1f}" for value in (*stages, rest))))
    return markdown(lines)


def wait_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Seconds of each of :data:`WAITS`."""
    lines: list[tuple[str, ...]] = [("contender", *WAITS.values())]
    for name in _names(rows):
        own = [row for row in rows if row["contender"] == name]
        if own[0][PROMPT] is not None:
            lines.append((name, *(Spread.of([row[key] for row in own]).words(1) for key in WAITS)))
    return markdown(lines)


def result_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each contender found in the first round: test accuracies in percent, mean ± standard deviation of seeds."""
    lines = [("contender", "found", "baseline", "found on fresh seeds", "one-sided p", "verdict")]
    for name in _names(rows):
        row = _first(rows, name)
        lines.append(
            (
                name,
                f"γ = {row['gamma']:.3g}, c = {row['c']:.3g}",
                mean_words(_scores(row, "baseline")),
                mean_words(_scores(row, "candidate")),
                "" if row["p_value"] is None else f"{row['p_value']:.2g}",
                row["verdict"] or "",
            )
        )
    return markdown(lines)


def parity_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """Both baselines side by side: the same network, recipe and sizes must give the same accuracy but for chance."""
    theirs, mine = (_scores(_first(rows, name), "baseline") for name in (PLAIN, OURS))
    p = stats.ttest_ind(theirs, mine, equal_var=False).pvalue
    return (
        f"Baseline γ = 1, c = 1: {PLAIN} {mean_words(theirs)} %, {OURS} {mean_words(mine)} % test accuracy "
        f"({len(theirs)} seeds each, mean ± standard deviation; two-sided Welch p = {p:.2f})."
    )


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {row["contender"] for row in rows}
    return [name for name in (PLAIN, REUSED, OURS, SAME_WORK) if name in found]


def _first(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return min((row for row in rows if row["contender"] == name), key=lambda row: row["round"])


def _scores(row: Mapping[str, Any], arm: str) -> list[float]:
    return list(json.loads(row[f"{arm}_scores"]).values())


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--small", action="store_true", help="6 trials, 3 pairs, 10 epochs")
    parser.add_argument("--add", action="store_true", help="add the rounds to those in the results")
    given = parser.parse_args()
    started, size, machine = time.monotonic(), SMALL if given.small else FULL, hardware()
    amounts = f"{size.trials} trials, {size.pairs} pairs, {size.epochs} epochs"
    like = {"hardware": machine, "versions": stamp(started)["versions"], "size": vars(size)}
    before = measured_before(given.results, like) if given.add else []
    for rows in measure(size, given.rounds, before):
        done = 1 + max(row["round"] for row in rows)
        where = f"{done} round{'s' * (done > 1)}, {hardware_words(machine)}"
        save(
            NAME,
            rows,
            stamp(started) | like,
            {
                f"**A whole study** ({amounts}; median and range over {where})": speed_table(rows),
                "**Where the seconds go** (medians; rest: imports, start of Ray, verdict, report, exit)": stage_table(
                    rows
                ),
                "**What a user waits for while nothing trains** (seconds, median and range)": wait_table(rows),
                "**What was found** (first round)": f"{result_table(rows)}\n\n{parity_line(rows)}",
            },
            given.results,
        )


if __name__ == "__main__":
    main()
