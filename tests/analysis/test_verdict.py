"""What a verdict says of a plan and its records, and which rules make it invalid."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.analysis.edited_studies import RESULT_KEYS, assert_invalid, confirm_scores, edited, judged, scored
from tune_bn.analysis.verdict import judge, write_verdict
from tune_bn.errors import StudyError

ARM_KEYS = {"arm", "trial", "config", "scores", "mean", "std"}


def test_a_real_gain_is_supported(study):
    verdict = judged(study)
    assert verdict["verdict"] == "supported"
    assert verdict["problems"] == verdict["diverged"] == verdict["retried"] == []
    candidate, baseline = confirm_scores(study, "candidate-1"), confirm_scores(study, "baseline")
    expected = stats.ttest_rel(candidate, baseline, alternative="greater")
    (arm,) = verdict["candidates"]
    assert arm["p_value"] == arm["p_adjusted"] == pytest.approx(expected.pvalue, rel=1e-12)
    assert arm["effect"] == pytest.approx(np.mean(candidate) - np.mean(baseline), abs=1e-12)
    assert arm["mean"] == pytest.approx(np.mean(candidate))
    assert arm["std"] == pytest.approx(np.std(candidate, ddof=1))
    assert arm["ci_low"] > 0
    assert arm["supported"] is True


def test_a_verdict_has_the_promised_keys(study):
    verdict = judged(study)
    assert set(verdict) == {
        *("schema_version", "study", "verdict", "reason", "problems", "metric", "test", "alpha", "correction", "n"),
        *("seeds", "plan_sha256", "space_sha256", "baseline", "candidates", "diverged", "retried", "selection"),
        *("stopping", "design", "baselines", "headline", "worse", "ci_confidence", "remarks"),
        *("kind", "margin", "holds", "covers", "other_outcomes", "seal"),
    }
    assert set(verdict["baseline"]) == ARM_KEYS
    assert set(verdict["candidates"][0]) == ARM_KEYS | RESULT_KEYS | {"against", "looks"}
    assert verdict["n"] == 15
    assert list(verdict["baseline"]["scores"]) == [str(seed) for seed in range(1, 16)]
    assert "not evidence" in verdict["selection"]


def test_the_sentence_carries_the_numbers(study):
    verdict = judged(study)
    (arm,), baseline = verdict["candidates"], verdict["baseline"]
    for words in (
        f"raises test accuracy by {arm['effect']:.2f} percentage points over γ = 1, c = 1",
        f"{arm['mean']:.2f} ± {arm['std']:.2f} against {baseline['mean']:.2f} ± {baseline['std']:.2f} %",
        "n = 15 seeds",
        "≤ 0.05",
    ):
        assert words in verdict["reason"]
    assert "\n" not in verdict["reason"]


def test_no_gain_is_not_supported(synthetic_study):
    verdict = judged(synthetic_study(effect=-1.0))
    assert verdict["verdict"] == "not_supported"
    assert verdict["candidates"][0]["supported"] is False
    assert verdict["candidates"][0]["p_value"] > 0.5
    assert "lowers test accuracy by" in verdict["reason"]
    assert "> 0.05" in verdict["reason"]


def test_several_candidates_are_adjusted(synthetic_study):
    study = synthetic_study(candidates=3, effect=0.35)
    arms = judged(study)["candidates"]
    raw = [
        stats.ttest_rel(
            confirm_scores(study, a["arm"]), confirm_scores(study, "baseline"), alternative="greater"
        ).pvalue
        for a in arms
    ]
    assert [arm["p_value"] for arm in arms] == pytest.approx(raw, rel=1e-12)
    smallest = int(np.argmin(raw))
    assert arms[smallest]["p_adjusted"] == pytest.approx(min(1, 3 * raw[smallest]), rel=1e-12)
    assert all(arm["supported"] == (arm["p_adjusted"] <= 0.05) for arm in arms)


def test_the_verdict_is_that_of_the_adjusted_p_value(synthetic_study):
    """One candidate of four is better with a raw p between α/4 and α: alone it would pass, among four it must not."""
    study = synthetic_study(candidates=4, effect=0.0)
    baseline = dict(zip(range(1, 16), confirm_scores(study, "baseline"), strict=True))
    pattern = np.resize([1.0, -1.0], 15) * np.linspace(0.5, 1.5, 15)
    for rank in range(1, 5):
        shift = 0.5 if rank == 1 else -0.2
        study = edited(
            study,
            lambda r, shift=shift: scored(r, baseline[r.seed] + pattern[r.seed - 1] + shift),
            arm=f"candidate-{rank}",
        )
    verdict = judged(study)
    assert 0.05 / 4 < verdict["candidates"][0]["p_value"] < 0.05
    assert verdict["verdict"] == "not_supported"


def test_the_same_input_gives_the_same_bytes_in_any_order_of_search_and_arms(study):
    first = json.dumps(judged(study))
    assert json.dumps(judged(study)) == first
    assert json.dumps(judged(study.with_records(study.records[::-1]))) == first


def test_a_diverged_run_counts_with_the_declared_score_and_is_listed(study):
    verdict = judged(edited(study, lambda r: scored(r, 10.0, status="diverged", epochs=3), seeds=[4]))
    assert verdict["verdict"] == "not_supported"
    assert verdict["candidates"][0]["scores"]["4"] == 10.0
    assert verdict["diverged"] == ["confirm-candidate-1-t" + f"{study.plan['candidates'][0]['trial']:05d}-s4"]
    assert "1 diverged run" in verdict["reason"]


def test_a_diverged_run_with_another_score_is_invalid(study):
    assert_invalid(judged(edited(study, lambda r: scored(r, 97.0, status="diverged"), seeds=[4])), "diverged", "10")


def test_a_failed_run_that_succeeds_later_is_a_retry(study):
    failed = replace(study.confirm[0], status="failed", epochs=2, scores={})
    index = study.records.index(study.confirm[0])
    verdict = judged(study.with_records([*study.records[:index], failed, *study.records[index:]]))
    assert verdict["verdict"] == "supported"
    assert verdict["retried"] == [failed.key]


def test_a_failed_run_without_a_retry_leaves_a_gap(study):
    verdict = judged(edited(study, lambda r: replace(r, status="failed", scores={}), seeds=[3, 7]))
    assert_invalid(verdict, "candidate-1 has no finished run for seed 3, 7")
    assert set(verdict["candidates"][0]["scores"]) == {str(s) for s in range(1, 16)} - {"3", "7"}
    assert verdict["candidates"][0]["mean"] is not None


def test_a_run_repeated_after_it_had_a_score_is_invalid(study):
    again = scored(study.confirm[-1], 99.9)
    assert_invalid(judged(study.with_records([*study.records, again])), "repeated", again.key)
    failed = replace(again, status="failed", scores={})
    assert_invalid(judged(study.with_records([*study.records, failed])), "repeated", again.key)


@pytest.mark.parametrize("arm", ["baseline", "candidate-1"])
def test_missing_runs_are_named(study, arm):
    kept = [r for r in study.records if not (r.stage == "confirm" and r.arm == arm and r.seed in (2, 5))]
    assert_invalid(judged(study.with_records(kept)), f"{arm} has no finished run for seed 2, 5")


def test_no_confirmation_at_all_is_invalid(study):
    verdict = judge(study.plan, [])
    assert_invalid(verdict, "baseline has no finished run for seed 1, 2, 3, 4, 5 and 10 more")
    assert verdict["baseline"]["mean"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: replace(r, plan_sha256="0" * 64), ["plan_sha256 differs"]),
        (lambda r: replace(r, plan_sha256=None), ["plan_sha256 differs"]),
        (lambda r: replace(r, space_sha256="0" * 64), ["space_sha256 differs"]),
        (lambda r: replace(r, study="digits-2"), ["study differs"]),
        (lambda r: replace(r, config={**r.config, "gamma": 0.123}), ["configuration differs", "candidate-1"]),
        (lambda r: replace(r, config={**r.config, "lr": 0.1}), ["configuration differs"]),
        (lambda r: replace(r, trial=999), ["configuration differs"]),
        (lambda r: replace(r, arm="candidate-9"), ["no arm 'candidate-9'"]),
        (lambda r: replace(r, seed=77), ["seed that the plan does not name"]),
        (lambda r: scored(r, float("nan")), ["not a number from 0 to 100"]),
        (lambda r: scored(r, float("inf")), ["not a number from 0 to 100"]),
        (lambda r: scored(r, 100.1), ["not a number from 0 to 100"]),
        (lambda r: scored(r, -0.1), ["not a number from 0 to 100"]),
        (lambda r: scored(r, True), ["not a number from 0 to 100"]),
        (lambda r: replace(r, scores={"val_accuracy": 97.0}), ["'test_accuracy' is missing"]),
        (lambda r: replace(r, status="pruned"), ["stopped early", "pruned"]),
        (lambda r: replace(r, epochs=39), ["not of full length"]),
        (lambda r: replace(r, epochs=0, epochs_planned=0), ["not of full length"]),
        (lambda r: replace(r, epochs=10, epochs_planned=10), ["mix numbers of planned epochs", "40, 10"]),
        (lambda r: replace(r, versions={**r.versions, "torch": "2.14.0"}), ["mix versions of torch", "2.15.0, 2.14.0"]),
        (lambda r: replace(r, versions={}), ["mix versions of torch"]),
        (lambda r: replace(r, commit="f" * 40), ["mix commits", "f" * 40]),
        (lambda r: replace(r, commit=None), ["mix commits", "null"]),
    ],
)
def test_one_record_that_breaks_a_rule_makes_the_study_invalid(study, change, words):
    assert_invalid(judged(edited(study, change, seeds=[6])), *words)


@pytest.mark.parametrize("stage", ["search", "select"])
def test_seeds_that_an_earlier_stage_used_are_invalid(study, stage):
    plan = study.with_plan(used_seeds={**study.plan["used_seeds"], stage: [101, 2, 3]})
    assert_invalid(judged(plan), f"seed 2, 3 was already used in {stage}")


@pytest.mark.parametrize("stage", ["search", "select"])
def test_seeds_seen_in_earlier_records_count_even_where_the_plan_is_silent(study, stage):
    first = next(r for r in study.records if r.stage == stage)
    verdict = judged(study.with_records([replace(first, seed=8), *study.records]))
    assert_invalid(verdict, f"seed 8 was already used in {stage}")


def test_duplicate_seeds_are_invalid(study):
    assert_invalid(judged(study.with_plan(seeds=[*range(1, 16), 4])), "names seed 4 more than once")


@pytest.mark.parametrize("seeds", [[], [1], [1, 1]])
def test_fewer_than_two_seeds_are_invalid(study, seeds):
    kept = [r for r in study.records if r.stage != "confirm" or r.seed in seeds]
    assert_invalid(judged(study.with_records(kept).with_plan(seeds=seeds)), "fewer than two different seeds")


def test_a_changed_plan_is_invalid_and_says_so_first(study):
    verdict = judge(study.plan | {"alpha": 0.2}, study.records)
    assert_invalid(verdict, "changed after it was sealed")
    assert "changed after it was sealed" in verdict["reason"]


def test_a_plan_resealed_after_the_runs_no_longer_fits_them(study):
    other = study.with_plan(alpha=0.2).plan
    assert_invalid(judge(other, study.records), "plan_sha256 differs")


def test_identical_arms_are_invalid(study):
    baseline = {r.seed: r for r in study.confirm if r.arm == "baseline"}
    verdict = judged(edited(study, lambda r: scored(r, baseline[r.seed].scores["test_accuracy"])))
    assert_invalid(verdict, "candidate-1", "identical")


def test_a_constant_difference_is_invalid(study):
    baseline = {r.seed: r for r in study.confirm if r.arm == "baseline"}
    verdict = judged(edited(study, lambda r: scored(r, baseline[r.seed].scores["test_accuracy"] + 0.7)))
    assert_invalid(verdict, "candidate-1", "same 0.7 on every seed")


def test_a_candidate_with_the_baselines_configuration_is_invalid(study):
    config = study.plan["baseline"]["config"]
    same = edited(study, lambda r: replace(r, config=config))
    candidate = {**study.plan["candidates"][0], "config": config}
    assert_invalid(judged(same.with_plan(candidates=[candidate])), "has the configuration of the baseline")


def test_arms_may_differ_in_length_where_epochs_are_searched(study):
    plan = study.plan
    longer = edited(study, lambda r: replace(r, config={**r.config, "epochs": 80}, epochs=80, epochs_planned=80))
    candidate = {**plan["candidates"][0], "config": {**plan["candidates"][0]["config"], "epochs": 80}}
    assert judged(longer.with_plan(candidates=[candidate]))["verdict"] == "supported"


def test_arms_may_differ_in_the_source_of_their_network_where_the_network_is_searched(study):
    def of(source, **config):
        return lambda r: replace(r, versions={**r.versions, "network": source}, config={**r.config, **config})

    mixed = edited(edited(study, of("a" * 16)), of("b" * 16), arm="baseline")
    assert_invalid(judged(mixed), "mix versions of network")
    apart = edited(edited(study, of("a" * 16, arch="mine:net")), of("b" * 16), arm="baseline")
    (candidate,) = study.plan["candidates"]
    apart = apart.with_plan(candidates=[{**candidate, "config": {**candidate["config"], "arch": "mine:net"}}])
    assert judged(apart)["verdict"] == "supported"
    changed = edited(apart, of("c" * 16), seeds=apart.plan["seeds"][5:])
    assert_invalid(judged(changed), "mix versions of network (" + "a" * 16)


def test_every_broken_rule_is_listed(study):
    broken = edited(study, lambda r: replace(r, commit=None, epochs=3, plan_sha256=None))
    verdict = judged(broken)
    assert_invalid(verdict, "plan_sha256 differs", "not of full length", "mix commits", "and 10 more")
    assert verdict["reason"].endswith(f"({len(verdict['problems']) - 1} more in `problems`).")


@pytest.mark.parametrize("plan", [{}, {"study": "digits-1"}, None, [], "plan", {"seeds": float("nan")}])
def test_what_is_no_plan_is_invalid(plan, study):
    verdict = judge(plan, study.records)
    assert_invalid(verdict, "plan is not acceptable")
    assert verdict["candidates"] == []


def test_a_verdict_that_cannot_be_written_names_what_writes_nothing(study, tmp_path):
    study.write(tmp_path)
    (tmp_path / "verdict.json").mkdir()
    with pytest.raises(StudyError, match=r"verdict.json: cannot be written .*python -m tune_bn.analysis"):
        write_verdict(tmp_path)
