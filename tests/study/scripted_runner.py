"""A runner that trains nothing: a function says what each run scores, so that stages can be followed exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.study.local_studies import Follower
from tune_bn.front.wiring import sampler_of
from tune_bn.protocols.runner import Feed, History, Listener, RunResult, SchedulerConfig, Task
from tune_bn.records.record import COMPLETED, FAILED
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.training.points import epoch_point

Score = Callable[[Task, int], float | str | None]
"""Accuracy of a task's run on a seed, in percent; where it fails the error, or None for one and the same."""
LOST = "ActorDiedError: the worker is gone"
"""The error that is the cluster's."""


class ScriptedRunner:
    """A :class:`tune_bn.protocols.runner.Runner`; ``at_once`` tasks are begun before the first of them comes back."""

    def __init__(self, score: Score, at_once: int = 1) -> None:
        self.score = score
        self.at_once = at_once
        self.begun: list[str] = []
        self.overlap: list[tuple[str, ...]] = []
        """Keys of the tasks that were at work together, each time one came back."""

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        working: list[Task] = []
        while True:
            while len(working) < self.at_once and (task := feed.next()) is not None:
                working.append(task)
                self.begun.append(task.key)
                listener.task_started(task)
            if not working:
                assert feed.exhausted, "a feed that waits for nothing would wait for ever"
                return
            self.overlap.append(tuple(task.key for task in working))
            task = working.pop(0)
            feed.finished(task, [self._result(task, seed) for seed in task.seeds])

    def _result(self, task: Task, seed: int) -> RunResult:
        score, epochs = self.score(task, seed), task.config.train.epochs
        error = "RuntimeError: out of luck" if score is None else score if isinstance(score, str) else None
        score = None if isinstance(score, str) else score
        scores: dict[str, float] = {}
        if score is not None:
            scores = {"val_accuracy": score, "best_epoch": epochs}
            scores |= {} if task.test_metric is None else {task.test_metric: score}
        return RunResult(
            seed=seed,
            status=FAILED if score is None else COMPLETED,
            reason="all epochs done" if error is None else error,
            lost=error == LOST,
            epochs=epochs,
            scores=scores,
            curve=() if score is None else (epoch_point(epochs, 0.1, 99.0, 0.2, score, 0.0),),
            attempts=1,
            started_at="2026-01-01T00:00:00+00:00",
            duration_seconds=1.0,
            device="cpu",
            versions={"torch": "2.15.0"},
        )

    def close(self) -> None: ...


def scripted_study(
    folder: Path, space: Space, score: Score, *, at_once: int = 1, follower: Any = None
) -> tuple[Study, ScriptedRunner]:
    """A study in its folder, begun or gone on with, over a :class:`ScriptedRunner`."""
    where = StudyFolder(folder)
    where.resumed(space) if where.exists else where.created(space)
    runner = ScriptedRunner(score, at_once)
    study = Study(
        where,
        space,
        runner=runner,
        make_sampler=lambda arm, outcomes: sampler_of(space, where, arm, outcomes),
        observer=follower or Follower(),
        trainer=ScriptedTrainer(),
    )
    return study, runner
