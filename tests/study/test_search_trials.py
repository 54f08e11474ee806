"""A trial is a configuration on all search seeds: what its records, its sampler and its scheduler see of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tests.study.local_studies import CONTENT, Follower, study_in, tiny_dataset
from tests.study.workers import task_worker
from tune_bn.analysis.verdict import verify_study
from tune_bn.data.dataset import Dataset
from tune_bn.errors import Interrupted
from tune_bn.front.wiring import sampler_of
from tune_bn.protocols.runner import Feed, Listener, Point, RunResult, Task
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, DIVERGED, FAILED, PRUNED, SEARCH, Record
from tune_bn.runners.local import LocalRunner
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import CurveBook, TaskWorker, WorkerOptions, final_results
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.feeds import SearchFeed
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.testing.scripted import ScriptedTrainer
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.loop import TrainingRun

SEEDS = [101, 102, 103]
GAMMAS = [0.1, 0.2, 0.4, 0.8]
THREE_SEEDS: dict[str, Any] = {
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "sampler": {"points": [{"gamma": gamma} for gamma in GAMMAS]},
    "seeds": {"search": SEEDS, "select": [201], "confirm": [1, 2]},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return tiny_dataset()


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, **THREE_SEEDS, **sections}, "tiny")


def trials_of(study: Study, arm: str = CANDIDATE) -> list[FrozenTrial]:
    """What Optuna's journal holds, as another process would read it."""
    storage = JournalStorage(JournalFileBackend(str(study.folder.journal)))
    return optuna.load_study(study_name=f"{study.folder.name}/{arm}", storage=storage).get_trials()


def states_of(study: Study) -> list[TrialState]:
    return [trial.state for trial in trials_of(study)]


def search_records(study: Study, trial: int) -> list[Record]:
    return [record for record in study.folder.records if record.stage == SEARCH and record.trial == trial]


class Breaking:
    """Makes the runs of one configuration on one seed raise, so many times, in their second epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gamma: float, seed: int, times: int) -> None:
        self.left = times
        train_epoch = TrainingRun.train_epoch

        def breaking(run: TrainingRun) -> Point:
            if self.left and run.seed == seed and run.config.model.gamma == gamma and run.epochs == 1:
                self.left -= 1
                raise OSError("a disk hiccup")
            return train_epoch(run)

        monkeypatch.setattr(TrainingRun, "train_epoch", breaking)


def searched(folder: Path, dataset: Dataset, *, max_failures: int = 0, **sections: Any) -> Study:
    study = study_in(folder, dataset, space_with(**sections))
    assert isinstance(study.runner, LocalRunner)
    study.runner.max_failures = max_failures
    study.search()
    return study


def test_the_sampler_is_told_mean_spread_and_number_of_the_seeds(tmp_path: Path, dataset: Dataset) -> None:
    study = searched(tmp_path / "tiny-1", dataset)
    for trial in trials_of(study):
        scores = [record.scores["val_accuracy"] for record in search_records(study, trial.number)]
        assert len(scores) == 3
        assert trial.state == TrialState.COMPLETE
        assert trial.value == pytest.approx(fmean(scores))
        assert trial.user_attrs == {"std": pytest.approx(stdev(scores)), "n": 3}


def test_a_seed_that_raised_once_is_retried_and_the_mean_is_that_of_the_undisturbed_trial(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = trials_of(searched(tmp_path / "calm", dataset))
    broken = Breaking(monkeypatch, GAMMAS[1], 102, times=1)
    study = searched(tmp_path / "broken", dataset, max_failures=1)
    assert broken.left == 0
    assert [(t.value, t.user_attrs) for t in trials_of(study)] == [(t.value, t.user_attrs) for t in calm]
    attempts = {trial: [record.attempts for record in search_records(study, trial)] for trial in range(4)}
    assert attempts == {0: [1] * 3, 1: [2] * 3, 2: [1] * 3, 3: [1] * 3}


def test_a_seed_that_always_raises_fails_its_trial_and_no_mean_is_made_of_the_others(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaking(monkeypatch, GAMMAS[1], 102, times=1000)
    study = searched(tmp_path / "tiny-1", dataset, max_failures=1)
    assert [(r.seed, r.status, r.attempts, r.scores) for r in search_records(study, 1)] == [
        (seed, FAILED, 2, {}) for seed in SEEDS
    ]
    assert states_of(study) == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 2]
    assert trials_of(study)[1].values is None
    study.confirm()
    assert verify_study(study.folder.path)["verdict"] in ("supported", "not_supported")
    assert {r.trial for r in study.folder.records if r.stage != SEARCH and r.arm != BASELINE} <= {0, 2, 3}


class StoppingRunner(LocalRunner):
    """Stops every second trial of the search after its first epoch, as a scheduler would."""

    def _train(self, task: Task, listener: Listener, stopping: EarlyStopping) -> list[RunResult]:
        if not task.may_stop or task.trial is None or task.trial % 2 == 0:
            return super()._train(task, listener, stopping)
        curves, options = CurveBook(), replace(self.options, report_seconds=0.0)
        report = TaskWorker(task, self._session(task), self.trainer.score, options).step()
        curves.add(report.curves)
        return final_results(report.results, curves, pruned_by="asha", attempts=1)


def test_after_a_whole_study_every_trial_has_ended_as_its_records_say(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaking(monkeypatch, GAMMAS[2], 103, times=1000)
    study = study_in(tmp_path / "tiny-1", dataset, space_with(budget={"trials": 6, "finalists": 1}))
    study.runner = StoppingRunner(BuiltinTrainer(dataset), checkpoints=study.folder.checkpoints)
    study.run()
    expected = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.PRUNED]
    assert states_of(study) == [*expected, TrialState.COMPLETE, TrialState.PRUNED]
    for trial in trials_of(study):
        records = search_records(study, trial.number)
        if trial.state == TrialState.PRUNED:
            assert [(record.status, record.epochs) for record in records] == [(PRUNED, 1)] * 3
            reached = fmean(record.scores["val_accuracy"] for record in records)
            assert (trial.value, trial.intermediate_values) == (pytest.approx(reached), {1: pytest.approx(reached)})
            assert trial.user_attrs["n"] == 3
    assert verify_study(study.folder.path)["verdict"] in ("supported", "not_supported")


def test_the_scheduler_sees_the_mean_over_the_seeds_in_every_epoch(dataset: Dataset) -> None:
    space = space_with(train={**CONTENT["train"], "epochs": 5})
    task = Task(SEARCH, CANDIDATE, 0, {"gamma": 0.3}, space.run_config({"gamma": 0.3}), tuple(SEEDS), may_stop=True)
    worker = task_worker(task, dataset, WorkerOptions(None, report_seconds=0.0))
    reports = [worker.step() for _ in range(5)]
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    best = [accumulate((point["val_accuracy"] for point in curve), max) for curve in (run.curve for run in worker.runs)]
    assert [report.objective for report in reports] == pytest.approx([fmean(step) for step in zip(*best, strict=True)])


def test_a_trial_that_goes_on_from_a_checkpoint_tells_what_it_had_reached_at_the_milestones(
    tmp_path: Path, dataset: Dataset
) -> None:
    space = space_with(train={**CONTENT["train"], "epochs": 6})
    task = Task(SEARCH, CANDIDATE, 0, {"gamma": 0.3}, space.run_config({"gamma": 0.3}), tuple(SEEDS), may_stop=True)
    options = WorkerOptions(tmp_path, checkpoint_seconds=1e-9, report_seconds=0.0, milestones=(1, 3, 5))
    worker = task_worker(task, dataset, options)
    first = [worker.step() for _ in range(4)]
    worker.checkpoint()
    worker.close()
    assert [report.objectives for report in first] == [{report.epoch: report.objective} for report in first]
    again = task_worker(task, dataset, options)
    assert again.epoch == 4
    report = again.step()
    expected = {reported.epoch: reported.objective for reported in first if reported.epoch in (1, 3)}
    assert report.objectives == pytest.approx(expected | {5: report.objective})
    assert again.step().passed == {}


def test_a_worker_that_reports_rarely_reports_every_milestone_and_the_end(dataset: Dataset) -> None:
    space = space_with(train={**CONTENT["train"], "epochs": 6})
    task = Task(SEARCH, CANDIDATE, 0, {"gamma": 0.3}, space.run_config({"gamma": 0.3}), tuple(SEEDS), may_stop=True)
    worker = task_worker(task, dataset, WorkerOptions(None, report_seconds=3600, milestones=(2, 3)))
    reports = [worker.step() for _ in range(3)]
    assert [(report.epoch, report.done) for report in reports] == [(2, False), (3, False), (6, True)]


def test_a_resumed_scheduler_is_shown_what_the_first_one_saw_of_diverged_and_torn_trials(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_epoch = TrainingRun.train_epoch

    def diverging(run: TrainingRun) -> Point:
        point = train_epoch(run)
        run.diverged = run.seed == 102 and run.config.model.gamma == GAMMAS[1] and run.epochs == 2
        return point

    monkeypatch.setattr(TrainingRun, "train_epoch", diverging)
    seen: dict[int, dict[int, float]] = {}

    class Watching(LocalRunner):
        def _train(self, task: Task, listener: Listener, stopping: EarlyStopping) -> list[RunResult]:
            options = replace(self.options, report_seconds=0.0)
            worker = TaskWorker(task, self._session(task), self.trainer.score, options)
            curves = CurveBook()
            while True:
                report = worker.step()
                curves.add(report.curves)
                seen.setdefault(task.trial or 0, {})[report.epoch] = report.objective
                if report.done:
                    return final_results(report.results, curves, pruned_by=None, attempts=1)

    space = space_with(train={**CONTENT["train"], "epochs": 4})
    # The power goes when one seed of the third trial is on record.
    study = study_in(tmp_path / "tiny-1", dataset, space, Follower(7))
    study.runner = Watching(BuiltinTrainer(dataset))
    with pytest.raises(Interrupted):
        study.search()
    assert [r.status for r in search_records(study, 1)] == [COMPLETED, DIVERGED, COMPLETED]
    history = study_in(tmp_path / "tiny-1", dataset, space)._history()
    assert [(past.arm, past.trial) for past in history] == [(CANDIDATE, 0), (CANDIDATE, 1)]
    assert [past.objectives for past in history] == [pytest.approx(seen[0]), pytest.approx(seen[1])]
    # The seeds that go on are still compared, with the diverged one at chance.
    assert len(history[1].objectives) == 4


def interrupted(folder: Path, dataset: Dataset) -> Study:
    """A search of four trials that ended with the second one open: one of its three seeds is on record."""
    study = study_in(folder, dataset, space_with(), Follower(4))
    with pytest.raises(Interrupted):
        study.run()
    assert states_of(study) == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING, TrialState.WAITING]
    (study.folder.checkpoints / "search-candidate-t00001-s101").mkdir(parents=True)
    return study


@pytest.mark.parametrize(
    ("budget", "stages"),
    [
        ({"trials": 1, "finalists": 1}, Study.run),
        ({"trials": 1, "finalists": 1}, Study.search),
        ({"trials": 4, "finalists": 1, "hours": 1e-9}, Study.run),
        (CONTENT["budget"], Study.confirm),
    ],
)
def test_a_trial_that_no_budget_covers_any_more_does_not_stay_open(
    tmp_path: Path, dataset: Dataset, budget: dict[str, Any], stages: Any
) -> None:
    interrupted(tmp_path / "tiny-1", dataset)
    study = study_in(tmp_path / "tiny-1", dataset, space_with(budget=budget))
    stages(study)
    assert states_of(study) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]
    assert list(study.folder.checkpoints.iterdir()) == []
    if stages != Study.search:
        assert verify_study(study.folder.path)["verdict"] in ("supported", "not_supported")


def test_a_search_that_goes_on_after_an_early_selection_has_its_whole_budget(tmp_path: Path, dataset: Dataset) -> None:
    interrupted(tmp_path / "tiny-1", dataset)
    with pytest.raises(Interrupted):
        study_in(tmp_path / "tiny-1", dataset, space_with(), Follower(1)).confirm()
    study = study_in(tmp_path / "tiny-1", dataset, space_with())
    study.run()
    complete = [trial.number for trial in trials_of(study) if trial.state == TrialState.COMPLETE]
    assert complete == [0, 2, 3, 4]
    assert states_of(study)[1] == TrialState.FAIL
    assert len(states_of(study)) == 5


def test_a_selection_needs_no_journal(tmp_path: Path, dataset: Dataset) -> None:
    study = searched(tmp_path / "tiny-1", dataset)
    study.folder.journal.unlink()
    study_in(tmp_path / "tiny-1", dataset, space_with()).confirm()
    assert not study.folder.journal.exists()
    assert verify_study(study.folder.path)["verdict"] in ("supported", "not_supported")


class NoRecords:
    """Stands for the recorder where nothing is trained."""

    records: Sequence[Record] = ()
    trainer = ScriptedTrainer()
    score = trainer.score

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder

    def record(self, task: Task, results: Sequence[RunResult]) -> None: ...


def proposals(space: Space, folder: StudyFolder) -> dict[str, list[Mapping[str, Any]]]:
    """What a search of made-up scores proposes to each arm."""
    quota = {arm: space.trials_of(arm) for arm in (CANDIDATE, BASELINE)}
    samplers = {arm: sampler_of(space, folder, arm, {}) for arm in quota}
    feed: Feed = SearchFeed(space, samplers, quota, NoRecords(folder))  # type: ignore[arg-type]
    found: dict[str, list[Mapping[str, Any]]] = {arm: [] for arm in quota}
    while (task := feed.next()) is not None:
        found[task.arm].append(task.overrides)
        score = {"val_accuracy": 90.0 + task.config.train.lr, "best_epoch": 1.0}
        now = datetime.now(UTC).isoformat()
        feed.finished(task, [RunResult(s, COMPLETED, "", 1, score, (), 1, now, 0.0, "cpu", {}) for s in task.seeds])
    return found


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "qmc", "random"])
@pytest.mark.parametrize("trials", [12, 13])
def test_the_baseline_gets_as_many_trials_and_the_same_nuisance_start_points(
    tmp_path: Path, name: str, trials: int
) -> None:
    points = [
        {"gamma": 0.1, "lr": 0.03, "momentum": 0.8},
        {"gamma": 0.2, "lr": 0.02},
        {"gamma": 0.3, "lr": 0.03, "momentum": 0.8},
        {"gamma": 0.4},
        {"momentum": 0.7},
    ]
    space = space_with(
        search={**THREE_SEEDS["search"], "lr": {"log_uniform": [0.01, 0.1]}, "momentum": {"uniform": [0.5, 0.9]}},
        sampler={"name": name, "points": points},
        budget={"trials": trials, "finalists": 1},
    )
    found = proposals(space, StudyFolder(tmp_path / "tiny-1").created(space))
    assert Counter({arm: len(given) for arm, given in found.items()}) == {CANDIDATE: 6, BASELINE: trials - 6}
    for proposal, point in zip(found[CANDIDATE], points, strict=False):
        assert {key: proposal[key] for key in point} == point
    for proposal, point in zip(found[BASELINE], [points[0], points[1], points[4]], strict=False):
        assert proposal["gamma"] == 1.0
        assert {key: proposal[key] for key in point if key != "gamma"} == {
            k: v for k, v in point.items() if k != "gamma"
        }


@pytest.mark.parametrize(
    "order", [("gamma", "lr", "momentum"), ("lr", "gamma", "momentum"), ("lr", "momentum", "gamma")]
)
@pytest.mark.parametrize("trials", [4, 9, 30, 100])
def test_the_grid_of_the_baseline_has_every_nuisance_value_that_the_candidates_are_tried_with(
    tmp_path: Path, order: tuple[str, ...], trials: int
) -> None:
    search = {
        "gamma": {"choice": [0.1, 0.2, 0.5]},
        "lr": {"choice": [0.1, 0.05, 0.01]},
        "momentum": {"choice": [0.9, 0.5]},
    }
    space = space_with(
        search={key: search[key] for key in order},
        sampler={"name": "grid"},
        budget={"trials": trials, "finalists": 1},
    )
    found = proposals(space, StudyFolder(tmp_path / "tiny-1").created(space))
    nuisance = {arm: {(p["lr"], p["momentum"]) for p in given} for arm, given in found.items()}
    assert nuisance[CANDIDATE] <= nuisance[BASELINE]
    # A repeated combination would be the same run on the same seeds.
    share = min(trials - trials // 2, 6)
    assert len(found[BASELINE]) == len(nuisance[BASELINE]) == share
    assert len(found[CANDIDATE]) == min(trials - share, 18)


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "qmc", "random"])
def test_a_baseline_with_few_configurations_tries_each_once_and_leaves_the_rest_to_the_candidates(
    tmp_path: Path, name: str
) -> None:
    search = {**THREE_SEEDS["search"], "lr": {"choice": [0.1, 0.05, 0.01]}}
    points = [{"gamma": 0.2, "lr": 0.05}]
    space = space_with(search=search, sampler={"name": name, "points": points}, budget={"trials": 11, "finalists": 1})
    found = proposals(space, StudyFolder(tmp_path / "tiny-1").created(space))
    # The start point's learning rate comes first, for both.
    assert [proposal["lr"] for proposal in found[BASELINE]] == [0.05, 0.1, 0.01]
    assert len(found[CANDIDATE]) == 8
    assert found[CANDIDATE][0]["lr"] == 0.05
    few = space_with(search=search, sampler={"name": name, "points": points}, budget={"trials": 4, "finalists": 1})
    assert (few.trials_of(BASELINE), few.trials_of(CANDIDATE)) == (2, 2)
