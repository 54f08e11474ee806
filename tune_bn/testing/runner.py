"""What every runner must do, as tests of anybody's own.

A class of tests in which :meth:`RunnerContract.runner` is given runs them all, under pytest or any other runner that
calls methods named ``test_…`` in the main thread::

    class TestMyRunner(RunnerContract):
        def runner(self, trainer, **asked):
            return MyRunner(trainer, **asked)

The runs are those of a :class:`tune_bn.testing.scripted.ScriptedTrainer`: nothing is trained. Where a runner works in
other processes, they must be able to import :mod:`tune_bn.testing.tasks`, whose ``Tasks`` and ``Events`` are a feed and
a listener for tests beyond these.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tune_bn.errors import Interrupted, StudyError
from tune_bn.protocols.runner import History, PastTrial, Runner, RunResult, SchedulerConfig, Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.protocols.trainer import COMPLETED, DIVERGED, FAILED, PRUNED
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.testing.tasks import EIGHT, LOSS, SCORE, TRAINER, Events, Tasks, Work, alone, task

PATIENCE = 60.0
"""Seconds in which what a test waits for must have happened."""


class RunnerContract:
    """The tests; see the text of this module."""

    def runner(
        self,
        trainer: ScriptedTrainer,
        *,
        checkpoints: Path | None,
        checkpoint_seconds: float,
        max_failures: int,
        warn: Callable[[str], None],
        stop: StopRequest,
    ) -> Runner:
        """The runner to try, which a test closes.

        Args:
            trainer: trains its runs.
            checkpoints: folder of all checkpoints; None: there are none.
            checkpoint_seconds: least time between two checkpoints.
            max_failures: how often a task that raises is tried again.
            warn: takes a line for the user, such as that checkpoints cannot be written.
            stop: the request at which the work is interrupted.
        """
        raise NotImplementedError

    @contextmanager
    def _open(
        self,
        trainer: ScriptedTrainer = TRAINER,
        *,
        checkpoints: Path | None = None,
        max_failures: int = 0,
        warn: Callable[[str], None] = lambda line: None,
        stop: StopRequest | None = None,
    ) -> Iterator[Runner]:
        runner = self.runner(
            trainer,
            checkpoints=checkpoints,
            checkpoint_seconds=1e-9,
            max_failures=max_failures,
            warn=warn,
            stop=stop or StopRequest(),
        )
        try:
            yield runner
        finally:
            runner.close()
            runner.close()

    def _run(
        self,
        feed: Tasks,
        events: Events | None = None,
        *,
        scheduler: SchedulerConfig | None = None,
        history: History = (),
        trainer: ScriptedTrainer = TRAINER,
        **asked: Any,
    ) -> None:
        with self._open(trainer, **asked) as runner:
            runner.run(feed, events or Events(), scheduler=scheduler, history=history)

    # What comes back

    def test_every_task_comes_back_once_with_the_results_of_runs_alone(self) -> None:
        tasks = [task(0, 1), task(1, 2, 3, test=True), task(2, 4, config=Work(80.0, steps=5))]
        feed, events = Tasks(*tasks), Events()
        self._run(feed, events)
        assert set(feed.results) == {a_task.key for a_task in tasks}
        assert sorted(events.started) == sorted(a_task.key for a_task in tasks)
        assert events.killed == []
        for a_task in tasks:
            assert [result.seed for result in feed.results[a_task.key]] == list(a_task.seeds)
            for result in feed.results[a_task.key]:
                expected = alone(TRAINER, a_task, result.seed)
                assert (result.status, result.attempts, result.epochs) == (COMPLETED, 1, a_task.config.steps)
                assert (result.scores, result.curve) == (expected.scores, expected.curve)
                assert tuple(events.points[a_task.key, result.seed]) == expected.curve
                assert (SCORE.test in result.scores) == (a_task.test_metric is not None)

    def test_a_feed_may_wait_for_what_has_not_finished(self) -> None:
        class Chain(Tasks):
            def next(self) -> Task | None:
                begun = 3 - len(self.left)
                return super().next() if len(self.results) == begun else None

        feed = Chain(task(0), task(1), task(2))
        self._run(feed)
        assert list(feed.ended) == [0, 1, 2]

    def test_a_runner_takes_one_feed_after_the_other_and_an_empty_one(self) -> None:
        feeds = [Tasks(task(0)), Tasks(), Tasks(task(1, test=True))]
        with self._open() as runner:
            for feed in feeds:
                runner.run(feed, Events())
        assert [len(feed.results) for feed in feeds] == [1, 0, 1]
        assert SCORE.test in feeds[2].results[task(1).key][0].scores

    def test_a_feed_that_cannot_go_on_ends_the_work_with_its_error(self) -> None:
        class Full(Tasks):
            def finished(self, task: Task, results: Sequence[RunResult]) -> None:
                raise StudyError("records.jsonl: cannot be written; accepted: a disk with room")

        feed = Full(task(0), *(task(trial, config=Work(steps=100_000, seconds=0.01)) for trial in range(1, 4)))
        try:
            self._run(feed)
        except StudyError as error:
            if "a disk with room" not in str(error):
                raise
            return
        raise AssertionError("the work went on although the feed could not")

    def test_a_diverged_run_is_an_outcome_and_the_others_go_on(self) -> None:
        feed = Tasks(task(0, 1, 2, config=Work(diverges_at=2), test=True), task(1, test=True))
        self._run(feed)
        assert feed.ended == {0: (DIVERGED, 2), 1: (COMPLETED, 3)}
        for result in feed.results[task(0).key]:
            assert result.scores == {SCORE.validation: 0.0, SCORE.test: 0.0}

    # What goes wrong

    def test_a_task_that_keeps_raising_fails_alone(self) -> None:
        feed = Tasks(task(0, 1, 2, config=Work(raises=True)), task(1))
        self._run(feed, max_failures=1)
        assert [result.status for result in feed.results[task(0).key]] == [FAILED, FAILED]
        for result in feed.results[task(0).key]:
            assert (result.attempts, result.scores, result.lost) == (2, {}, False)
            assert result.reason == "ValueError: the script is wrong"
        assert feed.ended[1] == (COMPLETED, 3)

    def test_a_retry_goes_on_from_the_checkpoint_and_ends_as_if_nothing_had_happened(self) -> None:
        with _folder() as folder:
            a_task = task(0, 1, 2, config=Work(steps=8, once="raise", folder=str(folder)))
            feed = Tasks(a_task)
            self._run(feed, checkpoints=folder / "checkpoints", max_failures=2)
            assert [result.attempts for result in feed.results[a_task.key]] == [2, 2]
            _check_went_on(folder, feed, a_task)

    def test_a_run_that_gives_its_task_back_begins_again_and_has_not_failed(self) -> None:
        with _folder() as folder:
            a_task = task(0, 1, 2, config=Work(steps=8, once="preempt", folder=str(folder)))
            feed = Tasks(a_task)
            self._run(feed, checkpoints=folder / "checkpoints", max_failures=0)
            assert [result.attempts for result in feed.results[a_task.key]] == [1, 1]
            _check_went_on(folder, feed, a_task)

    def test_checkpoints_that_cannot_be_written_are_no_error_and_the_user_is_told_once(self) -> None:
        with _folder() as folder:
            tasks = [task(trial, config=Work(steps=20, seconds=0.01)) for trial in range(2)]
            for a_task in tasks:
                # Their folders of checkpoints are files.
                (folder / a_task.key).touch()
            feed, warnings = Tasks(*tasks), list[str]()
            self._run(feed, checkpoints=folder, warn=warnings.append)
            assert feed.ended == {0: (COMPLETED, 20), 1: (COMPLETED, 20)}
            (warning,) = warnings
            assert str(folder) in warning
            assert "\n" not in warning

    def test_a_checkpoint_of_another_task_by_the_same_name_is_not_taken_up(self) -> None:
        with _folder() as folder:
            stop = StopRequest()
            cut = Events(lambda running: stop.ask())
            try:
                self._run(Tasks(task(0, config=Work(steps=100_000, seconds=0.01))), cut, checkpoints=folder, stop=stop)
            except Interrupted:
                pass
            else:
                raise AssertionError("the work went on although a stop was asked for")
            feed = Tasks(task(0, config=EIGHT))
            self._run(feed, checkpoints=folder)
            (result,) = feed.results[task(0).key]
            assert result.curve == alone(TRAINER, task(0, config=EIGHT), 1).curve

    # Early stopping

    def test_hopeless_trials_are_stopped_and_say_how_far_they_came(self) -> None:
        feed = Tasks(task(0, config=EIGHT), task(1, config=EIGHT, may_stop=False))
        scheduler = SchedulerConfig("asha", grace=2, reduction=2, max_epochs=8)
        self._run(feed, scheduler=scheduler, history=_history(150.0))
        assert feed.ended == {0: (PRUNED, 2), 1: (COMPLETED, 8)}
        (result,) = feed.results[task(0).key]
        assert len(result.curve) == 2
        assert result.reason == "stopped by asha after epoch 2"

    def test_a_trial_is_compared_by_its_objective_where_lower_is_better(self) -> None:
        trainer = replace(TRAINER, score=LOSS)
        feed = Tasks(task(0, config=Work(50.0, steps=8)), task(1, config=Work(2.0, steps=8)))
        scheduler = SchedulerConfig("asha", grace=2, reduction=2, max_epochs=8)
        self._run(feed, trainer=trainer, scheduler=scheduler, history=_history(-20.0))
        assert feed.ended == {0: (PRUNED, 2), 1: (COMPLETED, 8)}

    def test_the_only_trial_runs_to_its_end(self) -> None:
        for rule in ("asha", "median"):
            feed = Tasks(task(0, config=EIGHT))
            self._run(feed, scheduler=SchedulerConfig(rule, grace=1, reduction=2, max_epochs=8))
            assert feed.ended == {0: (COMPLETED, 8)}

    def test_arms_are_apart_and_a_feed_may_spare_a_task(self) -> None:
        class Sparing(Tasks):
            def spares(self, task: Task) -> bool:
                return task.trial == 1

        feed = Sparing(task(0, config=EIGHT, arm="baseline"), task(1, config=EIGHT), task(2, config=EIGHT))
        scheduler = SchedulerConfig("asha", grace=1, reduction=2, max_epochs=8)
        self._run(feed, scheduler=scheduler, history=_history(150.0)[:1])
        assert feed.ended == {0: (COMPLETED, 8), 1: (COMPLETED, 8), 2: (PRUNED, 1)}

    def test_an_automatic_grace_is_asked_where_a_decision_falls(self) -> None:
        class OneByOne(Tasks):
            def next(self) -> Task | None:
                return None if len(self.left) == 1 and not self.results else super().next()

        feed = OneByOne(task(0, config=EIGHT), task(1, config=EIGHT))
        scheduler = SchedulerConfig("asha", None, 2, 8, found=lambda: 4 if feed.results else None)
        self._run(feed, scheduler=scheduler, history=_history(150.0)[:1])
        assert list(feed.ended.items()) == [(0, (COMPLETED, 8)), (1, (PRUNED, 4))]

    # The end before the end

    def test_a_stop_that_is_asked_for_kills_what_runs_and_keeps_what_finished(self) -> None:
        stop = StopRequest()
        with _deaf():
            self._interrupted(stop, lambda: threading.Timer(0.1, stop.ask).start())
            # What was asked for holds for the stages to come.
            later = Tasks(task(2))
            try:
                self._run(later, stop=stop)
            except Interrupted:
                assert later.results == {}
                return
            raise AssertionError("the next stage began although a stop was asked for")

    def test_ctrl_c_kills_what_runs_and_keeps_what_finished(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        # From another thread, as from a terminal: not inside a callback of the runner.
        send = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
        try:
            self._interrupted(StopRequest(), send.start)
        finally:
            # A runner that ended otherwise leaves nobody who takes it.
            send.cancel()

    def _interrupted(self, stop: StopRequest, interrupt: Callable[[], object]) -> None:
        feed = Tasks(task(0), task(1, config=Work(steps=1_000_000, seconds=0.01)))
        sent = threading.Event()

        def look(running: Task) -> None:
            if running.trial == 1 and task(0).key in feed.results and not sent.is_set():
                sent.set()
                interrupt()

        events = Events(look)
        try:
            self._run(feed, events, stop=stop)
        except Interrupted:
            assert list(feed.ended) == [0]
            assert events.killed == [task(1).key]
            return
        raise AssertionError("the work went on although it was interrupted")


def _history(level: float) -> list[PastTrial]:
    """Trials that an earlier process finished, with the same objective at every step."""
    return [PastTrial("candidate", trial, dict.fromkeys(range(1, 9), level)) for trial in range(5, 9)]


def _check_went_on(folder: Path, feed: Tasks, a_task: Task) -> None:
    for result in feed.results[a_task.key]:
        expected = alone(TRAINER, replace(a_task, config=replace(a_task.config, folder="", once="")), result.seed)
        assert (result.status, result.scores, result.curve) == (COMPLETED, expected.scores, expected.curve)
        done = (folder / f"steps-{result.seed}").read_text(encoding="utf-8").split()
        assert done.count("8") == 1
        assert done.count("1") == 1, "the retry began anew, although there was a checkpoint"


@contextmanager
def _deaf() -> Iterator[None]:
    """The signals that stop a process are blocked and ignored, as in a job of Ray's or below ``nohup``."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(os.path.realpath(name))
