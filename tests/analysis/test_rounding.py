from __future__ import annotations

import numpy as np
import pytest

from tune_bn.analysis.paired import PairsError, PairsProblem, paired_t_test
from tune_bn.analysis.rounding import difference_error, levels, score_error, varies


@pytest.mark.parametrize(
    ("candidate", "baseline"),
    [
        # One pair with scores of another size says nothing about the others.
        ([0.3, 0.35, 0.5, 0.4, 1e10 + 0.5], [0.0, 0.0, 0.0, 0.0, 1e10]),
        ([1e12 + 1, 1e12 + 2, 1e12 + 4], [1e12, 1e12, 1e12]),
        ([1e12 + 0.31, 1e12 + 0.42, 1e12 + 0.53], [1e12, 1e12, 1e12]),
        ([1e-12, 3e-12, 2e-12], [0.0, 1e-13, 0.0]),
        ([1e-300, 3e-300, 2e-300], [0.0, 1e-301, 0.0]),
        ([1e300, -1e300, 5e299], [-1e300, 1e299, 0.0]),
        # Whole numbers are exact, whatever their size.
        ([2.0**52 + 1, 2.0**52 + 3], [2.0**52, 2.0**52]),
    ],
)
def test_differences_that_vary_are_judged(candidate, baseline):
    result = paired_t_test(candidate, baseline)
    assert np.isfinite([result.effect, result.std, result.t, result.ci_low, result.ci_high]).all()
    scaled = np.longdouble(candidate) - np.longdouble(baseline)
    scaled /= np.max(np.abs(scaled))
    t = scaled.mean() / (scaled.std(ddof=1) / np.sqrt(len(scaled)))
    assert result.t == pytest.approx(float(t), rel=1e-3)


@pytest.mark.parametrize(
    ("candidate", "baseline", "problem"),
    [
        ([0.1 + 0.2, 0.7, 0.3], [0.3, 0.7, 0.1 + 0.2], PairsProblem.IDENTICAL),
        ([0.1 + 0.2, 0.8, 97.3], [0.2, 0.7, 97.2], PairsProblem.CONSTANT),
        # 1/897 more on every seed, as doubles and as singles that were widened.
        ([100 * k / 897 for k in range(800, 815)], [100 * k / 897 for k in range(799, 814)], PairsProblem.CONSTANT),
        (
            [float(np.float32(k / 897)) for k in range(800, 815)],
            [float(np.float32(k / 897)) for k in range(799, 814)],
            PairsProblem.CONSTANT,
        ),
        # A mean that was added up image by image.
        (
            [sum([1e-4] * k) for k in (9000, 9100, 9200)],
            [k / 10_000 for k in (8900, 9000, 9100)],
            PairsProblem.CONSTANT,
        ),
        ([1e12 + 0.5, 1e12 + 7.5, -1e12 + 0.5], [1e12, 1e12 + 7, -1e12], PairsProblem.CONSTANT),
        ([5e-324, 1.5e-323], [0.0, 0.0], PairsProblem.CONSTANT),
    ],
)
def test_differences_that_vary_by_rounding_alone_are_refused(candidate, baseline, problem):
    with pytest.raises(PairsError) as caught:
        paired_t_test(candidate, baseline)
    assert caught.value.problem is problem


def test_steps_are_those_of_the_scores_behind_them():
    baseline = np.array([100 * k / 897 for k in range(500, 520)])
    images = np.array([3, 1, 1, 2, 3, 0, 2, 1, 0, 3, 5, 5, 4, 3, 2, 1, 1, 0, 0, 7])
    candidate = np.array([100 * (k + more) / 897 for k, more in zip(range(500, 520), images, strict=True)])
    expected = np.searchsorted(np.unique(images), images)
    assert levels(candidate - baseline, difference_error(candidate, baseline)).tolist() == expected.tolist()


def test_the_error_is_of_the_size_of_the_score_of_its_own_pair():
    error = difference_error([1e10, 0.3], [1e10, 0.1])
    assert error[0] < 1e-4
    assert error[1] < 1e-14
    assert score_error([1.0, 2.0, -7.0])[0].tolist() == [0, 0, 0]
    # Quarters are exact singles; a third that was a single is not.
    assert score_error([0.25, 0.5])[0].max() < 1e-14
    assert score_error([0.25, float(np.float32(1 / 3))])[0].max() > 1e-9


def test_many_studies_at_once_vary_or_not():
    d = np.array([[0.1, 0.2, 0.3], [0.1, 0.1, 0.1 + 1e-17]])
    assert varies(d, 1e-16 * np.ones_like(d)).tolist() == [True, False]
