"""Power, pairs and ends of group-sequential designs: against simulation of what is decided, and against rpact."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.statistics.vectorized import batches, sequential_decisions
from tune_bn.analysis.characteristics import course, detectable, efficacy_bounds
from tune_bn.analysis.power import t_test_power
from tune_bn.analysis.sequential import design
from tune_bn.analysis.spending import spent
from tune_bn.analysis.wording import detectable_words
from tune_bn.errors import ConfigError

STUDIES = 50_000
HIGHER_CAP = (4, 6, 8, 10, 12, 15, 18, 21)


def simulated(rule, effects, *, seed=0):
    """Which candidates are supported and after how many pairs, (studies, candidates), by the rule of a confirmation.

    Effects in standard deviations of the differences; all candidates meet the same baseline.
    """
    rng, shown, pairs = np.random.default_rng([seed, *rule.looks]), [], []
    for size in batches(STUDIES):
        arms = rng.standard_normal((size, len(effects) + 1, rule.looks[-1])) / math.sqrt(2)
        decided = sequential_decisions(arms[:, 1:] + np.array(effects)[:, None], arms[:, :1], rule)
        shown.append(decided.supported)
        pairs.append(decided.pairs)
    return np.concatenate(shown), np.concatenate(pairs)


def assert_in_band(counted, probability, trials):
    """A count of ``trials`` lies here with probability 0.99999; several hundred are compared."""
    low, high = stats.binom.interval(0.99999, trials, probability)
    assert low <= counted <= high


def test_the_known_design_with_a_higher_cap():
    found = course(design(HIGHER_CAP), 0.675)
    assert found.power == pytest.approx(0.874, abs=5e-4)
    assert found.expected_pairs == pytest.approx(14.5, abs=0.05)
    assert t_test_power(0.675, 1, 15) == pytest.approx(0.800, abs=5e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    ("looks", "futility", "d_z"),
    [
        ((3, 5, 8, 11, 15), 0.05, 0.5),
        ((3, 5, 8, 11, 15), 0.05, 0.0),
        ((3, 5, 8, 11, 15), 0.05, -0.3),
        ((3, 5, 8, 11, 15), None, 2.5),
        (HIGHER_CAP, 0.05, 0.675),
        ((3, 4, 5, 6, 7, 8), 0.2, 0.9),
        ((4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 0.45, 0.2),
        ((5, 30, 31), 0.4, 0.4),
        ((3, 60), 0.3, 0.3),
    ],
)
def test_it_is_what_a_confirmation_does(looks, futility, d_z):
    rule = design(looks, futility=futility)
    found = course(rule, d_z)
    shown, pairs = simulated(rule, [d_z])
    for stage in found.stages:
        here = pairs[:, 0] == stage.n
        assert_in_band((here & shown[:, 0]).sum(), stage.shown, STUDIES)
        assert_in_band((here & ~shown[:, 0]).sum(), stage.futile, STUDIES)
    assert abs(found.expected_pairs - pairs.mean()) < 5 * pairs.std() / math.sqrt(STUDIES) + 1e-4


@pytest.mark.long
def test_among_several_candidates_it_is_the_least_power_and_the_most_runs():
    rule = design()
    effect = 0.9
    found = course(rule, effect, candidates=3)
    alone, pairs_alone = simulated(rule, [effect, 0.0, 0.0], seed=1)
    together, pairs = simulated(rule, [effect] * 3, seed=2)
    error = 4 / math.sqrt(STUDIES)
    assert found.power <= alone[:, 0].mean() + error
    assert alone[:, 0].mean() - found.power < 0.05
    assert found.power < together[:, 0].mean()
    assert pairs[:, 0].mean() <= found.expected_pairs + 15 * error
    assert pairs_alone[:, 0].mean() <= found.expected_pairs + 15 * error
    runs = (pairs.sum(axis=1) + pairs.max(axis=1)).mean()
    assert runs <= found.expected_runs(3)
    assert found.expected_runs(3) < 1.15 * runs
    assert course(rule, effect).expected_runs() == pytest.approx(2 * course(rule, effect).expected_pairs)


RPACT = [
    # rpact 3.3.4 (Debian r-cran-rpact): d <- getDesignGroupSequential(informationRates, alpha, typeOfDesign = "asOF",
    # futilityBounds, bindingFutility = FALSE); getPowerAndAverageSampleNumber(d, theta = c(0, drift), nMax = 1).
    # Looks, alpha, bounds of futility (z), drift; power, mean share of the pairs, shown at each look.
    (
        *((2000, 4000, 6000, 8000, 10000), 0.025, None, 2.8),
        *(0.7898393, 0.80876856, [0.00014465588, 0.05621763165, 0.25028504377, 0.28635556177, 0.19683640613]),
    ),
    (
        *((2000, 4000, 6000, 8000, 10000), 0.05, None, 2.5),
        *(0.79170111, 0.78397280, [0.00093176631, 0.09473784676, 0.26756344079, 0.25706850765, 0.17139954841]),
    ),
    (
        *((2500, 5000, 7500, 10000), 0.025, (0.0, 0.0, 0.5), 3.0),
        *(0.808802735, 0.74741034, [0.0023083131, 0.1976129703, 0.3881283100, 0.2207531421]),
    ),
    (
        *((2500, 5000, 7500, 10000), 0.025, (0.0, 0.0, 0.5), 0.0),
        *(0.022849122, 0.52312558, [7.3668084e-06, 1.5167967e-03, 7.8410349e-03, 1.3483924e-02]),
    ),
]


@pytest.mark.parametrize(("looks", "alpha", "futility", "drift", "power", "share", "shown"), RPACT)
def test_with_many_pairs_it_is_what_rpact_says_of_normal_statistics(looks, alpha, futility, drift, power, share, shown):
    rule = replace(design(looks, alpha, futility=None), futility_t=futility)
    found = course(rule, drift / 100)
    assert [stage.shown for stage in found.stages] == pytest.approx(shown, abs=3e-4)
    assert found.power == pytest.approx(power, abs=3e-4)
    assert found.expected_pairs / 10000 == pytest.approx(share, abs=3e-4)


@pytest.mark.long
@pytest.mark.parametrize("looks", [(3, 5, 8, 11, 15), HIGHER_CAP, (3, 4, 5, 6, 7, 8), (10, 200), (500, 10000)])
@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.001])
def test_without_an_effect_it_is_the_level_that_is_spent(looks, alpha):
    found = course(design(looks, alpha, futility=None), 0.0)
    assert np.cumsum([stage.shown for stage in found.stages]) == pytest.approx(spent(looks, alpha), abs=1e-6)


@pytest.mark.parametrize("d_z", [-1.0, 0.0, 0.2, 0.675, 3.0])
@pytest.mark.parametrize("candidates", [1, 6])
def test_one_look_is_the_fixed_test(d_z, candidates):
    found = course(design((15,)), d_z, candidates=candidates)
    assert found.power == pytest.approx(t_test_power(d_z, 1, 15, candidates=candidates), abs=1e-9)
    assert found.expected_pairs == pytest.approx(15)


@pytest.mark.long
@pytest.mark.parametrize("d_z", [-1e100, -5.0, -1.0, 0.0, 1e-6, 0.3, 2.0, 30.0, 1e6, 1e100])
@pytest.mark.parametrize("futility", [None, 0.05, 0.49])
@pytest.mark.parametrize("looks", [(3, 5, 8, 11, 15), tuple(range(3, 23)), (3, 60), (500, 510, 10000)])
def test_the_ends_are_probabilities_that_add_up(looks, futility, d_z):
    found = course(design(looks, futility=futility), d_z)
    ends = np.array([(stage.shown, stage.futile) for stage in found.stages])
    assert (ends >= -2e-5).all()
    assert ends.sum() == pytest.approx(1)
    assert looks[0] - 1e-3 <= found.expected_pairs <= looks[-1] + 1e-3
    assert found.power == pytest.approx(1.0 if d_z > 20 else 0.0 if d_z < -4 else found.power, abs=2e-5)


def test_power_grows_with_the_effect_and_futility_costs_some():
    gains = np.linspace(-0.5, 1.5, 21)
    free, bound = ([course(design(futility=f), d).power for d in gains] for f in (None, 0.2))
    for powers in (free, bound):
        assert (np.diff(powers) > 0).all()
    assert (np.array(free) >= np.array(bound) - 1e-7).all()


@pytest.mark.parametrize("candidates", [1, 4])
@pytest.mark.parametrize("power", [0.3, 0.8, 0.99])
def test_the_detectable_effect_has_the_asked_power(candidates, power):
    least = detectable(design(), candidates=candidates, power=power)
    assert course(design(), least, candidates=candidates).power == pytest.approx(power, abs=1e-6)


def test_the_boundary_of_a_single_candidate_is_that_of_the_design():
    assert efficacy_bounds(design()) == pytest.approx(design().efficacy, rel=1e-5)
    assert all(
        one < six for one, six in zip(efficacy_bounds(design()), efficacy_bounds(design(), candidates=6), strict=True)
    )


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: course(design(), math.nan), "effect"),
        (lambda: course(design(), math.inf), "effect"),
        (lambda: course(design(), 0.5, candidates=0), "candidates"),
        (lambda: course(design(), 0.5, candidates=101), "candidates"),
        (lambda: course(design(alpha=1e-3), 0.5, candidates=50), "alpha"),
        (lambda: detectable(design(), power=0.05), "power"),
        (lambda: detectable(design(), power=1.0), "power"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(call, key):
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.key == key


def test_what_is_said_before_a_study_runs_is_of_its_own_design():
    fixed, looking = detectable_words(15, 0.05, 1), detectable_words(15, 0.05, 1, rule=design())
    assert "find a true gain of 0.675 standard deviations" in fixed
    assert "(one-sided paired t-test, α = 0.05)" in fixed
    assert f"find a true gain of {detectable(design()):.3g} standard deviations" in looking
    assert "(one-sided group-sequential paired t-test, α = 0.05)" in looking
    in_points = detectable_words(15, 0.05, 2, std=0.4, rule=design())
    assert f"{detectable(design(), candidates=2) * 0.4 * math.sqrt(2):.3g} points" in in_points
    assert in_points.startswith("at most 15 seeds, looks at 3, 5, 8, 11, 15, find a true gain of ")
    assert "standard deviations" in detectable_words(15, 0.05, 2, std=0.0), "an arm that does not spread is not known"
    assert "not computed" in detectable_words(15, 1e-4, 2, rule=design(alpha=1e-4))
