"""The statistics, judged by what they promise: error rates and coverage over simulated studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tune_bn.analysis.paired import holm, paired_t_statistics
from tune_bn.analysis.verdict import judge

pytestmark = pytest.mark.long

STUDIES, N, ALPHA = 6000, 15, 0.05


def simulate(effects, *, studies=STUDIES, n=N, rng_seed=0, heavy=False):
    """Scores of a baseline (studies, 1, n) and of candidates (studies, k, n) that share the luck of each seed."""
    rng = np.random.default_rng(rng_seed)
    shape = (studies, len(effects) + 1, n)
    noise = rng.standard_t(5, shape) / np.sqrt(5 / 3) if heavy else rng.normal(0, 1, shape)
    scores = 96 + 0.6 * rng.normal(0, 1, (studies, 1, n)) + 0.5 * noise
    return scores[:, :1], scores[:, 1:] + np.asarray(effects)[:, None]


def band(probability, trials):
    """Where a count of ``trials`` lies with probability 0.9999, as a rate."""
    low, high = stats.binom.interval(0.9999, trials, probability)
    return low / trials, high / trials


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_without_an_effect_the_rejection_rate_is_alpha(alpha):
    baseline, candidates = simulate([0.0])
    _, p_value, _ = paired_t_statistics(candidates, baseline, alpha=alpha)
    low, high = band(alpha, STUDIES)
    assert low <= np.mean(holm(p_value) <= alpha) <= high


@pytest.mark.parametrize("n", [3, 5, 30])
def test_the_rate_holds_for_few_and_many_seeds(n):
    baseline, candidates = simulate([0.0], n=n, rng_seed=n)
    _, p_value, _ = paired_t_statistics(candidates, baseline, alpha=ALPHA)
    low, high = band(ALPHA, STUDIES)
    assert low <= np.mean(p_value <= ALPHA) <= high


def test_heavy_tails_do_not_raise_the_rate():
    baseline, candidates = simulate([0.0], heavy=True)
    _, p_value, _ = paired_t_statistics(candidates, baseline, alpha=ALPHA)
    assert np.mean(p_value <= ALPHA) <= band(ALPHA, STUDIES)[1]


@pytest.mark.parametrize("effect", [-0.5, 0.0, 0.7])
def test_the_lower_bound_covers(effect):
    baseline, candidates = simulate([effect], rng_seed=1)
    _, _, ci_low = paired_t_statistics(candidates, baseline, alpha=ALPHA)
    low, high = band(1 - ALPHA, STUDIES)
    assert low <= np.mean(ci_low <= effect) <= high


def test_power_is_that_of_the_noncentral_t():
    d_z = 0.68
    baseline, candidates = simulate([d_z * 0.5 * np.sqrt(2)], rng_seed=2)
    _, p_value, _ = paired_t_statistics(candidates, baseline, alpha=ALPHA)
    power = stats.nct.sf(stats.t.isf(ALPHA, N - 1), N - 1, d_z * np.sqrt(N))
    low, high = band(power, STUDIES)
    assert low <= np.mean(p_value <= ALPHA) <= high


def test_holm_keeps_the_family_wise_rate_where_picking_the_best_does_not():
    baseline, candidates = simulate([0.0] * 3, rng_seed=3)
    _, p_value, _ = paired_t_statistics(candidates, baseline, alpha=ALPHA)
    _, high = band(ALPHA, STUDIES)
    assert np.mean((holm(p_value) <= ALPHA).any(axis=-1)) <= high
    assert np.mean((p_value <= ALPHA).any(axis=-1)) > high


def test_holm_keeps_the_family_wise_rate_beside_a_true_effect():
    baseline, candidates = simulate([1.5, 0.0, 0.0], rng_seed=4)
    _, p_value, _ = paired_t_statistics(candidates, baseline, alpha=ALPHA)
    rejected = holm(p_value) <= ALPHA
    assert np.mean(rejected[:, 0]) > 0.99
    assert np.mean(rejected[:, 1:].any(axis=-1)) <= band(ALPHA, STUDIES)[1]


@pytest.mark.long
@pytest.mark.parametrize("candidates", [1, 3])
def test_judge_decides_as_the_calibrated_rule(synthetic_study, candidates):
    """Ties the rates above to ``judge``: on simulated scores it gives exactly the decisions that were calibrated."""
    study = synthetic_study(candidates=candidates)
    baseline, others = simulate([0.35] * candidates, studies=150, rng_seed=5)
    scores = np.concatenate([baseline, others], axis=1)
    _, p_value, _ = paired_t_statistics(others, baseline, alpha=ALPHA)
    expected = holm(p_value) <= ALPHA
    names = ["baseline", *(arm["arm"] for arm in study.plan["candidates"])]
    for one, decisions in zip(scores, expected, strict=True):
        records = [
            replace(r, scores={"test_accuracy": float(one[names.index(r.arm), r.seed - 1])}) for r in study.confirm
        ]
        verdict = judge(study.plan, records)
        assert [arm["supported"] for arm in verdict["candidates"]] == decisions.tolist()
        assert (verdict["verdict"] == "supported") == decisions.any()
    assert 0 < expected.mean() < 1
