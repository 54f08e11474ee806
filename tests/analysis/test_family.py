from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_bn.analysis.family import Comparison, comparison, judge_family
from tune_bn.analysis.paired import holm, paired_t_test
from tune_bn.analysis.t_result import t_result


def family(*effects, df=14, alpha=0.05):
    """Judged comparisons with these effects, in standard errors."""
    results = {str(i): t_result(effect=effect, se=1.0, df=df, alpha=alpha) for i, effect in enumerate(effects)}
    return judge_family({name: comparison(result) for name, result in results.items()}, alpha=alpha), results


def test_a_family_of_one_has_the_interval_of_its_test():
    judged, results = family(1.9)
    only = judged["0"]
    assert only.p_adjusted == results["0"].p_value
    assert only.interval == (results["0"].ci_low, results["0"].ci_high)
    assert only.levels == (0.05, 0.05)
    assert (only.supported, only.worse) == (True, False)


def test_gains_and_losses_are_found_side_by_side():
    judged, results = family(5.0, -4.0, -6.0, -4.5)
    assert [one.supported for one in judged.values()] == [True, False, False, False]
    assert [one.worse for one in judged.values()] == [False, True, True, True]
    losses = [result.p_value_less for result in results.values()]
    assert [one.p_adjusted_less for one in judged.values()] == pytest.approx(holm(losses).tolist())


def test_a_comparison_that_only_its_own_p_value_supports_gets_an_interval_that_contains_0():
    """p = .03 beside three others: below .05 alone, not adjusted; the plain interval would contradict the decision."""
    judged, results = family(2.0, 0.1, 0.2, 0.3)
    assert results["0"].ci_low > 0
    assert not judged["0"].supported
    assert judged["0"].interval[0] < 0
    assert judged["0"].levels[0] == 0.05 / 4


def test_the_levels_are_those_of_the_steps():
    judged, _ = family(5.0, 4.0, 0.1, -9.0)
    assert [one.levels[0] for one in judged.values()] == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 2, 0.05 / 2])
    assert [one.levels[1] for one in judged.values()] == pytest.approx([0.05 / 3, 0.05 / 3, 0.05 / 3, 0.05 / 4])


@pytest.mark.long
def test_every_interval_says_what_its_decision_says():
    rng = np.random.default_rng(7)
    for _ in range(3000):
        effects = np.round(rng.normal(0, rng.choice([1.0, 3.0, 8.0]), rng.integers(1, 10)), 2)
        alpha = float(rng.choice([1e-6, 0.01, 0.05, 0.1, 0.49]))
        judged, results = family(*map(float, effects), df=int(rng.integers(1, 31)), alpha=alpha)
        check_story(judged, results, alpha)


def check_story(judged, results, alpha):
    for name, one in judged.items():
        low, high = one.interval
        assert (low >= 0) == one.supported == (one.p_adjusted <= alpha)
        assert (high <= 0) == one.worse == (one.p_adjusted_less <= alpha)
        assert not (one.supported and one.worse)
        alone = results[name]
        assert (alone.ci_low >= 0) == (alone.p_value <= alpha)
        assert (alone.ci_high <= 0) == (alone.p_value_less <= alpha)
        assert alone.ci_low <= alone.effect <= alone.ci_high
        # Whoever reads the interval as two-sided at 1 − 2·alpha reads the two-sided p-value beside it.
        excluded = alone.ci_low >= 0 or alone.ci_high <= 0
        assert excluded == (alone.p_value_two_sided <= 2 * alpha)


@pytest.mark.long
@given(st.integers(0, 2**32 - 1), st.integers(2, 20))
def test_a_level_that_is_the_p_value_itself_rejects_and_its_bound_is_0(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.5, 1, n), rng.normal(0, 1, n)
    p_value = paired_t_test(a, b).p_value
    if not 1e-7 < p_value < 0.5:
        return
    assert paired_t_test(a, b, alpha=p_value).ci_low >= 0
    assert paired_t_test(a, b, alpha=p_value).ci_low == pytest.approx(0, abs=1e-9)
    assert paired_t_test(a, b, alpha=np.nextafter(p_value, 0)).ci_low < 0


def test_an_end_that_is_open_stays_open():
    judged = judge_family({"a": Comparison(0.5, 0.5, lambda level: (None, None))}, alpha=0.05)
    assert judged["a"].interval == (None, None)


@pytest.mark.long
def test_under_the_null_false_gains_and_false_losses_each_keep_the_level():
    rng = np.random.default_rng(8)
    studies, gains, losses = 500, 0, 0
    for _ in range(studies):
        base = rng.normal(0, 1, 8)
        judged = judge_family(
            {str(i): comparison(paired_t_test(rng.normal(0, 1, 8), base)) for i in range(4)}, alpha=0.05
        )
        gains += any(one.supported for one in judged.values())
        losses += any(one.worse for one in judged.values())
    for rate in (gains / studies, losses / studies):
        assert 0.01 < rate < 0.09
