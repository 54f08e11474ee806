"""The inside of the sandbox of the load test of many users: carries a plan out and tells what it saw.

    python -m benchmarks.load.many_users_lab OPTIONS.json OUTCOME.json

``/tmp`` is the sandbox's own. :mod:`benchmarks.load.many_users` makes the sandbox and reads the outcome.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import yaml

from benchmarks.load import many_users_network
from benchmarks.load.many_users_cluster import NODES, Lab, commands
from benchmarks.load.many_users_plan import (
    CANCEL,
    COST,
    FOLLOWER,
    INTERRUPT,
    KILL,
    LIMIT,
    LONG_SEEDS,
    LONG_SHAPE,
    STOP,
    TERM,
    USERS,
    Act,
    Left,
    Plan,
    Step,
    StudyPlan,
    make_plan,
    space_of,
)
from tune_bn.service.jobs import JobServer, read_job
from tune_bn.study.driver import WORKING, DriverState, read_driver_state
from tune_bn.study.folder import StudyFolder

PLACE = Path("/tmp/lab")
AT_ONCE = 1
"""Studies that a user has at work at the same time, beside the long one."""
END_SECONDS = 240.0
"""By then a driver that is to end must have ended."""
SETTLE_SECONDS = 60.0
"""By then nothing of the last study may be left on the cluster."""
CACHES = ("torchinductor_", ".cache", ".config")
"""Folders that torch and matplotlib keep for the next time, whoever imports them."""
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
        if state.started_at == before.started_at:
            # It ended before it could tell anything.
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


class Sampler:
    """Once a second: who holds how many slots, and who has work for more."""

    def __init__(self, lab: Lab, watch: Watch, operators: list[Operator]) -> None:
        self.lab = lab
        self.watch = watch
        self.operators = operators
        self.rows: list[dict[str, Any]] = []
        self.names: dict[int, str] = {}
        self.kinds: set[str] = set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        while not self.ended.wait(1.0):
            try:
                self.rows.append(self._look())
            except Exception as error:
                self.watch.log(f"sampler: {type(error).__name__}: {error}")

    def _look(self) -> dict[str, Any]:
        held: dict[str, int] = {}
        drivers = self.lab.drivers()
        for actor in self.lab.workers().values():
            if (kind := actor["ActorClassName"]) not in self.kinds:
                self.kinds.add(kind)
                self.watch.log(f"actors of the class {kind}")
            name = self._name(drivers.get(actor["JobID"], 0))
            held[name] = held.get(name, 0) + 1
        present = sum(1 for a in self.lab.actors().values() if a["Name"].startswith("study-") and a["State"] == "ALIVE")
        wants = [o.plan.words for o in self.operators if o.active and self._wants(o, held.get(o.plan.words, 0))]
        return {"at": self.watch.now, "capacity": self.lab.capacity(), "present": present, "held": held, "wants": wants}

    def _name(self, pid: int) -> str:
        if pid not in self.names:
            for operator in self.operators:
                state = read_driver_state(operator.folder)
                if state is not None and state.pid == pid:
                    self.names[pid] = operator.plan.words
        return self.names.get(pid, "?")

    def _wants(self, operator: Operator, held: int) -> bool:
        """Whether its stage has runs that are neither recorded nor hold a slot."""
        state = read_driver_state(operator.folder)
        if state is None or state.state != WORKING or not operator.folder.is_locked or state.reason:
            return False
        at_most = space_of(operator.plan)["resources"].get("max_concurrent", NODES)
        if operator.plan.shape == LONG_SHAPE:
            # The records are fresher than what the driver tells every few seconds.
            return held < at_most and operator.count() + held < 2 * LONG_SEEDS[operator.plan.pace]
        return held < at_most and state.planned - state.done > held


def main() -> None:
    """Carry it out."""
    options = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    plan = make_plan(options["seed"], options["studies"], options["minutes"])
    outcome = carry_out(plan, options)
    Path(sys.argv[2]).write_text(json.dumps(outcome, indent=1), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)


def carry_out(plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
    """Everything, from the first node to what is left."""
    folders = {name: PLACE / name for name in ("ray", "tmp", "tmp/ray", "shell", "logs", "home", *USERS)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for user in USERS:
        shutil.copy(many_users_network.__file__, folders[user])
    os.environ |= {
        many_users_network.PACE: "1",
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["tmp"]),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    watch, rng = Watch(), Random(options["seed"])
    lab = Lab(folders["ray"])
    os.environ["RAY_ADDRESS"] = lab.address
    for _ in range(NODES):
        lab.add_node()
    watch.log(f"{lab.address} with {NODES} nodes")
    # What the head itself has there is the cluster's own.
    before = _files(folders)
    watch = Watch()
    operators = [Operator(study, watch, lab, 60 * options["patience"]) for study in plan.studies]
    sampler = Sampler(lab, watch, operators)
    sampler.thread.start()
    gates = {user: threading.Semaphore(AT_ONCE) for user in USERS}

    def carry(operator: Operator) -> None:
        watch.sleep_until(operator.plan.begins)
        if operator.plan.shape == LONG_SHAPE:
            operator.run()
            return
        with gates[operator.plan.user]:
            operator.run()

    threads = [threading.Thread(target=carry, args=(operator,), daemon=True) for operator in operators]
    for thread in threads:
        thread.start()
    for event in plan.events:
        watch.sleep_until(event.at)
        if not any(thread.is_alive() for thread in threads):
            break
        watch.log(f"cluster: {event.kind}")
        try:
            lab.suffer(event, rng, watch.later)
        except Exception as error:
            watch.log(f"cluster: {type(error).__name__}: {error}")
    for thread in threads:
        thread.join()
    ended = watch.now
    sampler.ended.set()
    watch.settle()
    watch.log("all studies are through")
    outcome: dict[str, Any] = {"seconds": round(ended, 1), "events": dict(lab.done), "samples": sampler.rows}
    outcome["left"] = _leftovers(lab, watch, folders, before)
    outcome["studies"] = [_study(operator) for operator in operators]
    return outcome


def _files(folders: dict[str, Path]) -> set[str]:
    """What lies where temporary files go, in the home of the users' account and in shared memory."""
    places = [folders["tmp"], folders["shell"], folders["home"], Path("/dev/shm")]
    return {str(path) for place in places for path in place.iterdir() if not path.name.startswith(CACHES)}


def _leftovers(lab: Lab, watch: Watch, folders: dict[str, Path], before: set[str]) -> list[str]:
    deadline = watch.now + SETTLE_SECONDS
    while (found := lab.leftovers()) and watch.now < deadline:
        time.sleep(1)
    lab.shutdown()
    deadline = watch.now + 20
    while (alive := commands()) and watch.now < deadline:
        time.sleep(1)
    found += [f"process after all: {words[:200]}" for words in alive.values()]
    return found + [f"file {name}" for name in sorted(_files(folders) - before)]


def _study(operator: Operator) -> dict[str, Any]:
    from benchmarks.load.many_users_oracle import judged

    row = judged(operator.left(), operator.home)
    operator.watch.log(f"{operator.plan.words}: {row['wrong'] or 'as told'}")
    return row


if __name__ == "__main__":
    main()
