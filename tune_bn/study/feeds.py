"""Where a runner's work comes from in each stage, and where its results go."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from tune_bn.errors import StudyError
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.runner import RunResult, SchedulerConfig, Task
from tune_bn.protocols.sampler import Outcome, Sampler
from tune_bn.protocols.trainer import Trainer
from tune_bn.records.diagnostics import to_json
from tune_bn.records.files import write_json
from tune_bn.records.per_image import write_bits
from tune_bn.records.provenance import seen
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, CONFIRM, FAILED, PRUNED, SEARCH, Record, run_key
from tune_bn.records.score import Score
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.script.folder import CHECKPOINT, WORK
from tune_bn.space.space import Space
from tune_bn.study.auto_grace import AutoGrace
from tune_bn.study.done import done_records
from tune_bn.study.failures import FailingAlike
from tune_bn.study.folder import StudyFolder


class Recorder:
    """Turns results into records on disk, and remembers which runs are done.

    A run that failed is not done: a resume runs it again, and both records stay.
    """

    def __init__(
        self,
        folder: StudyFolder,
        info: StudyInfo,
        observer: Observer,
        trainer: Trainer,
        *,
        keep_weights: bool = False,
    ) -> None:
        self.folder = folder
        self.trainer = trainer
        self.score = trainer.score
        self.keep_weights = keep_weights
        self.info = info
        self.observer = observer
        self.plan_sha256: str | None = None
        self.given_up: frozenset[str] = frozenset()
        """Keys of tasks that failed and are not to be tried again by this process."""
        self.records = folder.records.read()
        self._done = done_records(self.records)
        self._types = {pair: kind for record in self.records for pair, kind in _type_of(record)}

    def get(self, stage: str, arm: str, trial: int | None, seed: int) -> Record | None:
        """The record of a run that is done, or None."""
        return self._done.get(run_key(stage, arm, trial, seed))

    @property
    def done(self) -> Mapping[str, Record]:
        """The records of the runs that are done, by key."""
        return self._done

    def has(self, key: str) -> bool:
        """Whether the run of this key is done."""
        return key in self._done

    def type_of_pair(self, stage: str, seed: int) -> str | None:
        """The type of device that a finished run on this seed had, where its record says one."""
        return self._types.get(pair_name(stage, seed))

    def find(self, stage: str, arm: str, trial: int | None, seed: int) -> Record:
        """The record of a run that is known to be done."""
        record = self.get(stage, arm, trial, seed)
        if record is None:
            raise StudyError(f"{self.folder.records.path}: {run_key(stage, arm, trial, seed)} is not recorded")
        return record

    def record(self, task: Task, results: Sequence[RunResult]) -> None:
        """Append what became of a task, one record per seed, then drop its checkpoints."""
        for result in results:
            key = task.run_key(result.seed)
            # A crash between two seeds of a task leaves the first one recorded; the task was run again as a whole.
            if key in self._done:
                continue
            self.folder.curves.append(key, result.curve)
            self._keep_diagnostics(task, result)
            if result.right:
                write_bits(self.folder.path, key, result.right)
            record = self.folder.records.append(self._make(task, result))
            self.records.append(record)
            if record.status != FAILED:
                self._done[key] = record
                self._types |= _type_of(record)
            self.observer.run_recorded(record, result.curve)
        store = CheckpointStore(self.folder.checkpoints / task.key)
        if self.keep_weights and task.stage == CONFIRM and any(result.status == COMPLETED for result in results):
            store.keep(self.folder.weights / f"{task.key}.pt")
        store.discard()
        for seed in task.seeds:
            # Of a trainer whose runs have folders: what is large goes, what was said stays.
            for name in (WORK, CHECKPOINT):
                shutil.rmtree(self.folder.runs / task.run_key(seed) / name, ignore_errors=True)

    def _keep_diagnostics(self, task: Task, result: RunResult) -> None:
        if result.diagnostics is None:
            return
        found = replace(result.diagnostics, run=task.run_key(result.seed), arm=task.arm, config=task.overrides)
        # A record is worth more than what explains it.
        with suppress(OSError):
            self.folder.diagnostics.mkdir(exist_ok=True)
            write_json(self.folder.diagnostics / f"{task.arm}.json", to_json(found))

    def _make(self, task: Task, result: RunResult) -> Record:
        return Record(
            study=self.info.name,
            stage=task.stage,
            arm=task.arm,
            trial=task.trial,
            seed=result.seed,
            config=dict(task.overrides),
            status=result.status,
            reason=result.reason,
            epochs=result.epochs,
            epochs_planned=self.trainer.steps(task.config),
            scores=dict(result.scores),
            attempts=result.attempts,
            started_at=result.started_at,
            duration_seconds=result.duration_seconds,
            device=result.device,
            versions=dict(result.versions),
            commit=self.info.commit,
            space_sha256=self.info.space_sha256,
            plan_sha256=self.plan_sha256,
            data=seen(self.info.data, test=task.test_metric is not None),
            environment=dict(result.environment),
            test=dict(result.test),
        )


def pair_name(stage: str, seed: int) -> str:
    """What the runs on a seed are called together: every arm's."""
    return f"{stage}-s{seed}"


def _type_of(record: Record) -> list[tuple[str, str]]:
    kind = record.environment.get("accelerator_type")
    if record.status == FAILED or not isinstance(kind, str):
        return []
    return [(pair_name(record.stage, record.seed), kind)]


def trial_outcome(runs: Sequence[Any], score: Score) -> Outcome:
    """What the runs of a trial, records or results, say of it: failed if one failed, pruned if one was stopped."""
    statuses = {run.status for run in runs}
    epoch = max(run.epochs for run in runs)
    if FAILED in statuses:
        return Outcome(FAILED, None, epoch, n=len(runs))
    status = PRUNED if PRUNED in statuses else COMPLETED
    if not all(score.has(run.scores) for run in runs):
        return Outcome(status, None, epoch, n=len(runs))
    found = [score.objective_of(run.scores) for run in runs]
    std = stdev(found) if len(found) > 1 else None
    return Outcome(status, fmean(found), epoch, std, len(found))


def search_outcomes(records: Sequence[Record], arm: str, seeds: Sequence[int], score: Score) -> dict[int, Outcome]:
    """Outcomes by trial number of the search trials of an arm whose every seed is recorded."""
    trials: dict[int, dict[int, Record]] = {}
    for record in records:
        if record.stage == SEARCH and record.arm == arm and record.trial is not None:
            trials.setdefault(record.trial, {})[record.seed] = record
    return {
        trial: trial_outcome(list(runs.values()), score)
        for trial, runs in sorted(trials.items())
        if set(runs) == set(seeds)
    }


class SearchFeed:
    """A :class:`tune_bn.protocols.runner.Feed` of proposals, until each arm has its trials or the hours are over.

    The arms take turns, so that an interrupted search has spent equally on both.

    Of each arm the first ``budget.finalists`` trials are never stopped early; where one of them fails or diverges, the
    next takes its place. Where all the same no trial of an arm ran to its end although one was stopped, the arm gets
    up to as many more trials: what the search cost would be lost without a finalist.

    Args:
        space: the space.
        samplers: who proposes, by arm.
        quota: trials of each arm.
        recorder: keeps the records.
        grace: finds the epochs before a trial may be stopped; None: the space states them.
        seconds_before: what earlier drivers of the study spent on the search.
    """

    def __init__(
        self,
        space: Space,
        samplers: Mapping[str, Sampler],
        quota: Mapping[str, int],
        recorder: Recorder,
        *,
        grace: AutoGrace | None = None,
        seconds_before: float = 0.0,
    ) -> None:
        self.space = space
        self.samplers = samplers
        self.quota = quota
        self.recorder = recorder
        self.grace = grace
        hours = space.budget.hours
        # The wall clock may jump, and what earlier drivers spent counts too.
        self.deadline = None if hours is None else time.monotonic() + 3600.0 * hours - seconds_before
        self._failing = FailingAlike(recorder.folder.path)
        self._fates: dict[str, dict[int, str]] = {arm: {} for arm in samplers}
        """What became of each trial of an arm, by its number."""
        self._held: dict[str, list[tuple[int, Outcome]]] = {arm: [] for arm in samplers}
        """Trials that failed and of which the sampler is not told yet."""
        trials: dict[tuple[str, int], list[Record]] = {}
        for record in recorder.records:
            if record.stage == SEARCH and record.trial is not None and record.arm in samplers:
                trials.setdefault((record.arm, record.trial), []).append(record)
        for (arm, trial), runs in trials.items():
            last = {run.seed: run for run in runs}
            if set(last) == set(space.seeds.search):
                self._fates[arm][trial] = self._fate(arm, runs[-1].config, list(last.values()))

    @property
    def scheduler(self) -> SchedulerConfig | None:
        """Who stops trials early, for the runner of this feed."""
        scheduler, grace = self.space.scheduler_config, self.grace
        if scheduler is None or grace is None:
            return scheduler
        return replace(scheduler, found=lambda: grace.epoch)

    @property
    def exhausted(self) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        late = self.deadline is not None and time.monotonic() >= self.deadline
        return late or not any(self._has_quota(arm) or self._may_need_more(arm) for arm in self.samplers)

    def _has_quota(self, arm: str) -> bool:
        return self.samplers[arm].proposed < self.quota[arm]

    def _may_need_more(self, arm: str) -> bool:
        """Whether the arm is, or may be once all its trials are back, without a trial that ran to its end."""
        fates = self._fates[arm].values()
        most = self.quota[arm] + self.space.budget.finalists
        return _WHOLE not in fates and {_OPEN, _STOPPED} & set(fates) != set() and self.samplers[arm].proposed < most

    def next(self) -> Task | None:
        """See :class:`tune_bn.protocols.runner.Feed`. None while an arm may still need more than its quota."""
        if self.exhausted:
            return None
        arms = [arm for arm in self.samplers if self._has_quota(arm)] or [
            arm for arm in self.samplers if self._may_need_more(arm) and _OPEN not in self._fates[arm].values()
        ]
        if not arms:
            return None
        arm = min(arms, key=lambda arm: self.samplers[arm].proposed / self.quota[arm])
        proposal = self.samplers[arm].propose()
        # gamma and c are stated in every record, searched or not.
        fixed = self.space.baseline if arm == BASELINE else self.space.fixed_scientific
        overrides = self.space.normalized({**fixed, **proposal.overrides})
        config = self.space.run_config(overrides)
        self._fates[arm][proposal.trial] = _LOST if self._is_no_rival(arm, overrides) else _OPEN
        return Task(
            SEARCH,
            arm,
            proposal.trial,
            overrides,
            config,
            tuple(self.space.seeds.search),
            may_stop=True,
            steps=self.recorder.trainer.steps(config),
        )

    def spares(self, task: Task) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        if self.grace is not None and self.grace.holds(task.arm, task.trial):
            return True
        hopeful = sorted(trial for trial, fate in self._fates[task.arm].items() if fate in (_OPEN, _WHOLE))
        return task.trial in hopeful[: self.space.budget.finalists]

    def _is_no_rival(self, arm: str, overrides: Mapping[str, Any]) -> bool:
        """A candidate that is the baseline itself becomes no finalist."""
        return arm == CANDIDATE and self.space.is_baseline(overrides)

    def _fate(self, arm: str, overrides: Mapping[str, Any], runs: Sequence[Record | RunResult]) -> str:
        statuses = {run.status for run in runs}
        if PRUNED in statuses and FAILED not in statuses:
            return _STOPPED
        return _WHOLE if statuses == {COMPLETED} and not self._is_no_rival(arm, overrides) else _LOST

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        # The record comes first: it is what a resume checks Optuna's journal against.
        self.recorder.record(task, results)
        if task.trial is None:
            raise StudyError(f"{task.key}: a task of the search must have a trial number")
        if self.grace is not None and self.grace.ended(task.arm, task.trial, results) and self.grace.said is not None:
            self.recorder.observer.early_order_seen(self.grace.said)
        self._fates[task.arm][task.trial] = self._fate(task.arm, task.overrides, results)
        held, outcome = self._held[task.arm], trial_outcome(results, self.recorder.score)
        held.append((task.trial, outcome))
        # A resume tries again what failed since anything of its arm came back well: the cause may have been mended.
        if outcome.status != FAILED:
            while held:
                self.samplers[task.arm].tell(*held.pop(0))
        self._failing.take(task, results)

    def give_up(self) -> None:
        """Tell the samplers of trials that failed and that nobody will try again."""
        for arm, held in self._held.items():
            while held:
                self.samplers[arm].tell(*held.pop(0))


_OPEN, _WHOLE, _STOPPED, _LOST = "open", "ran to its end", "stopped early", "failed, diverged or no rival"


class DueFeed:
    """A :class:`tune_bn.protocols.runner.Feed` of the runs that are due, as far as the records say.

    Some stages look at their scores in between and then decide which runs are still needed. Nothing is started ahead of
    such a look, so that what it makes needless is not spent.

    Args:
        due: the runs that are due now, in their order, done or not; asked again when all of them have begun. Its
            argument holds the keys of the runs that failed in this process, which are not tried again here.
        recorder: keeps the records.
    """

    def __init__(self, due: Callable[[frozenset[str]], Sequence[Task]], recorder: Recorder) -> None:
        self.recorder = recorder
        self._failing = FailingAlike(recorder.folder.path)
        self._due = due
        self._begun: set[str] = set(recorder.given_up)
        self._running: set[str] = set()
        self._failed: set[str] = set(recorder.given_up)
        self._waiting: deque[Task] = deque()
        self._look()

    def _look(self) -> None:
        for task in self._due(frozenset(self._failed)):
            if task.key not in self._begun and not self.recorder.has(task.key):
                self._begun.add(task.key)
                self._waiting.append(task)

    @property
    def exhausted(self) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        return not self._waiting and not self._running

    def next(self) -> Task | None:
        """See :class:`tune_bn.protocols.runner.Feed`. None while a look waits for its last runs."""
        if not self._waiting:
            return None
        task = self._waiting.popleft()
        self._running.add(task.key)
        return task

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        self.recorder.record(task, results)
        self._running.discard(task.key)
        if not self.recorder.has(task.key):
            self._failed.add(task.key)
        self._failing.take(task, results)
        if not self._waiting:
            self._look()

    def spares(self, task: Task) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`: these stages know no early stopping."""
        return True
