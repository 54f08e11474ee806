"""Divergence that the confirmation did not have is remarked; and no test of its seeds could have seen it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tune_bn.analysis.paired import paired_t_statistics
from tune_bn.analysis.verdict import judge


def diverged_in(study, stage):
    """The same study, one run of the candidate's configuration of that stage diverged."""
    config, done, records = study.plan["candidates"][0]["config"], False, []
    for record in study.records:
        is_it = record.stage == stage and record.config == config and record.status == "completed"
        if is_it and record.arm != "baseline" and not done:
            record, done = replace(record, status="diverged", scores={**record.scores, "test_accuracy": 10.0}), True
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
