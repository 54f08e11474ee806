"""What every trainer must do, as tests of anybody's own.

A class of tests in which :meth:`TrainerContract.case` is given runs them all, under pytest or any other runner that
calls methods named ``test_…``::

    class TestMyTrainer(TrainerContract):
        def case(self, folder):
            return Case(MyTrainer(...), config={"lr": 0.1}, other={"lr": 0.2})

Nothing but the standard library and the contract itself is needed.
"""

from __future__ import annotations

import json
import math
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_bn.protocols.trainer import COMPLETED, DIVERGED, Place, Run, RunResult, Session, Trainer
from tune_bn.records.score import Score, score_from

PATIENCE = 120.0
"""Seconds in which a step of a case must be done."""


@dataclass(frozen=True)
class Case:
    """A trainer with what it is tried on."""

    trainer: Trainer
    config: Any
    """Two steps or more, quick, and of a result that the seed decides."""
    other: Any = None
    """A configuration with another result; None: there is none."""
    diverging: Any = None
    """A configuration whose runs diverge; None: there is none."""
    seed: int = 1
    other_seed: int = 2
    device: str = "cpu"
    exact: bool = True
    """Whether a run that goes on from a state equals the uninterrupted one; every trainer's should."""
    encode: Callable[[Any], Any] = lambda state: state
    """What a state goes through on its way to disk and back, where that is to be tried too."""


class TrainerContract:
    """The tests; see the text of this module."""

    def case(self, folder: Path) -> Case:
        """The trainer to try; ``folder`` is empty, and there as long as the test runs."""
        raise NotImplementedError

    @contextmanager
    def _open(self, *, test: bool = False) -> Iterator[tuple[Case, Session, Path]]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            case = self.case(folder)
            # As a worker has it: pickled, and without anything of the test.
            trainer = pickle.loads(pickle.dumps(case.trainer.without_test()))
            session = trainer.open(Place(case.device))
            try:
                if test:
                    session.add_test(pickle.loads(pickle.dumps(case.trainer.test_part)))
                yield case, session, folder
            finally:
                session.close()
                session.close()

    def test_it_says_what_a_study_needs(self) -> None:
        with self._open() as (case, _, _):
            trainer = case.trainer
            assert isinstance(trainer.score, Score)
            assert score_from(json.loads(json.dumps(trainer.score.to_json()))) == trainer.score
            assert trainer.name
            assert trainer.steps(case.config) >= 2, "a case has two steps or more"
            for versions in (trainer.versions(), trainer.versions(case.config)):
                assert all(isinstance(name, str) and isinstance(text, str) for name, text in versions.items())
            json.dumps(dict(trainer.data), allow_nan=False)
            assert all(key in trainer.data for key in trainer.data_names)
            assert trainer.data_words

    def test_what_workers_are_given_first_has_nothing_of_the_test(self) -> None:
        with self._open() as (case, session, _):
            assert not session.has_test
            score = case.trainer.score
            try:
                session.start(case.config, case.seed, test=score.test, name="sealed").close()
            except ValueError:
                return
            raise AssertionError("a run with a test score began in a session without the test part")

    def test_the_identity_is_told_and_belongs_to_the_configuration(self) -> None:
        with self._open() as (case, session, _):
            identity = dict(session.identity(case.config))
            assert identity == dict(session.identity(case.config))
            json.dumps(identity, allow_nan=False)
            if case.other is not None:
                assert identity != dict(session.identity(case.other))

    def test_a_run_has_its_steps_and_named_finite_metrics(self) -> None:
        with self._open() as (case, session, folder):
            run = session.start(case.config, case.seed, name="a", folder=folder / "runs" / "a")
            try:
                assert (run.steps, list(run.curve), run.done, run.diverged) == (0, [], False, False)
                _finish(run)
                steps = case.trainer.steps(case.config)
                assert [point.step for point in run.curve] == list(range(1, steps + 1))
                for point in run.curve:
                    assert case.trainer.score.validation in point.metrics
                    assert all(isinstance(name, str) for name in point.metrics)
                    assert all(map(math.isfinite, point.metrics.values()))
                    assert case.trainer.score.holds(point[case.trainer.score.validation])
                result = run.result()
                _check_result(case, run, result)
                assert (result.status, result.epochs) == (COMPLETED, steps)
                assert case.trainer.score.test not in result.scores, "nobody asked for a test score"
            finally:
                run.close()

    def test_the_score_of_a_record_is_that_of_the_curve(self) -> None:
        with self._open() as (case, session, folder):
            run = session.start(case.config, case.seed, name="a", folder=folder / "runs" / "a")
            try:
                score = case.trainer.score
                while not run.done:
                    _advance(run)
                    values = [point[score.validation] for point in run.curve]
                    assert math.isclose(score.objective_of(run.interim().scores), score.objectives(values)[-1])
                assert math.isclose(score.objective_of(run.result().scores), score.objectives(values)[-1])
            finally:
                run.close()

    def test_equal_seeds_are_equal_and_others_differ(self) -> None:
        with self._open() as (case, session, folder):
            one, again = (_whole(case, session, folder / name, case.seed) for name in ("one", "again"))
            assert one == again, "the same configuration and seed gave two results"
            assert one != _whole(case, session, folder / "seed", case.other_seed), "the seed changes nothing"
            if case.other is not None:
                other = _whole(case, session, folder / "other", case.seed, config=case.other)
                assert one != other, "the configuration changes nothing"

    def test_a_run_that_goes_on_from_a_state_equals_the_uninterrupted_one(self) -> None:
        with self._open() as (case, session, folder):
            whole = _whole(case, session, folder / "whole", case.seed)
            first = session.start(case.config, case.seed, name="cut", folder=folder / "cut")
            try:
                _advance(first)
                kept = first.state()
                assert kept is not None, "there is a step to go on from"
                state = case.encode(kept)
            finally:
                first.close()
            again = session.start(case.config, case.seed, name="cut", folder=folder / "cut", state=state)
            try:
                assert again.steps >= 1
                _finish(again)
                if case.exact:
                    assert [(point.step, dict(point.metrics)) for point in again.curve] == whole
                else:
                    assert [point.step for point in again.curve] == [step for step, _ in whole]
            finally:
                again.close()

    def test_a_state_of_another_seed_is_refused(self) -> None:
        with self._open() as (case, session, folder):
            run = session.start(case.config, case.seed, name="a", folder=folder / "a")
            try:
                _advance(run)
                state = run.state()
            finally:
                run.close()
            try:
                session.start(case.config, case.other_seed, name="b", folder=folder / "b", state=state).close()
            except ValueError:
                return
            raise AssertionError("a state of another seed was taken up")

    def test_runs_side_by_side_are_as_alone(self) -> None:
        with self._open() as (case, session, folder):
            alone = [_whole(case, session, folder / f"alone-{seed}", seed) for seed in (case.seed, case.other_seed)]
            runs = [
                session.start(case.config, seed, name=f"beside-{seed}", folder=folder / f"beside-{seed}")
                for seed in (case.seed, case.other_seed)
            ]
            try:
                while not all(run.done for run in runs):
                    for run in runs:
                        if not run.done:
                            _advance(run)
                found = [[(point.step, dict(point.metrics)) for point in run.curve] for run in runs]
                assert found == alone
            finally:
                for run in runs:
                    run.close()

    def test_the_test_score_comes_where_it_was_asked_for_and_at_the_end_alone(self) -> None:
        with self._open(test=True) as (case, session, folder):
            assert session.has_test
            score = case.trainer.score
            run = session.start(case.config, case.seed, test=score.test, name="t", folder=folder / "t")
            try:
                while not run.done:
                    _advance(run)
                    assert score.test not in run.interim().scores
                    assert score.test == score.validation or score.test not in run.curve[-1].metrics
                result = run.result()
                _check_result(case, run, result)
                assert score.holds(result.scores[score.test])
            finally:
                run.close()

    def test_another_name_of_a_test_score_is_refused(self) -> None:
        with self._open(test=True) as (case, session, _):
            try:
                session.start(case.config, case.seed, test="no such score", name="x").close()
            except ValueError:
                return
            raise AssertionError("a test score of another name was accepted")

    def test_a_run_that_diverges_says_so_and_has_the_declared_score(self) -> None:
        with self._open(test=True) as (case, session, folder):
            if case.diverging is None:
                return
            score = case.trainer.score
            run = session.start(case.diverging, case.seed, test=score.test, name="d", folder=folder / "d")
            try:
                _finish(run)
                assert run.diverged
                result = run.result()
                assert result.status == DIVERGED
                declared = (
                    {} if score.diverged is None else {score.validation: score.diverged, score.test: score.diverged}
                )
                assert {name: result.scores[name] for name in declared} == declared
                if score.diverged is None:
                    assert not {score.validation, score.test} & set(result.scores)
                assert all(map(math.isfinite, result.scores.values()))
            finally:
                run.close()

    def test_a_run_may_be_closed_twice_and_at_any_time(self) -> None:
        with self._open() as (case, session, folder):
            begun, stepped, done = (
                session.start(case.config, case.seed, name=name, folder=folder / name) for name in ("b", "s", "d")
            )
            _advance(stepped)
            _finish(done)
            done.state()
            for run in (begun, stepped, done):
                run.close()
                run.close()
            # Its session goes on all the same.
            assert _whole(case, session, folder / "after", case.seed)

    def test_a_session_may_be_freed_between_runs(self) -> None:
        with self._open() as (case, session, folder):
            before = _whole(case, session, folder / "before", case.seed)
            session.free()
            session.free()
            assert _whole(case, session, folder / "after", case.seed) == before

    def test_no_ordinary_error_means_that_the_device_is_full(self) -> None:
        with self._open() as (_, session, _):
            assert not session.is_full(ValueError("no"))
            assert not session.is_full(KeyboardInterrupt())


def _advance(run: Run) -> None:
    """One step, however often it is asked for."""
    before, until = run.steps, time.monotonic() + PATIENCE
    while not run.done and run.steps == before:
        point = run.advance()
        assert point is None or point == run.curve[-1]
        assert time.monotonic() < until, f"no step within {PATIENCE:g} s"


def _finish(run: Run) -> None:
    while not run.done:
        _advance(run)


def _whole(case: Case, session: Session, folder: Path, seed: int, *, config: Any = None) -> list[tuple[int, Any]]:
    """The curve of a whole run by itself."""
    run = session.start(case.config if config is None else config, seed, name=folder.name, folder=folder)
    try:
        _finish(run)
        return [(point.step, dict(point.metrics)) for point in run.curve]
    finally:
        run.close()


def _check_result(case: Case, run: Run, result: RunResult) -> None:
    assert (result.seed, result.epochs) == (run.seed, run.steps)
    assert result.reason
    assert case.trainer.score.validation in result.scores
    assert all(type(value) in (int, float) and math.isfinite(value) for value in result.scores.values())
    assert result.duration_seconds >= 0
    assert result.started_at.endswith("+00:00")
    json.dumps(dict(result.environment), allow_nan=False)
    assert all(isinstance(text, str) for text in result.versions.values())
