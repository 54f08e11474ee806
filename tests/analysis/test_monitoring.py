"""A group-sequential confirmation from its plan and records: which runs are due, and what the verdict makes of them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from tune_bn.analysis.monitoring import standing
from tune_bn.analysis.plan import plan_from, seal
from tune_bn.analysis.sequential import default_looks, design
from tune_bn.analysis.verdict import judge
from tune_bn.errors import ConfigError, RecordError

RULE = design()


def sequential(study, differences, **changes):
    """The study under a group-sequential plan, run as the stage would: only what was due, in the order of the looks.

    ``differences`` has, for each candidate, the gain on each seed.
    """
    stated = {"stopping": "group_sequential", "design": asdict(RULE)} | changes
    study = study.with_plan(**stated)
    base = dict(zip(study.plan["seeds"], np.linspace(95, 97, len(study.plan["seeds"])), strict=True))

    def scored(record):
        gain = differences[record.arm][study.plan["seeds"].index(record.seed)] if record.arm in differences else 0.0
        return replace(record, scores={**record.scores, "test_accuracy": base[record.seed] + gain})

    confirm = {(record.arm, record.seed): scored(record) for record in study.confirm}
    plan = plan_from(study.plan)
    ran, scores = [], {arm.arm: {} for arm in plan.arms}
    while True:
        needed = standing(plan, scores).needed
        due = [
            (arm, seed)
            for index, seed in enumerate(study.plan["seeds"])
            for arm, n in needed.items()
            if index < n and seed not in scores[arm]
        ]
        if not due:
            break
        for arm, seed in due:
            ran.append(confirm[arm, seed])
            scores[arm][seed] = confirm[arm, seed].scores["test_accuracy"]
    others = [record for record in study.records if record.stage != "confirm"]
    return study.with_records([*others, *ran])


def pattern(mean, spread=0.5):
    """15 differences whose mean and standard deviation are alike at every look."""
    return mean + spread * np.resize([1.0, -1.0, 0.0], 15)


def runs_of(study, arm):
    return [record.seed for record in study.confirm if record.arm == arm]


def judged(study):
    return judge(study.plan, study.records)


def test_a_clear_gain_ends_at_its_look_and_nothing_beyond_it_is_run(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": pattern(2.0)})
    assert runs_of(study, "candidate-1") == runs_of(study, "baseline") == [1, 2, 3, 4, 5]
    verdict = judged(study)
    assert verdict["verdict"] == "supported"
    assert verdict["stopping"] == "group_sequential"
    (arm,) = verdict["candidates"]
    assert (arm["decision"], arm["n"], verdict["n"]) == ("efficacy", 5, 15)
    assert [look["decision"] for look in arm["looks"]] == ["continue", "efficacy"]
    assert "n = 5 of 15 planned seeds" in verdict["reason"]
    assert "group-sequential" in verdict["reason"]


def test_a_hopeless_candidate_ends_without_a_claim(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": pattern(-2.0)})
    assert runs_of(study, "candidate-1") == [1, 2, 3]
    verdict = judged(study)
    assert verdict["verdict"] == "not_supported"
    assert verdict["candidates"][0]["decision"] == "futility"


def test_p_and_bounds_are_those_of_all_looks_together(synthetic_study):
    differences = pattern(0.35)
    study = sequential(synthetic_study(), {"candidate-1": differences})
    (arm,) = judged(study)["candidates"]
    n = arm["n"]
    fixed = stats.ttest_1samp(differences[:n], 0, alternative="greater")
    assert n > 5
    # More looks cost: the same pairs say less than in a fixed test, to both sides.
    assert arm["p_value"] > fixed.pvalue
    assert arm["looks"][-1]["nominal_p"] == pytest.approx(fixed.pvalue, rel=1e-12)
    assert arm["ci_low"] < fixed.confidence_interval(0.95).low
    low, high = arm["ci"]
    two_sided = stats.ttest_1samp(differences[:n], 0).confidence_interval(0.9)
    assert low < two_sided.low
    assert high > two_sided.high
    # The interval of the one-sided test: its lower end is the bound.
    assert low == arm["ci_low"]
    assert arm["effect"] == pytest.approx(differences[:n].mean(), abs=1e-9)
    assert arm["supported"] == (arm["p_adjusted"] <= 0.05) == (arm["decision"] == "efficacy")


def test_the_baseline_goes_on_for_the_candidate_that_needs_it(synthetic_study):
    gains = {"candidate-1": pattern(2.0), "candidate-2": pattern(0.2), "candidate-3": pattern(-2.0)}
    study = sequential(synthetic_study(candidates=3), gains)
    verdict = judged(study)
    runs = {arm["arm"]: arm["n"] for arm in verdict["candidates"]}
    assert runs["candidate-3"] == 3
    assert runs["candidate-1"] < runs["candidate-2"]
    assert len(runs_of(study, "baseline")) == max(runs.values())
    assert [arm["supported"] for arm in verdict["candidates"]] == [True, False, False]
    assert verdict["problems"] == []


def test_settings_have_baselines_of_their_own(synthetic_study):
    study = synthetic_study(candidates=2)
    plan = study.plan
    second = plan["baseline"] | {"arm": "baseline.b", "config": plan["baseline"]["config"] | {"lr": 0.01}}
    candidates = [
        plan["candidates"][0],
        plan["candidates"][1] | {"against": "baseline.b"},
    ]
    confirm = [record for record in study.confirm if record.arm == "baseline"]
    twins = [replace(record, arm="baseline.b", config=second["config"]) for record in confirm]
    study = study.with_records([*study.records, *twins])
    study = sequential(
        study, {"candidate-1": pattern(2.0), "candidate-2": pattern(-2.0)}, baselines=[second], candidates=candidates
    )
    verdict = judged(study)
    assert verdict["problems"] == []
    assert [arm["against"] for arm in verdict["candidates"]] == ["baseline", "baseline.b"]
    # Each baseline stops with its own candidate.
    pairs = [arm["n"] for arm in verdict["candidates"]]
    assert [len(runs_of(study, "baseline")), len(runs_of(study, "baseline.b"))] == pairs
    assert pairs[0] > pairs[1] == 3
    assert [arm["arm"] for arm in verdict["baselines"]] == ["baseline", "baseline.b"]


def invalid(study, *words):
    verdict = judged(study)
    assert verdict["verdict"] == "invalid"
    assert all(word in " | ".join(verdict["problems"]) for word in words), verdict["problems"]
    assert not any(arm["supported"] for arm in verdict["candidates"])


def test_a_pair_beyond_the_look_that_ended_a_candidate_is_a_look_outside_the_plan(synthetic_study):
    whole = synthetic_study()
    study = sequential(whole, {"candidate-1": pattern(2.0)})
    more = [
        replace(record, plan_sha256=study.plan["plan_sha256"])
        for record in whole.confirm
        if record.seed == 6  # both arms
    ]
    invalid(study.with_records([*study.records, *more]), "look was taken outside the plan", "seed 6", "5 pairs")


def test_a_confirmation_that_ended_between_two_looks_is_invalid(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": pattern(0.2)})
    records = [record for record in study.records if record.stage != "confirm" or record.seed <= 4]
    invalid(study.with_records(records), "no finished run for seed 5", "look at 5 pairs")


def test_one_that_has_not_come_to_its_first_look_is_invalid(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": pattern(0.2)})
    records = [record for record in study.records if record.stage != "confirm" or record.seed <= 2]
    invalid(study.with_records(records), "no finished run for seed 3", "look at 3 pairs")


def test_runs_before_their_turn_are_a_look_outside_the_plan(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": pattern(2.0)})
    confirm = study.confirm
    late = [record for record in confirm if record.seed != 3] + [record for record in confirm if record.seed == 3]
    others = [record for record in study.records if record.stage != "confirm"]
    invalid(study.with_records([*others, *late]), "outside the plan", "before all pairs of the look")


def test_within_a_look_any_order_will_do(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": pattern(2.0)})
    first = [record for record in study.confirm if record.seed <= 3]
    rest = [record for record in study.confirm if record.seed > 3]
    others = [record for record in study.records if record.stage != "confirm"]
    shuffled = study.with_records([*others, *first[::-1], *rest[::-1]])
    assert judged(shuffled) == judged(study)


def test_differences_that_never_vary_make_it_invalid(synthetic_study):
    study = sequential(synthetic_study(), {"candidate-1": np.full(15, 0.5)})
    assert len(runs_of(study, "candidate-1")) == 15
    invalid(study, "the same 0.5 on every seed")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"efficacy": [0.0, 0.0, 0.0, 0.0, 0.0]}, ["design.efficacy", "follow from its looks"]),
        ({"futility_t": None}, ["design.futility_t"]),
        ({"looks": [3, 5, 8, 11, 14]}, ["design.looks", "15 seeds"]),
        ({"looks": "abc"}, ["design.looks"]),
        ({"alpha": 0.2}, ["design"]),
        ({"colour": 1}, ["design.colour"]),
    ],
)
def test_boundaries_that_do_not_follow_from_the_looks_are_refused(synthetic_study, change, words):
    plan = synthetic_study().plan | {"stopping": "group_sequential", "design": asdict(RULE) | change}
    with pytest.raises(RecordError) as caught:
        seal(plan)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_design_belongs_to_group_sequential_plans_alone(synthetic_study):
    plan = synthetic_study().plan
    with pytest.raises(RecordError, match="design: missing or unknown key"):
        seal(plan | {"design": asdict(RULE)})
    with pytest.raises(RecordError, match="design: missing or unknown key"):
        seal(plan | {"stopping": "group_sequential"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"against": "nobody"}, "candidates\\[0\\].against: got 'nobody'"),
        ({"against": 5}, "candidates\\[0\\].against: got 5; accepted: text"),
    ],
)
def test_a_candidate_meets_a_baseline_of_the_plan(synthetic_study, changes, words):
    plan = synthetic_study().plan
    with pytest.raises(RecordError, match=words):
        seal(plan | {"candidates": [plan["candidates"][0] | changes]})


def test_a_baseline_that_nobody_meets_is_refused(synthetic_study):
    plan = synthetic_study().plan
    with pytest.raises(RecordError, match=r"'baseline\.b' without a candidate"):
        seal(plan | {"baselines": [plan["baseline"] | {"arm": "baseline.b"}]})


@pytest.mark.parametrize(
    ("pairs", "looks"), [(15, (3, 5, 8, 11, 15)), (3, (3,)), (5, (3, 4, 5)), (30, (6, 10, 16, 22, 30))]
)
def test_default_looks_follow_the_number_of_seeds(pairs, looks):
    assert default_looks(pairs) == looks


def test_two_pairs_have_no_look():
    with pytest.raises(ConfigError, match="looks"):
        default_looks(2)
