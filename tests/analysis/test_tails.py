"""Divergence that the confirmation did not have is remarked; and no test of its seeds could have seen it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tune_bn.analysis.paired import paired_t_statistics
from tune_bn.analysis.sensitivity import sign_flip_test
from tune_bn.analysis.verdict import judge


def diverged_in(study, stage):
    """The same study, one run of the candidate's configuration of that stage diverged."""
    config, done, records = study.plan["candidates"][0]["config"], False, []
    for record in study.records:
        is_it = record.stage == stage and record.config == config and record.status == "completed"
        if is_it and record.arm != "baseline" and not done:
            # No test score: the confirmation alone looks at the test images.
            record, done = replace(record, status="diverged", scores={**record.scores, "val_accuracy": 10.0}), True
        records.append(record)
    assert done
    return study.with_records(records)


@pytest.mark.parametrize("stage", ["search", "select"])
def test_a_divergence_before_the_confirmation_is_remarked(synthetic_study, stage):
    study = synthetic_study(effect=1.25)
    told = [r for r in judge(study.plan, study.records)["remarks"] if "left tail" in r]
    assert told == []
    study = diverged_in(study, stage)
    (told,) = [r for r in judge(study.plan, study.records)["remarks"] if "left tail" in r]
    assert told.startswith("candidate-1 diverged in 1 of the ")
    assert "must not be trusted" in told


def test_another_configuration_s_divergence_is_none_of_the_candidate_s(synthetic_study):
    study = synthetic_study(effect=1.25)
    config = study.plan["candidates"][0]["config"]
    records = [
        replace(r, status="diverged") if r.stage == "search" and r.config != config else r for r in study.records
    ]
    study = study.with_records(records)
    assert not [r for r in judge(study.plan, study.records)["remarks"] if "left tail" in r]


def test_false_gains_are_those_without_a_divergence():
    """Why a divergence in other stages counts, and one in the confirmation needs no other test."""
    rng, studies, n, rate, drop = np.random.default_rng(0), 20_000, 15, 0.05, 40.0
    bad = rng.random((studies, 1, n)) < rate
    d = np.where(bad, -drop, rate * drop / (1 - rate)) + rng.normal(0, 0.5, (studies, 1, n))
    _, p_value, _ = paired_t_statistics(d, np.zeros_like(d), alpha=0.05)
    false, seen = p_value[:, 0] <= 0.05, bad.any(axis=(1, 2))
    assert 0.44 < false.mean() < 0.48
    assert not np.any(false & seen)


def test_the_bound_of_the_rate_and_the_rate_that_would_undo_the_gain(synthetic_study):
    study = synthetic_study(effect=1.25)
    verdict = judge(study.plan, study.records)
    (arm,) = verdict["candidates"]
    found = arm["divergence"]
    # 15 runs of the confirmation, and those of search and selection of the same configuration.
    config = study.plan["candidates"][0]["config"]
    others = [r for r in study.records if r.stage != "confirm" and r.config == config and r.status == "completed"]
    assert (found["runs"], found["diverged"]) == (15 + len(others), 0)
    assert found["upper"] == pytest.approx(1 - 0.05 ** (1 / found["runs"]))
    # With that share of runs at 10 %, the mean of the candidate is that of the baseline.
    r, mean = found["undoing"], arm["mean"]
    assert (1 - r) * mean + r * 10.0 == pytest.approx(verdict["baseline"]["mean"])
    assert f"0 of {found['runs']} whole runs of candidate-1 diverged" in verdict["covers"]
    assert f"one of {100 * r:.2g} % would undo" in verdict["covers"]
    seen = diverged_in(study, "select")
    (arm,) = judge(seen.plan, seen.records)["candidates"]
    one = arm["divergence"]
    assert one["diverged"] == 1
    assert one["upper"] == pytest.approx(stats.beta.ppf(0.95, 2, one["runs"] - 1))
    none = synthetic_study(effect=-1.0)
    verdict = judge(none.plan, none.records)
    assert verdict["candidates"][0]["divergence"]["undoing"] is None
    assert "Rare divergence" not in verdict["covers"]


def test_the_bound_covers_the_rate():
    """In at least 95 % of 20,000 sets of 15 runs, whatever the rate."""
    rng = np.random.default_rng(1)
    for rate in (0.01, 0.05, 0.15, 0.3):
        bad = rng.binomial(15, rate, 20_000)
        assert np.mean(stats.beta.ppf(0.95, bad + 1, 15 - bad) >= rate) >= 0.945


def test_a_sign_flip_test_in_place_of_the_t_test_would_change_nothing():
    """With a divergence of the candidate among the pairs neither can reject; without one neither sees it."""
    rng, studies, n = np.random.default_rng(2), 2000, 15
    d = 2.0 + rng.normal(0, 0.5, (studies, n))
    d[:, 0] = -80.0
    _, p_value, _ = paired_t_statistics(d[:, None], np.zeros_like(d)[:, None], alpha=0.05)
    assert p_value.min() > 0.5
    assert min(sign_flip_test(row).p_value for row in d[:50]) >= 0.5
