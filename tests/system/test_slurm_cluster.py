"""cluster/slurm.sh on a real Slurm: a controller and three nodes in namespaces, and two ordinary users."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.faults.harness import HERE, SPACE, FaultTable, Outcome, References
from tune_bn.records.log import RecordLog

REPOSITORY = Path(__file__).parents[2]
TOOLS = ["slurmctld", "slurmd", "sbatch", "munged", "nsenter", "setpriv", "pgrep", "ps"]
NOISE = re.compile(r"\x1b|CANCELLED|Killed|ray stop|Traceback|srun:|ray start|RAY_")


def own_lines(log: str) -> list[str]:
    """What the script itself says, without time and number of the job."""
    return re.findall(r"^slurm  \S+ \S+ job \d+ (.*)$", log, re.MULTILINE)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "counted.yaml"
    path.write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    return path


@pytest.mark.system
def test_two_studies_outlive_all_by_which_slurm_ends_a_job(
    run_sandboxed: Callable[..., Path], space: Path, undisturbed: References, fault_table: FaultTable
) -> None:
    reference = undisturbed(SPACE)
    run = run_sandboxed("slurm_trip.sh", tools=TOOLS, REPOSITORY=str(REPOSITORY), SPACE=str(space), COUNTING=str(HERE))
    one, two, three = ((run / f"log-{name}").read_text(encoding="utf-8") for name in ("one", "two", "three"))
    places = {user: run / "users" / user / "work/studies" / name for user, name in (("alice", "one"), ("bob", "two"))}
    records = {user: tuple(RecordLog(place / "records.jsonl").read()) for user, place in places.items()}
    for user, fault, times in (
        ("alice", "Slurm: preempted with GraceTime, with user signals, near the time limit, a node lost", 4),
        ("bob", "Slurm: preempted without GraceTime, cancelled and gone on with", 2),
    ):
        steps = (run / "counting" / user / "steps").stat().st_size
        row = fault_table.add(fault, times, reference, Outcome(records[user], steps))
        assert (row.lost, row.duplicates) == (0, 0)

    # Each start, stop and requeue is one line.
    start = r"starts: study one, Ray on n1, n2, head 10\.77\.0\.11:\d+"
    again = "is queued again: {}; it goes on by itself with study one"
    expected = [
        *(start, "stops: preempted", again.format("preempted")),
        *(start, "stops: preempted", again.format("preempted")),
        *(start, "stops: its time limit is near", again.format("its time limit is near")),
        start,
    ]
    said = own_lines(one)
    assert len(said) > len(expected), one
    for line, pattern in zip(said, expected, strict=False):
        assert re.fullmatch(pattern, line), one
    # The node that was lost may have been the driver's or not, and what Slurm does then leaves no time for words.
    assert re.fullmatch(start, said[-3]), one
    assert said[-2:] == [
        "ends: study one, exit status 0",
        "ends: study one came to its verdict before this start",
    ]
    assert (run / "cancelled").read_text().strip() == "CANCELLED"
    assert own_lines(two)[-2:] == ["stops: cancelled", f"ends: cancelled. To go on: {to_go_on(run)}"]
    assert own_lines(two).count("stops: cancelled") == 1

    # A job that goes well says no more, and the driver's words on how to go on are those of the job.
    assert len(own_lines(three)) == 2, three
    assert re.fullmatch(r"starts: study two, Ray on n1, n3, head 10\.77\.0\.11:\d+", own_lines(three)[0])
    assert own_lines(three)[1] == "ends: study two, exit status 0"
    assert not NOISE.search(three), three
    assert to_go_on(run) == "sbatch cluster/slurm.sh --space studies/two/space.yaml --study two --resume"
    assert f"To go on: {to_go_on(run)}" in two.replace(own_lines(two)[-1], "")
    assert json.loads((places["bob"] / "driver.json").read_text(encoding="utf-8"))["to_go_on"] == to_go_on(run)

    # Nothing on the nodes that others may write, no token in a file or a command line, and nothing that stays.
    for name in ("open-to-all", "tokens", "left"):
        assert (run / name).read_text() == "", name
    assert "raylet" in (run / "command-lines").read_text()
    assert not re.search(r"\b[0-9a-f]{64}\b", (run / "command-lines").read_text())

    # The checkout is another user's.
    head = subprocess.run(
        ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    for record in (*records["alice"], *records["bob"]):
        assert (record.commit or "").removesuffix("-dirty") == head


def to_go_on(run: Path) -> str:
    """What the cancelled job said."""
    text = (run / "to-go-on").read_text(encoding="utf-8").strip()
    return shlex.join(shlex.split(text))


@pytest.mark.system
def test_jobs_that_cannot_begin_say_why_and_leave_nothing(run_sandboxed: Callable[..., Path], space: Path) -> None:
    run = run_sandboxed("slurm_doors.sh", tools=TOOLS, REPOSITORY=str(REPOSITORY), SPACE=str(space), COUNTING=str(HERE))
    logs = {path.stem: path.read_text(encoding="utf-8") for path in (run / "jobs").glob("*.log")}
    states = dict(line.split() for line in (run / "states").read_text().splitlines())
    refusals = {
        "no-python": r"error: /nowhere/bin/python on n\d: no such file, or none that may be run; accepted: TUNE_BN.*",
        "other-python": r"error: /usr/bin/python on n\d: .*; accepted: TUNE_BN_VENV=.*",
        "refused": "error: --address: got it; accepted: the options of tune_bn search besides --address, .*",
        "port-taken": r"error: n1: Ray's head does not start: TUNE_BN_PORT: got 23456 \(Address already in use on this "
        r"node\); accepted: a free port .*",
        "no-network": r"error: n\d: Ray's head does not start: TUNE_BN_NETWORK: got 192\.168\.0\.0/16, and n\d has no "
        r"address in it; accepted: a network of one of 169\.254\.7\.\d+, 10\.77\.0\.\d+",
        "fails": r"error: 1 of 2 nodes are missing after \d+ s \(TUNE_BN_WAIT = 300\): n2: /tmp/\S+: the head's folder "
        r"for Ray's files cannot be made on this node \(Permission denied\); accepted: .*; accepted: nodes that join, "
        "or TUNE_BN_MISSING=go-on to do with fewer",
    }
    for name, pattern in refusals.items():
        assert re.fullmatch(pattern, logs[name].strip()), logs[name]
        assert states[name] == "FAILED"
    assert states["own"] == "COMPLETED", logs["own"]
    assert "Ray on n1, n2" in own_lines(logs["own"])[0]
    verdict = json.loads((run / "jobs" / "verdict.json").read_text())
    assert verdict["verdict"] in ("supported", "not_supported")
    assert verdict["seeds"] == [1, 2, 3]
    assert "WRONG" not in (run / "jobs" / "check").read_text()
    assert states["pending"] == "CANCELLED"
    assert "pending" not in logs

    start = own_lines(logs["goes-on"])[0]
    assert re.fullmatch(
        r"starts: study killed, Ray on n1, head \S+; missing after .*: n2: .*Permission denied.*", start
    )
    assert states["goes-on"] == "FAILED"

    # On a machine that is very slow the limit itself is over before the study has stopped.
    assert states["short"] in ("FAILED", "TIMEOUT")
    assert own_lines(logs["short"])[-1] == "stops: its time limit is near"
    assert re.search(
        r"^error: --time: got 00:01:00, of which \d+ s were left .*accepted: a longer --time", logs["short"], re.M
    )

    assert (run / "left").read_text() == ""
    assert (run / "tokens").read_text() == ""
    store = {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert set((run / "studies").read_text().split()) <= {"killed", "short", "own", "checks", *store}
