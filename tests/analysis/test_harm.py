"""A gain in one setting hides no loss in another, and no interval contradicts the decision beside it."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats

from tests.analysis.synthetic_claims import in_settings, sequential
from tune_bn.analysis.paired import holm
from tune_bn.analysis.sequential import design
from tune_bn.analysis.spending import repeated_p
from tune_bn.analysis.verdict import judge
from tune_bn.analysis.wording import headline, interval_words, signed_words
from tune_bn.records.verdict import Compared

SETTINGS = {"r18": {"arch": "resnet18"}, "r34": {"arch": "resnet34"}, "r50": {"arch": "resnet50"}, "d": {"lr": 0.01}}


def judged(study):
    return judge(study.plan, study.records)


def test_one_gain_beside_three_losses_is_no_plain_success(synthetic_study):
    verdict = judged(in_settings(synthetic_study(), SETTINGS, {"Ours": [1.25, -2.0, -2.0, -2.0]}))
    assert verdict["verdict"] == "supported", "one comparison is"
    assert verdict["headline"] == "supported in 1 of 4 settings, worse in 3"
    assert verdict["worse"] == ["Ours.r34", "Ours.r50", "Ours.d"]
    assert [arm["worse"] for arm in verdict["candidates"]] == [False, True, True, True]
    assert verdict["reason"].startswith("Better in 1 of 4 settings: r18 (+1.")
    for name, arm in zip(("r34", "r50", "d"), verdict["candidates"][1:], strict=True):
        assert f"{name} ({arm['effect']:+.2f} pp)" in verdict["reason"]
    assert "undecided" not in verdict["reason"]


def test_losses_are_the_mirrored_test_with_the_same_correction(synthetic_study):
    study = in_settings(synthetic_study(), SETTINGS, {"Ours": [1.25, -0.3, -2.0, 0.1], "half": [0.2, 0.05, -0.1, -0.2]})
    verdict = judged(study)
    scores = {arm["arm"]: arm["scores"] for arm in [*verdict["baselines"], *verdict["candidates"]]}
    p_values = [
        stats.ttest_rel(
            list(scores[arm["arm"]].values()), list(scores[arm["against"]].values()), alternative="less"
        ).pvalue
        for arm in verdict["candidates"]
    ]
    assert [arm["p_worse"] for arm in verdict["candidates"]] == pytest.approx(p_values, rel=1e-9)
    adjusted = holm(p_values).tolist()
    assert [arm["p_worse_adjusted"] for arm in verdict["candidates"]] == pytest.approx(adjusted, rel=1e-9)
    assert [arm["worse"] for arm in verdict["candidates"]] == [p <= 0.05 for p in adjusted]
    assert "of 8 comparisons" in verdict["headline"]


def test_losses_are_named_where_nothing_is_gained_too(synthetic_study):
    verdict = judged(in_settings(synthetic_study(), SETTINGS, {"Ours": [-1.0, -2.0, 0.001, -2.0]}))
    assert verdict["verdict"] == "not_supported"
    assert verdict["headline"] == "not_supported in any of 4 settings, worse in 3"
    assert verdict["reason"].startswith("Better in 0 of 4 settings; worse in 3: r18 (-")
    assert "; undecided in 1. The strongest: " in verdict["reason"]


def test_several_candidates_of_one_baseline(synthetic_study):
    study = synthetic_study(candidates=3, effect=2.0)
    harmed = [
        r if r.arm != "candidate-2" else type(r)(**asdict(r) | {"scores": {"test_accuracy": 90.0 + r.seed % 5}})
        for r in study.records
    ]
    verdict = judged(study.with_records(harmed))
    assert verdict["headline"] == "supported in 2 of 3 candidates, worse in 1"
    assert "candidate-2 (-" in verdict["reason"]


def test_a_single_candidate_that_is_worse_is_called_worse(synthetic_study):
    verdict = judged(synthetic_study(effect=-1.0))
    assert (verdict["verdict"], verdict["headline"]) == ("not_supported", "not_supported, and worse")
    assert "for a loss p = " in verdict["reason"]
    assert "≤ 0.05" in verdict["reason"]


@pytest.mark.parametrize(("effect", "word"), [(2.0, "supported"), (0.1, "not_supported")])
def test_without_a_loss_the_headline_is_the_verdict(synthetic_study, effect, word):
    verdict = judged(synthetic_study(candidates=2, effect=effect))
    assert (verdict["verdict"], verdict["headline"], verdict["worse"]) == (word, word, [])


def test_an_invalid_verdict_names_no_loss(synthetic_study):
    study = synthetic_study(effect=-1.0)
    verdict = judged(study.with_records(study.records[:-1]))
    assert (verdict["headline"], verdict["worse"]) == ("invalid", [])


def test_losses_at_looks_hold_at_all_looks_together(synthetic_study):
    """Never stopped for futility, a loss is seen at the last look; its p is that of the mirrored boundaries."""
    looks, made = (5, 10, 15), synthetic_study(effect=-0.8)
    made = made.with_plan(stopping="group_sequential", design=asdict(design(looks, 0.05, futility=None)))
    runs = sorted(made.confirm, key=lambda record: next(n for n in looks if record.seed <= n))
    verdict = judged(made.with_records([r for r in made.records if r.stage != "confirm"] + runs))
    (arm,) = verdict["candidates"]
    assert (arm["n"], arm["worse"], verdict["headline"]) == (15, True, "not_supported, and worse")
    d = np.array(list(arm["scores"].values())) - np.array(list(verdict["baseline"]["scores"].values()))
    nominal = stats.ttest_1samp(d, 0, alternative="less").pvalue
    assert arm["p_worse"] == pytest.approx(repeated_p(looks, [1.0, 1.0, nominal])[-1], rel=1e-6)
    assert arm["p_worse"] > nominal, "three looks cost"
    assert arm["ci"][1] < 0


@pytest.mark.long
@pytest.mark.parametrize("kind", ["fixed", "sequential"])
def test_no_interval_contradicts_the_decision_beside_it(synthetic_study, kind):
    for seed in range(1, 13):
        made = synthetic_study(candidates=1 + seed % 4, effect=[0.0, 0.3, -0.3, 0.6][seed % 3], rng_seed=seed)
        verdict = judged(sequential(made) if kind == "sequential" else made)
        assert verdict["ci_confidence"] == pytest.approx(0.9)
        for arm in verdict["candidates"]:
            low, high = arm["ci"]
            assert (low >= 0) == (arm["p_value"] <= 0.05)
            assert (high <= 0) == (arm["p_worse"] <= 0.05)
            assert low == arm["ci_low"]
            assert (low >= 0 or high <= 0) == (arm["p_two_sided"] <= 0.1)
            low, high = arm["ci_adjusted"]
            assert (low >= 0) == arm["supported"]
            assert (high <= 0) == arm["worse"]
            assert arm["sensitivity"]["confidence"] == pytest.approx(0.9)
            if kind == "fixed":
                assert arm["sensitivity"]["t_interval"] == pytest.approx(arm["ci"], rel=1e-12)


@pytest.mark.long
def test_a_gain_that_only_the_plain_interval_shows_is_undecided_and_its_own_interval_says_so(synthetic_study):
    found = 0
    for seed in range(1, 30):
        for arm in judged(synthetic_study(candidates=4, effect=0.3, rng_seed=seed))["candidates"]:
            if arm["ci"][0] > 0 and not arm["supported"]:
                found += 1
                assert arm["ci_adjusted"][0] < 0
                assert arm["adjusted_levels"][0] < 0.05
    assert found > 0


def test_the_sentence_gives_both_p_values_and_the_interval_of_the_test(synthetic_study):
    verdict = judged(synthetic_study(effect=0.7))
    (arm,) = verdict["candidates"]
    assert f"two-sided p = {arm['p_two_sided']:.2g}, 90 % interval {interval_words(arm['ci'])}" in verdict["reason"]
    several = judged(synthetic_study(candidates=2, effect=0.7))
    best = min(several["candidates"], key=lambda arm: (arm["p_adjusted"], -arm["effect"]))
    assert f"interval at its Holm step {interval_words(best['ci_adjusted'])}" in several["reason"]
    assert f"two-sided {best['p_two_sided']:.2g}" in several["reason"]


@pytest.mark.long
@pytest.mark.parametrize("alpha", [1e-8, 1e-4, 0.2, 0.4])
def test_every_level_of_a_plan_gives_json(synthetic_study, alpha):
    for made in (synthetic_study(candidates=3, effect=0.5), synthetic_study(candidates=3, effect=-0.5)):
        verdict = judged(made.with_plan(alpha=alpha))
        json.dumps(verdict, allow_nan=False)
        assert verdict["ci_confidence"] == pytest.approx(1 - 2 * alpha)
        if alpha <= 0.3:
            rule = asdict(design((5, 10, 15), alpha, futility=None))
            looked = made.with_plan(stopping="group_sequential", design=rule, alpha=alpha)
            json.dumps(judged(looked), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [(1.254, "+1.25"), (-2.0, "-2.00"), (0.0, "+0.00"), (0.003, "+0.003"), (-0.00049, "-0.0005"), (0.0051, "+0.01")],
)
def test_a_bound_is_printed_on_its_side_of_0(value, words):
    assert signed_words(value) == words


def test_the_headline_counts():
    arms = [
        Compared(arm="arm", scores={}, supported=supported, worse=worse)
        for supported, worse in ((True, False), (False, True), (False, False))
    ]
    assert headline("supported", arms, "arms") == "supported in 1 of 3 arms, worse in 1"
    assert headline("not_supported", arms[1:], "arms") == "not_supported in any of 2 arms, worse in 1"
    assert headline("supported", arms[:1], "arms") == "supported"
