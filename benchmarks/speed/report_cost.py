"""What the package costs a script of the user's: a report, and a run beyond the script's own start and end.

python -m benchmarks.speed.report_cost
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.results import markdown, save, speed_parser, stamp
from tune_bn.protocols.trainer import Place
from tune_bn.space.loading import load_space
from tune_bn.trainers.choose import trainer_of

SCRIPT = """
import time
import tune_bn

run = tune_bn.current_run(gamma=1.0, steps=STEPS)
start = time.perf_counter()
for step in range(run.start, run.steps):
    if not run.report(step, val=run.gamma + step):
        break
took = time.perf_counter() - start
open(FILE, "w").write(str(took / run.steps))
"""
STEPS = 200


def main() -> None:
    """Measure; exit status 1 where a report takes more than 5 ms or a run more than a second."""
    parser = speed_parser(__doc__, rounds=None)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    runs, started = options.runs, time.monotonic()
    # Other work on the machine makes all of this slower, the package no less than the script.
    load = os.getloadavg()[0]
    alone: list[float] = []
    within: list[float] = []
    reports: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder, told = Path(name), Path(name) / "told"
        (folder / "train.py").write_text(SCRIPT.replace("STEPS", str(STEPS)).replace("FILE", repr(str(told))))
        content = {
            "name": "cost",
            "trainer": {
                "command": ["python", "train.py"],
                "code": ["train.py"],
                "steps": STEPS,
                "score": {"validation": "val", "test": "test", "goal": "max"},
                "meaning": {"gamma": "what is added"},
            },
            "search": {"gamma": {"uniform": [0.1, 1.0]}},
            "claim": {"about": ["gamma"], "baseline": {"gamma": 1.0}},
        }
        (folder / "space.yaml").write_text(yaml.safe_dump(content))
        space = load_space(folder / "space.yaml")
        session = trainer_of(space).without_test().open(Place(threads=1))
        for number in range(runs + 1):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "train.py"], cwd=folder, check=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
            by_itself = time.perf_counter() - began
            began = time.perf_counter()
            run = session.start(space.run_config(space.baseline), 1, name=f"r{number}", folder=folder / f"r{number}")
            while not run.done:
                run.advance()
            run.result()
            run.close()
            # The first of both reads everything from the disk.
            if number:
                alone.append(by_itself)
                within.append(time.perf_counter() - began)
                reports.append(float(told.read_text()))
        session.close()
    report, extra = statistics.median(reports), statistics.median(within) - statistics.median(alone)
    rows = [
        {"report_s": told, "alone_s": by_hand, "in_a_study_s": whole}
        for told, by_hand, whole in zip(reports, alone, within, strict=True)
    ]
    made = stamp(started) | {"load": round(load, 1), "cores": os.cpu_count()}
    title = (
        f"**What the package costs a script** (medians and ranges of {runs} runs of {STEPS} reports, in turns with the "
        f"script alone; {os.cpu_count()} cores, load {load:.1f} when it began)"
    )
    head = ("", "at most", "median", "range")
    body = [
        ("a report (ms)", "5", *_words(reports, 1000)),
        ("the script alone, from its start to its end (s)", "", *_words(alone)),
        ("the same as a run (s)", "", *_words(within)),
        ("a run more than the script alone (s)", "1", *_words([b - a for a, b in zip(alone, within, strict=True)])),
    ]
    save("report_cost", rows, made, {title: markdown([head, *body])}, options.results)
    raise SystemExit(report > 0.005 or extra > 1)


def _words(values: list[float], factor: float = 1.0) -> tuple[str, str]:
    low, middle, high = (factor * given(values) for given in (min, statistics.median, max))
    return f"{middle:.3f}", f"{low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main()
