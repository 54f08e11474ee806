"""No search ends without a trial of either arm that ran to its end, whoever starts slowly and whatever fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.statistics.simulation import Laboratory, SimulatedRunner
from benchmarks.statistics.surrogates import EqualArms
from tests.study.local_studies import Follower
from tune_bn.errors import Interrupted, StudyError
from tune_bn.front.wiring import sampler_of
from tune_bn.protocols.runner import RunResult
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, DIVERGED, FAILED, PRUNED, SEARCH, Record
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.testing.scripted import ScriptedTrainer

EPOCHS, FINALISTS = 18, 3
ARMS = (BASELINE, CANDIDATE)
GAMMA = {"log_uniform": [0.01, 1.0]}
Fates = Mapping[tuple[str, int], str]


def space_with(**sections: Any) -> Space:
    content: dict[str, Any] = {
        "name": "slow",
        "model": {"arch": "resnet18"},
        "train": {"epochs": EPOCHS},
        "search": {"gamma": GAMMA, "c": {"log_uniform": [1, 1000]}, "lr": {"log_uniform": [0.01, 1.0]}},
        "sampler": {"points": "none", "name": "random"},
        "scheduler": {"name": "asha", "grace": 4, "reduction": 3},
        "budget": {"trials": 16, "finalists": FINALISTS},
        "seeds": {"search": [101], "select": [201, 202], "confirm": [1, 2, 3]},
    }
    return parse_space({**content, **sections}, "slow")


class Fated(SimulatedRunner):
    """Ends trials that ran to their end as they are fated to."""

    def __init__(self, laboratory: Laboratory, workers: int, fates: Fates) -> None:
        super().__init__(laboratory, workers)
        self.fates = fates

    def _results(self, course: Any, stopped_by: Any) -> list[RunResult]:
        results, task = super()._results(course, stopped_by), course.task
        status = self.fates.get((task.arm, task.trial)) if task.stage == SEARCH and stopped_by is None else None
        # Errors of two kinds: the study shall not end over them.
        reason = f"{'ValueError' if (task.trial or 0) % 2 else 'OSError'}: no"
        return [replace(result, status=status, reason=reason) for result in results] if status else results


def study_in(
    folder: Path,
    space: Space,
    *,
    workers: int = 1,
    lag: float | None = 4.0,
    fates: Fates | None = None,
    stop_after: int | None = None,
) -> Study:
    where = StudyFolder(folder)
    where.resumed(space) if where.exists else where.created(space)
    return Study(
        where,
        space,
        runner=Fated(Laboratory(EqualArms(), 5, 0.5, lag=lag), workers, fates or {}),
        make_sampler=lambda arm, outcomes: sampler_of(space, where, arm, outcomes),
        observer=Follower(stop_after),
        trainer=ScriptedTrainer(),
    )


def ends(study: Study, arm: str) -> dict[int, tuple[str, int]]:
    """Status and epochs of the search trials of an arm, by number."""
    records: Sequence[Record] = study.folder.records.read()
    return {r.trial or 0: (r.status, r.epochs) for r in records if r.stage == SEARCH and r.arm == arm}


def whole(study: Study, arm: str) -> list[int]:
    return [trial for trial, (status, _) in sorted(ends(study, arm).items()) if status == COMPLETED]


def statuses(study: Study, arm: str) -> set[str]:
    return {status for status, _ in ends(study, arm).values()}


@pytest.mark.parametrize(("name", "reduction"), [("asha", 2), ("asha", 3), ("asha", 4), ("median", 3)])
@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("seeds", [[101], [101, 102]])
def test_the_first_trials_of_each_arm_run_to_their_end_and_others_are_stopped(
    tmp_path: Path, name: str, reduction: int, workers: int, seeds: list[int]
) -> None:
    space = space_with(
        scheduler={"name": name, "grace": 4, "reduction": reduction},
        seeds={"search": seeds, "select": [201, 202], "confirm": [1, 2, 3]},
    )
    study = study_in(tmp_path / "slow-1", space, workers=workers)
    study.run()
    for arm in ARMS:
        assert whole(study, arm)[:FINALISTS] == [0, 1, 2]
        assert len(ends(study, arm)) == 8
        assert PRUNED in statuses(study, arm)


@pytest.mark.parametrize("name", ["asha", "median"])
def test_how_slowly_the_baseline_starts_changes_nothing_for_the_candidates(tmp_path: Path, name: str) -> None:
    space = space_with(scheduler={"name": name, "grace": 4, "reduction": 3})
    found = []
    for lag in (0.0, 4.0, 40.0):
        study = study_in(tmp_path / f"{lag:g}" / "slow-1", space, lag=lag)
        study.search()
        found.append({arm: ends(study, arm) for arm in ARMS})
    assert found[0][CANDIDATE] == found[1][CANDIDATE] == found[2][CANDIDATE]
    # Nor for the baseline, by a rule that compares at one epoch.
    if name == "asha":
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["asha", "median"])
@pytest.mark.parametrize("stop_after", [1, 2, 5, 9, 15])
def test_a_resumed_search_stops_the_same_trials_at_the_same_epochs(tmp_path: Path, name: str, stop_after: int) -> None:
    fates = {(BASELINE, 0): DIVERGED, (CANDIDATE, 2): DIVERGED, (BASELINE, 3): FAILED}
    space = space_with(scheduler={"name": name, "grace": 2, "reduction": 2})
    undisturbed = study_in(tmp_path / "a" / "slow-1", space, fates=fates)
    undisturbed.search()
    with pytest.raises(Interrupted):
        study_in(tmp_path / "b" / "slow-1", space, fates=fates, stop_after=stop_after).search()
    resumed = study_in(tmp_path / "b" / "slow-1", space, fates=fates)
    resumed.search()
    for arm in ARMS:
        assert ends(resumed, arm) == ends(undisturbed, arm)


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
def test_where_spared_trials_come_to_nothing_the_next_take_their_place(tmp_path: Path, status: str) -> None:
    study = study_in(tmp_path / "slow-1", space_with(), fates={(BASELINE, trial): status for trial in (0, 2, 3)})
    study.search()
    assert {ends(study, BASELINE)[trial][0] for trial in (0, 2, 3)} == {status}
    assert whole(study, BASELINE)[:FINALISTS] == [1, 4, 5]
    assert whole(study, CANDIDATE)[:FINALISTS] == [0, 1, 2]


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_whose_spared_trials_all_come_to_nothing_too_late_gets_more(tmp_path: Path, arm: str) -> None:
    """Everything begins at once: by the time the first diverge, in their last epoch, the others were stopped."""
    fates = {(arm, trial): DIVERGED for trial in range(8)}
    study = study_in(tmp_path / "slow-1", space_with(), workers=16, fates=fates)
    study.run()
    assert PRUNED in statuses(study, arm)
    assert whole(study, arm) == [8]
    assert len(ends(study, arm)) == 9
    assert len(ends(study, CANDIDATE if arm == BASELINE else BASELINE)) == 8


def test_an_arm_that_cannot_be_trained_gets_no_trials_without_end(tmp_path: Path) -> None:
    fates = {(BASELINE, trial): DIVERGED for trial in range(100)}
    study = study_in(tmp_path / "slow-1", space_with(), workers=16, fates=fates)
    with pytest.raises(StudyError, match=r"no baseline trial .* ran to its end: \d+ diverged, \d+ stopped early; "):
        study.run()
    assert len(ends(study, BASELINE)) == 8 + FINALISTS


@pytest.mark.parametrize("workers", [1, 9])
def test_a_candidate_that_is_the_baseline_takes_no_others_place(tmp_path: Path, workers: int) -> None:
    points = [{"gamma": 1.0, "c": 1.0, "lr": 0.01 * 10**n} for n in range(3)]
    study = study_in(tmp_path / "slow-1", space_with(sampler={"points": points, "name": "random"}), workers=workers)
    study.run()
    own = {r.trial for r in study.folder.records if (r.stage, r.arm) == (SEARCH, CANDIDATE) and r.config["c"] == 1.0}
    assert own == {0, 1, 2}
    assert [trial for trial in whole(study, CANDIDATE) if trial not in own][:FINALISTS] == [3, 4, 5]


@pytest.mark.parametrize("lr", [[0.1], [0.1, 0.01]])
def test_a_baseline_of_few_configurations_runs_them_all(tmp_path: Path, lr: list[float]) -> None:
    study = study_in(tmp_path / "slow-1", space_with(search={"gamma": GAMMA, "lr": {"choice": lr}}))
    study.run()
    assert whole(study, BASELINE) == list(range(len(lr)))


def test_without_a_baseline_that_is_searched_the_candidates_are_spared_alike(tmp_path: Path) -> None:
    study = study_in(tmp_path / "slow-1", space_with(search={"gamma": GAMMA}), lag=None)
    study.run()
    assert ends(study, BASELINE) == {}
    assert whole(study, CANDIDATE)[:FINALISTS] == [0, 1, 2]
    assert PRUNED in statuses(study, CANDIDATE)


@pytest.mark.parametrize("grace", [EPOCHS, EPOCHS + 1, 1000])
def test_a_grace_as_long_as_the_training_stops_nothing(tmp_path: Path, grace: int) -> None:
    study = study_in(tmp_path / "slow-1", space_with(scheduler={"name": "asha", "grace": grace}))
    study.search()
    assert all(len(whole(study, arm)) == 8 for arm in ARMS)
