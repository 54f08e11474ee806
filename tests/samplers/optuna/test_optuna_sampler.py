"""Optuna as a sampler, beyond the contract: what it is told, and what its journal keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tune_bn.errors import StudyError
from tune_bn.protocols.distributions import Distribution, Range
from tune_bn.protocols.sampler import Outcome
from tune_bn.records.record import COMPLETED, FAILED, PRUNED
from tune_bn.samplers.optuna import kinds
from tune_bn.samplers.optuna.journal import to_optuna
from tune_bn.samplers.optuna.sampler import OptunaSampler, make_sampler
from tune_bn.testing.sampler import SPACE


def open_sampler(folder: Path, name: str = "tpe", **options: Any) -> OptunaSampler:
    options.setdefault("seed", 0)
    return OptunaSampler(folder / "optuna.journal", "study/candidate", SPACE, name=name, **options)


def score(overrides: Mapping[str, Any]) -> float:
    return 100 - abs(overrides["gamma"] - 0.2) * 30 + overrides["lr"]


def stored(folder: Path) -> list[Any]:
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="study/candidate", storage=storage).get_trials()


@pytest.mark.parametrize("distribution", list(SPACE.values()))
def test_both_ends_of_a_distribution_survive_the_translation(distribution: Distribution) -> None:
    translated = to_optuna(distribution)
    for value in distribution.corners:
        assert translated._contains(translated.to_internal_repr(value))
        assert translated.to_external_repr(translated.to_internal_repr(value)) == value
    if isinstance(distribution, Range):
        outside = distribution.high * 1.01 + 1
        assert not translated._contains(outside)


def test_optuna_is_told_the_truth(tmp_path: Path) -> None:
    sampler = open_sampler(tmp_path)
    for _ in range(4):
        sampler.propose()
    sampler.tell(0, Outcome(COMPLETED, 97.0, 9))
    sampler.tell(1, Outcome(PRUNED, 55.0, 3))
    sampler.tell(2, Outcome(FAILED, None, 0))
    sampler.tell(3, Outcome(COMPLETED, float("nan"), 9))
    complete, pruned, failed, not_finite = stored(tmp_path)
    assert (complete.state, complete.value) == (TrialState.COMPLETE, 97.0)
    assert (pruned.state, pruned.intermediate_values) == (TrialState.PRUNED, {3: 55.0})
    assert failed.state == TrialState.FAIL
    assert not_finite.state == TrialState.FAIL


def test_the_spread_over_the_seeds_is_kept_with_the_trial(tmp_path: Path) -> None:
    sampler = open_sampler(tmp_path)
    for _ in range(4):
        sampler.propose()
    sampler.tell(0, Outcome(COMPLETED, 97.0, 9, std=0.5, n=3))
    sampler.tell(1, Outcome(PRUNED, 55.0, 3, std=4.0, n=3))
    sampler.tell(2, Outcome(COMPLETED, 96.0, 9))
    sampler.tell(3, Outcome(FAILED, None, 9, n=3))
    assert [trial.user_attrs for trial in stored(tmp_path)] == [
        {"std": 0.5, "n": 3},
        {"std": 4.0, "n": 3},
        {"std": None, "n": 1},
        {},
    ]


def test_trials_that_the_search_ended_without_are_failed_and_do_not_count(tmp_path: Path) -> None:
    points = [{"gamma": 0.05 + 0.01 * number} for number in range(8)]
    sampler = open_sampler(tmp_path, points=points)
    for _ in range(4):
        sampler.propose()
    finished = {1: Outcome(COMPLETED, 90.0, 9)}
    sampler.tell(1, finished[1])
    # One of the three that are open is taken up again, the search ends before the others are.
    again = open_sampler(tmp_path, points=points, finished=finished)
    assert again.propose().trial == 0
    assert again.end() == [0, 2, 3]
    assert (again.told, again.proposed, again.end()) == (1, 1, [])
    states = [trial.state for trial in stored(tmp_path)]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, *[TrialState.FAIL] * 2, *[TrialState.WAITING] * 4]
    # A search that goes on after all has its whole budget, and its other start points.
    for later in (again, open_sampler(tmp_path, points=points, finished=finished)):
        assert (later.told, later.proposed) == (1, 1)
    proposal = later.propose()
    assert (proposal.trial, proposal.overrides["gamma"], later.proposed) == (4, 0.05 + 0.01 * 4, 2)


def test_a_crash_between_two_start_points_loses_none(tmp_path: Path) -> None:
    points = [{"gamma": 0.05}, {"gamma": 0.06}, {"gamma": 0.07}]
    open_sampler(tmp_path, points=points[:2])
    sampler = open_sampler(tmp_path, points=points)
    assert [sampler.propose().overrides["gamma"] for _ in points] == [0.05, 0.06, 0.07]


@pytest.mark.long
def test_tpe_that_is_told_the_space_proposes_what_it_would_have_gathered_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(folder: Path) -> list[Mapping[str, Any]]:
        folder.mkdir()
        sampler, found = open_sampler(folder), []
        for number in range(16):
            found.append(sampler.propose().overrides)
            if number % 5:
                sampler.tell(number, Outcome(PRUNED if number % 2 else COMPLETED, score(found[-1]), 9))
        return found

    told = search(tmp_path / "told")
    monkeypatch.delattr(kinds._DeclaredTPE, "infer_relative_search_space")
    assert search(tmp_path / "gathered") == told


def test_the_best_trial_is_never_one_that_was_stopped_early(tmp_path: Path) -> None:
    sampler = open_sampler(tmp_path)
    for number, (status, objective) in enumerate([(PRUNED, 99.0), (COMPLETED, 90.0)]):
        sampler.propose()
        sampler.tell(number, Outcome(status, objective, 3))
    assert sampler.study.best_trial.number == 1


def test_what_was_recorded_but_not_told_is_told_on_opening(tmp_path: Path) -> None:
    sampler = open_sampler(tmp_path)
    for _ in range(3):
        sampler.propose()
    finished = {0: Outcome(COMPLETED, 90.0, 9), 2: Outcome(PRUNED, 40.0, 3)}
    open_sampler(tmp_path, finished=finished)
    states = [trial.state for trial in stored(tmp_path)]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.PRUNED]


def test_what_was_told_but_whose_record_was_lost_runs_again(tmp_path: Path) -> None:
    sampler = open_sampler(tmp_path)
    proposals = [sampler.propose() for _ in range(3)]
    for number in (0, 1):
        sampler.tell(number, Outcome(COMPLETED, 90.0 + number, 9))
    finished = {0: Outcome(COMPLETED, 90.0, 9)}
    again = open_sampler(tmp_path, finished=finished)
    assert (again.told, again.proposed) == (1, 1)
    assert [again.propose() for _ in range(2)] == proposals[1:]
    # Optuna refuses to be told of a trial twice.
    again.tell(1, Outcome(COMPLETED, 91.0, 9))
    again.tell(2, Outcome(COMPLETED, 92.0, 9))
    assert [trial.value for trial in stored(tmp_path)] == [90.0, 91.0, 92.0]
    assert (again.told, again.proposed, again.propose().trial) == (3, 3, 3)


def test_a_journal_that_lacks_recorded_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"lacks the trials \[0\]"):
        open_sampler(tmp_path, finished={0: Outcome(COMPLETED, 90.0, 9)})


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ValueError, match="tpe, gp, cmaes, qmc, random, grid"):
        make_sampler("annealing", 0, 0, distributions=SPACE)


# QMC counts a point that it began, and CMA-ES draws a point as a whole: theirs then lie in the space, no more.
@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "values"), [(name, values) for name in ("tpe", "gp", "random") for values in (0, 2)] + [("cmaes", 0)]
)
def test_a_trial_that_a_crash_left_without_values_gets_those_that_it_would_have_had(
    tmp_path: Path, name: str, values: int
) -> None:
    points = [{"gamma": 0.1, "c": 100.0}]

    def first(folder: Path, count: int) -> tuple[OptunaSampler, dict[int, Outcome]]:
        folder.mkdir()
        sampler, told = open_sampler(folder, name, points=points), {}
        for number in range(count):
            objective = score(sampler.propose().overrides)
            told[number] = Outcome(COMPLETED, objective, 9)
            sampler.tell(number, Outcome(COMPLETED, objective, 9))
        return sampler, told

    for count in (0, 3):
        expected = first(tmp_path / f"whole-{count}", count)[0].propose()
        torn, told = first(tmp_path / f"torn-{count}", count)
        torn.distributions = dict(list(SPACE.items())[:values])
        torn.propose()
        again = open_sampler(tmp_path / f"torn-{count}", name, points=points, finished=told)
        assert again.propose() == expected
        assert again.propose().trial == count + 1
