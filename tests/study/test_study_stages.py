"""What the stages spend: the race of the selection, the looks of the confirmation, settings; and how they resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.study.local_studies import CONTENT, Follower
from tests.study.scripted_runner import ScriptedRunner, scripted_study
from tune_bn.analysis.verdict import verify_study
from tune_bn.errors import Interrupted
from tune_bn.protocols.runner import Task
from tune_bn.records.record import BASELINE, CONFIRM, SELECT
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.study import Study

SEEDS = {"search": [101], "select": [201, 202, 203], "confirm": {"from": 1, "to": 15}}


def space_with(**sections: Any) -> Space:
    return parse_space({**CONTENT, "seeds": SEEDS, **sections}, "tiny")


def sequential(**claim: Any) -> Space:
    return space_with(claim={"stopping": "group_sequential", **claim})


def noise(seed: int, width: float = 0.5) -> float:
    """Differences between seeds that are the same in every process."""
    return width * ((seed * 7919) % 11 - 5) / 5


def gaining(gain: float) -> Any:
    """Every candidate is better by ``gain``; its noise differs from the baseline's."""

    def score(task: Task, seed: int) -> float:
        return 90 + noise(seed) + (0.0 if task.arm.startswith(BASELINE) else gain + noise(seed + 5, 0.3))

    return score


def runs(study: Study, stage: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in study.folder.records:
        if record.stage == stage:
            found.setdefault(record.arm if stage == CONFIRM else str(record.trial), []).append(record.seed)
    return found


def test_a_clear_gain_is_confirmed_on_five_pairs_and_the_rest_is_not_run(tmp_path: Path) -> None:
    study, _ = scripted_study(tmp_path / "tiny-1", sequential(), gaining(3.0))
    study.run()
    assert {arm: sorted(seeds) for arm, seeds in runs(study, CONFIRM).items()} == {
        "baseline": [1, 2, 3, 4, 5],
        "candidate-1": [1, 2, 3, 4, 5],
    }
    verdict = verify_study(study.folder.path)
    assert (verdict["verdict"], verdict["candidates"][0]["decision"]) == ("supported", "efficacy")


def test_no_pair_is_begun_before_the_look_before_it(tmp_path: Path) -> None:
    study, runner = scripted_study(tmp_path / "tiny-1", sequential(), gaining(0.2), at_once=100)
    study.run()
    blocks = [range(1, 4), range(4, 6), range(6, 9), range(9, 12), range(12, 16)]
    block_of = {seed: index for index, block in enumerate(blocks) for seed in block}
    together = [{block_of[int(key.rpartition("-s")[2])] for key in keys} for keys in confirms(runner)]
    assert together, "nothing was confirmed"
    assert all(len(blocks) == 1 for blocks in together)
    # Within a look everything runs side by side.
    assert max(map(len, confirms(runner))) == 6


def confirms(runner: ScriptedRunner) -> list[tuple[str, ...]]:
    return [keys for keys in runner.overlap if keys[0].startswith(CONFIRM)]


def test_the_plan_states_its_looks_and_fixed_plans_have_none(tmp_path: Path) -> None:
    study, _ = scripted_study(tmp_path / "tiny-1", sequential(looks=[4, 15], futility=None), gaining(3.0))
    study.run()
    plan = json.loads(study.folder.plan_file.read_text())
    assert (plan["stopping"], plan["design"]["looks"]) == ("group_sequential", [4, 15])
    assert plan["design"]["futility_t"] is None
    other, _ = scripted_study(tmp_path / "tiny-2", space_with(), gaining(3.0))
    other.run()
    plan = json.loads(other.folder.plan_file.read_text())
    assert plan["stopping"] == "fixed"
    assert "design" not in plan
    assert {len(seeds) for seeds in runs(other, CONFIRM).values()} == {15}


@pytest.mark.parametrize("stop_after", [8, 13, 15, 16, 19])
def test_a_sequential_study_interrupted_anywhere_ends_like_the_undisturbed_one(tmp_path: Path, stop_after: int) -> None:
    whole, _ = scripted_study(tmp_path / "whole" / "tiny-1", sequential(), gaining(0.6))
    whole.run()
    with pytest.raises(Interrupted):
        scripted_study(tmp_path / "tiny-1", sequential(), gaining(0.6), follower=Follower(stop_after))[0].run()
    resumed, _ = scripted_study(tmp_path / "tiny-1", sequential(), gaining(0.6))
    resumed.run()
    assert runs(resumed, CONFIRM) == runs(whole, CONFIRM)
    first, second = (verify_study(study.folder.path) for study in (whole, resumed))
    assert first["candidates"][0]["looks"] == second["candidates"][0]["looks"]
    assert len(first["candidates"][0]["looks"]) > 1


def test_a_failed_run_holds_its_look_until_it_is_run_again(tmp_path: Path) -> None:
    def failing(task: Task, seed: int) -> float | None:
        return None if (task.stage, task.arm, seed) == (CONFIRM, BASELINE, 2) else gaining(3.0)(task, seed)

    study, _ = scripted_study(tmp_path / "tiny-1", sequential(), failing, at_once=3)
    study.run()
    assert max(max(seeds) for seeds in runs(study, CONFIRM).values()) == 3, "a look was held without its pair"
    verdict = verify_study(study.folder.path)
    assert verdict["verdict"] == "invalid"
    assert "baseline has no finished run for seed 2" in verdict["reason"]
    resumed, _ = scripted_study(tmp_path / "tiny-1", sequential(), gaining(3.0))
    resumed.run()
    verdict = verify_study(resumed.folder.path)
    assert verdict["verdict"] == "supported"
    assert verdict["retried"] == ["confirm-baseline-s2"]


def racing(task: Task, seed: int) -> float:
    """Trial 0 leads the selection by far; the search ranks the others above chance in their order."""
    if task.stage == SELECT and task.trial == 0:
        return 97 + noise(seed, 0.2)
    return 92 - 0.01 * (task.trial or 0) + noise(seed + (task.trial or 0), 0.3)


def test_hopeless_finalists_do_not_run_on_every_selection_seed(tmp_path: Path) -> None:
    seeds = SEEDS | {"select": {"from": 201, "to": 215}}
    budget = {"trials": 6, "finalists": 4, "race_error": 0.2}
    study, _ = scripted_study(tmp_path / "tiny-1", space_with(seeds=seeds, budget=budget), racing, at_once=4)
    study.run()
    selected = {trial: len(seeds) for trial, seeds in runs(study, SELECT).items()}
    assert selected["0"] <= 8
    assert set(selected.values()) == {selected["0"]}
    plan = json.loads(study.folder.plan_file.read_text())
    assert plan["candidates"][0]["trial"] == 0
    assert plan["candidates"][0]["selection"]["n"] == selected["0"]
    whole, _ = scripted_study(
        tmp_path / "tiny-2", space_with(seeds=seeds, budget=budget | {"race_error": None}), racing
    )
    whole.run()
    assert {len(seeds) for seeds in runs(whole, SELECT).values()} == {15}


def test_a_finalist_whose_run_fails_leaves_the_race_to_the_others(tmp_path: Path) -> None:
    def failing(task: Task, seed: int) -> float | None:
        return None if (task.stage, task.trial, seed) == (SELECT, 0, 202) else racing(task, seed)

    seeds = SEEDS | {"select": {"from": 201, "to": 206}}
    study, _ = scripted_study(tmp_path / "tiny-1", space_with(seeds=seeds), failing, at_once=2)
    study.run()
    plan = json.loads(study.folder.plan_file.read_text())
    assert plan["candidates"][0]["trial"] != 0
    assert plan["candidates"][0]["selection"]["n"] == 6


def test_several_candidates_in_several_settings_meet_the_baseline_of_their_setting(tmp_path: Path) -> None:
    def score(task: Task, seed: int) -> float:
        gain = 3.0 if task.config.train.lr == 0.1 and not task.arm.startswith(BASELINE) else 0.0
        own = 0.0 if task.arm.startswith(BASELINE) else noise(seed + 5, 0.3)
        return 90 + 5 * (task.config.model.arch == "resnet20") + gain + noise(seed) + own

    claim = {"candidates": 2, "across": {"own": {}, "slow": {"lr": 0.01}, "deep": {"arch": "resnet20"}}}
    study, _ = scripted_study(tmp_path / "tiny-1", space_with(claim=claim), score)
    study.run()
    verdict = verify_study(study.folder.path)
    assert verdict["problems"] == []
    found = {arm["arm"]: arm for arm in verdict["candidates"]}
    assert set(found) == {f"candidate-{n}.{name}" for n in (1, 2) for name in claim["across"]}
    assert {arm["against"] for arm in found.values()} == {f"baseline.{name}" for name in claim["across"]}
    assert len(runs(study, CONFIRM)) == 9, "a baseline is run once for all candidates of its setting"
    for name, arm in found.items():
        setting = name.partition(".")[2]
        assert arm["effect"] == pytest.approx(0.0 if setting == "slow" else 3.0, abs=0.3)
        assert arm["supported"] == (setting != "slow")
        assert arm["config"].get("lr") == (0.01 if setting == "slow" else None)
        # How the gain shrank is known where the search took place.
        assert (arm["shrinkage"] is not None) == (setting == "own")
    assert found["candidate-1.own"]["p_adjusted"] > found["candidate-1.own"]["p_value"]
    archs = {record.key: record.config.get("arch") for record in study.folder.records if record.stage == CONFIRM}
    assert archs["confirm-baseline.deep-s1"] == "resnet20"


def test_what_nuisance_keys_gain_is_never_claimed_for_gamma_and_c(tmp_path: Path) -> None:
    """The best candidate of the search is the baseline's γ and c at a good learning rate; its gain is not theirs."""

    def score(task: Task, seed: int) -> float:
        return gaining(0.0)(task, seed) + (5.0 if task.config.train.lr == 0.1 and task.arm != BASELINE else 0.0)

    points = [{"gamma": 1.0, "c": 1.0, "lr": 0.1}, {"gamma": 0.3, "c": 10.0, "lr": 0.01}]
    space = space_with(
        search={**CONTENT["search"], "lr": {"choice": [0.1, 0.01]}},
        sampler={"points": points},
        budget={"trials": 4, "finalists": 2},
    )
    study, _ = scripted_study(tmp_path / "tiny-1", space, score)
    study.run()
    (candidate,) = json.loads(study.folder.plan_file.read_text())["candidates"]
    assert candidate["config"] == {"gamma": 0.3, "c": 10.0, "lr": 0.01}
    assert verify_study(study.folder.path)["verdict"] == "not_supported"


def test_what_shrank_from_search_to_confirmation_is_told(tmp_path: Path) -> None:
    def score(task: Task, seed: int) -> float:
        luck = 2.0 if task.stage == "search" and task.trial == 1 else 0.0
        return gaining(1.0)(task, seed) + luck

    study, _ = scripted_study(tmp_path / "tiny-1", space_with(), score)
    study.run()
    (arm,) = verify_study(study.folder.path)["candidates"]
    told = arm["shrinkage"]
    assert (told["search"]["n"], told["select"]["n"], told["confirm"]["n"], told["baseline"]["n"]) == (1, 3, 15, 15)
    assert told["confirmed_gain"] == pytest.approx(arm["effect"])
    assert told["luck"] == pytest.approx(told["searched_gain"] - told["confirmed_gain"])
    assert (told["luck"] > 1.0) == (arm["trial"] == 1)


@pytest.mark.parametrize("stopping", ["fixed", "group_sequential"])
def test_the_same_study_under_both_rules_is_judged_by_the_same_test(tmp_path: Path, stopping: str) -> None:
    study, _ = scripted_study(tmp_path / "tiny-1", space_with(claim={"stopping": stopping}), gaining(3.0))
    study.run()
    verdict = verify_study(study.folder.path)
    assert (verdict["verdict"], verdict["test"], verdict["alpha"]) == ("supported", "paired_t_greater", 0.05)
