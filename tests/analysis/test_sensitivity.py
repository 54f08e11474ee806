from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tune_bn.analysis import sensitivity
from tune_bn.analysis.paired import PairsError, PairsProblem, paired_t_test
from tune_bn.analysis.rounding import difference_error
from tune_bn.analysis.sensitivity import (
    EXACT_UP_TO,
    FLIPS,
    STREAM,
    bootstrap_interval,
    sensitivity_analysis,
    sign_flip_test,
    t_interval,
    wilcoxon_signed_rank,
)

# Darwin's maize (The Effects of Cross and Self Fertilisation, 1876), crossed minus self-fertilized, in eighths of an
# inch. Fisher (The Design of Experiments, §21) counted by hand: of the 32,768 sums 863 are at least the observed 314.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]

FUNCTIONS = [wilcoxon_signed_rank, sign_flip_test, t_interval, bootstrap_interval, sensitivity_analysis]


def drawn(n, *, shift=0.3, seed=0):
    return np.random.default_rng([n, seed]).normal(shift, 1, n)


def band(probability, trials):
    """Where a count of ``trials`` lies with probability 0.9999, as a rate."""
    low, high = stats.binom.interval(0.9999, trials, probability)
    return low / trials, high / trials


def test_fishers_count_of_darwins_maize():
    result = sign_flip_test(DARWIN)
    assert (result.flips, result.exact) == (32768, True)
    assert result.p_value == 863 / 32768


@pytest.mark.parametrize("n", [2, 3, 5, 15, EXACT_UP_TO])
def test_the_signed_rank_test_is_scipys(n):
    d = drawn(n)
    expected = stats.wilcoxon(d, alternative="greater", method="exact")
    result = wilcoxon_signed_rank(d)
    assert (result.n, result.zeros, result.ties, result.exact) == (n, 0, 0, True)
    assert result.statistic == expected.statistic
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", [EXACT_UP_TO + 1, 100])
def test_beyond_the_exact_range_it_is_scipys_normal_approximation_with_zeros_and_ties(n):
    d = np.round(4 * drawn(n + 9))[:n]
    d = np.concatenate([d[d != 0], drawn(n), [0.0, 0.0]])
    expected = stats.wilcoxon(d, alternative="greater", method="approx", zero_method="wilcox")
    result = wilcoxon_signed_rank(d)
    assert (result.zeros, result.exact) == (2, False)
    assert result.ties > 0
    assert result.statistic == expected.statistic
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_the_sign_flip_test_is_scipys_permutation_test(n):
    d = drawn(n)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", alternative="greater", n_resamples=1e9)
    assert sign_flip_test(d).p_value == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.mark.parametrize("n", [2, 15, 60])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_the_t_interval_is_scipys_and_contains_the_one_sided_bound(n, alpha):
    d = drawn(n)
    expected = stats.ttest_1samp(d, 0).confidence_interval(1 - alpha)
    assert t_interval(d, alpha=alpha) == pytest.approx((expected.low, expected.high), rel=1e-12)
    one_sided = paired_t_test(d, np.zeros(n), alpha=alpha / 2).ci_low
    assert t_interval(d, alpha=alpha)[0] == pytest.approx(one_sided, rel=1e-12)


def exact_p_values(sizes: list[int]) -> tuple[Fraction, Fraction]:
    """Both tests by listing all signs, in whole numbers: signed-rank, sign-flip."""
    kept = [size for size in sizes if size]
    magnitudes = sorted(map(abs, kept))
    doubled = {m: 2 * magnitudes.index(m) + 1 + magnitudes.count(m) for m in magnitudes}
    rank_weights = [(doubled[abs(size)], size > 0) for size in kept]
    flip_weights = [(abs(size), size > 0) for size in sizes]

    def share(weights):
        observed = sum(weight for weight, positive in weights if positive)
        signs = list(itertools.product([0, 1], repeat=len(weights)))
        hits = sum(sum(w * s for (w, _), s in zip(weights, one, strict=True)) >= observed for one in signs)
        return Fraction(hits, len(signs))

    return share(rank_weights), share(flip_weights)


@given(st.lists(st.tuples(st.integers(10, 887), st.integers(-9, 9)), min_size=2, max_size=8))
def test_differences_of_accuracies_are_counted_as_whole_images(pairs):
    """Ties, zeros and equal sums, which are the rule with accuracies, are found in spite of rounding."""
    images = [more for _, more in pairs]
    candidate = np.array([100 * (hits + more) / 897 for hits, more in pairs])
    baseline = np.array([100 * hits / 897 for hits, _ in pairs])
    d, error = candidate - baseline, difference_error(candidate, baseline)
    if len(set(images)) == 1:
        return
    signed_rank, sign_flip = exact_p_values(images)
    result = wilcoxon_signed_rank(d, error=error)
    assert result.p_value == float(signed_rank)
    assert result.zeros == images.count(0)
    assert sign_flip_test(d, error=error).p_value == float(sign_flip)


@given(st.lists(st.integers(-30, 30), min_size=2, max_size=20))
def test_the_two_sides_share_the_observed_sum_alone(sizes):
    """P(S ≥ s) + P(S ≤ s) = 1 + P(S = s): no sign is counted for neither side, and the test is one-sided."""
    if len(set(sizes)) == 1:
        return
    forwards, backwards = np.array(sizes, dtype=float), -np.array(sizes, dtype=float)
    ranks = [wilcoxon_signed_rank(d) for d in (forwards, backwards)]
    flips = [sign_flip_test(d) for d in (forwards, backwards)]
    for (up, down), sign in ((ranks, ranks[0].statistic - ranks[1].statistic), (flips, sum(sizes))):
        assert 1 < up.p_value + down.p_value <= 2
        assert np.sign(down.p_value - up.p_value) == np.sign(sign)


def test_drawn_flips_agree_with_all_flips(monkeypatch):
    d = drawn(EXACT_UP_TO, shift=0.25)
    exact = sign_flip_test(d)
    monkeypatch.setattr(sensitivity, "EXACT_UP_TO", EXACT_UP_TO - 1)
    random = sign_flip_test(d)
    assert (random.flips, random.exact) == (FLIPS, False)
    low, high = band(exact.p_value, FLIPS)
    assert low <= random.p_value <= high
    assert random.p_value == sign_flip_test(d).p_value
    # 1 / (1 + flips) is the least that may be claimed.
    assert sign_flip_test(np.arange(1.0, 40.0)).p_value == 1 / (1 + FLIPS)


def plain_bootstrap(d, alpha, resamples):
    """The docstring's formula, one resample at a time, in Python's own numbers."""
    n = len(d)
    words = np.random.PCG64(STREAM)
    columns = []
    for _ in range(n):
        raw = [int(word) for word in words.random_raw(math.ceil(resamples / 2))]
        halves = [word >> 32 for word in raw] + [word % 2**32 for word in raw]
        columns.append([half * n >> 32 for half in halves[:resamples]])
    mean = math.fsum(d) / n
    se = math.sqrt(math.fsum((x - mean) * (x - mean) for x in d) / (n - 1) / n)
    t = []
    for row in zip(*columns, strict=True):
        star = [d[index] for index in row]
        total, squares = 0.0, 0.0
        for x in star:
            total += x
        for x in star:
            squares += (x - total / n) * (x - total / n)
        t.append((total / n - mean) / math.sqrt(squares / (n - 1) / n))
    t.sort()
    rank = round((resamples + 1) * alpha / 2)
    return mean - t[resamples - rank] * se, mean - t[rank - 1] * se


@pytest.mark.parametrize(("n", "alpha"), [(8, 0.05), (15, 0.1)])
def test_the_bootstrap_is_its_formula_to_the_last_bit(n, alpha):
    d = drawn(n)
    assert bootstrap_interval(d, alpha=alpha, resamples=399) == plain_bootstrap(list(map(float, d)), alpha, 399)


def test_intervals_move_with_the_unit_and_the_direction():
    d = drawn(15)
    low, high = bootstrap_interval(d)
    assert bootstrap_interval(1024 * d) == (1024 * low, 1024 * high)
    assert bootstrap_interval(-d) == pytest.approx((-high, -low), rel=1e-12)


@pytest.mark.parametrize(
    ("d", "alpha", "is_open"),
    [
        # Of two values half of the resamples hold one alone; of three a ninth, of eight hardly any.
        ([1.0, 2.0], 0.05, (True, True)),
        ([1.0, 2.0, 4.0], 0.05, (True, True)),
        ([1.0, 2.0, 4.0], 0.5, (False, False)),
        (list(range(8)), 0.05, (False, False)),
        # Two resamples in five hold only zeros and would say that the mean is 0 for sure.
        ([0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 0.05, (False, True)),
        # 9,999 resamples have no quantile so far out.
        (list(range(8)), 1e-5, (True, True)),
    ],
)
def test_an_end_that_the_resamples_cannot_bound_is_open(d, alpha, is_open):
    assert tuple(end is None for end in bootstrap_interval(d, alpha=alpha)) == is_open


STUDIES, N = 1000, 15


@pytest.mark.long
@pytest.mark.parametrize("shape", ["normal", "discrete", "skewed"])
def test_the_intervals_cover(shape):
    rng = np.random.default_rng(1)
    draw = {
        "normal": lambda: rng.normal(0.4, 1, N),
        "discrete": lambda: (rng.binomial(897, 0.96, N) - rng.binomial(897, 0.956, N)) / 8.97,
        "skewed": lambda: rng.exponential(1, N) - 0.6,
    }[shape]
    covered = {"t": 0, "bootstrap": 0}
    for _ in range(STUDIES):
        d = draw()
        for name, (low, high) in {"t": t_interval(d), "bootstrap": bootstrap_interval(d, resamples=999)}.items():
            covered[name] += low <= 0.4 <= high
    low, high = band(0.95, STUDIES)
    assert low <= covered["bootstrap"] / STUDIES <= high
    if shape == "skewed":
        # What the bootstrap is there for: here the t interval falls short.
        assert covered["t"] / STUDIES < low
    else:
        assert low <= covered["t"] / STUDIES <= high


@pytest.mark.long
@pytest.mark.parametrize("test", [wilcoxon_signed_rank, sign_flip_test])
@pytest.mark.parametrize("shape", ["heavy", "two sizes"])
def test_without_an_effect_the_rejection_rate_is_at_most_alpha(test, shape):
    rng = np.random.default_rng(2)
    draw = {
        "heavy": lambda: rng.standard_t(2, N),
        "two sizes": lambda: rng.choice([-3.0, -1.0, 1.0, 3.0], N),
    }[shape]
    p_values = np.array([test(draw()).p_value for _ in range(2 * STUDIES)])
    for alpha in (0.01, 0.05, 0.2):
        low, high = band(alpha, 2 * STUDIES)
        rate = np.mean(p_values <= alpha)
        assert rate <= high
        # Without ties there are enough levels for the rate to come near alpha.
        assert shape == "two sizes" or rate >= low


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("d", "problem"),
    [
        ([[1.0, 2.0]], PairsProblem.UNPAIRED),
        ([], PairsProblem.TOO_FEW),
        ([1.0], PairsProblem.TOO_FEW),
        ([1.0, np.nan], PairsProblem.NOT_FINITE),
        ([1.0, -np.inf], PairsProblem.NOT_FINITE),
        ([1e308, -1e308], PairsProblem.NOT_FINITE),
        ([0.0, 0.0, -0.0], PairsProblem.IDENTICAL),
        ([0.7, 0.7, 0.7], PairsProblem.CONSTANT),
        ([0.3 - 0.2, 0.8 - 0.7], PairsProblem.CONSTANT),
    ],
)
def test_what_the_t_test_refuses_is_refused(function, d, problem):
    with pytest.raises(PairsError) as caught:
        function(d)
    assert caught.value.problem is problem


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(width=64), st.one_of(st.floats(width=64), st.just(1.0))), min_size=0, max_size=40),
    st.floats(1e-300, 0.5),
)
def test_what_the_t_test_takes_is_taken_and_every_number_is_finite(pairs, alpha):
    first, second = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    with np.errstate(all="ignore"):
        try:
            paired_t_test(first, second)
        except PairsError:
            return
    result = sensitivity_analysis(first - second, alpha=alpha)
    assert result == sensitivity_analysis(first - second, alpha=alpha)
    for name in ("wilcoxon", "sign_flip"):
        assert 0 < result[name]["p_value"] <= 1
    for name in ("t_interval", "bootstrap_interval"):
        low, high = (math.nan if end is None else end for end in result[name])
        assert not math.isinf(low)
        assert not math.isinf(high)
        assert not low > high
