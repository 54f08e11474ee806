from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from tune_bn.analysis.paired import PairsError, PairsProblem, holm, paired_t_statistics, paired_t_test

# Student's sleep data (Biometrika 6, 1908): hours of extra sleep of ten patients under two drugs. R's data set
# `sleep`; t.test(paired = TRUE) gives t = 4.0621, df = 9, p = 0.002833 (two-sided), mean difference 1.58.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

ACCURACIES = st.integers(min_value=0, max_value=897).map(lambda hits: 100 * hits / 897)


def test_students_sleep_data():
    result = paired_t_test(SLEEP_2, SLEEP_1)
    assert result.n == 10
    assert result.df == 9
    assert result.effect == pytest.approx(1.58, abs=1e-12)
    assert result.t == pytest.approx(4.0621, abs=5e-5)
    assert result.p_value == pytest.approx(0.002833 / 2, abs=5e-7)
    # t(0.95, 9) = 1.833 from printed tables.
    assert result.ci_low == pytest.approx(1.58 - 1.833 * result.std / np.sqrt(10), abs=5e-4)
    assert result.d_z == pytest.approx(4.0621 / np.sqrt(10), abs=5e-5)


def test_the_other_direction_is_no_evidence():
    assert paired_t_test(SLEEP_1, SLEEP_2).p_value == pytest.approx(1 - 0.002833 / 2, abs=5e-7)


@pytest.mark.parametrize("n", [2, 3, 15, 60])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_agrees_with_scipy(n, alpha):
    rng = np.random.default_rng(n)
    candidate, baseline = rng.normal(97, 1, n), rng.normal(96.5, 1, n)
    expected = stats.ttest_rel(candidate, baseline, alternative="greater")
    result = paired_t_test(candidate, baseline, alpha=alpha)
    assert result.t == pytest.approx(expected.statistic, rel=1e-12)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert result.ci_low == pytest.approx(expected.confidence_interval(1 - alpha).low, rel=1e-12)
    assert result.correlation == pytest.approx(stats.pearsonr(candidate, baseline).statistic, rel=1e-12)


def test_p_value_is_the_tail_of_students_density():
    candidate, baseline = np.array([97.1, 96.2, 97.9, 96.8]), np.array([96.0, 96.1, 96.5, 96.9])
    d = candidate - baseline
    t = d.mean() / (d.std(ddof=1) / 2)
    # With 3 degrees of freedom the density is 6√3 / (π (3 + x²)²).
    tail, _ = integrate.quad(lambda x: 6 * np.sqrt(3) / (np.pi * (3 + x**2) ** 2), t, np.inf)
    assert paired_t_test(candidate, baseline).p_value == pytest.approx(tail, rel=1e-8)


@pytest.mark.parametrize(
    ("candidate", "baseline", "problem"),
    [
        ([97.0, 96.0], [96.0], PairsProblem.UNPAIRED),
        ([[97.0, 96.0]], [[96.0, 95.0]], PairsProblem.UNPAIRED),
        ([], [], PairsProblem.TOO_FEW),
        ([97.0], [96.0], PairsProblem.TOO_FEW),
        ([97.0, np.nan], [96.0, 95.0], PairsProblem.NOT_FINITE),
        ([97.0, np.inf], [96.0, np.inf], PairsProblem.NOT_FINITE),
        ([1e308, -1e308], [-1e308, 1e308], PairsProblem.NOT_FINITE),
        ([97.0, 96.0], [97.0, 96.0], PairsProblem.IDENTICAL),
        ([97.0, 97.0], [97.0, 97.0], PairsProblem.IDENTICAL),
        ([97.0, 96.0], [96.0, 95.0], PairsProblem.CONSTANT),
        # 0.3 − 0.2 and 0.8 − 0.7 differ in the last bit.
        ([0.3, 0.8], [0.2, 0.7], PairsProblem.CONSTANT),
        ([100.0, 100.0, 100.0], [10.0, 10.0, 10.0], PairsProblem.CONSTANT),
    ],
)
def test_what_a_t_test_cannot_judge_is_refused_by_name(candidate, baseline, problem):
    with pytest.raises(PairsError) as caught:
        paired_t_test(candidate, baseline)
    assert caught.value.problem is problem


def test_an_arm_that_does_not_vary_has_no_correlation():
    result = paired_t_test([97.0, 96.5, 98.0], [10.0, 10.0, 10.0])
    assert result.correlation is None
    assert 0 < result.p_value < 0.05


@pytest.mark.long
@given(st.data(), st.integers(min_value=0, max_value=60))
def test_every_pair_of_arms_gives_finite_numbers_or_a_named_problem(data, n):
    values = st.one_of(ACCURACIES, st.floats(width=64), st.just(10.0))
    first, second = (data.draw(arrays(float, n, elements=values)) for _ in range(2))
    try:
        result = paired_t_test(first, second)
    except PairsError:
        return
    numbers = [result.effect, result.std, result.ci_low, result.t, result.p_value, result.d_z]
    assert np.isfinite(numbers).all()
    assert 0 < result.p_value <= 1
    assert result.std > 0
    assert result.ci_low < result.effect


@pytest.mark.long
@given(st.data(), st.integers(min_value=3, max_value=20))
def test_the_bound_and_the_p_value_tell_the_same_story(data, n):
    first, second = (np.array(data.draw(st.lists(ACCURACIES, min_size=n, max_size=n))) for _ in range(2))
    try:
        result = paired_t_test(first, second, alpha=0.05)
    except PairsError:
        return
    if abs(result.p_value - 0.05) > 1e-9:
        assert (result.ci_low > 0) == (result.p_value < 0.05)


def test_many_studies_at_once_equal_one_at_a_time():
    rng = np.random.default_rng(0)
    candidate, baseline = rng.normal(0, 1, (7, 3, 15)), rng.normal(0, 1, (7, 1, 15))
    t, p_value, ci_low = paired_t_statistics(candidate, baseline, alpha=0.05)
    assert t.shape == p_value.shape == ci_low.shape == (7, 3)
    one = paired_t_test(candidate[4, 2], baseline[4, 0])
    assert (one.t, one.p_value, one.ci_low) == pytest.approx((t[4, 2], p_value[4, 2], ci_low[4, 2]), rel=1e-12)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.03], [0.03]),
        # The worked example of "Holm–Bonferroni method" (Wikipedia): H1 and H4 fall at α = 0.05, H2 and H3 stand.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # R: p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm").
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.5, 0.9, 0.7], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_on_worked_examples(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, abs=1e-12)


def step_down(p_values: list[float], alpha: float) -> set[int]:
    """Holm's procedure as he states it: reject from the smallest on, at α/m, α/(m−1), …, up to one that stands."""
    rejected: set[int] = set()
    for index in sorted(range(len(p_values)), key=p_values.__getitem__):
        if p_values[index] > alpha / (len(p_values) - len(rejected)):
            break
        rejected.add(index)
    return rejected


@pytest.mark.long
@given(
    st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=1, max_size=8),
    # Levels off the grid of the p-values, so that rounding decides nothing.
    st.integers(1, 300).map(lambda k: k / 1000 + 1e-5),
)
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, alpha):
    assert set(np.flatnonzero(holm(p_values) <= alpha)) == step_down(p_values, alpha)


@pytest.mark.long
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_keeps_order_and_bounds(p_values, random):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values))).all()
    order = list(range(len(p_values)))
    random.shuffle(order)
    assert holm([p_values[i] for i in order]) == pytest.approx(adjusted[order])


@pytest.mark.parametrize("p_values", [0.5, [1.2], [-0.1], [np.nan]])
def test_holm_refuses_what_is_no_probability(p_values):
    with pytest.raises(ValueError, match="probabilities"):
        holm(p_values)
