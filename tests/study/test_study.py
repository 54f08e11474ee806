"""The stages of a study, in this process: real training, real Optuna, real records; only Ray is left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

from tests.study.local_studies import CONTENT, Follower, essence, study_in, tiny_dataset
from tune_bn.analysis.verdict import verify_study
from tune_bn.data.dataset import Dataset
from tune_bn.errors import Interrupted, StudyError
from tune_bn.records.diagnostics import read_diagnostics
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, CONFIRM, FAILED, SEARCH, SELECT
from tune_bn.runners.worker import Report, TaskWorker
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.study import Study
from tune_bn.trainers.builtin import BuiltinTrainer


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return tiny_dataset()


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, **sections}, "tiny")


@pytest.fixture(scope="module")
def undisturbed(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = study_in(tmp_path_factory.mktemp("studies") / "tiny-1", dataset, space_with())
    study.run()
    return study


def test_a_study_trains_what_its_space_says(undisturbed: Study) -> None:
    records = undisturbed.folder.records.read()
    assert Counter(record.stage for record in records) == {SEARCH: 4 * 2, SELECT: 2 * 2, CONFIRM: 2 * 3}
    assert {record.seed for record in records if record.stage == CONFIRM} == {1, 2, 3}
    for record in records:
        assert record.status == COMPLETED
        assert record.space_sha256 == undisturbed.space.sha256
        # The test images are read in the confirmation, and nowhere else.
        assert ("test_accuracy" in record.scores) == (record.stage == CONFIRM)


def test_the_best_of_the_search_meet_again_and_the_best_of_them_is_confirmed(undisturbed: Study) -> None:
    records = undisturbed.folder.records.read()

    def means(stage: str) -> dict[int, float]:
        scores: dict[int, list[float]] = {}
        for record in records:
            if record.stage == stage and record.trial is not None:
                scores.setdefault(record.trial, []).append(record.scores["val_accuracy"])
        return {trial: sum(values) / len(values) for trial, values in scores.items()}

    search, select = means(SEARCH), means(SELECT)
    worst_finalist = min(search[trial] for trial in select)
    assert len(select) == 2
    assert all(search[trial] <= worst_finalist for trial in set(search) - set(select))
    plan = json.loads(undisturbed.folder.plan_file.read_text())
    winner = plan["candidates"][0]
    assert select[winner["trial"]] == max(select.values())
    selected = [r.scores["val_accuracy"] for r in records if (r.stage, r.trial) == (SELECT, winner["trial"])]
    assert winner["selection"] == {
        "val_accuracy_mean": pytest.approx(select[winner["trial"]]),
        "val_accuracy_std": pytest.approx(stdev(selected)),
        "n": 2,
    }
    confirmed = {record.arm: record for record in records if record.stage == CONFIRM}
    assert confirmed["candidate-1"].config == winner["config"]
    assert confirmed[BASELINE].config == {"gamma": 1.0, "c": 1.0}
    assert {record.plan_sha256 for record in records if record.stage == CONFIRM} == {plan["plan_sha256"]}
    assert {record.plan_sha256 for record in records if record.stage != CONFIRM} == {None}


def test_one_run_of_each_confirmed_arm_is_inspected(undisturbed: Study) -> None:
    folder = undisturbed.folder
    records = {record.key: record for record in folder.records.read()}
    assert {path.name for path in folder.diagnostics.iterdir()} == {"baseline.json", "candidate-1.json"}
    for arm in (BASELINE, "candidate-1"):
        found = read_diagnostics(folder.diagnostics / f"{arm}.json")
        assert (found.arm, found.seed, found.epoch, found.problem) == (arm, 1, 2, None)
        record = records[found.run]
        assert (record.stage, record.arm, record.seed, record.config) == (CONFIRM, arm, 1, found.config)
        for layer in found.layers:
            assert layer.gamma.initial == pytest.approx(record.config["gamma"])
    assert {path.name for path in folder.artifacts()} >= {"baseline.json", "candidate-1.json"}


def test_a_run_is_recorded_also_where_its_diagnostics_cannot_be_written(tmp_path: Path, dataset: Dataset) -> None:
    space = space_with(
        budget={"trials": 1, "finalists": 1}, seeds={"search": [101], "select": [201], "confirm": [1, 2]}
    )
    study = study_in(tmp_path / "tiny-1", dataset, space)
    study.folder.diagnostics.touch()
    study.run()
    assert [record.status for record in study.folder.records if record.stage == CONFIRM] == [COMPLETED] * 4


def test_the_folder_alone_gives_a_valid_verdict(undisturbed: Study) -> None:
    verdict = verify_study(undisturbed.folder.path)
    assert verdict["verdict"] in ("supported", "not_supported")
    assert verdict["n"] == 3


@pytest.mark.parametrize("stop_after", [1, 3, 7, 8, 10, 12, 13, 17])
def test_a_study_interrupted_anywhere_ends_like_the_undisturbed_one(
    tmp_path: Path, dataset: Dataset, undisturbed: Study, stop_after: int
) -> None:
    with pytest.raises(Interrupted):
        study_in(tmp_path / "tiny-1", dataset, space_with(), Follower(stop_after)).run()
    follower = Follower()
    resumed = study_in(tmp_path / "tiny-1", dataset, space_with(), follower)
    resumed.run()
    assert essence(resumed) == essence(undisturbed)
    assert len(resumed.folder.records.read()) == len(undisturbed.folder.records.read()), "a run was repeated"
    assert follower.stages[-1] == (CONFIRM, 6, max(0, stop_after - 12))


def test_a_torn_record_is_run_again(tmp_path: Path, dataset: Dataset, undisturbed: Study) -> None:
    with pytest.raises(Interrupted):
        study_in(tmp_path / "tiny-1", dataset, space_with(), Follower(14)).run()
    path = tmp_path / "tiny-1" / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    resumed = study_in(tmp_path / "tiny-1", dataset, space_with())
    resumed.run()
    assert essence(resumed) == essence(undisturbed)


def test_a_finished_study_runs_nothing_again(undisturbed: Study, dataset: Dataset) -> None:
    before = undisturbed.folder.records.path.read_bytes()
    again = study_in(undisturbed.folder.path, dataset, space_with())
    again.run()
    assert undisturbed.folder.records.path.read_bytes() == before


def test_a_run_that_failed_is_run_again_by_a_resume_and_stays_on_record(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_with()
    folder = tmp_path / "tiny-1"
    study = study_in(folder, dataset, space)
    study.search()
    step = TaskWorker.step

    def fail_one(worker: TaskWorker) -> Report:
        if worker.task.key == "confirm-baseline-s2":
            raise RuntimeError("out of luck")
        return step(worker)

    with monkeypatch.context() as patched:
        patched.setattr(TaskWorker, "step", fail_one)
        study.confirm()
    assert [r.key for r in study.folder.records if r.status == FAILED] == ["confirm-baseline-s2"]
    assert verify_study(folder)["verdict"] == "invalid"
    study_in(folder, dataset, space).run()
    verdict = verify_study(folder)
    assert verdict["verdict"] in ("supported", "not_supported")
    assert verdict["retried"] == ["confirm-baseline-s2"]


def test_a_searched_nuisance_parameter_is_tuned_for_the_baseline_too(tmp_path: Path, dataset: Dataset) -> None:
    search = {**CONTENT["search"], "lr": {"choice": [0.1, 0.01]}}
    space = space_with(search=search, budget={"trials": 5, "finalists": 1}, seeds={**CONTENT["seeds"], "search": [101]})
    study = study_in(tmp_path / "tiny-1", dataset, space)
    study.run()
    records = study.folder.records.read()
    trials = Counter(record.arm for record in records if record.stage == SEARCH)
    # Two learning rates are all that the baseline has to try.
    assert trials == {BASELINE: 2, CANDIDATE: 3}
    for record in records:
        assert set(record.config) == {"gamma", "c", "lr"}
        if record.arm == BASELINE:
            assert (record.config["gamma"], record.config["c"]) == (1.0, 1.0)
    plan = json.loads(study.folder.plan_file.read_text())
    best = max((r for r in records if r.stage == SEARCH and r.arm == BASELINE), key=lambda r: r.scores["val_accuracy"])
    assert plan["baseline"]["config"]["lr"] == best.config["lr"]
    assert verify_study(study.folder.path)["verdict"] in ("supported", "not_supported")


def test_the_baseline_itself_is_no_candidate(tmp_path: Path, dataset: Dataset) -> None:
    points = [{"gamma": 1.0, "c": 1.0}, {"gamma": 0.3, "c": 10.0}]
    space = space_with(sampler={"points": points}, budget={"trials": 2, "finalists": 1})
    study = study_in(tmp_path / "tiny-1", dataset, space)
    study.search()
    assert [finalist.overrides for finalist in study.selection.finalists(CANDIDATE)] == [{"gamma": 0.3, "c": 10.0}]


def test_a_plan_that_was_changed_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    study = study_in(tmp_path / "tiny-1", dataset, space_with())
    study.search()
    study.select()
    plan = study.plan()
    study.folder.plan_file.chmod(0o644)
    study.folder.plan_file.write_text(json.dumps(plan.to_json() | {"alpha": 0.4}))
    with pytest.raises(StudyError, match="plan"):
        study.confirm()


def test_no_second_plan_is_made_once_runs_were_confirmed(tmp_path: Path, dataset: Dataset) -> None:
    study = study_in(tmp_path / "tiny-1", dataset, space_with())
    study.run()
    study.folder.plan_file.unlink()
    with pytest.raises(StudyError, match="missing, with confirmation runs made under it"):
        study_in(tmp_path / "tiny-1", dataset, space_with()).confirm()
    assert not study.folder.plan_file.exists()


def test_a_confirmation_does_not_go_on_under_other_code(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_in(tmp_path / "tiny-1", dataset, space_with())
    study.search()
    study.select()
    study.plan()
    other = dict(study.info.versions) | {"code": "0" * 16}
    monkeypatch.setattr(BuiltinTrainer, "versions", lambda *_: other)
    later = study_in(tmp_path / "tiny-1", dataset, space_with())
    with pytest.raises(StudyError, match="it was locked under code"):
        later.confirm()
    assert not [record for record in later.folder.records if record.stage == CONFIRM]


def test_no_trial_at_full_length_is_an_error_that_says_so(tmp_path: Path, dataset: Dataset) -> None:
    study = study_in(tmp_path / "tiny-1", dataset, space_with(train={**CONTENT["train"], "lr": 1e30}))
    study.search()
    with pytest.raises(StudyError, match="no candidate trial of the search ran to its end"):
        study.confirm()


def test_the_hours_of_the_budget_end_the_search(tmp_path: Path, dataset: Dataset) -> None:
    space = space_with(budget={"trials": 1000, "finalists": 1, "hours": 1e-9})
    study = study_in(tmp_path / "tiny-1", dataset, space)
    study.search()
    assert study.folder.records.read() == []
