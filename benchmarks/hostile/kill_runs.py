"""Random kills of worker, script and ranks of runs that a command trains: nothing lives on, no row is doubled, and the
curve is that of a run that was left alone.

    python -m benchmarks.hostile.kill_runs --kills 200
    python -m benchmarks.hostile.kill_runs --kills 200 --minutes 5      # again and again, until all are done
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.results import COMMIT, RESULTS, markdown, read, save, stamp
from tests.trainers.kills import doubled, storm, survivors, train

NAME = "kill_runs"


def main() -> None:
    """Kill, and keep what was found; exit status 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="kills of one run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="go on with what is there, and begin no run after so long")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    started = time.monotonic()
    # Runs of other code or of other kills are no part of this.
    asked = {"commit": COMMIT or "", "each": options.each, "seed": options.seed}
    rows: list[dict[str, Any]] = [] if options.minutes is None else _begun(options.results, asked)
    with tempfile.TemporaryDirectory() as name:
        whole = train(Path(name) / "whole")
        while (index := len(rows)) * options.each < options.kills:
            if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
                break
            began, folder = time.monotonic(), Path(name) / f"run-{index}"
            curve, who = storm(folder, options.each, options.seed * 1000 + index)
            found = {
                "run": index,
                "worker_kills": who["worker"],
                "script_kills": who["script"],
                "survivors": len(survivors(folder)),
                "doubled_rows": len(doubled(folder)),
                "other_curve": int(curve != whole),
                "seconds": round(time.monotonic() - began, 1),
            }
            rows.append(asked | found)
            made = stamp(started) | {"seconds": round(sum(float(row["seconds"]) for row in rows))}
            save(NAME, rows, made, {"Kills of one run after the other": _table(rows)}, options.results)
    raise SystemExit(any(int(row[key]) for row in rows for key in ("survivors", "doubled_rows", "other_curve")))


def _begun(folder: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        rows = read(NAME, folder)
    except FileNotFoundError:
        return []
    return [dict(row) for row in rows if all(row.get(key) == str(value) for key, value in asked.items())]


def _table(rows: list[dict[str, Any]]) -> str:
    def total(key: str) -> int:
        return sum(int(row[key]) for row in rows)

    kills = total("worker_kills") + total("script_kills")
    head = ("kills", "of the worker", "of the script or a rank", "runs", "survivors", "doubled rows", "other curves")
    body = (kills, total("worker_kills"), total("script_kills"), len(rows))
    wrong = (total("survivors"), total("doubled_rows"), total("other_curve"))
    return markdown([head, [str(cell) for cell in (*body, *wrong)]])


if __name__ == "__main__":
    main()
