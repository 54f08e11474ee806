"""A claim that has to hold against each of several tunings of the baseline: the weakest decides."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from tests.analysis.synthetic_claims import scores_of, sequential, with_rivals
from tune_bn.analysis.claims import Claim
from tune_bn.analysis.family import against_each, comparison, judge_family
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.sequential import decide, design
from tune_bn.analysis.verdict import judge
from tune_bn.errors import RecordError
from tune_bn.records.verdict import verdict_from


def test_a_gain_over_the_chosen_tuning_alone_is_none(synthetic_study):
    study = synthetic_study(effect=1.0)
    assert judge(study.plan, study.records)["verdict"] == "supported"
    study = with_rivals(study, [-2.0, 1.0])
    verdict = judge(study.plan, study.records)
    assert (verdict["verdict"], verdict["problems"]) == ("not_supported", [])
    (arm,) = verdict["candidates"]
    assert arm["against"] == "baseline-3"
    scores = scores_of(study)
    for one in arm["opponents"]:
        pairs = [[scores[name][seed] for seed in study.plan["seeds"]] for name in (arm["arm"], one["arm"])]
        assert one["p_value"] == pytest.approx(stats.ttest_rel(*pairs, alternative="greater").pvalue, rel=1e-9)
        assert one["effect"] == pytest.approx(np.mean(pairs[0]) - np.mean(pairs[1]))
    assert [one["arm"] for one in arm["opponents"]] == ["baseline", "baseline-2", "baseline-3"]
    assert arm["p_value"] == max(one["p_value"] for one in arm["opponents"])
    # The interval is of the gain over the best of them.
    assert arm["ci"][0] == min(one["ci"][0] for one in arm["opponents"])
    assert arm["ci"][1] > min(one["ci"][1] for one in arm["opponents"])
    assert arm["ci"][0] < arm["effect"] < arm["ci"][1]
    assert "the hardest to beat of 3 tunings of the baseline" in verdict["reason"]
    assert verdict_from(verdict).to_json() == verdict


def test_it_is_supported_where_it_holds_against_each(synthetic_study):
    study = with_rivals(synthetic_study(effect=2.0), [-2.0, 0.3])
    verdict = judge(study.plan, study.records)
    assert verdict["verdict"] == "supported"
    assert verdict["candidates"][0]["against"] == "baseline-3"
    assert [arm["arm"] for arm in verdict["rivals"]] == ["baseline-2", "baseline-3"]


def test_a_loss_to_any_of_them_is_one_and_takes_a_correction(synthetic_study):
    study = with_rivals(synthetic_study(effect=-1.0), [1.0])
    (arm,) = judge(study.plan, study.records)["candidates"]
    scores = scores_of(study)
    pairs = [[scores[name][seed] for seed in study.plan["seeds"]] for name in (arm["arm"], "baseline-2")]
    assert arm["p_worse"] == pytest.approx(2 * stats.ttest_rel(*pairs, alternative="less").pvalue, rel=1e-9)
    assert (arm["worse"], arm["against"]) == (True, "baseline-2")
    assert arm["ci_adjusted"][1] <= 0
    study = with_rivals(synthetic_study(effect=0.0), [0.1])
    (arm,) = judge(study.plan, study.records)["candidates"]
    assert (arm["worse"], arm["ci_adjusted"][1] > 0) == (False, True)


def test_a_missing_run_of_a_rival_makes_it_invalid(synthetic_study):
    study = with_rivals(synthetic_study(effect=2.0), [0.0])
    gone = study.with_records([r for r in study.records if (r.arm, r.seed) != ("baseline-2", 4)])
    verdict = judge(gone.plan, gone.records)
    assert verdict["verdict"] == "invalid"
    assert "baseline-2 has no finished run for seed 4" in verdict["reason"]


def test_looks_are_held_once_the_rivals_have_their_pairs_and_the_weakest_speaks(synthetic_study):
    study = sequential(with_rivals(synthetic_study(effect=2.0), [-2.0, 1.9]))
    verdict = judge(study.plan, study.records)
    assert verdict["problems"] == []
    (arm,) = verdict["candidates"]
    assert arm["against"] == "baseline-3"
    assert arm["decision"] in ("futility", "last_look")
    assert len([r for r in study.confirm if r.arm == "baseline-2"]) == arm["n"]
    clear = sequential(with_rivals(synthetic_study(effect=4.0), [-1.0, 0.5]))
    verdict = judge(clear.plan, clear.records)
    (arm,) = verdict["candidates"]
    assert (verdict["verdict"], arm["decision"]) == ("supported", "efficacy")
    assert arm["n"] < 15
    assert arm["p_value"] == max(one["p_value"] for one in arm["opponents"])
    # Another one may have been the hardest at another look, so that there is no estimate adjusted for them.
    assert arm["effect_adjusted"] is None


def test_a_candidate_goes_on_until_it_is_shown_against_each():
    rng, rule = np.random.default_rng(0), design()
    arm, base = 3 + rng.normal(0, 0.5, 15), rng.normal(0, 0.5, 15)
    alone = decide({"a": arm}, base, rule)["a"]
    assert alone.last.n == 5
    near = arm - rng.normal(0.45, 0.5, 15)
    both = decide({"a": arm}, base, rule, rivals={"a": [near]})["a"]
    harder = decide({"a": arm}, near, rule)["a"]
    assert both.last.n >= max(alone.last.n, harder.last.n)
    assert [look.p_value for look in both.looks][-1] == harder.last.p_value


def test_the_rates_of_false_claims_are_at_most_alpha():
    """Two opponents as good as the candidate: gains far less; one of them far worse, so that one decides: 5 %."""
    rng, studies, n = np.random.default_rng(5), 3000, 10
    for behind, low, high, losses in ((0.0, 0.005, 0.045, 0.062), (5.0, 0.038, 0.062, 0.035)):
        found = worse = 0
        for arm, one, two in rng.normal(0, 1, (studies, 3, n)):
            each = [comparison(paired_t_test(arm, other, alpha=0.05)) for other in (one, two - behind)]
            judged = judge_family({"a": against_each(each)}, alpha=0.05)["a"]
            assert judged.supported == (judged.interval[0] >= 0)
            assert judged.worse == (judged.interval[1] <= 0)
            found += judged.supported
            worse += judged.worse
        assert low < found / studies < high
        assert 0.015 < worse / studies < losses


def test_equivalence_has_to_hold_against_each():
    rng, claim = np.random.default_rng(6), Claim("equivalent", 1.0)
    for gap in (0.0, 3.0):
        arm, one = rng.normal(0, 0.3, (2, 20))
        each = [comparison(paired_t_test(arm, other, alpha=0.05), claim) for other in (one, one - gap)]
        judged = judge_family({"a": against_each(each)}, alpha=0.05)["a"]
        assert judged.supported == (gap == 0.0) == (max(map(abs, judged.interval)) <= 1.0)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"candidates": ["baseline-9"]}, "candidates[0].rivals: got ['baseline-9']; accepted: names out of"),
        ({"candidates": ["baseline-2", "baseline-2"]}, "accepted: names out of ['baseline-2'], each once"),
        ({"candidates": None}, "rivals: got 'baseline-2' without a candidate"),
        ({"rivals": None}, "accepted: no such key without rivals"),
        ({"correction": "max_t"}, "rivals: got ['baseline-2'] with correction: 'max_t'"),
    ],
)
def test_a_plan_whose_rivals_do_not_go_together_is_refused(synthetic_study, changes, refusal):
    plan = dict(with_rivals(synthetic_study(), [0.0]).plan)
    if "candidates" in changes:
        names = changes["candidates"]
        arms = [{key: value for key, value in arm.items() if key != "rivals"} for arm in plan["candidates"]]
        plan["candidates"] = [arm | ({} if names is None else {"rivals": names}) for arm in arms]
    elif "rivals" in changes:
        del plan["rivals"]
    else:
        plan |= changes
    with pytest.raises(RecordError, match=re.escape(refusal)):
        plan_from(plan)


def test_a_plan_without_rivals_is_what_it_always_was(synthetic_study):
    study = synthetic_study()
    assert "rivals" not in plan_from(study.plan).to_json()
    assert "rivals" not in str(judge(study.plan, study.records))
