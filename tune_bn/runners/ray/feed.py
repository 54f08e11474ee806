"""A feed's tasks as Tune's trials: who hands them out, who follows them, and what both must know."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import ObjectRef, cloudpickle
from ray.exceptions import RayTaskError, UnserializableException
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from tune_bn.errors import TuneBNError
from tune_bn.protocols.runner import Feed, Listener, RunResult, Task
from tune_bn.records.times import utc_now
from tune_bn.runners.ray.pair_placement import PairPlacement
from tune_bn.runners.ray.share import LOOK_SECONDS, ClusterShare
from tune_bn.runners.ray.trainable import (
    ALONE,
    FRESH,
    KIND,
    MILESTONES,
    OUT_OF_MEMORY,
    PLACE,
    REPORT,
    REPORT_SECONDS,
    SHARED,
    TASK,
    TEST,
    accelerator_types,
)
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import CheckpointWarning, CurveBook, Report, failed_results, final_results

REPORTS_A_SECOND = 150
"""Reports for which a driver has time in half of a core. Of more runs each reports more rarely than once a second, but
at the steps at which a scheduler decides as ever."""


def report_seconds(most: int) -> float:
    """Seconds from a report of a run to its next, where so many may be in flight."""
    return max(1.0, most / REPORTS_A_SECOND)


class DriverOnly:
    """Lives in this process: Tune pickles its parts for a restore that never comes, and gets an empty shell."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


@dataclass
class Ledger(DriverOnly):
    """What the driver knows of a stage's tasks beyond Tune."""

    tasks: dict[str, Task] = field(default_factory=dict)
    """The tasks in flight, by trial."""
    again: deque[Task] = field(default_factory=deque)
    """Tasks to hand out once more, as other trials."""
    attempts: dict[str, int] = field(default_factory=dict)
    """Attempts of earlier trials, by task."""
    alone: set[str] = field(default_factory=set)
    """Tasks that were out of memory, and get a GPU of their own."""
    kinds: dict[str, str] = field(default_factory=dict)
    """The type of device that a trial must get, by trial, where it must."""
    placed: set[str] = field(default_factory=set)
    """Trials among them that have one."""
    making_room: set[str] = field(default_factory=set)
    """Trials that wait for a GPU of their own. Until they have one nothing new is begun, or they would wait long."""


class Pairs(DriverOnly):
    """The placement of pairs on the cluster as it is now.

    Args:
        placement: decides.
        gpu: GPUs of a trial.
    """

    def __init__(self, placement: PairPlacement, gpu: float) -> None:
        self.placement = placement
        self._gpu = gpu
        self._looked_at = -math.inf
        self._types: dict[str, float] = {}

    @property
    def types(self) -> dict[str, float]:
        """GPUs by type; the cluster is asked every few seconds."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._types, self._looked_at = accelerator_types(self._gpu), time.monotonic()
        return self._types

    def kind_of(self, task: Task) -> str | None:
        """See :meth:`PairPlacement.type_for`."""
        return self.placement.type_for(task, self.types)

    def given_up(self, kind: str) -> bool:
        """See :meth:`PairPlacement.given_up`."""
        return self.placement.given_up(kind, self.types)

    def ended(self, task: Task, kind: Any) -> None:
        """See :meth:`PairPlacement.ended`."""
        self.placement.ended(task, kind if isinstance(kind, str) else None)


class FeedSearcher(DriverOnly, Searcher):  # type: ignore[misc]
    """Hands the tasks of a feed to Tune; :class:`FeedCallback`, which sees the trials, tells what becomes of them."""

    def __init__(
        self,
        feed: Feed,
        ledger: Ledger,
        share: ClusterShare,
        test: Callable[[], ObjectRef],
        kind_of: Callable[[Task], str | None] = lambda task: None,
        milestones: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.kind_of = kind_of
        self.milestones = milestones
        self.feed = feed
        self.ledger = ledger
        self.share = share
        self.test = test
        self.place = SHARED
        self.yielded = False
        """It ended before the feed did, so that another study gets its turn and its worker's slot."""
        self._begun = False

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, None to wait for others, or FINISHED."""
        ledger, in_flight = self.ledger, len(self.ledger.tasks)
        if ledger.making_room or in_flight >= self.share.most:
            return None
        more = ledger.again or not self.feed.exhausted
        # The first one's turn was waited for.
        if more and self._begun and not self.share.may_begin(in_flight):
            if in_flight:
                return None
            self.yielded = True
            return Searcher.FINISHED
        again = bool(ledger.again)
        task = ledger.again.popleft() if again else self.feed.next()
        if task is not None:
            if task.key in ledger.alone:
                ledger.making_room.add(trial_id)
                return self._handed_out(trial_id, task, ALONE)
            # Where a warm worker died, so may others have.
            if again:
                self.place = FRESH if self.place == SHARED else SHARED
            return self._handed_out(trial_id, task, self.place)
        # Nothing to begin in its turn, which another study may have.
        self.share.tell(in_flight)
        return Searcher.FINISHED if self.finished else None

    @property
    def finished(self) -> bool:
        """Whether the feed is done with: a task in flight may have to be handed out again."""
        return self.feed.exhausted and not self.ledger.tasks and not self.ledger.again

    @property
    def over(self) -> bool:
        """Whether there is nothing more to hand out, for good or in this turn."""
        return self.yielded or self.finished

    def _handed_out(self, trial_id: str, task: Task, place: str) -> dict[str, Any]:
        self._begun = True
        self.ledger.tasks[trial_id] = task
        config: dict[str, Any] = {TASK: task, PLACE: place, MILESTONES: self.milestones}
        config[REPORT_SECONDS] = report_seconds(self.share.most)
        if (kind := self.kind_of(task)) is not None:
            config[KIND] = self.ledger.kinds[trial_id] = kind
        return config if task.test_metric is None else config | {TEST: self.test()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Left to the callback."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study resumes from its records."""


class FeedCallback(DriverOnly, Callback):  # type: ignore[misc]
    """Follows Tune's trials and gives finished tasks back to the feed."""

    def __init__(
        self,
        feed: Feed,
        listener: Listener,
        ledger: Ledger,
        stopping: EarlyStopping,
        max_failures: int,
        warn: CheckpointWarning,
        pairs: Pairs | None = None,
        versions: Callable[[Any], Mapping[str, str]] = lambda config: {},
        step_words: str = "epoch",
    ) -> None:
        self.versions = versions
        self.step_words = step_words
        self.feed = feed
        self.listener = listener
        self.ledger = ledger
        self.stopping = stopping
        self.max_failures = max_failures
        self.failure: TuneBNError | None = None
        """Why the study cannot go on: a full disk, for example."""
        self.warn = warn
        self.pairs = pairs
        self.released = False
        """Tasks wait for a type of device that the cluster has no more; all are handed out anew."""
        self.curves: dict[str, CurveBook] = {}
        self.reports: dict[str, Report] = {}
        self.started_at: dict[str, str] = {}
        self.waiting: set[str] = set()
        """Trials that lost their worker and have no other yet."""

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self.pairs is not None and not self.released:
            waiting = {kind for name, kind in self.ledger.kinds.items() if name not in self.ledger.placed}
            self.released = any(map(self.pairs.given_up, waiting))

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.ledger.placed.add(trial.trial_id)
        self.ledger.making_room.discard(trial.trial_id)
        self.waiting.discard(trial.trial_id)
        self.curves.setdefault(trial.trial_id, CurveBook())
        self.started_at.setdefault(trial.trial_id, utc_now())
        self.listener.task_started(self.ledger.tasks[trial.trial_id])

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.ledger.placed.discard(trial.trial_id)
        if trial.trial_id in self.started_at and trial.trial_id not in self.waiting:
            self.listener.task_killed(self.ledger.tasks[trial.trial_id])
        self.waiting.add(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if OUT_OF_MEMORY in result:
            return
        report: Report = result[REPORT]
        self.reports[trial.trial_id] = report
        self.curves[trial.trial_id].add(report.curves)
        self.warn.hear(report)
        self.listener.task_progress(self.ledger.tasks[trial.trial_id], report.curves)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        task, report = self.ledger.tasks[trial.trial_id], self.reports.get(trial.trial_id)
        attempts = self._attempts(trial, trial.num_failures + 1)
        pruned_by = self.stopping.name if task.may_stop and report and not report.done else None
        if OUT_OF_MEMORY in trial.last_result:
            message = trial.last_result[OUT_OF_MEMORY]
            if task.key not in self.ledger.alone:
                self.ledger.alone.add(task.key)
                self._hand_out_again(trial, attempts)
                self.listener.task_killed(task)
            else:
                self._fail(trial, f"out of memory, with the GPU to itself, on {message}", attempts)
        elif report is not None and (report.done or pruned_by is not None):
            curves = self.curves[trial.trial_id]
            results = final_results(
                report.results, curves, pruned_by=pruned_by, attempts=attempts, step=self.step_words
            )
            self._finish(trial, results)
        else:
            self._fail(trial, "it ended without a result", attempts)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # Tune counts the death of a warm worker to which it has just given the trial twice, and gives up at the second.
        again = trial.trial_id in self.waiting
        attempts = self._attempts(trial, trial.num_failures - again)
        if again and attempts <= self.max_failures:
            self._hand_out_again(trial, attempts)
        else:
            self._fail(trial, _error_text(trial), attempts, lost=_lost(trial))

    def _hand_out_again(self, trial: Trial, attempts: int) -> None:
        task = self._forget(trial)
        self.ledger.attempts[task.key] = attempts
        self.ledger.again.append(task)

    def _attempts(self, trial: Trial, attempts: int) -> int:
        return attempts + self.ledger.attempts.get(self.ledger.tasks[trial.trial_id].key, 0)

    def _fail(self, trial: Trial, error: str, attempts: int, *, lost: bool = False) -> None:
        curves = self.curves.get(trial.trial_id, CurveBook())
        started_at = self.started_at.get(trial.trial_id, utc_now())
        task = self.ledger.tasks[trial.trial_id]
        versions = self.versions(task.config)
        results = failed_results(
            task, error, curves, attempts=attempts, started_at=started_at, versions=versions, lost=lost
        )
        self._finish(trial, results)

    def _finish(self, trial: Trial, results: Sequence[RunResult]) -> None:
        task = self._forget(trial)
        if self.pairs is not None:
            self.pairs.ended(task, results[0].environment.get("accelerator_type"))
        self.ledger.attempts.pop(task.key, None)
        self.ledger.alone.discard(task.key)
        self.stopping.ended(task, results)
        try:
            self.feed.finished(task, results)
        except TuneBNError as error:
            # Raised here, Tune would take it for a failure of the trial and train it again.
            self.failure = self.failure or error

    def _forget(self, trial: Trial) -> Task:
        """The task is in flight no more. A search of many thousand trials must not keep what is on disk by now."""
        self.ledger.making_room.discard(trial.trial_id)
        self.ledger.kinds.pop(trial.trial_id, None)
        self.ledger.placed.discard(trial.trial_id)
        self.waiting.discard(trial.trial_id)
        for book in (self.curves, self.reports, self.started_at):
            book.pop(trial.trial_id, None)
        return self.ledger.tasks.pop(trial.trial_id)


class CurrentStage(DriverOnly, Callback):  # type: ignore[misc]
    """Follows Tune's trials over all stages; each stage is told of its own."""

    def __init__(self, stage: FeedCallback) -> None:
        self.stage = stage

    def on_step_begin(self, **info: Any) -> None:
        self.stage.on_step_begin(**info)

    def on_trial_start(self, **info: Any) -> None:
        self.stage.on_trial_start(**info)

    def on_trial_recover(self, **info: Any) -> None:
        self.stage.on_trial_recover(**info)

    def on_trial_result(self, **info: Any) -> None:
        self.stage.on_trial_result(**info)

    def on_trial_complete(self, **info: Any) -> None:
        self.stage.on_trial_complete(**info)

    def on_trial_error(self, **info: Any) -> None:
        self.stage.on_trial_error(**info)


def _error_text(trial: Trial) -> str:
    path = trial.error_file
    if path and Path(path).exists():
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return str(trial.get_error() or "the worker died")


def _lost(trial: Trial) -> bool:
    """Whether what ended the trial came of the cluster and not of the task."""
    path = trial.pickled_error_file
    if not path or not Path(path).exists():
        return False
    with Path(path).open("rb") as handle:
        try:
            error = cloudpickle.load(handle)
        # An error of a user's own class, which cannot be made from its message alone.
        except Exception:
            return False
    # The latter is what Ray makes of such an error on its way here.
    return not isinstance(error, RayTaskError | UnserializableException)
