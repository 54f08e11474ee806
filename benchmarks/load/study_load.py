"""Many studies and long ones: how long it takes to list, verify and report them.

    python -m benchmarks.load.study_load [--studies 1000] [--runs 100000] [--rounds 5]

Makes up so many studies with so many runs in all, and one more study with all of the runs, through the writers that
real studies use (which wait for the disk; here they do not), with plans and learning curves. Then the commands are
timed, each in a process of its own, and its memory at the peak is noted; those that a person waits for every day
several times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.load.made_up import plan_of, records_of
from benchmarks.measure import Spread, hardware, hardware_words
from benchmarks.results import RESULTS, in_processes, markdown, save, stamp
from tune_bn.records.curves import CurveLog
from tune_bn.records.files import write_json
from tune_bn.records.log import RecordLog
from tune_bn.space.file import dump_yaml
from tune_bn.space.loading import load_space
from tune_bn.space.locate import find_space
from tune_bn.space.space import Space
from tune_bn.training.points import epoch_point

STATUS_AGAIN, VERIFY, REPORT, HELP = "tune_bn status again", "tune_bn verify", "tune_bn report", "tune_bn --help"
OTHER_RUNS = 33
"""Runs of a made-up study beside its search: 3 of the selection, 2 × 15 of the confirmation."""


def write_study(given: tuple[Path, int]) -> int:
    """One study with so many runs; returns their number."""
    folder, runs = given
    space = load_space(find_space("digits.yaml"), ["budget.finalists=1"])
    folder.mkdir(parents=True)
    with _without_waiting():
        return _write(folder, space, runs - OTHER_RUNS)


def _write(folder: Path, space: Space, trials: int) -> int:
    (folder / "space.yaml").write_text(dump_yaml(space.to_dict()), encoding="utf-8")
    plan = plan_of(folder.name, space)
    log, curves = RecordLog(folder / "records.jsonl"), CurveLog(folder / "curves.jsonl")
    written = 0
    for record in records_of(folder.name, space, plan, trials=trials):
        best = record.scores["val_accuracy"]
        points = [
            epoch_point(n, 2.3 / n, 100 - 90 / n, 2.4 / n, best - 80 / n, 0.1 / n) for n in _epochs(record.epochs)
        ]
        curves.append(record.key, points)
        log.append(record)
        written += 1
    write_json(folder / "plan.json", plan.to_json())
    return written


def _epochs(last: int) -> range:
    return range(1, last + 1)


@contextmanager
def _without_waiting() -> Iterator[None]:
    with patch("os.fsync"):
        yield


def peak_mib(status: str) -> int:
    """Largest resident memory of a process by its ``/proc/PID/status``. That of getrusage begins with the parent's."""
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(peak) / 1024)


def timed(*words: str) -> dict[str, Any]:
    """Seconds and peak memory of one command line."""
    started = time.perf_counter()
    # As the installed command, and no module of the benchmarks in it, which would load torch.
    code = "import sys; from tune_bn.__main__ import main\ntry:\n    main()\nfinally:\n    " + (
        "print(open('/proc/self/status').read(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{words}: {done.stderr[-500:]}")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "peak_mib": peak_mib(done.stderr),
        "output_bytes": len(done.stdout.encode()),
    }


def verify_all(output: Path) -> dict[str, Any]:
    """The verdict of every study, in one process."""
    from tune_bn.analysis.verdict import renew_verdict

    started = time.perf_counter()
    with _without_waiting():
        verdicts = [renew_verdict(folder) for folder in sorted(output.iterdir())]
    if any(verdict.is_invalid for verdict in verdicts):
        raise RuntimeError("a study that was made up is invalid")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "peak_mib": peak_mib(Path("/proc/self/status").read_text(encoding="utf-8")),
        "output_bytes": 0,
    }


def main() -> None:
    """Make the studies, time the commands, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=100_000, help="in all studies together, and in the long one")
    parser.add_argument("--rounds", type=int, default=5, help="of what a person waits for every day")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make studies")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the results are written")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="study-load-") as scratch:
        # The index of `tune_bn status`.
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        many, long = Path(scratch) / "many", Path(scratch) / "long"
        work = [(many / f"study-{number:04d}", given.runs // given.studies) for number in range(given.studies)]
        runs = in_processes(write_study, [(long / "long-1", given.runs), *work], given.jobs)
        size = sum(path.stat().st_size for path in Path(scratch).rglob("*.jsonl"))
        print(f"made {sum(runs):,} runs, {size / 2**20:.0f} MiB, in {time.monotonic() - started:.0f} s", flush=True)
        usual = many / "study-0000"
        all_studies = f"{given.studies:,} studies with {sum(runs[1:]):,} runs"
        one_long = f"one study with {runs[0]:,} runs"
        one_usual = f"one study with {runs[1]:,} runs"
        rows: list[dict[str, Any]] = []
        measured: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
            ("tune_bn status", all_studies, lambda: timed("status", "--output", str(many))),
            ("tune_bn status --json", all_studies, lambda: timed("status", "--json", "--output", str(many))),
            ("verify, one after the other", all_studies, lambda: verify_all(many)),
            ("tune_bn status", one_long, lambda: timed("status", "--output", str(long))),
            ("tune_bn verify", one_long, lambda: timed("verify", str(long / "long-1"))),
            ("tune_bn report", one_long, lambda: timed("report", str(long / "long-1"))),
        ]
        daily: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
            (STATUS_AGAIN, all_studies, lambda: timed("status", "--output", str(many))),
            ("tune_bn status STUDY", one_usual, lambda: timed("status", str(usual))),
            (VERIFY, one_usual, lambda: timed("verify", str(usual))),
            (REPORT, one_usual, lambda: timed("report", str(usual))),
            (HELP, "nothing", lambda: timed("--help")),
        ]
        for number in range(given.rounds):
            for what, of, work_done in [*(measured if number == 0 else []), *daily]:
                rows.append({"round": number, "what": what, "of": of} | work_done())
                print(rows[-1], flush=True)
    made = stamp(started) | {"hardware": hardware()}
    machine = hardware_words(made["hardware"])
    title = f"{machine}. Wall clock of whole commands, with the start of Python; median (smallest to largest)."
    save("study_load", rows, made, {title: load_table(rows)}, given.results)


def load_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Seconds and memory of each command."""
    lines = [("what", "of", "seconds", "rounds", "peak memory, MiB")]
    for what, of in dict.fromkeys((row["what"], row["of"]) for row in rows):
        own = [row for row in rows if (row["what"], row["of"]) == (what, of)]
        seconds = Spread.of([float(row["seconds"]) for row in own])
        lines.append((what, of, seconds.words(), str(len(own)), str(max(int(row["peak_mib"]) for row in own))))
    return markdown(lines)


if __name__ == "__main__":
    main()
