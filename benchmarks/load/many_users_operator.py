"""Whoever carries one study of the load test of many users through: types its commands, and ends its drivers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

from benchmarks.load.many_users_cluster import Lab
from benchmarks.load.many_users_plan import (
    CANCEL,
    COST,
    FOLLOWER,
    INTERRUPT,
    KILL,
    LIMIT,
    LONG_SHAPE,
    STOP,
    TERM,
    Act,
    Left,
    Step,
    StudyPlan,
    space_of,
)
from tune_bn.service.jobs import JobServer, read_job
from tune_bn.study.driver import FINISHED, WORKING, DriverState, read_driver_state
from tune_bn.study.folder import StudyFolder

PLACE = Path("/tmp/lab")
END_SECONDS = 240.0
"""By then a driver that is to end must have ended."""
TUNE_BN = [sys.executable, "-m", "tune_bn"]


class Watch:
    """Seconds since the start, and what is to happen later."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._timers: list[threading.Timer] = []

    @property
    def now(self) -> float:
        return time.monotonic() - self._start

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something then, in a thread of its own."""
        timer = threading.Timer(seconds, work)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def settle(self) -> None:
        """Wait until all of it was done."""
        for timer in self._timers:
            timer.join()

    def sleep_until(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds - self.now))

    def log(self, words: str) -> None:
        print(f"{self.now:7.1f}  {words}", flush=True)


class Operator:
    """Whoever carries one study through."""

    def __init__(self, plan: StudyPlan, watch: Watch, lab: Lab, last: float) -> None:
        self.plan = plan
        self.watch = watch
        self.lab = lab
        self.last = last
        """Seconds after the start at which whatever has not ended is called hung."""
        self.home = PLACE / plan.user
        self.folder = StudyFolder(self.home / "studies" / plan.name)
        self.space = self.home / f"{plan.name}.yaml"
        self.log = PLACE / "logs" / f"{plan.user}-{plan.name}"
        self.steps: list[Step] = []
        self.active = False

    def run(self) -> None:
        """All of its drivers, one after the other."""
        self.space.write_text(yaml.safe_dump(space_of(self.plan)), encoding="utf-8")
        self.active = True
        try:
            for act in self.plan.acts:
                self.driver(act)
            if not self.plan.left:
                self.driver(None)
        except Exception as error:
            self.steps.append(Step("", None, "", "", 0.0, f"operator: {type(error).__name__}: {error}"))
        finally:
            self.active = False
            self.watch.log(f"{self.plan.words} is through: {[step.act for step in self.steps]}")

    def driver(self, act: Act | None) -> None:
        """One driver, and what happens to it."""
        before = read_driver_state(self.folder) or DriverState(state="")
        process = self._begin(act)
        kind = "" if act is None else act.kind
        after = self.watch.now
        if act is not None and kind not in (LIMIT, COST):
            # Of a job there is nothing to kill or to cancel before it has begun.
            early = not (self.plan.as_job and kind in (KILL, CANCEL))
            self._wait(lambda: self.count() >= act.after and (early or self._works(before)), process)
            # That of a long study is counted from the start of everything.
            long = self.plan.shape == LONG_SHAPE
            self.watch.sleep_until(act.delay if long else self.watch.now + act.delay)
            after = self.watch.now
            if process.poll() is None:
                self._do(kind, process)
        code = self._end(process, kind)
        if self.plan.as_job and kind in (KILL, FOLLOWER) and self.folder.exists:
            code = self._job_goes_on(kind)
        elif kind == CANCEL:
            self._stays_cancelled()
        state = read_driver_state(self.folder) or before
        if state.started_at == before.started_at and before.state != FINISHED:
            # It ended before it could tell anything; of a study that is finished there is nothing to tell.
            state = DriverState(state="")
        step = Step(kind, code, state.state, state.reason, round(self.watch.now - after, 1), self._last_line())
        self.steps.append(step)
        self.watch.log(f"{self.plan.words}: {step}")

    def _begin(self, act: Act | None) -> subprocess.Popen[bytes]:
        words = [*TUNE_BN, "search", "--space", self.space.name, "--study", self.plan.name]
        words += ["--job"] if self.plan.as_job else ["--address", self.lab.address]
        if self.folder.exists:
            words.append("--resume")
        used = read_driver_state(self.folder) or DriverState()
        if act is not None and act.kind == LIMIT:
            words += ["--set", f"budget.total_hours={(used.seconds + act.delay) / 3600:.6f}"]
        if act is not None and act.kind == COST:
            words += ["--set", f"budget.cost={used.device_seconds + act.delay:.3f}"]
        with self.log.open("ab") as log:
            log.write(f"\n== {self.watch.now:.1f} {' '.join(words[3:])}\n".encode())
            log.flush()
            return subprocess.Popen(
                words,
                cwd=self.home,
                env={**os.environ, "TMPDIR": str(PLACE / "shell")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def _do(self, kind: str, process: subprocess.Popen[bytes]) -> None:
        self.watch.log(f"{self.plan.words}: {kind}")
        if kind == STOP:
            self._stop(process)
        elif kind == CANCEL:
            job = read_job(self.folder)
            if job is not None:
                with self.log.open("ab") as log:
                    words = [str(Path(sys.executable).with_name("ray")), "job", "stop", job.submission_id]
                    subprocess.run(words, cwd=self.home, stdout=log, stderr=log, timeout=END_SECONDS)
        elif kind == FOLLOWER or (kind == KILL and not self.plan.as_job):
            process.kill()
        elif kind == KILL:
            state = read_driver_state(self.folder)
            if state is not None and state.state == WORKING:
                signal_it(state.pid, signal.SIGKILL)
        else:
            signal_it(process.pid, {TERM: signal.SIGTERM, INTERRUPT: signal.SIGINT}[kind])

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """``tune_bn stop``; again where no driver is at work yet, as a user would."""
        while process.poll() is None:
            words = [*TUNE_BN, "stop", self.plan.name]
            done = subprocess.run(words, cwd=self.home, capture_output=True, text=True, timeout=300)
            with self.log.open("a") as log:
                log.write(f"== {self.watch.now:.1f} stop ({done.returncode}): {done.stdout}{done.stderr}")
            if done.returncode == 0:
                return
            time.sleep(1)

    def _end(self, process: subprocess.Popen[bytes], kind: str) -> int | None:
        patience = self.last if kind in ("", LIMIT, COST) else self.watch.now + END_SECONDS
        try:
            return process.wait(max(1.0, patience - self.watch.now))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None

    def _job_goes_on(self, kind: str) -> int | None:
        """After its driver was killed a job is submitted again; that its follower was is nothing to it."""
        server = JobServer()
        state = read_driver_state(self.folder)
        if kind == KILL and state is not None and state.state == WORKING:
            while (job := read_job(self.folder)) is not None and server.is_active(job) and self.watch.now < self.last:
                time.sleep(1)
            words = [*TUNE_BN, "head", "resume"]
            done = subprocess.run(words, cwd=self.home, capture_output=True, text=True, timeout=300)
            with self.log.open("a") as log:
                log.write(f"== {self.watch.now:.1f} resume ({done.returncode}): {done.stdout}{done.stderr}")
        while (job := read_job(self.folder)) is not None and server.is_active(job):
            if self.watch.now > self.last:
                return None
            time.sleep(1)
        return 0

    def _stays_cancelled(self) -> None:
        words = [*TUNE_BN, "head", "resume"]
        done = subprocess.run(words, cwd=self.home, capture_output=True, text=True, timeout=300)
        if f"{self.plan.name}: goes on" in done.stdout:
            self.steps.append(Step(CANCEL, 0, "resumed", done.stdout.strip(), 0.0, "came back by itself"))
            server = JobServer()
            while (job := read_job(self.folder)) is not None and server.is_active(job) and self.watch.now < self.last:
                time.sleep(1)

    def _works(self, before: DriverState) -> bool:
        """Whether another driver than that of ``before`` is at work."""
        state = read_driver_state(self.folder)
        return state is not None and state.state == WORKING and state.started_at != before.started_at

    def count(self) -> int:
        """Records so far."""
        try:
            return self.folder.records.path.read_bytes().count(b"\n")
        except OSError:
            return 0

    def _wait(self, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        while not condition() and process.poll() is None and self.watch.now < self.last:
            time.sleep(0.2)

    def _last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def left(self) -> Left:
        """What there is now."""
        path = self.folder.path
        files = []
        if self.folder.verdict_file.exists() and self.folder.checkpoints.exists():
            files += [f"checkpoints/{one.name}" for one in self.folder.checkpoints.iterdir()]
        files += [one.name for one in path.glob("*") if one.name == "stop" or ".tmp" in one.name or ".new" in one.name]
        records = tuple(self.folder.records.read()) if self.folder.exists else ()
        return Left(
            self.plan,
            tuple(self.steps),
            records,
            self.folder.verdict_file.exists(),
            self.folder.is_locked,
            tuple(files),
        )


def signal_it(pid: int, number: int) -> None:
    """As ``kill`` does."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
