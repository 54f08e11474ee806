from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from tune_bn.analysis.spending import LARGEST_LEVEL, SMALLEST_LEVEL, nominal_levels, repeated_p, spent, t_at
from tune_bn.errors import ConfigError

LOOKS = (3, 5, 8, 11, 15)
STUDIES = 100_000


def t_statistics(differences, looks):
    """Paired t statistics of the first n differences for each look, shape (..., K)."""
    return np.stack(
        [
            np.mean(differences[..., :n], axis=-1) / np.std(differences[..., :n], axis=-1, ddof=1) * np.sqrt(n)
            for n in looks
        ],
        axis=-1,
    )


def null_p_values(looks, studies=STUDIES):
    """Nominal one-sided p-values at each look without an effect, shape (studies, K)."""
    t = t_statistics(np.random.default_rng(looks[0]).standard_normal((studies, looks[-1])), looks)
    return special.stdtr(np.array(looks) - 1, -t)


def assert_in_band(counted, probability, trials):
    """A count of ``trials`` lies here with probability 0.9999."""
    low, high = stats.binom.interval(0.9999, trials, probability)
    assert low <= counted <= high


@pytest.mark.parametrize(
    ("looks", "alpha", "published"),
    [
        # seqabpy 0.3.1, gatsby.ldBounds(t, iuse=1, alpha): fifths, then the information times of the default looks.
        ((2000, 4000, 6000, 8000, 10000), 0.025, [4.87688, 3.35701, 2.68029, 2.28982, 2.03103]),
        ((2000, 3333, 5333, 7333, 10000), 0.05, [4.22920, 3.20186, 2.45457, 2.05713, 1.71658]),
        ((2000, 3333, 5333, 7333, 10000), 0.025, [4.87688, 3.71079, 2.86108, 2.40070, 2.01052]),
        # README of SeqBounds.jl, commit 36b016e, which was compared with R's ldbounds.
        ((2500, 5000, 7500, 10000), 0.05, [3.74955, 2.53993, 2.01604, 1.72014]),
        # rpact, getDesignGroupSequential(typeOfDesign="asOF"), three looks, on its authors' slides of August 2025.
        ((3333, 6667, 10000), 0.025, [3.710, 2.511, 1.993]),
    ],
)
def test_with_many_pairs_the_boundaries_are_the_published_ones_for_normal_statistics(looks, alpha, published):
    nominal = nominal_levels(looks, alpha)
    assert -special.ndtri(nominal) == pytest.approx(published, abs=6e-4)
    assert t_at(nominal, looks)[1:] == pytest.approx(published[1:], abs=6e-3)


@pytest.mark.long
@pytest.mark.parametrize("looks", [LOOKS, (3, 4, 5, 6, 7, 8), (4, 6, 8, 10, 12), (3, 60), (5, 30, 31), (15,)])
@pytest.mark.parametrize("alpha", [0.05, 0.25])
def test_without_an_effect_each_look_spends_its_share(looks, alpha):
    crossed = np.logical_or.accumulate(null_p_values(looks) <= nominal_levels(looks, alpha), axis=-1)
    for count, share in zip(crossed.sum(axis=0), spent(looks, alpha), strict=True):
        assert_in_band(count, share, STUDIES)


def test_the_boundaries_for_few_pairs_are_not_the_normal_ones():
    """Boundaries copied from a normal table would reject too often: the tails of t are heavy at the first looks."""
    normal = np.array([4.2292, 3.2019, 2.4546, 2.0571, 1.7166])
    t = t_at(null_p_values(LOOKS), LOOKS)
    assert np.mean((t >= normal).any(axis=-1)) > 0.08


def test_the_spending_is_that_of_lan_and_demets():
    z = stats.norm.isf(0.025)
    expected = [2 - 2 * stats.norm.cdf(z / np.sqrt(n / 15)) for n in LOOKS]
    assert spent(LOOKS, 0.05) == pytest.approx(expected, rel=1e-9)
    assert spent(LOOKS, 0.05)[-1] == pytest.approx(0.05, rel=1e-12)


@pytest.mark.parametrize("looks", [LOOKS, (3, 4, 5, 6), (10, 200)])
def test_boundaries_of_a_lower_level_lie_higher(looks):
    """What the repeated p-value rests on: who crosses at one level has crossed at every higher one."""
    nominal = [nominal_levels(looks, alpha) for alpha in np.geomspace(SMALLEST_LEVEL, LARGEST_LEVEL, 12)]
    assert (np.diff(nominal, axis=0) > 0).all()


@pytest.mark.parametrize("alpha", [1e-6, 0.001, 0.05 / 6, 0.05, 0.1, 0.29])
@pytest.mark.parametrize("looks", [LOOKS, (3, 4, 5, 6), (10, 200)])
def test_on_a_boundary_the_p_value_is_its_level(looks, alpha):
    for k, level in enumerate(nominal_levels(looks, alpha)):
        assert repeated_p(looks, [1.0] * k + [level])[-1] == pytest.approx(alpha, rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("looks", [LOOKS, (3, 4, 5, 6), (4, 12)])
def test_the_p_values_are_valid_at_each_look_and_their_smallest_is_uniform(looks):
    p = repeated_p(looks, null_p_values(looks))
    for level in (0.001, 0.01, 0.05, 0.1, 0.25, 0.35, 0.5, 0.9):
        assert ((p <= level).sum(axis=0) <= stats.binom.ppf(0.9999, STUDIES, level)).all()
        assert_in_band((p <= level).any(axis=-1).sum(), level, STUDIES)


def test_a_mean_below_zero_makes_no_p_value_smaller():
    differences = np.random.default_rng(1).standard_normal((2000, 15))
    p, lower = (
        repeated_p(LOOKS, special.stdtr(np.array(LOOKS) - 1, -t_statistics(differences - shift, LOOKS)))
        for shift in (0.0, 0.4)
    )
    assert (lower >= p).all()
    assert lower.mean() > p.mean()


@pytest.mark.parametrize("p", [1e-6, 0.05, 0.2, 0.3, 0.4, 0.999, 1.0])
def test_one_look_is_the_fixed_test(p):
    assert repeated_p((15,), [p]) == pytest.approx([p], rel=1e-6)
    assert nominal_levels((15,), 0.05) == pytest.approx([0.05], rel=1e-12)


def test_extreme_statistics_keep_their_place():
    assert repeated_p(LOOKS, [0.0] * 5).tolist() == pytest.approx([SMALLEST_LEVEL] * 5)
    assert repeated_p(LOOKS, [1.0] * 5).tolist() == [1.0] * 5
    assert repeated_p(LOOKS, np.ones((4, 0))).shape == (4, 0)


@pytest.mark.parametrize(
    "looks",
    [(), (2, 5), (5, 5), (5, 3), (3, 4.0), (True, 5), ("3",), (3, 61), (9000, 10001), tuple(range(3, 24))],
)
def test_looks_that_cannot_be_integrated_are_refused(looks):
    with pytest.raises(ConfigError, match=r"looks: got .*; accepted: 1 to 20 increasing integers"):
        nominal_levels(looks, 0.05)


@pytest.mark.parametrize("alpha", [0.0, 1e-9, 0.31, 1.0, -0.05, float("nan")])
def test_levels_that_cannot_be_spent_are_refused(alpha):
    with pytest.raises(ConfigError, match=r"alpha: got .*; accepted: a number in"):
        nominal_levels(LOOKS, alpha)


@pytest.mark.parametrize("nominal", [0.5, [0.5] * 6, [1.5], [-0.1], [float("nan")]])
def test_what_is_no_p_value_is_refused(nominal):
    with pytest.raises(ValueError, match="accepted: probabilities"):
        repeated_p(LOOKS, nominal)
