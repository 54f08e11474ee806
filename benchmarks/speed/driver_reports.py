"""What waiting for the reports of many concurrent runs costs a driver: they report more rarely as they get more.

    python -m benchmarks.speed.driver_reports [--rounds 5] [--seconds 8]

So many runs cannot be had on one machine, but their reports can: one actor answers so many calls at once, each after
the time for which :func:`tune_bn.runners.ray.feed.report_seconds` has a run wait. The driver waits for one answer after
the other as Tune does, among all that are open. What Tune and a study do with a report comes on top: the table adds the
largest that the committed results of :mod:`benchmarks.speed.driver_limits` have, with the waiting among few that is
in it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from benchmarks.measure import Spread, hardware, hardware_words
from benchmarks.results import RESULTS, markdown, read, save, speed_parser, stamp
from benchmarks.speed.driver_limits import capacity
from tune_bn.runners.ray.feed import report_seconds
from tune_bn.runners.ray.start import RayOptions, connect, disconnect

RUNS = (10, 100, 300, 1000)


class Reports:
    """Stands for runs at work."""

    async def one(self, seconds: float) -> None:
        """A report after so long."""
        await asyncio.sleep(seconds)


def waiting(runs: int, seconds: float) -> dict[str, Any]:
    """What a driver spends on waiting for that long, with so many runs in flight."""
    pace = report_seconds(runs)
    actor = ray.remote(Reports).options(num_cpus=0, max_concurrency=2 * runs).remote()
    open_ones = [actor.one.remote(random.uniform(0, pace)) for _ in range(runs)]
    ray.wait(open_ones, num_returns=1)
    reports, cpu, wall = 0, time.process_time(), time.monotonic()
    while time.monotonic() - wall < seconds:
        ready, open_ones = ray.wait(open_ones, num_returns=1, timeout=0.1)
        ray.get(ready)
        open_ones += [actor.one.remote(pace) for _ in ready]
        reports += len(ready)
    spent, took = time.process_time() - cpu, time.monotonic() - wall
    ray.kill(actor)
    return {"runs": runs, "seconds": round(took, 3), "reports": reports, "driver_cpu_seconds": round(spent, 4)}


def report_table(rows: Sequence[Mapping[str, Any]], per_report: float) -> str:
    """By the number of runs: how often one reports, and how much of a core the driver needs.

    Args:
        rows: of :func:`waiting`.
        per_report: milliseconds that Tune and a study need for a report.
    """
    lines: list[Sequence[str]] = [
        (
            "concurrent runs",
            "a run reports every",
            "cores for waiting",
            f"with {per_report:.2f} ms a report for the rest",
        )
    ]
    for runs in sorted({int(row["runs"]) for row in rows}):
        waits, whole = (Spread.of(cores(rows, runs, rest)).words() for rest in (0.0, per_report))
        lines.append((f"{runs:,}", f"{report_seconds(runs):.3g} s", waits, whole))
    return markdown(lines)


def cores(rows: Sequence[Mapping[str, Any]], runs: int, per_report: float) -> list[float]:
    """How much of a core a driver of so many runs needs, in each round; ``per_report`` as in :func:`report_table`."""
    own = [row for row in rows if int(row["runs"]) == runs]
    return [
        (float(row["driver_cpu_seconds"]) + per_report / 1000 * float(row["reports"])) / float(row["seconds"])
        for row in own
    ]


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each turn")
    given = parser.parse_args()
    started = time.monotonic()
    connect(RayOptions(init={"num_cpus": 2}))
    try:
        rows = [{"round": number} | waiting(runs, given.seconds) for number in range(given.rounds) for runs in RUNS]
    finally:
        disconnect()
    per_report = capacity(read("driver_limits", RESULTS))[1]
    made = stamp(started) | {"hardware": hardware(), "ms_per_report": round(per_report, 4)}
    title = f"{hardware_words(made['hardware'])}. Median (smallest to largest) of {given.rounds} rounds."
    save(
        "driver_reports",
        rows,
        made,
        {title: report_table(rows, per_report)},
        given.results,
    )


if __name__ == "__main__":
    main()
