"""What every observer must do, as tests of anybody's own.

A class of tests in which :meth:`ObserverContract.observer` is given runs them all, under pytest or any other runner
that calls methods named ``test_…``::

    class TestMyObserver(ObserverContract):
        def observer(self, info):
            return MyObserver(...)

An observer mirrors and decides nothing. So the tests tell it of studies that never took place, as files and as calls,
in the order in which studies tell and in orders that accidents make, and look at what must not happen: nothing may be
raised, and nothing of the study changed. :class:`Course` is such a study, for tests of what an observer shows.
"""

from __future__ import annotations

import copy
import math
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_bn.analysis.plan import plan_from, seal
from tune_bn.protocols.observer import Observer, StudyInfo
from tune_bn.protocols.runner import Task
from tune_bn.protocols.trainer import COMPLETED, DIVERGED, FAILED, PRUNED
from tune_bn.records.curves import CurveLog, Point
from tune_bn.records.files import write_json, write_text
from tune_bn.records.log import RecordLog
from tune_bn.records.plan import Plan
from tune_bn.records.record import BASELINE, CANDIDATE, CONFIRM, SEARCH, SELECT, Record
from tune_bn.records.score import MIN, Score, accuracy

PATIENCE = 60.0
"""Seconds after which a thread of an observer that has let go must have ended."""
LOSS = Score("val_loss", "test_loss", MIN, step="step")
KEEPS = ("records.jsonl", "curves.jsonl", "plan.json", "space.yaml")
"""What no observer may write to."""
STEPS = 3


class Course:
    """A study in a folder, and the calls by which it tells of itself.

    Args:
        folder: of the study; made.
        score: what its runs are scored by.
    """

    def __init__(self, folder: Path, score: Score) -> None:
        folder.mkdir(parents=True)
        self.score = score
        self.log, self.curves = RecordLog(folder / "records.jsonl"), CurveLog(folder / "curves.jsonl")
        write_text(folder / "space.yaml", "name: made\nsearch: {gamma: {log_uniform: [0.01, 1.0]}}\n")
        self.info = StudyInfo(
            name=folder.name,
            space_name="made",
            folder=folder,
            space_sha256="5" * 64,
            commit="c0ffee",
            versions={"torch": "2.15.0"},
            data={"train": {"count": 60, "sha256": "d" * 64}},
            fixed={"train": {"lr": 0.1}},
            searched=("gamma",),
            score=score,
        )

    def task(self, stage: str = SEARCH, trial: int | None = 0, *seeds: int, arm: str = CANDIDATE) -> Task:
        """A task, with the test score in the confirmation."""
        test = self.score.test if stage == CONFIRM else None
        config = {"gamma": 0.2}
        return Task(stage, arm, trial, config, config, seeds or (101,), test, stage == SEARCH, steps=STEPS)

    def points(self, steps: int = STEPS, last: float = 0.0) -> tuple[Point, ...]:
        """A learning curve; its last score may be given, such as NaN."""
        scores = [60.0 + step for step in range(1, steps + 1)]
        scores[-1] = last or scores[-1]
        return tuple(Point(step, {self.score.validation: s, "lr": 0.1}) for step, s in enumerate(scores, start=1))

    def recorded(
        self, task: Task, seed: int, curve: Sequence[Point], status: str = COMPLETED, **changes: Any
    ) -> Record:
        """The record of a run, which lies on disk with its curve, as it does before an observer is told."""
        scores = {} if status == FAILED else {self.score.validation: 63.0}
        scores |= {} if task.test_metric is None else {task.test_metric: 62.0}
        record = Record(
            study=self.info.name,
            stage=task.stage,
            arm=task.arm,
            trial=task.trial,
            seed=seed,
            config=task.overrides,
            status=status,
            reason=f"{status}, as planned",
            epochs=len(curve),
            epochs_planned=STEPS,
            scores=scores,
            attempts=1,
            started_at="2026-01-01T00:00:00+00:00",
            duration_seconds=1.5,
            device="cpu",
            versions=self.info.versions,
            commit=self.info.commit,
            space_sha256=self.info.space_sha256,
        )
        self.curves.append(record.key, curve)
        return self.log.append(replace(record, **changes))

    def plan(self) -> Plan:
        """The plan, which lies on disk."""
        arm = {"arm": "candidate-1", "trial": 0, "config": {"gamma": 0.2}}
        plan = seal(
            {
                "schema_version": 3,
                "study": self.info.name,
                "space_sha256": self.info.space_sha256,
                "created_at": "2026-01-01T00:01:00Z",
                "baseline": {"arm": BASELINE, "trial": None, "config": {"gamma": 1.0}},
                "candidates": [{**arm, "selection": {f"{self.score.validation}_mean": 63.0, "n": 2}}],
                "metric": self.score.test,
                "score": self.score.to_json(),
                "test": "paired_t_greater",
                "alpha": 0.05,
                "correction": "holm",
                "stopping": "fixed",
                "seeds": [1, 2],
                "used_seeds": {"search": [101], "select": [201, 202]},
                "commit": self.info.commit,
                "versions": dict(self.info.versions),
                "data": dict(self.info.data),
                "device_kind": "cpu",
            }
        )
        write_json(self.info.folder / "plan.json", plan)
        return plan_from(plan)

    def run(self, observer: Observer, task: Task, status: str = COMPLETED, **changes: Any) -> None:
        """A task from its start to its records."""
        observer.task_started(task)
        curve = self.points(2 if status in (PRUNED, FAILED) else STEPS, math.nan if status == DIVERGED else 0.0)
        for point in curve:
            observer.task_progress(task, dict.fromkeys(task.seeds, (point,)))
        for seed in task.seeds:
            observer.run_recorded(self.recorded(task, seed, curve, status, **changes), curve)

    def whole(self, observer: Observer, status: str = "FINISHED") -> None:
        """The study from its start to its end."""
        observer.study_started(self.info, ())
        observer.artifacts_changed([self.info.folder / "space.yaml"])
        observer.stage_started(SEARCH, 4, 0)
        for trial, outcome in enumerate((COMPLETED, PRUNED, DIVERGED, FAILED)):
            self.run(observer, self.task(SEARCH, trial, 101), outcome)
        observer.early_order_seen("trials may be stopped from step 2 on: the order of 4 trials agrees (τ = 0.9)")
        observer.stage_started(SELECT, 2, 0)
        self.run(observer, self.task(SELECT, 0, 201, 202))
        observer.plan_locked(self.plan())
        observer.stage_started(CONFIRM, 4, 0)
        confirmed: tuple[tuple[str, int | None], ...] = ((BASELINE, None), ("candidate-1", 0))
        for arm, own in confirmed:
            self.run(observer, self.task(CONFIRM, own, 1, 2, arm=arm))
        observer.artifacts_changed([self.info.folder / name for name in KEEPS])
        observer.study_finished(status, SUMMARY)


SUMMARY: Mapping[str, float | str] = {
    "verdict": "supported",
    "headline": "supported",
    "reason": "candidate-1 lowers test loss by 0.1 (90 % interval 0.05 to 0.15).",
    "worse": "none",
    "candidate-1.effect": 0.1,
    "candidate-1.p_value": 0.01,
}


class ObserverContract:
    """The tests; see the text of this module."""

    def observer(self, info: StudyInfo) -> Observer:
        """The observer to try, before it is told of anything; the folder of the study is there."""
        raise NotImplementedError

    def ended(self) -> None:
        """Called where a test ends, for observers that have more to let go of."""

    @contextmanager
    def _study(self, name: str = "made-1", score: Score | None = None) -> Iterator[tuple[Course, Observer]]:
        with tempfile.TemporaryDirectory() as folder:
            course = Course(Path(folder) / "studies" / name, score or accuracy())
            before = set(threading.enumerate())
            observer = self.observer(course.info)
            try:
                yield course, observer
            except BaseException:
                # What it has begun must not go on in a folder that is gone.
                observer.study_finished("FAILED", {})
                raise
            finally:
                self.ended()
            until = time.monotonic() + PATIENCE
            while left := [one for one in threading.enumerate() if one not in before and not one.daemon]:
                assert time.monotonic() < until, f"{left[0].name} holds the process up after the study has ended"
                time.sleep(0.05)

    def test_a_study_is_followed_from_its_start_to_its_verdict(self) -> None:
        for score in (accuracy(), LOSS):
            with self._study(score=score) as (course, observer):
                course.whole(observer)

    def test_nothing_of_the_study_is_changed(self) -> None:
        with self._study() as (course, observer):
            told: list[tuple[Any, Any]] = []

            class Noting:
                """Passes on, and keeps what it passed on beside a copy of it."""

                def __getattr__(self, name: str) -> Any:
                    def call(*given: Any) -> None:
                        told.append((given, copy.deepcopy(given)))
                        written = _content(course.info.folder)
                        assert getattr(observer, name)(*given) is None, f"{name} answers, but nobody asks an observer"
                        assert _content(course.info.folder) == written, f"{name} wrote to a file of the study"

                    return call

            course.whole(Noting())
            for given, before in told:
                # NaN is no equal of itself.
                assert repr(given) == repr(before), "what the observer was told was changed by it"

    def test_a_study_that_goes_on_is_followed_from_where_it_was(self) -> None:
        with self._study() as (course, observer):
            earlier = course.task(SEARCH, 0, 101)
            record = course.recorded(earlier, 101, course.points())
            course.recorded(course.task(SEARCH, 1, 101), 101, course.points(2), FAILED)
            observer.study_started(course.info, course.log.read())
            observer.stage_started(SEARCH, 3, 1)
            course.run(observer, course.task(SEARCH, 1, 101))
            # A point of before comes again after a restore.
            again = course.task(SEARCH, 2, 101)
            observer.task_started(again)
            observer.task_progress(again, {101: course.points(2)})
            observer.task_killed(again)
            course.run(observer, again)
            observer.study_finished("FINISHED", SUMMARY)
            assert course.log.read()[0] == record

    def test_each_end_of_a_study_is_taken(self) -> None:
        for status in ("FINISHED", "KILLED", "FAILED"):
            with self._study() as (course, observer):
                course.whole(observer, status)

    def test_a_study_may_end_in_the_middle(self) -> None:
        with self._study() as (course, observer):
            observer.study_started(course.info, ())
            observer.stage_started(SEARCH, 4, 0)
            observer.task_started(course.task())
            observer.task_progress(course.task(), {101: course.points(1)})
            observer.study_finished("KILLED", {})

    def test_a_study_may_end_before_it_began_and_an_end_may_come_twice(self) -> None:
        with self._study() as (_, observer):
            observer.study_finished("FAILED", {})
        with self._study() as (course, observer):
            course.whole(observer)
            observer.study_finished("FINISHED", SUMMARY)

    def test_accidents_of_tasks_are_taken(self) -> None:
        with self._study() as (course, observer):
            observer.study_started(course.info, ())
            observer.stage_started(SEARCH, 4, 0)
            task, unknown = course.task(SEARCH, 0, 101, 102), course.task(SEARCH, 7, 101)
            # A worker was lost: the task is killed and starts again, as another one may that nobody heard the start of.
            observer.task_killed(unknown)
            observer.task_progress(unknown, {101: course.points(1)})
            observer.task_started(task)
            observer.task_progress(task, {101: course.points(2), 102: ()})
            observer.task_killed(task)
            observer.task_killed(task)
            observer.task_started(task)
            observer.task_started(task)
            observer.task_progress(task, {})
            course.run(observer, task)
            # Of a run of which nothing was ever seen but its record, and of one that failed before its first step.
            seen = course.recorded(course.task(SEARCH, 8, 101), 101, course.points())
            observer.run_recorded(seen, course.points())
            failed = course.task(SEARCH, 9, 101)
            observer.run_recorded(course.recorded(failed, 101, (), FAILED, reason="OSError: [Errno 28] no room"), ())
            observer.study_finished("FINISHED", SUMMARY)

    def test_a_diverged_run_has_metrics_that_are_not_finite(self) -> None:
        with self._study(score=LOSS) as (course, observer):
            observer.study_started(course.info, ())
            observer.stage_started(SEARCH, 2, 0)
            task = course.task()
            observer.task_started(task)
            observer.task_progress(task, {101: course.points(2, math.inf)})
            # Such a score has no value for it.
            curve = course.points(2, math.nan)
            observer.run_recorded(course.recorded(task, 101, curve, DIVERGED, scores={}), curve)
            observer.study_finished("FINISHED", {})

    def test_names_of_any_language_and_marks_of_markup_are_taken(self) -> None:
        with self._study("größe-[bold]é-1") as (course, observer):
            observer.study_started(course.info, ())
            observer.stage_started(SEARCH, 1, 0)
            task = replace(course.task(), overrides={"note": "[/red] γ’s ✓", "gamma": 0.2})
            course.run(observer, task, FAILED, reason="ValueError: [/bold] says “no” \x1b[31m to \udc80")
            observer.early_order_seen("[/] nothing may be stopped")
            observer.study_finished("FAILED", {"reason": "[/] λ"})

    def test_files_that_are_gone_are_no_error(self) -> None:
        with self._study() as (course, observer):
            observer.study_started(course.info, ())
            observer.artifacts_changed([course.info.folder / "no-such-file.json", course.info.folder])
            observer.artifacts_changed([])
            observer.study_finished("FINISHED", SUMMARY)

    def test_calls_from_several_threads_are_taken(self) -> None:
        with self._study() as (course, observer):
            observer.study_started(course.info, ())
            observer.stage_started(SEARCH, 40, 0)
            tasks, raised = [course.task(SEARCH, trial, 101) for trial in range(40)], list[BaseException]()
            curve = course.points()
            records = [course.recorded(task, 101, curve) for task in tasks]

            def tell(part: int) -> None:
                try:
                    for task, record in list(zip(tasks, records, strict=True))[part::4]:
                        observer.task_started(task)
                        observer.task_progress(task, {101: curve})
                        observer.run_recorded(record, curve)
                except BaseException as error:
                    raised.append(error)

            threads = [threading.Thread(target=tell, args=(part,)) for part in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            observer.study_finished("FINISHED", SUMMARY)
            assert raised == []


def _content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in KEEPS if (folder / name).exists()}
