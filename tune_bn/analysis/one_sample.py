"""t-tests of one sample: against a published number, and of the folds of a cross-validation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tune_bn.analysis.paired import check_finite, check_not_too_small, paired_differences
from tune_bn.analysis.rounding import mean_of, score_error, std_of, varies
from tune_bn.analysis.t_result import PairsError, PairsProblem, TResult, t_result
from tune_bn.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OneSampleResult(TResult):
    """Outcome of a test of one sample."""

    n: int
    """Scores, or differences."""
    std: float
    """Their standard deviation (ddof = 1)."""


@dataclass(frozen=True, kw_only=True)
class ResampledResult(OneSampleResult):
    """Outcome of :func:`corrected_resampled_t_test`; ``effect`` is the mean difference over all folds."""

    test_to_train: float
    """Size of a test part over that of its training part."""


def threshold_t_test(values: ArrayLike, threshold: float, *, alpha: float = 0.05) -> OneSampleResult:
    """Is the mean above a number that is known? One-sided one-sample t-test.

    t = (mean − threshold) / (std / √n) with n − 1 degrees of freedom; ``effect`` is mean − threshold. The number counts
    as exact: where it is a published mean of few runs, its own spread is left out, and the test is too favourable.

    Args:
        values: scores, shape (n,), n ≥ 2, independent.
        threshold: the number to exceed. For a score that is to be low the caller turns both signs.
        alpha: level of the test and of the bounds.

    Raises:
        PairsError: fewer than two scores, not finite, or all the same.

    Source: Student, Biometrika 6, 1908.
    """
    scores, limit = np.asarray(values, dtype=float), np.asarray(threshold, dtype=float)
    if scores.ndim != 1 or limit.ndim != 0:
        raise PairsError(
            PairsProblem.UNPAIRED,
            f"scores of shape {scores.shape} and a threshold of shape {limit.shape}; accepted: (n,) and a number",
        )
    if scores.size < 2:
        raise PairsError(PairsProblem.TOO_FEW, f"{scores.size} scores; accepted: two or more")
    check_finite(scores, limit[None])
    (error,) = score_error(scores)
    if not varies(scores, error):
        raise PairsError(
            PairsProblem.CONSTANT, f"its scores are all the same {scores[0]:.6g}, which no t-test can judge"
        )
    check_not_too_small(scores)
    # Seen from a score of their own first, so that a common height costs no digits.
    origin = float(np.median(scores))
    effect = mean_of(scores - origin) + (origin - float(limit))
    return OneSampleResult(**_fields(effect, std_of(scores), scores.size, 1 / scores.size, alpha))


def corrected_resampled_t_test(
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    folds: int | None = None,
    test_fraction: float | None = None,
    alpha: float = 0.05,
) -> ResampledResult:
    """Is the candidate better over the folds of a cross-validation? One-sided corrected resampled t-test.

    Scores of different folds are no independent runs, since their training parts overlap: the plain paired t-test takes
    their spread for that of independent ones and rejects too often, the more so the more often the folds are repeated.
    The correction of Nadeau and Bengio widens the standard error:

        t = mean(d) / √((1/J + n_test/n_train)·var(d)),  J − 1 degrees of freedom,

    over the J = folds·repeats differences d = candidate − baseline; n_test/n_train is 1/(folds − 1) for a k-fold
    cross-validation, once or repeated. It is a heuristic that is calibrated in practice, not an exact test.

    Args:
        candidate: scores, shape (J,), one for each fold of each repeat.
        baseline: scores on the same parts, in the same order, shape (J,).
        folds: folds of a cross-validation; J is a multiple of it.
        test_fraction: instead of ``folds``, the share of the data in a random test part, between 0 and 1.
        alpha: level of the test and of the bounds.

    Raises:
        ConfigError: ``folds`` or ``test_fraction`` is not acceptable, or not exactly one of them is given.
        PairsError: as :func:`tune_bn.analysis.paired.paired_t_test`.

    Source: Nadeau & Bengio, Machine Learning 52, 2003; Bouckaert & Frank, PAKDD 2004, for repeated folds.
    """
    first, second = np.asarray(candidate, dtype=float), np.asarray(baseline, dtype=float)
    differences, exponent = paired_differences(first, second)
    ratio = _test_to_train(folds, test_fraction, differences.size)
    effect, std = math.ldexp(mean_of(differences), exponent), math.ldexp(std_of(differences), exponent)
    return ResampledResult(
        **_fields(effect, std, differences.size, 1 / differences.size + ratio, alpha), test_to_train=ratio
    )


def _fields(effect: float, std: float, n: int, share: float, alpha: float) -> dict[str, Any]:
    """Fields of the result; the standard error is √(share)·std."""
    return vars(t_result(effect=effect, se=math.sqrt(share) * std, df=n - 1, alpha=alpha)) | {"n": n, "std": std}


def _test_to_train(folds: int | None, test_fraction: float | None, differences: int) -> float:
    if (folds is None) == (test_fraction is None):
        raise ConfigError("folds", folds, "the number of folds, or a test_fraction instead, and not both")
    if test_fraction is not None:
        if not 0 < test_fraction < 1:
            raise ConfigError("test_fraction", test_fraction, "a number between 0 and 1")
        return test_fraction / (1 - test_fraction)
    if folds is None or folds < 2 or differences % folds:
        raise ConfigError("folds", folds, f"2 or more, and a divisor of the {differences} pairs")
    return 1 / (folds - 1)
