"""The process that drives a study: what it tells others through ``driver.json``, and what makes it stop.

While a driver works it writes ``driver.json`` every few seconds: where it runs, what it does, and what the study has
used so far, over all of its drivers. It stops cleanly, as by Ctrl-C, when somebody leaves a file ``stop`` in the folder
(``tune_bn stop``), which works across hosts that share the folder, and when a limit of the budget is reached.
``driver.json`` says why from that moment on: who is killed before the end was told to stop all the same, and is started
by nobody again. Durations are measured by a clock that does not jump.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

from tune_bn.errors import ClusterLost, Interrupted, RecordError
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.records.files import write_json
from tune_bn.records.plan import Plan
from tune_bn.records.reading import read_as
from tune_bn.records.record import CANDIDATE, SEARCH, Record
from tune_bn.records.score import accuracy
from tune_bn.records.times import utc_now
from tune_bn.space.sections import Budget, Resources
from tune_bn.study.folder import StudyFolder

HEARTBEAT_SECONDS = 5.0
"""A ``driver.json`` that is several times older belongs to a driver that is gone or cut off."""

LISTEN_SECONDS = 0.2
"""Between two looks at the request to stop. Ray kills the driver of a job 3 s after it said so."""
_LOOK_SECONDS = 1.0
"""Between two looks for reasons to make it."""
JOB_VARIABLE = "TUNE_BN_JOB"
"""Set for the driver of a Ray job, to the job's name: whoever typed the command was not there when it began."""
TO_GO_ON_VARIABLE, BATCH_JOB_VARIABLE = "TUNE_BN_TO_GO_ON", "TUNE_BN_BATCH_JOB"
"""Under a batch system: the command that goes on with the study, not `tune_bn search`, and the number of the job."""

LIVE_FILE = "live.json"
"""Courses of the tasks at work, as of the last heartbeat, for whoever watches."""

WORKING, FINISHED, STOPPED, LOST, BROKEN = "working", "finished", "stopped", "lost", "failed"


@dataclass(frozen=True)
class DriverState:
    """The content of ``driver.json``. Times in UTC (ISO 8601), durations in seconds."""

    host: str = ""
    pid: int = 0
    started_at: str = ""
    updated_at: str = ""
    state: str = WORKING
    """``working``, or how the driver ended: ``finished``, ``stopped`` (on purpose), ``lost`` (its cluster went away) or
    ``failed``. A killed one says ``working``."""
    reason: str = ""
    """Why it stopped, or is to stop. One that was killed before it had ended was told to stop, and says so."""
    stage: str = ""
    planned: int = 0
    """Runs of the stage, at most."""
    done: int = 0
    running: int = 0
    """Tasks at work."""
    seconds: float = 0.0
    """Wall-clock time of all drivers of the study."""
    search_seconds: float = 0.0
    """That of their search stages."""
    device_seconds: float = 0.0
    """Time that tasks held devices (GPUs, or else CPU cores), attempts that came to nothing included."""
    to_go_on: str = ""
    """The command that goes on with the study where ``$TUNE_BN_TO_GO_ON`` says that it is not ``tune_bn search``."""
    batch_job: str = ""
    """The batch system's job that the driver was part of (``$TUNE_BN_BATCH_JOB``)."""
    address: str = ""
    """The Ray cluster that it was given; empty: one of its own."""

    @property
    def ended(self) -> bool:
        """Whether it ended on purpose, or was told to: one that was killed or lost its cluster may be started again."""
        return self.state not in (WORKING, LOST) or bool(self.reason)

    @property
    def device_hours(self) -> float:
        """Device-hours of the study."""
        return self.device_seconds / 3600


def read_driver_state(folder: StudyFolder) -> DriverState | None:
    """What the last driver of a study told; None where there is nothing, or nothing that makes sense."""
    with suppress(RecordError):
        return checked_driver_state(folder)
    return None


_ALWAYS = ("host", "pid", "started_at", "state", "seconds", "device_seconds")
"""What every driver has told."""


def checked_driver_state(folder: StudyFolder) -> DriverState | None:
    """What the last driver of a study told; None where there was none.

    Raises:
        RecordError: the file is not what a driver wrote.
    """
    if not folder.driver_file.exists():
        return None
    # Older drivers say less, later ones may say more.
    return read_as(DriverState, folder.driver_file, what="state of a driver", lenient=True, required=_ALWAYS)


def used_up(state: DriverState, budget: Budget, resources: Resources) -> str:
    """Which limit of the budget a study has used up, in words; empty: none."""
    if budget.total_hours is not None and state.seconds >= 3600 * budget.total_hours:
        return f"budget.total_hours = {budget.total_hours:g} is used up"
    price = resources.price_per_device_hour
    if budget.cost is not None and price is not None and state.device_hours * price >= budget.cost:
        return f"budget.cost = {budget.cost:g} is used up: {state.device_hours:.4g} device-hours at {price:g}"
    return ""


def raised_limits(state: DriverState | None, budget: Budget, resources: Resources) -> list[str]:
    """The options by which a study goes on that has used up limits of its budget: twice of each, or of what it used."""
    if state is None:
        return []
    used = {"total_hours": state.seconds / 3600, "cost": state.device_hours * (resources.price_per_device_hour or 0.0)}
    found = []
    for key, spent in used.items():
        limit = getattr(budget, key)
        if used_up(state, budget.model_copy(update=dict.fromkeys(used, None) | {key: limit}), resources):
            found += ["--set", f"budget.{key}={float(f'{2 * max(limit, spent):.3g}'):g}"]
    return found


class Driver(Observer):
    """An observer that keeps ``driver.json`` and stops the study where it must end.

    Args:
        folder: the study's folder, locked by this process.
        budget: its limits.
        resources: what a trial holds and costs.
        stop: the request that the driver makes where the work must end; whoever else makes it is told of too.
        address: the Ray cluster that it was given, for the command that goes on; empty: one of its own.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        folder: StudyFolder,
        budget: Budget,
        resources: Resources,
        *,
        stop: StopRequest,
        address: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._budget = budget
        self._resources = resources
        self._stop = stop
        self._clock = clock
        self._lock = threading.RLock()
        self._tasks: dict[str, Task] = {}
        self._courses: dict[str, dict[int, list[float]]] = {}
        self._score = accuracy()
        self._last = clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="driver", daemon=True)
        before = read_driver_state(folder) or DriverState()
        self._state = DriverState(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=utc_now(),
            seconds=before.seconds,
            search_seconds=before.search_seconds,
            device_seconds=before.device_seconds,
            to_go_on=os.environ.get(TO_GO_ON_VARIABLE, ""),
            batch_job=os.environ.get(BATCH_JOB_VARIABLE, ""),
            address=address,
        )

    @property
    def state(self) -> DriverState:
        """The state as of now."""
        with self._lock:
            self._advance()
            return replace(self._state, running=len(self._tasks), updated_at=utc_now())

    @contextmanager
    def watching(self) -> Iterator[Driver]:
        """Keep ``driver.json`` and look for reasons to stop, until the block ends; it then says how it ended."""
        # Before anything is trained: a limit may be used up already.
        self._look()
        self._note_request()
        self._write()
        self._thread.start()
        outcome = BROKEN
        try:
            yield self
            outcome = FINISHED
        except (Interrupted, KeyboardInterrupt):
            outcome = STOPPED
            raise
        except ClusterLost:
            outcome = LOST
            raise
        finally:
            self._ended.set()
            self._thread.join()
            with self._lock:
                self._advance()
                self._tasks.clear()
                if self._stop.asked and outcome != FINISHED:
                    outcome = STOPPED
                # A study may come to its end before it can be stopped.
                reason = self._stop.reason if outcome == STOPPED else ""
                self._state = replace(self._state, state=outcome, reason=reason)
            self._write()

    def _work(self) -> None:
        looked = written = time.monotonic()
        while not self._ended.wait(min(LISTEN_SECONDS, HEARTBEAT_SECONDS)):
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS:
                looked = now
                self._look()
            told = self._note_request()
            if told or now - written >= HEARTBEAT_SECONDS:
                written = now
                self._write()

    def _look(self) -> None:
        """Make the request where there is a reason for it."""
        if not self._stop.asked and (reason := self.reason_to_stop()):
            self._stop.ask(reason)

    def _note_request(self) -> bool:
        """Whether the request is one that ``driver.json`` does not tell of yet."""
        with self._lock:
            news = self._state.reason != self._stop.reason
            self._state = replace(self._state, reason=self._stop.reason)
            return news

    def reason_to_stop(self) -> str:
        """Why the study must stop now, in words; empty where it may go on."""
        state, budget = self.state, self._budget
        if self._folder.stop_file.exists():
            return "tune_bn stop asked for it"
        return used_up(state, budget, self._resources)

    def _advance(self) -> None:
        """Count the time since the last look."""
        now = self._clock()
        passed, self._last = now - self._last, now
        state = self._state
        self._state = replace(
            state,
            seconds=state.seconds + passed,
            search_seconds=state.search_seconds + (passed if state.stage == SEARCH else 0.0),
            device_seconds=state.device_seconds + passed * len(self._tasks) * self._resources.devices,
        )

    def _write(self) -> None:
        # A full disk is for the records to report: this file is worth no error.
        state = self.state
        try:
            write_json(self._folder.driver_file, asdict(state))
        except OSError:
            # The request stays: without it whoever looks next would take this driver for one that was killed.
            return
        with suppress(OSError):
            write_json(self._folder.path / LIVE_FILE, {"tasks": self._live()})
        if state.reason:
            # Only now, since a driver may be killed between the two. Where it cannot be removed, who starts the study
            # the next time tries again.
            with suppress(OSError):
                self._folder.stop_file.unlink(missing_ok=True)

    def _live(self) -> list[dict[str, Any]]:
        """The tasks at work with their courses, as means over their seeds."""
        with self._lock:
            tasks = dict(self._tasks)
            self._courses = {key: own for key, own in self._courses.items() if key in tasks}
            courses = {key: [list(scores) for scores in own.values()] for key, own in self._courses.items()}
        found = []
        for key, task in tasks.items():
            name = "trial" if task.arm == CANDIDATE else task.arm
            found.append(
                {
                    "name": name if task.trial is None else f"{name} {task.trial}",
                    "config": dict(task.overrides),
                    "epochs": task.steps,
                    # JSON has no NaN, which a loss is from the step on in which one of the seeds diverged.
                    "scores": list(takewhile(math.isfinite, map(fmean, zip(*courses.get(key, ()), strict=False)))),
                }
            )
        return found

    # What the study tells.

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        """The state of the drivers before was read already."""
        self._score = info.score

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        """A stage begins."""
        with self._lock:
            self._advance()
            self._tasks.clear()
            self._state = replace(self._state, stage=stage, planned=planned_runs, done=done_runs)

    def task_started(self, task: Task) -> None:
        """The task holds its devices from now on."""
        with self._lock:
            self._advance()
            self._tasks[task.key] = task

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """Whole runs alone are counted; how far the others are is for who watches."""
        with self._lock:
            own = self._courses.setdefault(task.key, {})
            # A report may bring nothing new.
            for seed, points in ((seed, points) for seed, points in curves.items() if points):
                known = {} if points[0].step == 1 else dict(enumerate(own.get(seed, ()), start=1))
                known |= {point.step: point.metrics.get(self._score.validation, math.nan) for point in points}
                own[seed] = [known[step] for step in sorted(known)]

    def task_killed(self, task: Task) -> None:
        """The task gave its devices back."""
        with self._lock:
            self._advance()
            self._tasks.pop(task.key, None)

    def early_order_seen(self, line: str) -> None:
        """What it says is no concern of the driver."""

    def plan_locked(self, plan: Plan) -> None:
        """The plan is no concern of the driver."""

    def run_recorded(self, record: Record, curve: Sequence[Point]) -> None:
        """A run is done, and with it its task."""
        with self._lock:
            self._advance()
            self._state = replace(self._state, done=self._state.done + 1)
            # The seeds of a task are recorded together.
            ended = [key for key, task in self._tasks.items() if record.key in map(task.run_key, task.seeds)]
            for key in ended:
                del self._tasks[key]

    def artifacts_changed(self, paths: Sequence[Path]) -> None:
        """Files are for the tracker."""

    def study_finished(self, status: str, summary: Mapping[str, float | str]) -> None:
        """How it ended is written when :meth:`watching` ends."""
