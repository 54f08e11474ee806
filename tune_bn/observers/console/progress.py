"""What is known of a study's progress while it runs: who trains, who leads, how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tune_bn.protocols.runner import Point, Task
from tune_bn.records.record import CANDIDATE, CONFIRM, DIVERGED, FAILED, PRUNED, Record
from tune_bn.records.score import Score, accuracy


@dataclass
class Running:
    """A task at work, as far as its learning curves have come."""

    task: Task
    points: dict[int, Point] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        return max((point.step for point in self.points.values()), default=0)

    @property
    def share(self) -> float:
        """How much of its runs is trained, in runs: half of two runs is 1."""
        steps = self.task.steps
        return sum(min(1.0, point.step / steps) for point in self.points.values()) if steps else 0.0

    def validation(self, score: Score) -> float | None:
        """Mean over its seeds of the validation score of the last step."""
        found = [point.metrics.get(score.validation) for point in self.points.values()]
        return fmean(known) if (known := [value for value in found if value is not None]) else None


@dataclass
class Configuration:
    """The scores of one configuration in one stage, one per seed."""

    label: str
    config: Mapping[str, Any]
    scores: list[float] = field(default_factory=list)
    baseline: bool = False
    """It is the baseline, or tunes it: not what is looked for."""
    stopped: bool = False
    """A run of it was pruned or diverged: the mean over its other seeds would flatter it."""

    @property
    def mean(self) -> float:
        return fmean(self.scores)


class Progress:
    """What is known about the study so far. Not safe for threads: its owner holds a lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.study = ""
        self.score = accuracy()
        self.is_baseline: Callable[[Mapping[str, Any]], bool] = lambda config: False
        self.study_started = clock()
        self.stage = ""
        self.stage_started = clock()
        self.planned = 0
        self.done = 0
        self.decoded: tuple[int, int] | None = None
        self.running: dict[str, Running] = {}
        self.configurations: dict[str, dict[tuple[str, int | None], Configuration]] = {}
        self._finished = 0
        self._last_news = clock()
        self._first_start: float | None = None

    def begin_stage(self, stage: str, planned_runs: int, done_runs: int) -> None:
        self.stage, self.planned, self.done = stage, planned_runs, done_runs
        self.stage_started = self._clock()
        self.running.clear()
        self._finished = 0
        self._first_start = None

    def start(self, task: Task) -> None:
        """A task is at work."""
        self.running[task.key] = Running(task)
        if self._first_start is None and not self._finished:
            self._first_start = self._clock()

    def move(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """A task has come further."""
        if (running := self.running.get(task.key)) is not None:
            running.points |= {seed: points[-1] for seed, points in curves.items() if points}
            self._last_news = self._clock()

    def add(self, record: Record) -> None:
        """Count what a record says about its configuration."""
        group = self.configurations.setdefault(record.stage, {})
        baseline = record.arm != CANDIDATE or self.is_baseline(record.config)
        empty = Configuration(label(record.stage, record.arm, record.trial), record.config, baseline=baseline)
        entry = group.setdefault((record.arm, record.trial), empty)
        score = self.score_of(record)
        if record.stage != CONFIRM and record.status in (PRUNED, DIVERGED):
            entry.stopped = True
        elif score is not None and record.status != FAILED:
            entry.scores.append(score[1])

    def finish(self, record: Record) -> None:
        """Count a run that ended now."""
        self.add(record)
        self.done += 1
        self._finished += 1
        self._last_news = self._clock()
        for key, running in self.running.items():
            if running.task.run_key(record.seed) == record.key:
                del self.running[key]
                break

    def score_of(self, record: Record) -> tuple[str, float] | None:
        """The score that counts in the record's stage, and its short name."""
        for stage, short, name in ((CONFIRM, "test", self.score.test), (record.stage, "val", self.score.validation)):
            if record.stage == stage and name in record.scores:
                return short, record.scores[name]
        return None

    @property
    def best(self) -> Configuration | None:
        """The candidate with the best mean in this stage, among those that no run of was stopped."""
        return self._best(baseline=False)

    @property
    def best_baseline(self) -> Configuration | None:
        """As :attr:`best`, of the trials that are, or tune, the baseline."""
        return self._best(baseline=True)

    def _best(self, *, baseline: bool) -> Configuration | None:
        group = self.configurations.get(self.stage, {}).values()
        found = (c for c in group if c.scores and not c.stopped and c.baseline == baseline)
        return max(found, key=lambda c: self.score.objective(c.mean), default=None)

    @property
    def arms(self) -> list[Configuration]:
        """The arms of the stage that have a score."""
        return [c for c in self.configurations.get(self.stage, {}).values() if c.scores]

    @property
    def seconds_left(self) -> float | None:
        """Time to the end of the stage at its pace so far; None before a first run has finished.

        What of the runs at work is done counts: of many that run side by side the first to finish says little, the
        others being as good as done. What went before them, such as the start of workers, comes once.
        """
        if not self._finished or self.done >= self.planned:
            return None
        since = self.stage_started if self._first_start is None else self._first_start
        trained = sum(running.share for running in self.running.values())
        pace = (self._last_news - since) / (self._finished + trained)
        return max(0.0, (self.planned - self.done - trained) * pace - (self._clock() - self._last_news))

    @property
    def elapsed(self) -> float:
        return self._clock() - self.study_started

    @property
    def stage_elapsed(self) -> float:
        return self._clock() - self.stage_started


def label(stage: str, arm: str, trial: int | None) -> str:
    """What a configuration is called on the console: ``trial 7``, ``baseline``, ``candidate-1``."""
    if stage == CONFIRM or trial is None:
        return arm
    return f"trial {trial}" if arm == CANDIDATE else f"{arm} trial {trial}"


def standing(progress: Progress) -> list[str]:
    """Who leads: in confirm the mean of every arm, before it the best candidate, and the baseline where it ran."""
    words = progress.score.value_words
    if progress.stage == CONFIRM:
        return [f"{arm.label} {words(arm.mean)} (n={len(arm.scores)})" for arm in progress.arms]
    best, baseline = progress.best, progress.best_baseline
    found = [] if best is None else [f"best {words(best.mean)}"]
    return found + ([] if baseline is None else [f"baseline {words(baseline.mean)}"])
