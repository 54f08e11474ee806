"""One pair of another size, ties and zeros at float noise: every test still sees the other pairs as they are."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tune_bn.analysis.race import race
from tune_bn.analysis.rounding import difference_error
from tune_bn.analysis.sensitivity import (
    bootstrap_interval,
    sensitivity_analysis,
    sign_flip_test,
    t_interval,
    wilcoxon_signed_rank,
)

BULK = np.linspace(0.3, 0.5, 14)


def arms(differences, baseline):
    """The differences as two arms have them, with what rounding may have done to each."""
    candidate = np.asarray(baseline) + np.asarray(differences)
    return candidate - baseline, difference_error(candidate, baseline)


def test_one_outlier_leaves_the_ranks_of_the_others():
    d = np.append(BULK, -1e10)
    assert wilcoxon_signed_rank(d).p_value == pytest.approx(0.0042, abs=5e-5)
    assert wilcoxon_signed_rank(d).p_value == stats.wilcoxon(d, alternative="greater").pvalue


@pytest.mark.parametrize("outlier", [-1e3, -1e10, -1e15, -1e20, -1e300, 1e10, 1e300, -1e-10, 1e-300])
def test_outliers_of_any_size_and_sign_leave_the_others_as_they_are(outlier):
    d = np.append(BULK, outlier)
    assert wilcoxon_signed_rank(d).p_value == stats.wilcoxon(d, alternative="greater").pvalue
    # Flipping signs: the outlier decides its half of the assignments, the rest is decided among the others.
    bulk = sign_flip_test(BULK).p_value
    if abs(outlier) > 100:
        expected = bulk / 2 if outlier > 0 else 0.5 + bulk / 2
        assert sign_flip_test(d).p_value == expected
    else:
        assert sign_flip_test(d).p_value <= 2 * bulk


def test_outliers_of_both_signs():
    d = np.concatenate([BULK, [-1e10, 3e10], -BULK[:3] / 7])
    assert wilcoxon_signed_rank(d).p_value == stats.wilcoxon(d, alternative="greater", method="exact").pvalue
    # The larger outlier decides, and then the smaller; where neither flips, the others.
    bulk = sign_flip_test(np.concatenate([BULK, -BULK[:3] / 7])).p_value
    assert sign_flip_test(d).p_value == 0.25 + bulk / 4


@pytest.mark.parametrize("height", [1e3, 1e7])
def test_scores_of_another_height_in_one_pair_leave_the_others_as_they_are(height):
    """Both arms are high on that seed; its difference is like the others."""
    baseline = np.append(np.full(14, 0.25), height)
    d, error = arms(np.append(BULK, 0.37), baseline)
    assert wilcoxon_signed_rank(d, error=error).p_value == 2.0**-15
    assert wilcoxon_signed_rank(d, error=error).ties == 0
    assert sign_flip_test(d, error=error).p_value == 2.0**-15


def test_a_pair_that_rounding_may_have_turned_is_a_zero_and_only_that_one():
    """At 1e17 a double has steps of 16, so a difference of 16 there says nothing."""
    baseline = np.append(np.full(14, 0.25), 1e17)
    d, error = arms(np.append(BULK, 16.0), baseline)
    result = wilcoxon_signed_rank(d, error=error)
    assert (result.zeros, result.n, result.p_value) == (1, 14, 2.0**-14)


def test_the_bootstrap_sees_that_the_others_vary():
    d = np.append(BULK, -1e10)
    low, high = bootstrap_interval(d, alpha=0.1)
    # Without the outlier in it a resample is far above the mean and narrow: the lower end is far out, but no end is
    # open, as it was where the others counted as one value.
    assert low is not None
    assert low < -1e10
    assert high is not None


def test_zeros_and_ties_at_float_noise():
    d, error = arms([0.0, 0.0, 0.1, 0.1, -0.1, 0.2, 0.2], [0.1, 0.7, 0.7, 0.2, 0.3, 0.1, 97.3])
    d[0], error[0] = 0.1 + 0.2 - 0.3, difference_error([0.1 + 0.2], [0.3])[0]
    assert len(set(np.abs(d))) > 4, "the doubles differ"
    result = wilcoxon_signed_rank(d, error=error)
    assert (result.zeros, result.ties, result.statistic) == (2, 5, 2 + 2 + 4.5 + 4.5)
    # Of the 2⁷ assignments of (0, 0, 1, 1, −1, 2, 2) those with a sum of at least 5.
    whole = [0, 0, 1, 1, -1, 2, 2]
    assert sign_flip_test(d, error=error).p_value == counted(whole)


def counted(whole):
    observed = sum(whole)
    sums = [
        sum(s * abs(w) for s, w in zip(signs, whole, strict=True))
        for signs in itertools.product([1, -1], repeat=len(whole))
    ]
    return float(Fraction(sum(s >= observed for s in sums), len(sums)))


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 897), st.integers(-4, 4)), min_size=2, max_size=9),
    st.sampled_from([1.0, 100.0, 1e-12, 1e12, 1e-300, 1e290]),
    st.one_of(st.none(), st.sampled_from([-7, 7])),
)
def test_multiples_of_an_image_are_counted_as_whole_images_in_any_unit(pairs, unit, outlier):
    """Also beside a pair whose difference is 10¹² times as large."""
    images = [more for _, more in pairs]
    baseline = unit * np.array([hits / 897 for hits, _ in pairs])
    candidate = unit * np.array([(hits + more) / 897 for hits, more in pairs])
    if outlier is not None:
        images = [*images, outlier * 10**12]
        baseline, candidate = np.append(baseline, 0.0), np.append(candidate, unit * outlier * 1e12 / 897)
    if len(set(images)) == 1:
        return
    d, error = candidate - baseline, difference_error(candidate, baseline)
    result = wilcoxon_signed_rank(d, error=error)
    assert result.zeros == images.count(0)
    assert sign_flip_test(d, error=error).p_value == counted(images)
    kept = [image for image in images if image]
    ranks = stats.rankdata(np.abs(kept))
    assert result.p_value == counted([int(2 * r) * (1 if k > 0 else -1) for r, k in zip(ranks, kept, strict=True)])


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.sampled_from([1.0, 1e12, 1e-12, 1e299, 1e-290]))
def test_the_signed_rank_test_is_scipys_on_differences_of_many_sizes(seed, n, unit):
    rng = np.random.default_rng(seed)
    d = unit * rng.normal(0.3, 1, n) * 10.0 ** -rng.integers(0, 12, n)
    expected = stats.wilcoxon(d, alternative="greater", method="exact").pvalue
    assert wilcoxon_signed_rank(d).p_value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unit", [1e300, 1e12, 1e-12, 1e-300])
def test_no_answer_depends_on_the_unit_of_the_scores(unit):
    d = np.append(BULK[:9] * np.array([1, -1, 1, 1, 1, -1, 1, 1, 1]), 0.9)
    plain, scaled = sensitivity_analysis(d), sensitivity_analysis(unit * d)
    for name in ("wilcoxon", "sign_flip"):
        assert plain[name] == scaled[name]
    for name in ("t_interval", "bootstrap_interval"):
        assert np.array(scaled[name]) / unit == pytest.approx(np.array(plain[name]), rel=1e-6)


@pytest.mark.long
def test_the_t_interval_belongs_to_the_one_sided_test():
    rng = np.random.default_rng(9)
    for _ in range(3000):
        d = rng.normal(rng.normal(0, 0.5), 1, rng.integers(2, 20))
        low, high = t_interval(d, alpha=0.1)
        assert (low >= 0) == (stats.t.sf(d.mean() / d.std(ddof=1) * np.sqrt(d.size), d.size - 1) <= 0.05)
        assert low < d.mean() < high


def test_a_finalist_with_scores_of_another_size_hides_no_difference_of_the_others():
    """The race compares every two; a third one's scores set no tolerance."""
    better, worse = [0.9, 0.91, 0.92, 0.9, 0.93], [0.1, 0.13, 0.11, 0.12, 0.1]
    huge = [1e13, -1e13, 3e13, -2e13, 1e13]
    scores = {"better": better, "worse": worse, "huge": huge}
    assert "worse" in race(scores, seeds=8, error=0.05).dropped
