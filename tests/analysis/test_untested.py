"""Arms without spread among several: they get a word of their own, the others a verdict that is corrected for them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.analysis.edited_studies import edited, judged, scored
from tests.analysis.synthetic_claims import in_settings, sequential
from tests.analysis.test_scores import table
from tune_bn.analysis.max_t import step_down
from tune_bn.analysis.paired import holm, paired_t_test
from tune_bn.analysis.scores import judge_scores
from tune_bn.analysis.sensitivity import sign_flip_test
from tune_bn.cli.score_text import verdict_text
from tune_bn.records.files import canonical_json
from tune_bn.records.score_verdict import score_verdict_from

BASE = [89.13, 89.94, 89.42, 90.21, 88.85, 89.57, 90.02, 89.33]
GOOD = [90.31, 90.62, 90.94, 90.83, 90.17, 90.49, 90.71, 90.26]
BAD = [88.11, 89.02, 88.27, 89.64, 88.23, 88.75, 88.92, 88.36]
SHIFTED = [x + 0.7 for x in BASE]
EMPTY = ("p_value", "p_adjusted", "p_two_sided", "p_worse", "p_worse_adjusted", "ci", "ci_low", "ci_adjusted", "d_z")
MODES = [{}, {"folds": 4}, {"looks": [4, 8]}, {"correction": "max_t"}, {"kind": "noninferior", "margin": 0.2}]


def arm_of(verdict, name):
    return next(arm for arm in verdict["candidates"] if arm["arm"] == name)


def assert_not_tested(verdict, name, *words):
    arm = arm_of(verdict, name)
    assert {arm[key] for key in EMPTY if key in arm} == {None}
    assert arm["supported"] is arm["worse"] is False
    assert arm["outcome"] == "not_tested"
    assert all(word in arm["not_tested"] for word in words), arm["not_tested"]
    assert f"Not tested, for want of spread: {name}." in verdict["reason"]
    assert any(remark.startswith(f"{name} is not tested: ") for remark in verdict["remarks"])
    canonical_json(verdict)
    return arm


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize(
    ("flat", "effect", "words"), [(BASE, 0.0, "identical"), (SHIFTED, 0.7, "the same 0.7 on every seed")]
)
def test_an_arm_without_spread_leaves_the_others_their_verdict(options, flat, effect, words):
    verdict = judge_scores(table({"base": BASE, "good": GOOD, "flat": flat, "bad": BAD}), baseline="base", **options)
    assert verdict["verdict"] == "supported", verdict["problems"]
    arm = assert_not_tested(verdict, "flat", words)
    assert arm["effect"] == pytest.approx(effect, abs=1e-12)
    assert effect or arm["effect"] == 0
    assert [a["arm"] for a in verdict["candidates"] if a["supported"]] == ["good"]
    assert verdict["worse"] == ["bad"]
    assert "flat" in verdict_text(score_verdict_from(verdict))


def test_fourteen_arms_are_judged_beside_one_that_is_constant():
    rng = np.random.default_rng(5)
    arms = {f"arm-{i}": list(np.round(np.array(BASE) + 0.05 * i + rng.normal(0, 0.4, 8), 2)) for i in range(14)}
    alone = judge_scores(table({"base": BASE, **arms}), baseline="base")
    beside = judge_scores(table({"base": BASE, **arms, "same": BASE}), baseline="base")
    assert beside["verdict"] in ("supported", "not_supported")
    p_values = [arm["p_value"] for arm in alone["candidates"]]
    assert [arm["p_value"] for arm in beside["candidates"][:-1]] == p_values
    # It is one of fifteen, so that a family never shrinks by what came out.
    assert [arm["p_adjusted"] for arm in beside["candidates"][:-1]] == holm([*p_values, 1.0]).tolist()[:-1]
    assert "adjusted for 15 arms" in beside["reason"]


@pytest.mark.long
@pytest.mark.parametrize("gain", [-50.0, -0.01, 0.0, 0.01, 50.0])
@pytest.mark.parametrize("goal", ["max", "min"])
@pytest.mark.parametrize("options", [*MODES, {"kind": "equivalent", "margin": 60.0}])
def test_no_constant_difference_is_ever_supported_or_worse(gain, goal, options):
    """Its t is infinite: a test would call the smallest of them certain."""
    flat = [x + gain for x in BASE]
    verdict = judge_scores(table({"base": BASE, "other": GOOD, "flat": flat}), baseline="base", goal=goal, **options)
    arm = assert_not_tested(verdict, "flat")
    assert arm["effect"] == pytest.approx(gain if goal == "max" else -gain, abs=1e-9)
    assert arm["difference"] == pytest.approx(gain, abs=1e-9)


@pytest.mark.parametrize("options", [*MODES, {"unpaired": True}])
def test_where_no_arm_has_spread_the_table_is_invalid(options):
    flat, alone = [90.0] * 8, [91.0] * 8
    arms = {"base": flat, "one": alone, "two": [92.0] * 8}
    verdict = judge_scores(table(arms), baseline="base", accept=["repeats"], **options)
    assert verdict["verdict"] == "invalid"
    assert len(verdict["problems"]) == 2
    assert judge_scores(table({"base": BASE, "one": BASE}), baseline="base", **options)["verdict"] == "invalid"


@pytest.mark.parametrize("options", MODES[:3])
def test_a_constant_baseline_judges_the_arms_that_vary(options):
    """A baseline that fails in every run: the differences are the scores of the arms."""
    arms = {"base": [10.0] * 8, "good": GOOD, "fails too": [10.0] * 8}
    verdict = judge_scores(table(arms), baseline="base", **options)
    assert_not_tested(verdict, "fails too", "identical")
    assert [arm["arm"] for arm in verdict["candidates"] if arm["supported"]] == ["good"]


def test_an_arm_of_one_copied_number_spoils_itself_alone():
    arms = {"base": BASE, "good": GOOD, "paper": [94.1] * 8}
    verdict = judge_scores(table(arms), baseline="base")
    arm = assert_not_tested(verdict, "paper", "the same score 94.1 in all 8 rows", "--accept repeats")
    assert arm["effect"] == pytest.approx(94.1 - np.mean(BASE))
    assert arm_of(verdict, "good")["supported"]
    taken = judge_scores(table(arms), baseline="base", accept=["repeats"])
    assert arm_of(taken, "paper")["supported"]
    # As the baseline it would be compared with every arm, and alone there is nothing else to say.
    assert judge_scores(table({"paper": [94.1] * 8, "a": BASE, "b": GOOD}), baseline="paper")["verdict"] == "invalid"
    assert judge_scores(table({"base": BASE, "paper": [94.1] * 8}), baseline="base")["verdict"] == "invalid"


@pytest.mark.parametrize("options", [*MODES, {"unpaired": True}])
def test_a_copied_number_counts_in_the_family_under_every_test(options):
    arms = {"base": BASE, "good": GOOD, "paper": [94.1] * 8}
    verdict = judge_scores(table(arms), baseline="base", **options)
    good, alone = arm_of(verdict, "good"), judge_scores(table({"base": BASE, "good": GOOD}), baseline="base", **options)
    assert_not_tested(verdict, "paper")
    least = alone["candidates"][0]["p_adjusted"]
    if "correction" in options:
        least = sign_flip_test(np.subtract(GOOD, BASE)).p_value
    assert good["p_adjusted"] >= least * (1 if "correction" in options else 2) * (1 - 1e-9)


def test_against_a_threshold_and_without_pairs():
    arms = {"good": GOOD, "flat": [90.0] * 8}
    verdict = judge_scores(table(arms), threshold=89.5, accept=["repeats"])
    assert assert_not_tested(verdict, "flat", "all the same 90")["effect"] == pytest.approx(0.5)
    assert arm_of(verdict, "good")["p_adjusted"] == pytest.approx(2 * arm_of(verdict, "good")["p_value"])
    arms = {"base": [10.0] * 8, "good": GOOD, "flat": [11.0] * 8}
    verdict = judge_scores(table(arms), baseline="base", unpaired=True, accept=["repeats"])
    assert assert_not_tested(verdict, "flat")["effect"] == pytest.approx(1.0)
    assert arm_of(verdict, "good")["supported"]


def test_a_row_of_means_is_seen_beside_an_arm_of_one_number():
    """The mean of one number is that number: such an arm fits every row, and must not hide what the others show."""
    for number in (94.1, 100.0):
        arms = {"base": [*BASE, np.mean(BASE)], "good": [*GOOD, np.mean(GOOD)], "flat": [number] * 9}
        verdict = judge_scores(table(arms), baseline="base")
        assert verdict["verdict"] == "invalid"
        assert any("is the mean of the others in every arm" in problem for problem in verdict["problems"])


# Max-t


def test_max_t_never_rejects_one_that_is_not_tested_nor_steps_past_it():
    rng = np.random.default_rng(2)
    rows = np.stack([np.full(8, 3.0), rng.normal(1.2, 1, 8), np.zeros(8)])
    found = step_down(rows, 0.05, np.array([False, True, False]))
    assert found.p_adjusted[[0, 2]] == pytest.approx([1.0, 1.0])
    # The flips of the constant one reach far, and count.
    assert sign_flip_test(rows[1]).p_value < found.p_adjusted[1] < 1
    assert np.all(np.isfinite(found.levels))


def test_under_the_null_a_constant_arm_makes_max_t_no_bolder():
    rng = np.random.default_rng(11)
    for _ in range(40):
        rows = rng.normal(0, 1, (3, 7))
        alone = step_down(rows, 0.05).p_adjusted
        beside = step_down(np.vstack([rows, np.full(7, -0.4)]), 0.05, np.array([True, True, True, False])).p_adjusted
        assert np.all(beside[:3] >= alone - 1e-12)


# A study


def flattened(study, gain, arm="candidate-2"):
    baseline = {r.seed: r for r in study.confirm if r.arm == "baseline"}
    return edited(study, lambda r: scored(r, baseline[r.seed].scores["test_accuracy"] + gain), arm=arm)


@pytest.mark.parametrize(("gain", "words"), [(0.0, "identical"), (-1.5, "the same -1.5"), (0.25, "the same 0.25")])
def test_a_study_judges_its_other_candidates(synthetic_study, gain, words):
    verdict = judged(flattened(synthetic_study(candidates=3, effect=2.0), gain))
    assert verdict["verdict"] == "supported", verdict["problems"]
    arm = assert_not_tested(verdict, "candidate-2", words)
    assert (arm["effect"], arm["std_difference"]) == (pytest.approx(gain), 0.0)
    others = [a for a in verdict["candidates"] if a is not arm]
    assert all(a["supported"] for a in others)
    p_values = [a["p_value"] for a in others]
    assert [a["p_adjusted"] for a in others] == holm([*p_values, 1.0]).tolist()[:-1]
    assert json.loads(canonical_json(verdict))["candidates"][1]["not_tested"] == arm["not_tested"]


def test_a_study_under_max_t(synthetic_study):
    study = flattened(synthetic_study(candidates=2, effect=2.0), 0.5).with_plan(correction="max_t")
    verdict = judged(study)
    assert_not_tested(verdict, "candidate-2")
    assert arm_of(verdict, "candidate-1")["supported"]


def test_a_study_of_which_no_candidate_has_spread_is_invalid(synthetic_study):
    study = flattened(flattened(synthetic_study(candidates=2), 0.0), 0.5, arm="candidate-1")
    verdict = judged(study)
    assert verdict["verdict"] == "invalid"
    assert len(verdict["problems"]) == 2
    assert all(arm["not_tested"] is None for arm in verdict["candidates"])


def test_looks_end_the_others_and_run_the_constant_one_to_the_last(synthetic_study):
    study = sequential(flattened(synthetic_study(n=20, candidates=2, effect=3.0), 0.5))
    verdict = judged(study)
    assert verdict["verdict"] == "supported", verdict["problems"]
    arm = assert_not_tested(verdict, "candidate-2")
    assert arm["n"] == verdict["n"]
    assert [look["t"] for look in arm["looks"]] == [None] * len(verdict["design"]["looks"])
    assert arm["decision"] == "last_look"
    assert arm_of(verdict, "candidate-1")["n"] < verdict["n"]


def test_a_claim_in_all_settings_is_not_shown_where_one_has_no_test(synthetic_study):
    study = in_settings(synthetic_study(), {"a": {"lr": 0.1}, "b": {"lr": 0.01}}, {"Ours": [2.0, 2.0]})
    base = {r.seed: r for r in study.confirm if r.arm == "baseline.b"}
    flat = edited(study, lambda r: scored(r, base[r.seed].scores["test_accuracy"] + 0.5), arm="Ours.b")
    verdict = judged(flat.with_plan(holds="all", correction="none"))
    assert verdict["verdict"] == "not_supported", verdict["problems"]
    assert "(not tested)" in verdict["reason"]
    assert any("so the claim is not shown in all" in remark for remark in verdict["remarks"])


def test_the_tested_pair_is_what_it_is_alone():
    verdict = judge_scores(table({"base": BASE, "good": GOOD, "flat": SHIFTED}), baseline="base")
    assert arm_of(verdict, "good")["p_value"] == paired_t_test(GOOD, BASE).p_value
