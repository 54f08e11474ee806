"""What was aimed at and what was reached: one table of the speed benchmarks that lie in a folder.

python -m benchmarks.speed.speed [--results DIR]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.load import study_load
from benchmarks.measure import Spread, Timing, hardware_words, ratios, timings_of
from benchmarks.results import markdown, read, speed_parser
from benchmarks.speed import driver_limits, driver_reports, end_to_end, training_loop
from benchmarks.speed.checkpoints import shares
from benchmarks.speed.evaluation import PIECES, WHOLE
from tune_bn.records.files import write_text
from tune_bn.runners.checkpoint import CHECKPOINT_SHARE

Rows = list[dict[str, str]]
Line = tuple[str, str, str, str]
LOOP_GOALS = {"resnet18": (2.2, 5.0), "resnet8": (1.5, None)}
"""× the official loop by network: on two CPU cores, on a GPU."""
STUDY_GOAL = 5.0
WAIT_GOALS = {end_to_end.FIRST_RUN: 6.0, end_to_end.NEXT_STAGE: 0.5, end_to_end.PROMPT: 2.0}
"""Seconds of a study in which nothing trains."""
REUSED_GOAL = 0.15
HALF_A_CORE = 0.5
COMMAND_GOALS = {study_load.STATUS_AGAIN: 3.0, study_load.VERIFY: 0.6, study_load.REPORT: 3.0, study_load.HELP: 0.25}
"""Seconds."""
FUSION_GOAL = 2.0
SHARE_GOALS = {"resnet18": 50.0, "resnet50": 45.0}
"""Percent of the serial bound on a GPU."""


def verdict(reached: Spread, goal: float | None, *, at_most: bool = False) -> str:
    """``1.52 (1.49 to 1.60): reached``, by the median."""
    if goal is None:
        return reached.words()
    met = reached.median <= goal if at_most else reached.median >= goal
    return f"{reached.words()}: {'reached' if met else '**missed**'}"


def loop_lines(rows: Rows, made: Mapping[str, Any]) -> list[Line]:
    """The training engine against the official loop, a whole epoch of both."""
    lines = []
    for words in dict.fromkeys(row["workload"] for row in rows):
        for threads in dict.fromkeys(row["threads"] for row in rows if row["workload"] == words):
            mine = [row for row in rows if (row["workload"], row["threads"]) == (words, threads)]
            timings = training_loop.part_of(mine, "epoch")
            goal = LOOP_GOALS.get(words.split(",")[0], (None, None))["gpu" in made["hardware"]]
            names = list(dict.fromkeys(timing.contender for timing in timings))
            peers = [name for name in names if name.startswith("official")]
            for name in names:
                if name in peers:
                    continue
                against = "; ".join(f"{ratios(timings, name, peer).words()} × {peer}" for peer in peers[1:])
                question = f"{words}, {threads} thread{'s' if threads != '1' else ''}: {name}"
                first = verdict(ratios(timings, name, peers[0]), goal)
                lines.append((question, "" if goal is None else f"≥ {goal:g} ×", first, f"× official loop; {against}"))
    return lines


def study_lines(rows: Rows, made: Mapping[str, Any]) -> list[Line]:
    """Whole studies; the goal is one of the full size."""
    timings = [Timing(int(row["round"]), row["contender"], float(row["seconds"]), 0.0, 1.0) for row in rows]
    full = made["size"] == vars(end_to_end.FULL)
    words = "the digits study" if full else "a small digits study"
    lines = []
    for name in (end_to_end.OURS, end_to_end.SAME_WORK):
        found = verdict(ratios(timings, name, end_to_end.PLAIN), STUDY_GOAL if full else None)
        reused = ratios(timings, name, end_to_end.REUSED).words()
        note = f"× plain Tune study; {reused} × the same with actors reused"
        lines.append((f"{words}: {name}", f"≥ {STUDY_GOAL:g} ×" if full else "", found, note))
    for key, what in end_to_end.WAITS.items():
        # Results of before it was measured have no such column.
        values = [float(row[key]) for row in rows if row["contender"] == end_to_end.OURS and row.get(key)]
        if values:
            goal = WAIT_GOALS[key]
            lines.append((f"{words}: {what}", f"≤ {goal:g} s", verdict(Spread.of(values), goal, at_most=True), "s"))
    return lines


def driver_lines(rows: Rows, _made: Mapping[str, Any]) -> list[Line]:
    """Ray and the driver."""
    sizes = sorted({int(row["trials"]) for row in rows})
    reused = driver_limits.costs(rows, sizes[-2])["reused"]
    runs, worst = driver_limits.capacity(rows)
    grown = driver_limits.growth(rows)
    return [
        (
            "Ray per reused trial",
            f"≤ {REUSED_GOAL:g} s",
            verdict(reused, REUSED_GOAL, at_most=True),
            f"{sizes[-2]:,} trials",
        ),
        (f"driver time per trial, {sizes[-1]:,} against {sizes[-2]:,} trials", "linear: 1 ×", f"{grown:.2f} ×", ""),
        ("concurrent runs of a driver that is half busy", "", f"{runs}", f"{worst:.2f} ms per report, one a second"),
    ]


def together_lines(amount: str, rows: Rows, _made: Mapping[str, Any]) -> list[Line]:
    """Several workers or runs, against the first contender."""
    timings = timings_of(rows)
    first, *others = dict.fromkeys(timing.contender for timing in timings)
    return [(f"{amount} of {name}", "", ratios(timings, name, first).words(), f"× {first}") for name in others]


def fusion_lines(rows: Rows, _made: Mapping[str, Any]) -> list[Line]:
    """Seeds in one grouped step."""
    lines = []
    for seeds in dict.fromkeys(row["seeds"] for row in rows):
        timings = timings_of([row for row in rows if row["seeds"] == seeds])
        found = ratios(timings, "fused", "in turn")
        note = "× one after the other; not built where it is less"
        lines.append((f"{seeds} seeds in one fused step", f"≥ {FUSION_GOAL:g} ×", verdict(found, FUSION_GOAL), note))
    return lines


def evaluation_lines(rows: Rows, _made: Mapping[str, Any]) -> list[Line]:
    """An evaluation in pieces."""
    lines = []
    for words in dict.fromkeys(row["workload"] for row in rows):
        found = ratios(timings_of([row for row in rows if row["workload"] == words]), PIECES, WHOLE)
        lines.append((f"evaluation of {words}, in pieces", "", found.words(), "× whole batches, the same to the bit"))
    return lines


def checkpoint_lines(rows: Rows, _made: Mapping[str, Any]) -> list[Line]:
    """What checkpoints cost."""
    goal = 100 * CHECKPOINT_SHARE
    return [
        (f"checkpoints of {arch}", f"≤ {goal:g} %", verdict(share, goal, at_most=True), "% of run time, one a minute")
        for arch, share in shares(rows).items()
    ]


def report_lines(rows: Rows, made: Mapping[str, Any]) -> list[Line]:
    """A driver of many runs at once."""
    per_report, lines = float(made["ms_per_report"]), []
    for runs in sorted({int(row["runs"]) for row in rows}):
        found = Spread.of(driver_reports.cores(rows, runs, per_report))
        goal = HALF_A_CORE if runs == max(int(row["runs"]) for row in rows) else None
        words = "" if goal is None else f"≤ {goal:g}"
        lines.append(
            (f"cores of a driver of {runs:,} runs", words, verdict(found, goal, at_most=True), "reports of all of them")
        )
    return lines


def load_lines(rows: Rows, _made: Mapping[str, Any]) -> list[Line]:
    """Commands that a person waits for every day."""
    lines = []
    for what, goal in COMMAND_GOALS.items():
        own = [row for row in rows if row["what"] == what]
        of = own[-1]["of"]
        found = Spread.of([float(row["seconds"]) for row in own if row["of"] == of])
        lines.append((f"{what}: {of}", f"≤ {goal:g} s", verdict(found, goal, at_most=True), "s"))
    return lines


def roofline_lines(rows: Rows, made: Mapping[str, Any]) -> list[Line]:
    """Share of the serial bound."""
    lines = []
    for words in dict.fromkeys(row["workload"] for row in rows):
        mine = [row for row in rows if row["workload"] == words]
        arch, precision = words.split(",")[0], mine[0]["precision"]
        goal = SHARE_GOALS.get(arch) if "gpu" in made["hardware"] else None
        share = Spread.of([float(row["share"]) for row in mine if row["contender"] == arch])
        lines.append(
            (f"{words}, {precision}", "" if goal is None else f"≥ {goal:g} %", verdict(share, goal), "% of the bound")
        )
    return lines


SECTIONS: Mapping[str, Callable[[Rows, Mapping[str, Any]], list[Line]]] = {
    "training_loop": loop_lines,
    "end_to_end": study_lines,
    "driver_limits": driver_lines,
    "driver_reports": report_lines,
    "study_load": load_lines,
    "scaling": partial(together_lines, "runs/s"),
    "packing": partial(together_lines, "images/s"),
    "fusion": fusion_lines,
    "evaluation": evaluation_lines,
    "checkpoints": checkpoint_lines,
    "roofline": roofline_lines,
}


def table(folder: Path) -> str:
    """The table of what lies in the folder, with the hardware of each part."""
    lines: list[tuple[str, ...]] = [("", "goal", "median (smallest to largest)", "", "rounds")]
    machines = []
    for name, section in SECTIONS.items():
        if not (folder / f"{name}.csv").exists():
            continue
        rows, made = read(name, folder), json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        rounds = str(len({row["round"] for row in rows}))
        lines += [(*line, rounds) for line in section(rows, made)]
        machines.append(hardware_words(made["hardware"]))
    return f"{markdown(lines)}\n\nMeasured on {'; '.join(dict.fromkeys(machines))}."


def main() -> None:
    """Print the table, and write it to ``speed.md``."""
    given = speed_parser(__doc__, rounds=None).parse_args()
    text = table(given.results) + "\n"
    write_text(given.results / "speed.md", text)
    print(text)


if __name__ == "__main__":
    main()
