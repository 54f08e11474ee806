"""What a Slurm job makes of what Slurm tells it. tests/system/test_slurm_cluster.py runs it on a real Slurm."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tune_bn.cli.common import resume_line
from tune_bn.errors import RunnerError
from tune_bn.service import slurm, slurm_control, slurm_node, slurm_steps
from tune_bn.service.slurm_control import CANCELLED, OUT_OF_TIME, PREEMPTED, QUEUED, RUNNING, fate_of

BEGAN, BEFORE, LATER = "2026-11-29T12:00:00", "2026-11-29T11:00:00", "2026-11-29T12:30:00"

# As Slurm 22.05 told of real jobs at these moments.
FATES: list[tuple[dict[str, str], int, str]] = [
    ({"JobState": "RUNNING", "Restarts": "0", "PreemptTime": "None"}, 0, RUNNING),
    ({"JobState": "RUNNING", "Restarts": "0", "PreemptTime": LATER}, 0, PREEMPTED),
    # The time of a preemption before this start.
    ({"JobState": "RUNNING", "Restarts": "1", "PreemptTime": BEFORE}, 1, RUNNING),
    ({"JobState": "COMPLETING", "Restarts": "1"}, 0, QUEUED),
    ({"JobState": "COMPLETING", "Restarts": "0", "PreemptTime": LATER}, 0, QUEUED),
    ({"JobState": "PENDING", "Restarts": "3", "PreemptTime": "None"}, 2, QUEUED),
    ({"JobState": "COMPLETING", "Restarts": "0", "PreemptTime": "None", "TimeLimit": "UNLIMITED"}, 0, CANCELLED),
    ({"JobState": "COMPLETING", "Restarts": "2", "PreemptTime": BEFORE, "TimeLimit": "1-00:00:00"}, 2, CANCELLED),
    ({"JobState": "COMPLETING", "Restarts": "0", "TimeLimit": "00:01:00", "RunTime": "00:01:20"}, 0, OUT_OF_TIME),
    ({"JobState": "TIMEOUT", "Restarts": "0", "TimeLimit": "1-00:00:00", "RunTime": "1-00:00:01"}, 0, OUT_OF_TIME),
    ({"JobState": "CANCELLED", "Restarts": "0", "TimeLimit": "1-00:00:00", "RunTime": "00:01:00"}, 0, CANCELLED),
    # It does not answer.
    ({}, 0, RUNNING),
]


@pytest.mark.parametrize(("told", "restarts", "fate"), FATES)
def test_what_slurm_does_with_a_job(told: dict[str, str], restarts: int, fate: str) -> None:
    assert fate_of({"StartTime": BEGAN, "RunTime": "00:00:10", **told}, restarts) == fate


class Slurm:
    """``scontrol``, played: what it tells of the job, and what it was asked to do."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.requeued = 0
        self.refuses = ""

    def tell(self, **told: str) -> None:
        self.told = {"JobState": "RUNNING", "Restarts": "0", "StartTime": BEGAN, "RunTime": "00:01:00"} | told

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.CompletedProcess(command, 0, "", "")
        if command[:2] == ["scontrol", "requeue"]:
            done.returncode, done.stderr = int(bool(self.refuses)), self.refuses
            self.requeued += not self.refuses
        elif command[:3] == ["scontrol", "show", "job"]:
            done.stdout = " ".join(f"{key}={value}" for key, value in self.told.items())
        elif command[:3] == ["scontrol", "show", "config"]:
            done.stdout = "KillOnBadExit           = 0\nKillWait                = 30 sec\n"
        else:
            raise AssertionError(command)
        return done


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    played = Slurm()
    played.tell()
    monkeypatch.setattr(subprocess, "run", played.run)
    return played


@pytest.fixture
def job(tmp_path: Path) -> slurm.Job:
    made = slurm.Job({"SLURM_JOB_ID": "47", "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "n1"})
    made.study = "one"
    return made


def driver_told(job: slurm.Job, state: str, reason: str = "", number: str = "47") -> None:
    folder = job.studies / job.study
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "host": "n1",
        "pid": 1,
        "started_at": "2026-11-29T12:00:00+00:00",
        "updated_at": "",
        "state": state,
        "reason": reason,
        "stage": "",
        "batch_job": number,
    }
    numbers = {"planned": 0, "done": 0, "running": 0, "seconds": 0.0, "search_seconds": 0.0, "device_seconds": 0.0}
    (folder / "driver.json").write_text(json.dumps(content | numbers), encoding="utf-8")


USR1, TERM = signal.SIGUSR1, signal.SIGTERM
# What is heard; what Slurm tells then and at the end; how the driver ended; whether the job is queued again by itself.
GOING, PUSHED = {"JobState": "COMPLETING"}, {"PreemptTime": LATER}
ENDS = [
    ("notice of the time limit", [(USR1, False, {})], {}, ("stopped", "interrupted by SIGTERM", 130), True),
    ("the driver did not listen yet", [(USR1, False, {})], {}, ("working", "", -15), True),
    ("preempted, at the steps", [(TERM, True, PUSHED)], None, ("stopped", "", 130), True),
    ("preempted, user signal", [(USR1, False, PUSHED)], None, ("stopped", "", 130), True),
    ("Ray died of a preemption", [], PUSHED, ("lost", "", 1), True),
    ("cancelled", [(TERM, False, GOING)], None, ("stopped", "", 130), False),
    ("cancelled, the steps first", [(TERM, True, GOING)], None, ("stopped", "", 130), False),
    ("cancelled after the notice", [(USR1, False, {})], GOING, ("stopped", "", 130), False),
    ("a signal to the steps", [(TERM, True, {})], {}, ("stopped", "", 130), False),
    ("queued by Slurm", [(TERM, False, {"Restarts": "1"})], None, ("", "", 130), False),
    ("notice, and a verdict", [(USR1, False, {})], {}, ("finished", "", 0), False),
    ("notice, and an invalid verdict", [(USR1, False, {})], {}, ("finished", "", 1), False),
    ("notice, and tune_bn stop", [(USR1, False, {})], {}, ("stopped", "tune_bn stop asked for it", 130), False),
    ("notice, and an error", [(USR1, False, {})], {}, ("failed", "", 1), False),
    ("refused options", [], PUSHED, ("", "", 2), False),
    ("an error", [], {}, ("failed", "", 1), False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("heard", "at_the_end", "driver", "again"), [case[1:] for case in ENDS], ids=[c[0] for c in ENDS]
)
def test_who_is_queued_again(
    job: slurm.Job, controller: Slurm, heard: Any, at_the_end: Any, driver: tuple[str, str, int], again: bool
) -> None:
    for number, at_the_steps, told in heard:
        controller.tell(**told)
        job._signalled(number, at_the_steps=at_the_steps)
    if at_the_end is not None:
        controller.tell(**at_the_end)
    state, reason, status = driver
    if state:
        driver_told(job, state, reason)
    job._worked_from = job.began - 1000
    ended = job._rest(status)
    assert controller.requeued == again
    assert ended == (0 if again else status)


def test_a_notice_that_leaves_no_time_to_work_ends_the_job(job: slurm.Job, controller: Slurm) -> None:
    controller.tell(TimeLimit="00:02:00", Command=f"{job.home}/cluster/slurm.sh")
    job._signalled(signal.SIGUSR1, at_the_steps=False)
    with pytest.raises(
        RunnerError, match=r"^--time: got 00:02:00, of which 0 s .* accepted: a longer --time\. To go on: "
    ):
        job._rest(None)
    assert controller.requeued == 0


def test_a_notice_after_a_new_record_does_not(job: slurm.Job, controller: Slurm) -> None:
    job._worked_from = job.began
    driver_told(job, "stopped")
    (job.studies / "one/records.jsonl").write_text("{}\n")
    job._signalled(signal.SIGUSR1, at_the_steps=False)
    assert job._rest(130) == 0
    assert controller.requeued == 1


def test_slurm_may_refuse_to_queue_a_job_again(
    job: slurm.Job, controller: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.refuses = "Requested operation is presently disabled for job 47"
    job._worked_from = job.began - 1000
    job._signalled(signal.SIGUSR1, at_the_steps=False)
    assert job._rest(130) == 130
    assert "it cannot be queued again (Requested operation is presently disabled for job 47). To go on: sbatch " in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("state", "reason", "status"),
    [
        ("finished", "", 0),
        ("stopped", "tune_bn stop asked for it", 130),
        ("stopped", "budget.total_hours = 2 is used up", 130),
        ("stopped", "interrupted by SIGTERM", None),
        ("stopped", "", None),
        ("working", "", None),
        ("working", "tune_bn stop asked for it", 130),
        ("working", "interrupted by SIGTERM", None),
        ("lost", "", None),
        ("failed", "", None),
    ],
)
def test_a_job_that_comes_back_ends_where_its_study_had_ended(
    job: slurm.Job, state: str, reason: str, status: int | None
) -> None:
    driver_told(job, state, reason)
    assert job._ended_before() == status


def test_a_stop_that_no_driver_saw_holds_for_a_job_that_comes_back(job: slurm.Job) -> None:
    driver_told(job, "working")
    (job.studies / job.study / "stop").touch()
    assert job._ended_before() == 130


@pytest.mark.parametrize(("state", "reason"), [("finished", ""), ("stopped", "tune_bn stop asked for it")])
def test_what_became_of_the_study_before_this_job_does_not_count(
    job: slurm.Job, controller: Slurm, state: str, reason: str
) -> None:
    driver_told(job, state, reason, number="46")
    assert job._ended_before() is None
    job._worked_from = job.began - 1000
    job._signalled(USR1, at_the_steps=False)
    assert job._rest(-signal.SIGTERM) == 0
    assert controller.requeued == 1


def test_a_driver_is_told_once_and_before_slurm_is_asked(job: slurm.Job, controller: Slurm) -> None:
    told: list[int] = []
    job.driver = type("Driver", (), {"send_signal": lambda self, number: told.append(number)})()  # type: ignore[assignment]
    controller.tell = None  # type: ignore[assignment,method-assign]
    controller.told = {}
    for number in (TERM, USR1, TERM):
        job._signalled(number, at_the_steps=number == TERM)
    assert told == [TERM]


@pytest.mark.parametrize(
    ("options", "study", "passed"),
    [
        (["--space", "x"], "slurm-47", ["--space", "x", "--study", "slurm-47"]),
        (["--study", "mine"], "mine", ["--study", "mine"]),
        (["--study=mine", "--resume"], "mine", ["--study=mine", "--resume"]),
        (["--study"], "slurm-47", ["--study", "--study", "slurm-47"]),
    ],
)
def test_a_job_keeps_the_name_of_its_study(job: slurm.Job, options: list[str], study: str, passed: list[str]) -> None:
    job.study = ""
    assert (job._with_study(options), job.study) == (passed, study)


@pytest.mark.parametrize("option", ["--address", "--address=auto", "--output", "--output=x", "--job"])
def test_options_that_the_job_states_itself_are_refused(job: slurm.Job, option: str) -> None:
    with pytest.raises(RunnerError, match=f"^{option}: got it; accepted: the options of tune_bn search besides "):
        job._with_study([option])


class Steps(slurm_steps.Nodes):
    """Nodes that never were."""

    def __init__(self, **up: bool | None) -> None:
        self.head = "n1"
        self.steps = {}
        for name, joined in up.items():
            step = slurm_steps.Step(process=None)  # type: ignore[arg-type]
            step.up = {"address": "10.0.0.1:6379", "folder": "/nowhere"} if joined else None
            step.ended = joined is None
            self.steps[name] = step


@pytest.mark.parametrize(
    ("up", "seconds", "fails", "said"),
    [
        ({"n1": True, "n2": True}, 0, True, r"job 47 starts: study one, Ray on n1, n2, head 10\.0\.0\.1:6379$"),
        (
            {"n1": True, "n2": False},
            0,
            False,
            r"Ray on n1, head .*; missing after \d+ s \(TUNE_BN_WAIT = 0\): n2: it has not",
        ),
        (
            {"n1": True, "n2": None},
            99,
            False,
            r"Ray on n1, head .*; missing after \d+ s .*: n2: its step ended \(it said",
        ),
        ({"n1": True, "n2": False, "n3": False}, 0, True, "error: 2 of 3 nodes are missing after .*; accepted: nodes"),
        ({"n1": False, "n2": False}, 0, False, "error: 2 of 2 nodes are missing after"),
        ({"n1": None, "n2": False}, 99, False, "error: n1: Ray's head does not start: its step ended"),
    ],
)
def test_nodes_that_have_not_joined_in_time_are_named(
    job: slurm.Job, up: Any, seconds: float, fails: bool, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job.nodes = Steps(**up)
    try:
        assert job._wait_for_nodes(seconds, fails)
        told = capsys.readouterr().out
    except RunnerError as error:
        told = f"error: {error}"
    assert re.search(said, told, re.MULTILINE), told


@pytest.mark.parametrize("value", ["soon", "-1", "1e3", "٣"])
def test_a_wait_that_is_no_number_is_refused(value: str) -> None:
    with pytest.raises(RunnerError, match=r"^TUNE_BN_WAIT: got .*; accepted: seconds"):
        slurm._wait_seconds({"TUNE_BN_WAIT": value})
    with pytest.raises(RunnerError, match=r"^TUNE_BN_MISSING: got .*; accepted: go-on or fail"):
        slurm._missing_fails({"TUNE_BN_MISSING": value})


def test_the_line_to_go_on_is_that_of_the_batch_system(
    job: slurm.Job, controller: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    job._given = ["--space", "resnet.yaml"]
    controller.tell(Command=f"{job.home}/cluster/slurm.sh --space resnet.yaml", WorkDir="/somewhere")
    line = "sbatch cluster/slurm.sh --space studies/one/space.yaml --study one --resume"
    assert job.to_go_on() == line
    controller.tell(Command="/a lab's/slurm.sh", WorkDir="/somewhere")
    assert job.to_go_on().startswith("""sbatch '/a lab'"'"'s/slurm.sh' --space """)
    driver_told(job, "stopped")
    assert resume_line(job.studies / "one", None).startswith("tune_bn search ")
    monkeypatch.setenv("TUNE_BN_TO_GO_ON", line)
    assert resume_line(job.studies / "one", "10.0.0.1:6379") == line
    monkeypatch.delenv("TUNE_BN_TO_GO_ON")
    path = job.studies / "one/driver.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"to_go_on": line}))
    assert resume_line(job.studies / "one", None) == line, "`tune_bn stop` on the login node"


def answers(monkeypatch: pytest.MonkeyPatch, resolved: dict[str, list[str]], interfaces: list[str]) -> None:
    """A host whose names resolve so, and that has these addresses."""
    monkeypatch.setattr(slurm_node, "_resolved", lambda name: resolved.get(name, []))
    monkeypatch.setattr(slurm_node, "_towards", lambda name: None)
    monkeypatch.setattr(slurm_node, "_interfaces", lambda: interfaces)
    monkeypatch.setattr(slurm_node, "_is_own", lambda address: address in ["127.0.0.1", "127.0.1.1", *interfaces])


@pytest.mark.parametrize(
    ("resolved", "interfaces", "network", "address"),
    [
        ({"n1": ["10.0.0.1"]}, ["169.254.0.1", "10.0.0.1"], "", "10.0.0.1"),
        ({"n1": ["127.0.1.1"]}, ["169.254.0.1", "10.0.0.1"], "", "10.0.0.1"),
        ({"n1": ["192.0.2.1"]}, ["10.0.0.1"], "", "10.0.0.1"),  # where Slurm's name is that of a gateway
        ({"n1": ["10.0.0.1"]}, ["10.0.0.1", "172.16.0.1"], "172.16.0.0/12", "172.16.0.1"),
        ({"n1": ["10.0.0.1"]}, ["10.0.0.1", "172.16.0.1"], "172.16.0.1", "172.16.0.1"),
    ],
)
def test_the_address_is_one_that_other_nodes_reach(
    monkeypatch: pytest.MonkeyPatch, resolved: Any, interfaces: list[str], network: str, address: str
) -> None:
    answers(monkeypatch, resolved, interfaces)
    assert slurm_node.own_address(["n1"], ["n2"], {"TUNE_BN_NETWORK": network}) == address


def test_a_job_of_one_node_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {}, [])
    assert slurm_node.own_address(["n1"], [], {}) == "127.0.0.1"
    answers(monkeypatch, {"n1": ["127.0.1.1"]}, ["169.254.0.1"])
    with pytest.raises(
        RunnerError, match=r"no address that other nodes reach \(found 127\.0\.1\.1, 169\.254\.0\.1\); acc"
    ):
        slurm_node.own_address(["n1"], ["n2"], {})


@pytest.mark.parametrize("network", ["ib0", "10.0.0.0/40", "300.1.1.1"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(RunnerError, match=r"^TUNE_BN_NETWORK: got .*; accepted: a network"):
        slurm_node.own_address(["n1"], ["n2"], {"TUNE_BN_NETWORK": network})


def test_a_port_is_refused_where_it_is_taken_or_none() -> None:
    assert slurm_node._port("127.0.0.1", {}) == 0
    for given in ("80", "70000", "http", "-1"):
        with pytest.raises(RunnerError, match=f"^TUNE_BN_PORT: got '{given}'; accepted: a free port"):
            slurm_node._port("127.0.0.1", {"TUNE_BN_PORT": given})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(RunnerError, match=rf"^TUNE_BN_PORT: got {port} \(Address already in use on this node\)"):
            slurm_node._port("127.0.0.1", {"TUNE_BN_PORT": str(port)})
    assert slurm_node._port("127.0.0.1", {"TUNE_BN_PORT": str(port)}) == port


def test_ray_has_the_cores_of_the_task_and_reports_nothing(tmp_path: Path) -> None:
    options = slurm_node.ray_options(tmp_path, {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "2"})
    assert "--num-cpus=8" in options
    assert f"--temp-dir={tmp_path}" in options
    assert "--disable-usage-stats" in options
    assert "--num-cpus=3" in slurm_node.ray_options(tmp_path, {"SLURM_CPUS_PER_TASK": "8", "TUNE_BN_CORES": "3"})
    assert "--num-cpus=1" in slurm_node.ray_options(tmp_path, {"SLURM_CPUS_ON_NODE": "1"})


def test_scontrol_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RunnerError, match=r"^scontrol show config: .*No such file"):
        slurm_control.scontrol("show", "config")


@pytest.mark.parametrize("lacks", ["SLURM_JOB_ID", "SLURM_SUBMIT_DIR", "SLURM_JOB_NODELIST"])
def test_what_is_no_job_of_slurm_is_refused(
    lacks: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_SUBMIT_DIR", "SLURM_JOB_NODELIST"):
        monkeypatch.setenv(name, "" if name == lacks else "47")
    assert slurm.main(["--space", "digits.yaml"]) == 2
    assert capsys.readouterr().err == f"error: {lacks}: not set; accepted: a job of Slurm (sbatch cluster/slurm.sh)\n"
