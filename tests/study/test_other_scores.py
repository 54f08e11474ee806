"""Whole studies of a score that is no accuracy: a loss, of which less is better, without a range or a unit."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.study.local_studies import CONTENT, Follower
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import judge, verify_study
from tune_bn.cli.status import candidates_words, describe_study, table
from tune_bn.errors import StudyError
from tune_bn.front.wiring import conclude, sampler_of
from tune_bn.observers.console.progress import Progress
from tune_bn.observers.console.view import run_line
from tune_bn.records.record import CANDIDATE, COMPLETED, CONFIRM, DIVERGED, PRUNED, SEARCH, SELECT
from tune_bn.records.score import LAST, MAX, MIN, Score, read_score
from tune_bn.runners.local import LocalRunner
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder
from tune_bn.study.study import Study
from tune_bn.study.warm_start import warm_started
from tune_bn.testing.scripted import ScriptedTrainer

EPOCHS = 4
LOSS = Score("val_loss", "test_loss", MIN, step="step")
"""No range, no unit, and nothing that a diverged run scores."""
GAIN = replace(LOSS, goal=MAX)
"""The same numbers, of which more is better."""


def value(gamma: float, seed: int, kind: str) -> float:
    """The smaller γ, the smaller: 0.52 at γ = 0.05, 1.3 at γ = 1."""
    return 1.3 + 0.6 * math.log10(gamma) + Random(f"{gamma} {seed} {kind}").gauss(0, 0.02)


def measured(config: Any, seed: int, step: int) -> Mapping[str, float]:
    """Falls from step to step; the order of the configurations is that of their end from the first one on."""
    return {"val_loss": value(config.model.gamma, seed, "val") + 0.5 / step, "grad_norm": 1.0 / step}


def final(config: Any, seed: int) -> float:
    return value(config.model.gamma, seed, "test")


def study_of(folder: Path, trainer: ScriptedTrainer, follower: Any = None, **sections: Any) -> Study:
    content = {
        **CONTENT,
        "train": {"epochs": EPOCHS, "batch_size": 20},
        "search": {"gamma": {"log_uniform": [0.05, 0.8]}},
        "scheduler": {"name": "asha", "grace": 1, "reduction": 2},
        "budget": {"trials": 12, "finalists": 3},
        "seeds": {"search": [101, 102], "select": [201, 202, 203], "confirm": [1, 2, 3, 4, 5, 6]},
        **sections,
    }
    space, where = parse_space(content, "other"), StudyFolder(folder)
    where.resumed(space) if where.exists else where.created(space)
    goal = trainer.score.goal
    return Study(
        where,
        space,
        runner=LocalRunner(trainer, checkpoints=where.checkpoints),
        make_sampler=lambda arm, outcomes: sampler_of(space, where, arm, outcomes, goal),
        observer=follower or Follower(),
        trainer=trainer,
    )


@pytest.fixture(scope="module", params=[MIN, MAX])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Study, dict[str, Any]]:
    score = LOSS if request.param == MIN else GAIN
    study = study_of(tmp_path_factory.mktemp(request.param) / "other-1", ScriptedTrainer(score, measured, final))
    study.run()
    return request.param, study, conclude(study.folder).to_json()


Whole = tuple[str, Study, dict[str, Any]]


def test_it_is_supported_where_lower_is_better_and_not_where_higher_is(whole: Whole) -> None:
    goal, study, verdict = whole
    (arm,) = verdict["candidates"]
    baseline = verdict["baseline"]
    # The same tests of the same numbers: every candidate lies below γ = 1.
    assert arm["mean"] < baseline["mean"]
    assert arm["difference"] == pytest.approx(arm["mean"] - baseline["mean"])
    assert verdict["score"]["goal"] == goal
    if goal == MIN:
        assert verdict["headline"] == verdict["verdict"] == "supported"
        assert arm["effect"] == pytest.approx(-arm["difference"])
        assert arm["effect"] > 0
        assert arm["ci"][0] > 0
        assert "lowers test loss by" in verdict["reason"]
        assert " below γ = 1, c = 1 (" in verdict["reason"]
    else:
        assert verdict["headline"] == "not_supported, and worse"
        assert arm["effect"] == pytest.approx(arm["difference"])
        assert arm["effect"] < 0
        assert "lowers test loss by" in verdict["reason"]
    assert "%" not in verdict["reason"].replace("90 % interval", "")
    assert "percentage points" not in verdict["reason"]
    assert verify_study(study.folder.path) == verdict


def test_search_selection_and_stopping_go_the_same_way(whole: Whole) -> None:
    goal, study, _ = whole
    better = min if goal == MIN else max
    records = study.folder.records.read()
    searched = [r for r in records if r.stage == SEARCH]
    complete = {r.trial: r.config["gamma"] for r in searched if r.status == COMPLETED}
    stopped = {r.trial: r.config["gamma"] for r in searched if r.status == PRUNED}
    assert stopped
    # Whoever was stopped was behind somebody who was not.
    assert better(complete.values()) == better([*complete.values(), *stopped.values()])
    plan = read_plan(study.folder.plan_file)
    assert plan.candidates[0].config["gamma"] == better(complete.values())
    raced = {r.config["gamma"] for r in records if r.stage == SELECT}
    assert raced == set(sorted(complete.values(), reverse=goal == MAX)[:3])
    assert plan.metric == "test_loss"
    assert plan.to_json()["score"] == (LOSS if goal == MIN else GAIN).to_json()
    selection = plan.candidates[0].selection
    own = [r.scores["val_loss"] for r in records if r.stage == SELECT and r.trial == plan.candidates[0].trial]
    assert selection["val_loss_mean"] == pytest.approx(sum(own) / len(own))


def test_the_sampler_keeps_the_scores_themselves(whole: Whole) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    goal, study, _ = whole
    storage = JournalStorage(JournalFileBackend(str(study.folder.journal)))
    (found,) = [optuna.load_study(study_name=s.study_name, storage=storage) for s in storage.get_all_studies()]
    assert found.direction.name == f"{goal}imize".upper()
    records = study.folder.records.read()
    ended = {r.trial for r in records if r.stage == SEARCH and r.status == COMPLETED}
    for trial in found.get_trials():
        if trial.number in ended:
            own = [r.scores["val_loss"] for r in records if r.stage == SEARCH and r.trial == trial.number]
            assert trial.value == pytest.approx(sum(own) / 2)


def test_everything_that_is_shown_names_the_score_and_no_percentage(whole: Whole) -> None:
    goal, study, _ = whole
    report = (study.folder.path / "report.md").read_text()
    assert "test loss" in report
    assert "validation loss" in report
    assert "accuracy" not in report
    assert ", pp" not in report
    assert "percentage point" not in report
    row = describe_study(study.folder)
    searched = [r for r in study.folder.records.read() if r.stage == SEARCH and r.status == COMPLETED]
    choose = min if goal == MIN else max
    assert row["best"]["val_loss"] == choose(r.scores["val_loss"] for r in searched)
    shown = table([row], study.folder.path.parent)
    assert "accuracy" not in shown
    assert candidates_words(row["candidates"]) in shown
    assert " on validation, n = 3 selection seeds)" in shown
    assert "%" not in shown
    progress = Progress(lambda: 0.0)
    progress.score = study.trainer.score
    for record in searched:
        progress.add(record)
    progress.begin_stage(SEARCH, 24, 0)
    line = run_line(searched[0], progress)
    assert " steps " in line
    assert "%" not in line
    assert progress.best is not None
    assert progress.best.config["gamma"] == choose(r.config["gamma"] for r in searched)


def test_curves_hold_every_metric_by_its_name(whole: Whole) -> None:
    _, study, _ = whole
    curves = study.folder.curves.read()
    assert {name for curve in curves.values() for point in curve for name in point.metrics} == {"val_loss", "grad_norm"}
    first = json.loads((study.folder.path / "curves.jsonl").read_text().splitlines()[0])
    assert set(first["curve"][0]) == {"step", "val_loss", "grad_norm"}


def test_a_later_study_starts_from_the_best(whole: Whole, tmp_path: Path) -> None:
    goal, study, _ = whole
    other = study_of(tmp_path / "other-2", ScriptedTrainer(LOSS, measured, final), seeds={"confirm": [11, 12, 13]})
    space, _ = warm_started(other.space, "other", [study.folder])
    plan = read_plan(study.folder.plan_file)
    assert space.points[0]["gamma"] == plan.candidates[0].config["gamma"]
    assert read_score(study.folder.path).goal == goal


def diverging_at(*gammas: float, seeds: tuple[int, ...]) -> Any:
    def course(config: Any, seed: int, step: int) -> Mapping[str, float]:
        found = measured(config, seed, step)
        bad = seed in seeds and step == 2 and (not gammas or config.model.gamma in gammas)
        return {**found, "val_loss": math.nan} if bad else found

    return course


def test_a_run_that_diverged_without_a_declared_score_makes_no_finalist_and_no_proposal_better(tmp_path: Path) -> None:
    bad = [0.05, 0.06]
    points = [{"gamma": gamma} for gamma in (*bad, 0.1, 0.2, 0.3, 0.4)]
    trainer = ScriptedTrainer(LOSS, diverging_at(*bad, seeds=(102,)), final)
    study = study_of(
        tmp_path / "other-1",
        trainer,
        sampler={"points": points},
        budget={"trials": 6, "finalists": 3},
        scheduler={"name": "none"},
    )
    study.run()
    records = study.folder.records.read()
    assert {r.config["gamma"] for r in records if r.status == DIVERGED} == set(bad)
    assert all(not r.scores for r in records if r.status == DIVERGED)
    assert {r.config["gamma"] for r in records if r.stage == SELECT} == {0.1, 0.2, 0.3}
    # A resume finds the same.
    again = study_of(
        tmp_path / "other-1",
        trainer,
        sampler={"points": points},
        budget={"trials": 6, "finalists": 3},
        scheduler={"name": "none"},
    )
    again.run()
    assert again.folder.records.read() == records


@pytest.mark.parametrize("stopping", ["fixed", "group_sequential"])
def test_a_diverged_confirmation_without_a_declared_score_is_invalid_by_name(tmp_path: Path, stopping: str) -> None:
    trainer = ScriptedTrainer(LOSS, diverging_at(1.0, seeds=(2,)), final)
    study = study_of(tmp_path / "other-1", trainer, claim={"stopping": stopping})
    study.run()
    verdict = verify_study(study.folder.path)
    assert verdict["verdict"] == "invalid"
    assert any("a run diverged, and the plan declares no score for that" in problem for problem in verdict["problems"])
    assert "confirm-baseline-s2" in str(verdict["problems"])


def test_with_a_declared_score_a_diverged_run_counts(tmp_path: Path) -> None:
    trainer = ScriptedTrainer(replace(LOSS, diverged=9.0), diverging_at(1.0, seeds=(2,)), final)
    study = study_of(tmp_path / "other-1", trainer)
    study.run()
    verdict = verify_study(study.folder.path)
    assert verdict["verdict"] in ("supported", "not_supported")
    assert verdict["baseline"]["scores"]["2"] == 9.0
    assert verdict["diverged"] == ["confirm-baseline-s2"]
    records = study.folder.records.read()
    plan = read_plan(study.folder.plan_file)
    forged = [replace(r, scores={**r.scores, "test_loss": 1.0}) if r.status == DIVERGED else r for r in records]
    assert "does not have the score 9" in judge(plan, forged)["reason"]


def test_all_finalists_without_a_score_end_the_selection_with_words(tmp_path: Path) -> None:
    study = study_of(tmp_path / "other-1", ScriptedTrainer(LOSS, diverging_at(seeds=(202,)), final))
    with pytest.raises(StudyError, match=f"no finalist of the {CANDIDATE} arm"):
        study.run()


@pytest.mark.parametrize("at", [LAST, "mean_last(2)"])
def test_what_of_the_curve_counts_is_the_trainers_to_say(tmp_path: Path, at: str) -> None:
    """A course that rises at its end: its best step is not its last."""

    def course(config: Any, seed: int, step: int) -> Mapping[str, float]:
        return {"val_loss": value(config.model.gamma, seed, "val") + (0.5, 0.1, 0.2, 0.4)[step - 1]}

    study = study_of(tmp_path / "other-1", ScriptedTrainer(replace(LOSS, at=at), course, final))
    study.search()
    for record in study.folder.records.read():
        if record.status == COMPLETED:
            base = value(record.config["gamma"], record.seed, "val")
            assert record.scores["val_loss"] == pytest.approx(base + (0.4 if at == LAST else 0.3))


def test_a_score_within_a_range_is_judged_by_it(tmp_path: Path) -> None:
    share = Score("val_dice", "test_dice", MAX, 0.0, 1.0, at=LAST)

    def course(config: Any, seed: int, step: int) -> Mapping[str, float]:
        return {"val_dice": 1 / (1 + math.exp(value(config.model.gamma, seed, "val")))}

    def test(config: Any, seed: int) -> float:
        return 1 / (1 + math.exp(value(config.model.gamma, seed, "test")))

    study = study_of(tmp_path / "other-1", ScriptedTrainer(share, course, test))
    study.run()
    verdict = verify_study(study.folder.path)
    assert verdict["verdict"] == "supported"
    assert "raises test dice by 0." in verdict["reason"]
    plan, records = read_plan(study.folder.plan_file), study.folder.records.read()
    forged = [replace(r, scores={**r.scores, "test_dice": 97.0}) if r.stage == CONFIRM else r for r in records]
    assert "is not a number from 0 to 1" in judge(plan, forged)["reason"]
