"""Confirmation runs that failed: invalid, or the worst score for the claim; and runs that were begun again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.analysis.synthetic_claims import in_settings, sequential
from tests.analysis.test_calibration import band
from tests.analysis.test_harm import SETTINGS
from tune_bn.analysis.verdict import judge
from tune_bn.errors import RecordError, SpecError
from tune_bn.records.record import FAILED, Record
from tune_bn.space.loading import parse_space


def failing(study: Any, runs: Sequence[tuple[str, int]], *, plan: dict[str, Any] | None = None) -> Any:
    """The same study, with some of its confirmation runs failed for good."""

    def made(record: Record) -> Record:
        if record.stage != "confirm" or (record.arm, record.seed) not in runs:
            return record
        return replace(record, status=FAILED, reason="RuntimeError: no room", scores={}, epochs=3, attempts=4)

    study = study.with_records([made(record) for record in study.records])
    return study.with_plan(**({"failed": "worst"} if plan is None else plan))


def test_without_the_key_a_failed_run_makes_it_invalid(synthetic_study):
    study = failing(synthetic_study(), [("candidate-1", 4)], plan={})
    verdict = judge(study.plan, study.records)
    assert verdict["verdict"] == "invalid"
    assert "1 of its runs raised: RuntimeError: no room" in verdict["reason"]
    assert "imputed" not in verdict


@pytest.mark.parametrize(("arm", "score"), [("candidate-1", 0.0), ("baseline", 100.0)])
def test_a_failure_counts_against_the_claim_whoever_failed(synthetic_study, arm, score):
    study = failing(synthetic_study(effect=2.0), [(arm, 4)])
    verdict = judge(study.plan, study.records)
    assert verdict["verdict"] != "invalid", verdict["problems"]
    assert verdict["imputed"] == {arm: [4]}
    (candidate,), base = verdict["candidates"], verdict["baseline"]
    assert {"candidate-1": candidate, "baseline": base}[arm]["scores"]["4"] == score
    ours, theirs = (list(one["scores"].values()) for one in (candidate, base))
    assert candidate["p_value"] == pytest.approx(stats.ttest_rel(ours, theirs, alternative="greater").pvalue)
    assert any(f"confirm-{arm}" in remark and "worst for the claim" in remark for remark in verdict["remarks"])
    assert "RuntimeError: no room" in " ".join(verdict["remarks"])


def test_what_was_put_in_shows_no_loss(synthetic_study):
    """Neither one in the family, nor by max-t, nor on average; but a loss of another candidate stays one."""
    runs = [("baseline", seed) for seed in (1, 2, 3, 4, 5, 6)]
    for made, changes in (
        (synthetic_study(effect=0.5), {}),
        (synthetic_study(effect=0.5, candidates=2), {"correction": "max_t"}),
    ):
        study = failing(made, runs, plan={"failed": "worst"} | changes)
        verdict = judge(study.plan, study.records)
        assert (verdict["verdict"], verdict["worse"]) == ("not_supported", []), verdict["problems"]
        for arm in verdict["candidates"]:
            assert arm["p_worse_adjusted"] == 1
            assert arm["ci_adjusted"][1] >= 0
    settings = in_settings(synthetic_study(), SETTINGS, {"Ours": [0.5, -3.0, 0.4, 0.3]})
    study = failing(settings, [("baseline.r18", s) for s in range(1, 9)], plan={"failed": "worst", "holds": "pooled"})
    verdict = judge(study.plan, study.records)
    assert verdict["worse"] == ["Ours.r34"]
    assert not verdict["pooled"]["worse"]


def test_a_failed_run_that_was_made_up_for_counts_as_it_is_and_is_named(synthetic_study):
    whole = synthetic_study(effect=2.0)
    study = failing(whole, [("candidate-1", 4)])
    again = next(r for r in whole.confirm if (r.arm, r.seed) == ("candidate-1", 4))
    plan_sha256 = study.plan["plan_sha256"]
    study = study.with_records([*study.records, replace(again, plan_sha256=plan_sha256)])
    verdict = judge(study.plan, study.records)
    assert verdict["verdict"] == "supported"
    assert verdict["imputed"] == {}
    (named,) = [remark for remark in verdict["remarks"] if "begun more than once" in remark]
    assert "confirm-candidate-1" in named
    assert "(RuntimeError: no room)" in named
    lost = whole.with_records([replace(r, attempts=2) if r.key == again.key else r for r in whole.records])
    remarks = judge(lost.plan, lost.records)["remarks"]
    assert any("begun more than once" in remark and again.key in remark for remark in remarks)


def test_a_run_of_which_there_is_no_record_at_all_is_missing(synthetic_study):
    study = failing(synthetic_study(), [("candidate-1", 4)])
    kept = [r for r in study.records if r.stage != "confirm" or (r.arm, r.seed) != ("candidate-1", 4)]
    study = study.with_records(kept)
    verdict = judge(study.plan, study.records)
    assert verdict["verdict"] == "invalid"
    assert "no finished run for seed 4" in verdict["reason"]


def test_false_claims_stay_rare_whoever_fails_and_why():
    """Failures of either arm, by chance or where the run would have been bad: level of the claim at most α."""
    rng, studies, n = np.random.default_rng(11), 20_000, 8
    for rate_base, rate_candidate, selective in ((0.05, 0.05, False), (0.2, 0.0, True), (0.0, 0.2, True)):
        base, ours = rng.normal(95, 1, (studies, n)), rng.normal(95, 1, (studies, n))
        rates = [(base, rate_base), (ours, rate_candidate)]
        lost = [
            (scores < np.quantile(scores, rate)) if selective else rng.random(scores.shape) < rate
            for scores, rate in rates
        ]
        base, ours = np.where(lost[0], 100.0, base), np.where(lost[1], 0.0, ours)
        p = stats.ttest_rel(ours, base, axis=1, alternative="greater").pvalue
        assert np.mean(p <= 0.05) <= band(0.05, studies)[1]


def test_it_goes_with_a_fixed_design_and_a_score_that_has_a_range(synthetic_study):
    with pytest.raises(RecordError, match="failed: got 'worst'; accepted: no such key"):
        sequential(synthetic_study()).with_plan(failed="worst")
    with pytest.raises(RecordError, match="failed: "):
        synthetic_study().with_plan(failed="invalid")
    content = {"name": "s", "search": {"gamma": {"log_uniform": [0.05, 1.0]}}, "claim": {"failed": "worst"}}
    assert parse_space(content, "s").claim.failed == "worst"
    with pytest.raises(SpecError, match=r"claim.failed: got 'worst'; accepted: invalid; worst goes with"):
        parse_space(content | {"claim": {"failed": "worst", "stopping": "group_sequential"}}, "s")
