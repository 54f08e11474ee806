from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from tune_bn.analysis.one_sample import corrected_resampled_t_test, threshold_t_test
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.t_result import PairsError, PairsProblem
from tune_bn.errors import ConfigError


def band(probability, trials):
    low, high = stats.binom.interval(0.9999, trials, probability)
    return low / trials, high / trials


@pytest.mark.parametrize("n", [2, 5, 40])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_the_test_against_a_number_is_scipys(n, alpha):
    losses = np.random.default_rng(n).normal(3.2, 0.1, n)
    # A validation loss below 3.28 is a gain: the caller turns both signs.
    result = threshold_t_test(-losses, -3.28, alpha=alpha)
    expected = stats.ttest_1samp(losses, 3.28, alternative="less")
    both = stats.ttest_1samp(-losses, -3.28).confidence_interval(1 - 2 * alpha)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert result.p_value_less == pytest.approx(1 - expected.pvalue, rel=1e-6)
    assert result.effect == pytest.approx(3.28 - losses.mean(), rel=1e-9)
    assert (result.ci_low, result.ci_high) == pytest.approx((both.low + 3.28, both.high + 3.28), rel=1e-9)
    assert (result.n, result.df, result.std) == (n, n - 1, pytest.approx(losses.std(ddof=1)))


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e12])
def test_the_unit_of_a_threshold_does_not_matter(scale):
    values = np.random.default_rng(0).normal(0.6, 0.1, 8)
    plain, scaled = threshold_t_test(values, 0.5), threshold_t_test(scale * values, scale * 0.5)
    assert (scaled.p_value, scaled.effect / scale) == pytest.approx((plain.p_value, plain.effect), rel=1e-9)


def test_a_threshold_far_away_is_certain_not_infinite():
    result = threshold_t_test([1.0, 1.5, 2.0], -1e300)
    assert np.isfinite(result.t)
    assert 0 < result.p_value < 1e-300


@pytest.mark.parametrize(
    ("values", "threshold", "problem"),
    [
        ([[1.0, 2.0]], 1.0, PairsProblem.UNPAIRED),
        ([1.0, 2.0], [1.0, 2.0], PairsProblem.UNPAIRED),
        ([1.0], 0.5, PairsProblem.TOO_FEW),
        ([1.0, np.nan], 0.5, PairsProblem.NOT_FINITE),
        ([1.0, 2.0], np.inf, PairsProblem.NOT_FINITE),
        ([3.3, 3.3, 3.3], 3.28, PairsProblem.CONSTANT),
        ([0.3, 0.1 + 0.2], 0.0, PairsProblem.CONSTANT),
    ],
)
def test_what_cannot_be_set_against_a_number_is_refused_by_name(values, threshold, problem):
    with pytest.raises(PairsError) as caught:
        threshold_t_test(values, threshold)
    assert caught.value.problem is problem


@pytest.mark.long
@given(arrays(float, st.integers(0, 12), elements=st.floats()), st.floats())
def test_any_values_give_finite_numbers_or_a_named_problem(values, threshold):
    try:
        result = threshold_t_test(values, threshold)
    except PairsError:
        return
    assert np.isfinite([result.effect, result.t, result.se, result.ci_low, result.ci_high]).all()
    assert (result.ci_low >= 0) == (result.p_value <= 0.05)


def test_the_corrected_test_by_hand():
    """Ten folds with mean difference 2 and variance 10/9: t = 2 / √((1/10 + 1/9)·10/9)."""
    d = np.array([1.0, 3.0] * 5)
    result = corrected_resampled_t_test(d, np.zeros(10), folds=10)
    assert result.t == pytest.approx(2 / np.sqrt((1 / 10 + 1 / 9) * 10 / 9))
    assert (result.df, result.n, result.test_to_train) == (9, 10, pytest.approx(1 / 9))
    assert result.p_value == pytest.approx(stats.t.sf(result.t, 9))
    # A tenth of the data in the test part is the same.
    assert corrected_resampled_t_test(d, np.zeros(10), test_fraction=0.1).t == pytest.approx(result.t)
    # Without a training part that is shared it would be the paired t-test.
    assert corrected_resampled_t_test(d, np.zeros(10), test_fraction=1e-12).t == pytest.approx(
        paired_t_test(d, np.zeros(10)).t
    )


def cross_validated(rng, *, folds, repeats, size):
    """Scores of two learners that are equally good: each predicts the mean of half of the columns it was given.

    Real learners, so that the folds hang together as they do in practice: their training parts overlap.
    """
    data = rng.normal(0, 1, (size, 2))
    scores = np.empty((2, repeats, folds))
    for repeat in range(repeats):
        parts = np.array_split(rng.permutation(size), folds)
        for fold, part in enumerate(parts):
            train = np.delete(np.arange(size), part)
            for arm in range(2):
                # Both are scored on noise of the same size; a learner's error is that of its own column.
                scores[arm, repeat, fold] = -np.mean((data[part, arm] - data[train, arm].mean()) ** 2)
    return scores.reshape(2, -1)


@pytest.mark.long
def test_repeated_folds_reject_too_often_and_the_correction_keeps_the_level():
    rng = np.random.default_rng(6)
    studies = 600
    plain = corrected = 0
    for _ in range(studies):
        first, second = cross_validated(rng, folds=5, repeats=10, size=100)
        plain += paired_t_test(first, second).p_value <= 0.05
        corrected += corrected_resampled_t_test(first, second, folds=5).p_value <= 0.05
    assert plain / studies > 0.15
    assert corrected / studies <= band(0.05, studies)[1]


@pytest.mark.parametrize(
    "options",
    [{}, {"folds": 5, "test_fraction": 0.1}, {"folds": 1}, {"folds": 4}, {"test_fraction": 0}, {"test_fraction": 1}],
)
def test_folds_that_do_not_fit_are_refused(options):
    with pytest.raises(ConfigError, match=r"folds|test_fraction"):
        corrected_resampled_t_test(np.arange(10.0) ** 2, np.zeros(10), **options)


def test_folds_that_cannot_be_judged_are_refused():
    with pytest.raises(PairsError) as caught:
        corrected_resampled_t_test([0.3, 0.8], [0.2, 0.7], folds=2)
    assert caught.value.problem is PairsProblem.CONSTANT
