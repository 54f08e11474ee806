"""A study as a job of Slurm: a Ray node on each of its nodes, the driver on the first, and what each signal means.

``cluster/slurm.sh`` becomes this process, so Slurm's signals reach it:

====================================== ============================== ================================================
what happens                           what is heard                  what is done
====================================== ============================== ================================================
the time limit is near                 SIGUSR1 (``--signal``)         the study stops, the job is queued again; where it
                                                                      had no time to work, it ends
preempted, with a GraceTime            SIGTERM at the steps alone, or the study stops, the job is queued again
                                       SIGUSR1 here
preempted without one, node failure,   SIGTERM here, SIGKILL after    the study stops; Slurm itself queues the job again
``scontrol requeue``                   KillWait
``scancel``, the time limit itself     the same                       the study stops, the job stays ended
a second start of the same job         ``SLURM_RESTART_COUNT``        the study goes on, or, if it had come to its end,
                                                                      the job ends
====================================== ============================== ================================================

Slurm requeues by itself only at preemption and node failure; whoever calls ``scontrol requeue`` at SIGTERM brings
cancelled jobs back.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from tune_bn.errors import RunnerError, TuneBNError
from tune_bn.runners.ray.words import last_words
from tune_bn.service.slurm_control import (
    CANCELLED,
    PREEMPTED,
    QUEUED,
    RUNNING,
    fate_of,
    job_fields,
    kill_wait,
    scontrol,
    script_of,
)
from tune_bn.service.slurm_steps import Nodes

WAIT_VARIABLE, MISSING_VARIABLE = "TUNE_BN_WAIT", "TUNE_BN_MISSING"
DEFAULT_WAIT = 300.0
"""Seconds after the start until nodes that have not joined are called missing."""
LEAST_WORK = 60.0
"""Seconds: who is stopped by the time limit after less, and without a new record, would be so again."""
_OF_SLURM = ("SLURM_JOB_ID", "SLURM_SUBMIT_DIR", "SLURM_JOB_NODELIST")
_OWN_OPTIONS = ("--address", "--output", "--job")
_INTERRUPTED = 130
_STOPPED = (None, _INTERRUPTED, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL)
"""How a driver that was told to stop ends, also one that had not begun to listen, or did not."""
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """Run the job; the exit status is the driver's."""
    if missing := [name for name in _OF_SLURM if not os.environ.get(name)]:
        print(f"error: {missing[0]}: not set; accepted: a job of Slurm (sbatch cluster/slurm.sh)", file=sys.stderr)
        return 2
    job = Job(os.environ)
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda heard, _: job.events.put(("signal", heard, "")))
    try:
        return job.run(list(arguments))
    except TuneBNError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    finally:
        job.nodes.end()


class Job:
    """The job that this process is.

    Args:
        environment: what Slurm and the user say.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.began = time.monotonic()
        self.events: SimpleQueue[tuple[str, Any, Any]] = SimpleQueue()
        self._environment = environment
        self.number = environment["SLURM_JOB_ID"]
        self.home = Path(environment["SLURM_SUBMIT_DIR"])
        self.studies = Path(environment.get("TUNE_BN_STUDIES") or self.home / "studies")
        self.restarts = int(count) if (count := environment.get("SLURM_RESTART_COUNT", "")).isdecimal() else 0
        self.study = ""
        self.nodes = Nodes(self.events, environment)
        self.driver: subprocess.Popen[bytes] | None = None
        self.why_stop = ""
        """Empty while the study is to run."""
        self.why_requeue = ""
        """Empty where nobody but Slurm may queue the job again."""
        self._given: list[str] = []
        self._limit_near = False
        self._ended_by: float | None = None
        """When Slurm will kill whatever is left, on the monotonic clock."""
        self._told = False
        """Whether the driver was told to stop."""
        self._worked_from: float | None = None
        self._records_before = 0

    def say(self, text: str) -> None:
        """One line of the job's own in its log."""
        print(f"slurm  {datetime.now(UTC):%Y-%m-%d %H:%M:%S} job {self.number} {text}", flush=True)

    # The way of a job.

    def run(self, options: list[str]) -> int:
        """From the options of ``tune_bn search`` to the exit status."""
        self._given = list(options)
        wait, fails = _wait_seconds(self._environment), _missing_fails(self._environment)
        options = self._with_study(options)
        if not self.restarts and "--resume" in options:
            # Whoever submitted the job wants the study to go on. Whoever stops it from now on means this job.
            self._folder.forget_stop()
        if self.restarts and (status := self._ended_before()) is not None:
            return status
        if self.restarts and (self.studies / self.study / "space.yaml").exists() and "--resume" not in options:
            options.append("--resume")
        # In the environment alone: a file would outlive whoever is killed. The steps get it from srun, and only their
        # user reads it.
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
        os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        self.nodes.start(scontrol("show", "hostnames", self._environment["SLURM_JOB_NODELIST"]).split())
        if not self._wait_for_nodes(wait, fails):
            return self._rest(None)
        self._records_before = self._records()
        self._start_driver(options)
        return self._rest(self._wait_for_driver())

    def _with_study(self, options: list[str]) -> list[str]:
        """The options with a name that the job keeps when it is queued again, so that it finds its study."""
        for position, option in enumerate(options):
            key, equals, value = option.partition("=")
            if key in _OWN_OPTIONS:
                raise RunnerError(
                    f"{option}: got it; accepted: the options of tune_bn search besides {', '.join(_OWN_OPTIONS)}, "
                    "which this job states"
                )
            if key == "--study":
                self.study = value if equals else next(iter(options[position + 1 :]), "")
        if not self.study:
            self.study = f"slurm-{self.number}"
            return [*options, "--study", self.study]
        return list(options)

    def _ended_before(self) -> int | None:
        """The exit status where an earlier start of this job brought the study to its end: then a node failed."""
        if not self._came_to_its_end():
            if not self._folder.stop_file.exists():
                return None
            # Its driver was killed before it saw that.
            self.say(f"ends: study {self.study} was told to stop (tune_bn stop) before this start")
            return _INTERRUPTED
        state = self._driver_state()
        if state.state == "finished":
            self.say(f"ends: study {self.study} came to its verdict before this start")
            return 0
        self.say(f"ends: study {self.study} was stopped before this start: {state.reason}")
        return _INTERRUPTED

    def _wait_for_nodes(self, seconds: float, fails: bool) -> bool:
        """Until all nodes have joined, or the time is over; whether the study is to begin."""
        nodes, deadline = self.nodes, self.began + seconds
        while not self.why_stop:
            missing = nodes.missing
            lost = [name for name in missing if nodes.steps[name].ended]
            if nodes.head in lost:
                raise RunnerError(f"{nodes.head}: Ray's head does not start: {nodes.words(nodes.head)}")
            if not missing or len(lost) == len(missing) or time.monotonic() > deadline:
                waited = f"after {time.monotonic() - self.began:.0f} s ({WAIT_VARIABLE} = {seconds:g})"
                words = "; ".join(f"{name}: {nodes.words(name)}" for name in missing)
                if missing and (fails or nodes.head in missing):
                    raise RunnerError(
                        f"{len(missing)} of {len(nodes.steps)} nodes are missing {waited}: {words}; accepted: nodes "
                        f"that join, or {MISSING_VARIABLE}=go-on to do with fewer"
                    )
                said = f"starts: study {self.study}, Ray on {', '.join(nodes.up)}, head {nodes.address}"
                self.say(f"{said}; missing {waited}: {words}" if missing else said)
                return True
            self._hear(1.0)
        return False

    def _start_driver(self, options: Sequence[str]) -> None:
        from tune_bn.study.driver import BATCH_JOB_VARIABLE, TO_GO_ON_VARIABLE

        # What the driver leaves in temporary folders goes with the head's.
        folder = self.nodes.folder
        variables = {"TMPDIR": f"{folder}/tmp", "RAY_TMPDIR": str(folder)}
        variables |= {TO_GO_ON_VARIABLE: self.to_go_on(), BATCH_JOB_VARIABLE: self.number}
        command = [sys.executable, "-m", "tune_bn", "search"]
        command += ["--address", self.nodes.address, "--output", str(self.studies), *options]
        self._worked_from = time.monotonic()
        self.driver = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            # Who kills this process alone must not leave a driver behind.
            preexec_fn=partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0),
        )
        threading.Thread(target=self._await, args=[self.driver], daemon=True).start()

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        self.events.put(("driver", "", process.wait()))

    def _wait_for_driver(self) -> int:
        assert self.driver is not None
        while (status := self._hear(1.0)) is None:
            if self._ended_by is not None and time.monotonic() > self._ended_by:
                # Slurm would kill the nodes with it, and what they have on their disks would stay.
                self.driver.kill()
        return status

    def _hear(self, seconds: float) -> int | None:
        """One event, or none for so long; the driver's exit status when it has ended."""
        try:
            kind, who, what = self.events.get(timeout=seconds)
        except Empty:
            return None
        if kind == "driver":
            return int(what)
        if kind == "signal":
            self._signalled(signal.Signals(who), at_the_steps=False)
        elif kind == "ended":
            step = self.nodes.steps[who]
            step.ended = True
            if self.driver is not None and not self.why_stop and not step.error:
                self.say(f"lost {who}: {self.nodes.words(who)}")
        elif "signal" in what:
            self._signalled(signal.Signals[what["signal"]], at_the_steps=True)
        elif "error" in what:
            self.nodes.steps[who].error = what["error"]
            if self.driver is not None and not self.why_stop:
                self.say(f"lost {who}: {what['error']}")
        elif "remark" in what:
            self.say(f"{who}: {what['remark']}")
        elif "up" in what:
            self.nodes.joined(who, what["up"])
            if self.driver is not None:
                self.say(f"{who} has joined")
        return None

    def _signalled(self, number: signal.Signals, *, at_the_steps: bool) -> None:
        # Whatever it means, the study is to stop, and the controller may be slow to say more.
        if self.driver is not None and not self._told:
            self.driver.send_signal(signal.SIGTERM)
            self._told = True
        fate = fate_of(job_fields(self.number), self.restarts)
        if number == signal.SIGTERM and fate == RUNNING:
            # The signal may be faster than the controller's books.
            time.sleep(0.5)
            fate = fate_of(job_fields(self.number), self.restarts)
        if number == signal.SIGTERM and not at_the_steps and self._ended_by is None:
            self._ended_by = time.monotonic() + max(2.0, kill_wait() - 8)
        if self.why_stop and not (self._limit_near and fate == PREEMPTED):
            return
        if fate != RUNNING:
            reason = fate
        elif number == signal.SIGUSR1:
            self._limit_near = True
            reason = "its time limit is near"
        else:
            reason = f"{number.name} was sent to {'its steps' if at_the_steps else 'the script'}"
        self._limit_near = self._limit_near and fate == RUNNING
        # At all else Slurm knows itself whether the job is to come back.
        if self._limit_near or fate == PREEMPTED:
            self.why_requeue = reason
        if not self.why_stop:
            self.why_stop = reason
            self.say(f"stops: {reason}")

    # Its end.

    def _rest(self, status: int | None) -> int:
        """What becomes of the job once no driver is at work, of which ``status`` is the exit status."""
        told = job_fields(self.number)
        fate = fate_of(told, self.restarts)
        # A driver that lost its Ray may have noticed before this process did.
        if fate == PREEMPTED and not self.why_requeue:
            self.why_stop = self.why_requeue = fate
        self.nodes.end()
        failed = status not in _STOPPED and self.why_requeue != PREEMPTED
        if status is not None and (status in (0, 2) or self._came_to_its_end() or (failed and self.why_requeue)):
            self.say(f"ends: study {self.study}, exit status {status}")
            return status
        if fate == QUEUED:
            self.say(f"is {QUEUED}; it goes on by itself with study {self.study}")
            return _INTERRUPTED
        if not self.why_requeue or fate == CANCELLED:
            why = CANCELLED if fate == CANCELLED else self.why_stop or f"the driver ended with {status}"
            self.say(f"ends: {why}. To go on: {self.to_go_on()}")
            return _INTERRUPTED if status is None else status if status > 0 else 128 - status
        if self._limit_near and self._in_vain():
            raise RunnerError(
                f"--time: got {told.get('TimeLimit', '')}, of which {self._worked():.0f} s were left to work in, after "
                "the start and before the notice (--signal); nothing was finished in them, so the job is not queued "
                f"again; accepted: a longer --time. To go on: {self.to_go_on()}"
            )
        done = subprocess.run(["scontrol", "requeue", self.number], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            refused = last_words((done.stdout + done.stderr).encode())
            self.say(
                f"ends: {self.why_requeue}, and it cannot be queued again ({refused}). To go on: {self.to_go_on()}"
            )
            return _INTERRUPTED
        self.say(f"is queued again: {self.why_requeue}; it goes on by itself with study {self.study}")
        return 0

    def _in_vain(self) -> bool:
        return self._worked() < LEAST_WORK and self._records() <= self._records_before

    def _worked(self) -> float:
        return 0.0 if self._worked_from is None else time.monotonic() - self._worked_from

    # What is known of the study.

    def to_go_on(self) -> str:
        """The line by which a user goes on with the study in another job."""
        script = Path(script_of(self.number, self._given) or "cluster/slurm.sh")
        words = [
            "sbatch",
            _shown(script, self.home),
            "--space",
            _shown(self.studies / self.study / "space.yaml", self.home),
        ]
        return shlex.join([*words, "--study", self.study, "--resume"])

    def _records(self) -> int:
        try:
            return (self.studies / self.study / "records.jsonl").read_bytes().count(b"\n")
        except OSError:
            return 0

    @property
    def _folder(self) -> Any:
        from tune_bn.study.folder import StudyFolder

        return StudyFolder(self.studies / self.study)

    def _driver_state(self) -> Any:
        from tune_bn.study.driver import read_driver_state

        return read_driver_state(self._folder)

    def _came_to_its_end(self) -> bool:
        """Whether a driver of this job ended for good: with a verdict, or stopped by a user or a limit."""
        state = self._driver_state()
        if state is None or state.batch_job != self.number:
            return False
        # One that was killed while it stopped was told to all the same.
        stopping = state.state in ("stopped", "working") and bool(state.reason)
        return state.state == "finished" or (stopping and not state.reason.startswith("interrupted"))


def _wait_seconds(environment: Mapping[str, str]) -> float:
    given = environment.get(WAIT_VARIABLE, "").strip()
    if not given:
        return DEFAULT_WAIT
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", given):
        raise RunnerError(f"{WAIT_VARIABLE}: got {given!r}; accepted: seconds to wait for all nodes, 0 or more")
    return float(given)


def _missing_fails(environment: Mapping[str, str]) -> bool:
    given = environment.get(MISSING_VARIABLE, "").strip() or "go-on"
    if given not in ("go-on", "fail"):
        raise RunnerError(
            f"{MISSING_VARIABLE}: got {given!r}; accepted: go-on or fail, when nodes have not joined in time"
        )
    return given == "fail"


def _shown(path: Path, home: Path) -> str:
    try:
        return str(path.relative_to(home))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
