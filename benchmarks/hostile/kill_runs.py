"""Random kills of worker, script and ranks of runs that a command trains: nothing lives on, no row is doubled, and the
curve is that of a run that was left alone.

    python -m benchmarks.hostile.kill_runs --kills 200
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.trainers.kills import doubled, storm, survivors, train


def main() -> None:
    """Kill, and say what was found; exit status 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="kills of one run")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    killed, left, twice, other = Counter[str](), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        whole = train(Path(name) / "whole")
        runs = -(-options.kills // options.each)
        for index in range(runs):
            folder = Path(name) / f"run-{index}"
            curve, who = storm(folder, options.each, options.seed * 1000 + index)
            killed += who
            left += len(survivors(folder))
            twice += len(doubled(folder))
            other += curve != whole
    print(
        f"{killed.total()} kills ({', '.join(f'{n} of {who}' for who, n in sorted(killed.items()))}) in {runs} runs: "
        f"{left} survivors, {twice} doubled rows, {other} curves that differ"
    )
    raise SystemExit(bool(left or twice or other))


if __name__ == "__main__":
    main()
