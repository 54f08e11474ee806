from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from tune_bn.analysis.t_result import PairsError, PairsProblem
from tune_bn.analysis.unpaired import EXACT_UP_TO, hodges_lehmann, rank_sum_test, welch_from_summaries, welch_t_test

FUNCTIONS = [welch_t_test, hodges_lehmann, rank_sum_test]

# Permeability of human chorioamnion at term and at 12 to 26 weeks (Hollander & Wolfe, 1973, p. 69), as in R's
# example(wilcox.test): wilcox.test(x, y, alternative = "g") gives W = 35, p = 0.1272; conf.int = TRUE estimates 0.305.
TERM = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
WEEKS = [1.15, 0.88, 0.90, 0.74, 1.21]


def band(probability, trials):
    low, high = stats.binom.interval(0.9999, trials, probability)
    return low / trials, high / trials


def test_rs_example_of_the_rank_sum_test():
    result = rank_sum_test(TERM, WEEKS)
    assert (result.statistic, result.ties, result.exact) == (35.0, 0, True)
    assert result.p_value == pytest.approx(0.1272, abs=5e-5)
    shift = hodges_lehmann(TERM, WEEKS)
    assert shift.estimate == pytest.approx(0.305, abs=1e-12)
    # As R's wilcox.test(conf.level = 0.9): of the 50 sorted differences number k and number 51 − k.
    differences = np.sort(np.subtract.outer(TERM, WEEKS), axis=None)
    sums = [sum(places) - 55 for places in itertools.combinations(range(1, 16), 10)]
    k = next(k for k in range(50) if sum(u <= k for u in sums) / len(sums) > 0.05)
    assert (shift.low, shift.high) == (differences[k - 1], differences[50 - k])


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 9), (15, 15), (60, 4)])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_welch_is_scipys(n, m, alpha):
    rng = np.random.default_rng(n)
    a, b = rng.normal(97, 1, n), rng.normal(96.5, 0.3, m)
    result = welch_t_test(a, b, alpha=alpha)
    for side, p_value in (
        ("greater", result.p_value),
        ("less", result.p_value_less),
        ("two-sided", result.p_value_two_sided),
    ):
        expected = stats.ttest_ind(a, b, equal_var=False, alternative=side)
        assert (result.t, result.df, p_value) == pytest.approx(
            (expected.statistic, expected.df, expected.pvalue), rel=1e-9
        )
    both = stats.ttest_ind(a, b, equal_var=False).confidence_interval(1 - 2 * alpha)
    assert (result.ci_low, result.ci_high) == pytest.approx((both.low, both.high), rel=1e-9)
    assert (result.n, result.m) == (n, m)


def test_welch_of_summaries_is_welch_of_the_scores():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.4, 2, 7), rng.normal(0, 1, 11)
    summaries = welch_from_summaries(a.mean(), a.std(ddof=1), 7, b.mean(), b.std(ddof=1), 11)
    scores = welch_t_test(a, b)
    assert (summaries.t, summaries.df, summaries.p_value) == pytest.approx((scores.t, scores.df, scores.p_value))


def test_one_arm_that_does_not_vary_is_a_sample_against_a_number():
    a = [97.0, 97.5, 98.0, 96.0]
    expected = stats.ttest_1samp(a, 96.5, alternative="greater")
    result = welch_t_test(a, [96.5] * 5)
    assert (result.df, result.p_value) == pytest.approx((3, expected.pvalue))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e12, 1e-12])
@pytest.mark.parametrize("function", [welch_t_test, rank_sum_test, hodges_lehmann])
def test_the_unit_of_the_scores_does_not_matter(function, scale):
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 0.2, 9), rng.normal(0.3, 0.1, 7)
    a, b = a / 2, b / 2
    plain, scaled = function(a, b), function(scale * a, scale * b)
    if function is hodges_lehmann:
        assert (scaled.estimate / scale, scaled.low / scale, scaled.high / scale) == pytest.approx(
            (plain.estimate, plain.low, plain.high), rel=1e-9
        )
        return
    assert (scaled.p_value, scaled.p_value_less) == pytest.approx((plain.p_value, plain.p_value_less), rel=1e-9)
    if function is welch_t_test:
        assert (scaled.effect / scale, scaled.se / scale) == pytest.approx((plain.effect, plain.se), rel=1e-9)


def listed_p(a, b):
    """P(U ≥ u) and P(U ≤ u) by listing every assignment, in whole numbers."""
    pooled, n = [*a, *b], len(a)

    def doubled_u(first, second):
        return sum(2 * (x > y) + (x == y) for x in first for y in second)

    observed = doubled_u(a, b)
    every = []
    for chosen in itertools.combinations(range(len(pooled)), n):
        first = [pooled[i] for i in chosen]
        every.append(doubled_u(first, [pooled[i] for i in range(len(pooled)) if i not in chosen]))
    up, down = sum(u >= observed for u in every), sum(u <= observed for u in every)
    return Fraction(up, len(every)), Fraction(down, len(every))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=5),
    st.lists(st.integers(0, 5), min_size=2, max_size=5),
)
def test_with_ties_every_assignment_is_counted(a, b):
    images = [[100 * hits / 897 for hits in arm] for arm in (a, b)]
    try:
        result = rank_sum_test(*images)
    except PairsError:
        return
    up, down = listed_p(a, b)
    assert (result.p_value, result.p_value_less) == pytest.approx((float(up), float(down)), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (8, 8), (20, 30)])
def test_without_ties_it_is_scipys_exact_test(n, m):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.3, 1, n), rng.normal(0, 1, m)
    expected = stats.mannwhitneyu(a, b, alternative="greater", method="exact")
    result = rank_sum_test(a, b)
    assert result.statistic == expected.statistic
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_beyond_the_exact_range_it_is_scipys_approximation_with_ties():
    rng = np.random.default_rng(1)
    a, b = np.round(rng.normal(0.4, 2, 40)), np.round(rng.normal(0, 2, EXACT_UP_TO))
    expected = stats.mannwhitneyu(a, b, alternative="greater", method="asymptotic", use_continuity=False)
    result = rank_sum_test(a, b)
    assert not result.exact
    assert result.ties > 0
    assert (result.statistic, result.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


@pytest.mark.long
@given(
    st.lists(st.floats(-5, 5), min_size=3, max_size=8, unique=True),
    st.lists(st.floats(-5, 5), min_size=3, max_size=8, unique=True),
    st.sampled_from([0.01, 0.05, 0.1, 0.3]),
)
def test_the_bound_of_the_shift_and_the_rank_sum_test_tell_the_same_story(a, b, alpha):
    try:
        test, shift = rank_sum_test(a, b), hodges_lehmann(a, b, alpha=alpha)
    except PairsError:
        return
    if test.ties or abs(test.p_value - alpha) < 1e-9 or abs(test.p_value_less - alpha) < 1e-9:
        return
    assert (shift.low is not None and shift.low > 0) == (test.p_value <= alpha)
    assert (shift.high is not None and shift.high < 0) == (test.p_value_less <= alpha)


STUDIES = 2000


@pytest.mark.long
@pytest.mark.parametrize(("n", "m"), [(5, 5), (15, 6)])
def test_under_the_null_they_reject_at_their_level_and_their_intervals_cover(n, m):
    rng = np.random.default_rng(4)
    low, high = band(0.05, STUDIES)
    welch = rank = shift = 0
    for _ in range(STUDIES):
        # Means are equal, spreads are not: what Welch's test is made for.
        a, b = rng.normal(0, 1, n), rng.normal(0, 3, m)
        result = welch_t_test(a, b)
        welch += result.p_value <= 0.05
        assert (result.ci_low >= 0) == (result.p_value <= 0.05)
        a, b = rng.exponential(1, n), rng.exponential(1, m)
        rank += rank_sum_test(a, b).p_value <= 0.05
        shift += (hodges_lehmann(a, b).low or -1) > 0
    assert low <= welch / STUDIES <= high
    assert rank == shift
    # Its levels are steps, so the rate may lie below.
    assert rank / STUDIES <= high


@pytest.mark.long
def test_the_shift_of_many_scores_covers():
    rng = np.random.default_rng(5)
    missed = sum(
        not (found.low <= 0.5 <= found.high)
        for found in (hodges_lehmann(rng.normal(0.5, 1, 40), rng.normal(0, 1, 30)) for _ in range(STUDIES))
    )
    low, high = band(0.1, STUDIES)
    assert low <= missed / STUDIES <= high


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        ([[1.0, 2.0]], [1.0, 2.0], PairsProblem.UNPAIRED),
        ([1.0], [1.0, 2.0], PairsProblem.TOO_FEW),
        ([1.0, 2.0], [], PairsProblem.TOO_FEW),
        ([1.0, np.nan], [1.0, 2.0], PairsProblem.NOT_FINITE),
        ([1.0, 2.0], [np.inf, 2.0], PairsProblem.NOT_FINITE),
        ([1.0, 1e305], [1.0, 2.0], PairsProblem.NOT_FINITE),
        ([1.0, 2.0, 3.0], [3.0, 1.0, 2.0], PairsProblem.IDENTICAL),
        ([0.1 + 0.2, 0.7], [0.7, 0.3], PairsProblem.IDENTICAL),
        ([0.5, 0.5], [0.7, 0.7, 0.7], PairsProblem.CONSTANT),
        ([0.3, 0.1 + 0.2], [0.7, 0.7, 0.7], PairsProblem.CONSTANT),
        ([5e-324, 1e-323], [0.0, 0.0], PairsProblem.CONSTANT),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(function, a, b, problem):
    with pytest.raises(PairsError) as caught:
        function(a, b)
    assert caught.value.problem is problem


@pytest.mark.parametrize(
    "summaries",
    [(1, 0.1, 1, 1, 0.1, 5), (1, 0, 5, 2, 0, 5), (1, -1, 5, 2, 1, 5), (np.nan, 1, 5, 2, 1, 5), (1, np.inf, 5, 2, 1, 5)],
)
def test_summaries_that_cannot_be_judged_are_refused(summaries):
    with pytest.raises(PairsError):
        welch_from_summaries(*summaries)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(arrays(float, st.integers(0, 12), elements=st.floats()), arrays(float, st.integers(0, 12), elements=st.floats()))
def test_any_scores_give_finite_numbers_or_a_named_problem(a, b):
    try:
        welch, shift, rank = (function(a, b) for function in FUNCTIONS)
    except PairsError:
        return
    numbers = [welch.effect, welch.se, welch.t, welch.df, welch.ci_low, welch.ci_high, shift.estimate]
    assert np.isfinite(numbers).all()
    for p_value in (welch.p_value, welch.p_value_less, welch.p_value_two_sided, rank.p_value, rank.p_value_less):
        assert 0 < p_value <= 1
    assert (welch.ci_low >= 0) == (welch.p_value <= 0.05)
    assert (welch.ci_high <= 0) == (welch.p_value_less <= 0.05)
