from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from tune_bn.analysis.paired import holm, paired_t_statistics
from tune_bn.analysis.power import (
    MOST_CANDIDATES,
    MOST_SEEDS,
    minimum_detectable_effect,
    seeds_needed,
    std_of_differences,
    t_test_power,
)
from tune_bn.errors import ConfigError

STUDIES, N, ALPHA = 6000, 15, 0.05


def band(probability, trials):
    """Where a count of ``trials`` lies with probability 0.9999, as a rate."""
    low, high = stats.binom.interval(0.9999, trials, probability)
    return low / trials, high / trials


def simulate(effects, *, std, rho, rng_seed):
    """Scores (studies, 1, n) of a baseline and (studies, m, n) of candidates, every two arms with correlation rho."""
    rng = np.random.default_rng(rng_seed)
    luck = math.sqrt(rho) * rng.normal(0, 1, (STUDIES, 1, N))
    noise = math.sqrt(1 - rho) * rng.normal(0, 1, (STUDIES, len(effects) + 1, N))
    scores = 90 + std * (luck + noise)
    return scores[:, :1], scores[:, 1:] + np.array(effects)[:, None]


def test_a_published_example():
    # G*Power and R's pwr: one-tailed paired t-test, d_z = 0.5, alpha = 0.05, power 0.8: n = 27, actual power 0.8118.
    assert seeds_needed(0.5, 1) == 27
    assert t_test_power(0.5, 1, 27) == pytest.approx(0.8118, abs=5e-5)


@pytest.mark.parametrize(("candidates", "d_z"), [(1, 0.68), (6, 0.93)])
def test_fifteen_seeds(candidates, d_z):
    assert minimum_detectable_effect(1, N, candidates=candidates) == pytest.approx(d_z, abs=0.005)


@pytest.mark.parametrize("candidates", [1, 6])
def test_the_minimum_detectable_effect_is_found_as_often_as_promised(candidates):
    std, rho = 0.4, 0.3
    effect = minimum_detectable_effect(std_of_differences(std, rho), N, candidates=candidates)
    baseline, arms = simulate([effect], std=std, rho=rho, rng_seed=candidates)
    _, p_value, _ = paired_t_statistics(arms, baseline, alpha=ALPHA)
    low, high = band(0.8, STUDIES)
    assert low <= np.mean(p_value <= ALPHA / candidates) <= high


def test_the_first_holm_step_is_the_least_power_of_a_candidate():
    std, rho, m = 0.5, 0.0, 3
    spread = std_of_differences(std, rho)
    effect = minimum_detectable_effect(spread, N, candidates=m)
    alone, with_others = (simulate(effects, std=std, rho=rho, rng_seed=7) for effects in ([effect, 0, 0], [effect] * m))
    found = []
    for baseline, arms in (alone, with_others):
        _, p_value, _ = paired_t_statistics(arms, baseline, alpha=ALPHA)
        found.append(np.mean(holm(p_value)[:, 0] <= ALPHA))
    low, high = band(t_test_power(effect, spread, N, candidates=m), STUDIES)
    assert low <= found[0] <= high + ALPHA
    assert found[1] > high


@pytest.mark.long
@pytest.mark.parametrize("n", [2, 5, 15, 200])
@pytest.mark.parametrize("level", [0.3, 0.05, 0.05 / 6, 1e-4])
@pytest.mark.parametrize("noncentrality", [-1.0, 0.0, 0.5, 3.0, 8.0])
def test_power_is_the_integral_over_the_standard_deviation(n, level, noncentrality):
    """P(T > t) = E Φ(δ − t·S), S² distributed as chi-square over its degrees of freedom."""
    df, critical = n - 1, stats.t.isf(level, n - 1)
    expected, _ = integrate.quad(
        lambda u: stats.norm.cdf(noncentrality - critical * math.sqrt(stats.chi2.ppf(u, df) / df)),
        *(0, 1),
        limit=400,
        points=[1e-8, 1e-6, 1e-4, 1e-2],
    )
    assert t_test_power(noncentrality / math.sqrt(n), 1, n, alpha=level) == pytest.approx(expected, abs=2e-7)


TESTS = {
    "alpha": st.floats(0.01, 0.4),
    "candidates": st.integers(1, MOST_CANDIDATES),
    "std": st.floats(1e-6, 1e6),
    "power": st.floats(0.45, 0.999),
}


@given(n=st.integers(2, 2000), **TESTS)
def test_the_minimum_detectable_effect_has_the_asked_power(n, std, alpha, candidates, power):
    effect = minimum_detectable_effect(std, n, alpha=alpha, candidates=candidates, power=power)
    assert t_test_power(effect, std, n, alpha=alpha, candidates=candidates) == pytest.approx(power, abs=1e-6)


@given(d_z=st.floats(0.02, 20), **TESTS)
def test_one_seed_fewer_than_needed_is_too_few(d_z, std, alpha, candidates, power):
    test = {"alpha": alpha, "candidates": candidates}
    n = seeds_needed(d_z * std, std, power=power, **test)
    assert t_test_power(d_z * std, std, n, **test) >= power
    assert n == 2 or t_test_power(d_z * std, std, n - 1, **test) < power


@given(st.floats(-1e100, 1e100), st.floats(1e-100, 1e100), st.integers(2, MOST_SEEDS))
def test_power_is_a_probability_that_grows_with_the_effect(effect, std, n):
    power = t_test_power(effect, std, n)
    assert 0 <= power <= 1
    assert (power > ALPHA) == (effect > 0) or power == pytest.approx(ALPHA, abs=1e-9)


def test_an_effect_that_no_number_of_seeds_finds():
    assert seeds_needed(1e-100, 1e100) is None
    assert seeds_needed(0.001, 1) is None


@pytest.mark.parametrize("rho", [-1.0, 0.0, 0.7])
def test_the_standard_deviation_of_differences(rho):
    mixed = np.linalg.cholesky(np.array([[4, 4 * rho], [4 * rho, 4]]) + 1e-12 * np.eye(2))
    spread = math.sqrt(np.array([1, -1]) @ mixed @ mixed.T @ np.array([1, -1]))
    assert std_of_differences(2, rho) == pytest.approx(spread, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: std_of_differences(0), "std"),
        (lambda: std_of_differences(math.nan), "std"),
        (lambda: std_of_differences(1, 1.0), "rho"),
        (lambda: std_of_differences(1, -1.1), "rho"),
        (lambda: std_of_differences(1, math.nan), "rho"),
        (lambda: t_test_power(math.nan, 1, 15), "effect"),
        (lambda: t_test_power(1, math.inf, 15), "std"),
        (lambda: t_test_power(1, 1, 1), "n"),
        (lambda: t_test_power(1, 1, 2.5), "n"),
        (lambda: t_test_power(1, 1, MOST_SEEDS + 1), "n"),
        (lambda: t_test_power(1, 1, 15, alpha=0), "alpha"),
        (lambda: t_test_power(1, 1, 15, alpha=0.5), "alpha"),
        (lambda: t_test_power(1, 1, 15, alpha=math.nan), "alpha"),
        (lambda: t_test_power(1, 1, 15, alpha=1e-3, candidates=100), "alpha"),
        (lambda: t_test_power(1, 1, 15, candidates=0), "candidates"),
        (lambda: t_test_power(1, 1, 15, candidates=True), "candidates"),
        (lambda: minimum_detectable_effect(1, 15, power=0.05), "power"),
        (lambda: minimum_detectable_effect(1, 15, power=1), "power"),
        (lambda: seeds_needed(0, 1), "effect"),
        (lambda: seeds_needed(-1, 1), "effect"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(call, key):
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.key == key
