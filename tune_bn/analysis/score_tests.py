"""The tests of a table of scores, one for each way in which runs were made. Arrays hold gains: higher is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.analysis.family import Judged, comparison, judge_family
from tune_bn.analysis.one_sample import corrected_resampled_t_test, threshold_t_test
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.pairing import doubt_of
from tune_bn.analysis.rounding import difference_error, score_error
from tune_bn.analysis.sensitivity import sensitivity_analysis
from tune_bn.analysis.sequential import Decision, Design, Outcome, decide
from tune_bn.analysis.t_result import PairsError, TResult
from tune_bn.analysis.unpaired import hodges_lehmann, rank_sum_test, welch_t_test

Array = NDArray[np.float64]
Arms = Mapping[str, Array]

__all__ = ["NOTHING", "against_threshold", "over_folds", "over_looks", "over_pairs", "without_pairs"]

NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("effect", "difference", "std_difference", "ci_low", "ci_high", "interval", "levels")),
    **dict.fromkeys(("p_value", "p_value_less", "p_value_two_sided", "p_adjusted", "p_adjusted_less")),
    **dict.fromkeys(("d_z", "correlation", "sensitivity", "welch", "doubt")),
    "supported": False,
    "worse": False,
}
"""What is said of an arm of an invalid verdict."""


class Problems(Exception):
    """Arms that cannot be judged, one sentence each."""

    def __init__(self, problems: Sequence[tuple[str, PairsError]]) -> None:
        super().__init__(str(problems))
        self.problems = problems


def _each(arms: Arms, judge: Any) -> dict[str, Any]:
    found, problems = {}, []
    for name, values in arms.items():
        try:
            # The correlation of huge scores may overflow; it is then null.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                found[name] = judge(name, values)
        except PairsError as error:
            problems.append((name, error))
    if problems:
        raise Problems(problems)
    return found


def over_pairs(arms: Arms, baseline: Array, *, alpha: float, against: str, paired_by: str) -> dict[str, dict[str, Any]]:
    """Paired t-test. Where the pairs are in grave doubt, a gain has to hold by Welch's test too.

    Args:
        arms: gains of every arm but the baseline, in the order of the pairs, shape (n,).
        baseline: those of the baseline.
        alpha: family-wise level.
        against, paired_by: names, for the words.

    Returns:
        For each arm what is known of it, as :data:`NOTHING` names it.

    Raises:
        Problems: differences that cannot be judged.
    """

    def one(name: str, values: Array) -> tuple[Any, ...]:
        result = paired_t_test(values, baseline, alpha=alpha)
        also = sensitivity_analysis(values - baseline, alpha=alpha, error=difference_error(values, baseline))
        return result, also, doubt_of(values, baseline, name=name, against=against, paired_by=paired_by)

    found = _each(arms, one)
    results = {name: result for name, (result, _, _) in found.items()}
    judged = judge_family({name: comparison(result) for name, result in results.items()}, alpha=alpha)
    welch = _welch(arms, baseline, alpha)
    answer = {}
    for name, (result, also, doubt) in found.items():
        answer[name] = _fields(result, judged[name]) | {
            "std_difference": result.std,
            "d_z": result.d_z,
            "correlation": result.correlation,
            "sensitivity": also,
            "welch": welch.get(name),
            "doubt": None if doubt is None else doubt.text,
        }
        if doubt is not None and doubt.is_grave:
            other = welch.get(name) or {"supported": False, "worse": False}
            answer[name] |= {key: answer[name][key] and other[key] for key in ("supported", "worse")}
    return answer


def _welch(arms: Arms, baseline: Array, alpha: float) -> dict[str, dict[str, Any]]:
    """Welch's test of every arm, adjusted as the paired test is; nothing where it cannot be made."""
    results: dict[str, TResult] = {}
    for name, values in arms.items():
        try:
            results[name] = welch_t_test(values, baseline, alpha=alpha)
        except PairsError:
            return {}
    judged = judge_family({name: comparison(result) for name, result in results.items()}, alpha=alpha)
    return {
        name: {
            "p_value": result.p_value,
            "p_adjusted": judged[name].p_adjusted,
            "df": result.df,
            "ci_low": _finite(result.ci_low),
            "ci_high": _finite(result.ci_high),
            "supported": judged[name].supported,
            "worse": judged[name].worse,
        }
        for name, result in results.items()
    }


def over_folds(arms: Arms, baseline: Array, *, folds: int, alpha: float) -> dict[str, dict[str, Any]]:
    """Corrected resampled t-test over the folds of one or several cross-validations of ``folds`` folds each.

    Raises:
        ConfigError: ``folds`` does not divide the pairs.
        Problems: differences that cannot be judged.
    """

    def one(name: str, values: Array) -> tuple[Any, ...]:
        plain = paired_t_test(values, baseline, alpha=alpha)
        return corrected_resampled_t_test(values, baseline, folds=folds, alpha=alpha), plain

    found = _each(arms, one)
    judged = judge_family({name: comparison(result) for name, (result, _) in found.items()}, alpha=alpha)
    return {
        name: _fields(result, judged[name])
        | {
            "std_difference": result.std,
            "correlation": plain.correlation,
            "uncorrected_p_value": plain.p_value,
            "test_to_train": result.test_to_train,
        }
        for name, (result, plain) in found.items()
    }


def without_pairs(arms: Arms, baseline: Array, *, alpha: float) -> dict[str, dict[str, Any]]:
    """Welch's t-test, with the rank-sum test and Hodges and Lehmann's shift beside it.

    Raises:
        Problems: scores that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        return (
            welch_t_test(values, baseline, alpha=alpha),
            rank_sum_test(values, baseline),
            hodges_lehmann(values, baseline, alpha=alpha),
        )

    found = _each(arms, one)
    judged = judge_family({name: comparison(result) for name, (result, _, _) in found.items()}, alpha=alpha)
    return {
        name: _fields(result, judged[name])
        | {"df": result.df, "sensitivity": {"rank_sum": asdict(ranks), "hodges_lehmann": asdict(shift)}}
        for name, (result, ranks, shift) in found.items()
    }


def against_threshold(arms: Arms, threshold: float, *, alpha: float) -> dict[str, dict[str, Any]]:
    """One-sample t-test against a number that is known.

    Raises:
        Problems: scores that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        above = values - threshold
        (error,) = score_error(values)
        result = threshold_t_test(values, threshold, alpha=alpha)
        return result, sensitivity_analysis(above, alpha=alpha, error=error)

    found = _each(arms, one)
    judged = judge_family({name: comparison(result) for name, (result, _) in found.items()}, alpha=alpha)
    return {
        name: _fields(result, judged[name]) | {"d_z": result.effect / result.std, "sensitivity": also}
        for name, (result, also) in found.items()
    }


def over_looks(arms: Arms, baseline: Array, rule: Design) -> dict[str, dict[str, Any]]:
    """Group-sequential paired t-test: p-values and bounds that hold at all looks together.

    Pairs after the look that ended an arm are not used.

    Raises:
        Problems: differences that cannot be judged.
    """
    gains = _decided(arms, baseline, rule)
    losses = _decided({name: -values for name, values in arms.items()}, -baseline, rule)
    answer = {}
    for name, values in arms.items():
        outcome, mirrored = gains[name], losses[name]
        last, less = outcome.last, mirrored.last
        n = last.n
        paired = paired_t_test(values[:n], baseline[:n], alpha=rule.alpha)
        high = None if less.ci_low is None else -less.ci_low
        worse = less.decision is Decision.EFFICACY
        answer[name] = {
            "n": n,
            "effect": last.effect,
            "std_difference": last.std,
            "ci_low": last.ci_low,
            "ci_high": high,
            "interval": [last.ci_low, high],
            "levels": [rule.alpha, rule.alpha],
            "p_value": last.p_value,
            "p_value_less": less.p_value,
            "p_value_two_sided": min(1.0, 2 * min(last.p_value, less.p_value)),
            "p_adjusted": outcome.p_adjusted,
            "p_adjusted_less": mirrored.p_adjusted,
            "d_z": paired.d_z,
            "correlation": paired.correlation,
            "sensitivity": None,
            "supported": last.decision is Decision.EFFICACY,
            "worse": worse,
            "decision": str(last.decision),
            "looks": [asdict(look) | {"decision": str(look.decision)} for look in outcome.looks],
        }
    return answer


def _decided(arms: Arms, baseline: Array, rule: Design) -> dict[str, Outcome]:
    try:
        return decide(arms, baseline, rule)
    except PairsError as error:
        name, _, words = str(error).partition(": ")
        raise Problems([(name, PairsError(error.problem, words or str(error)))]) from None


def _fields(result: TResult, judged: Judged) -> dict[str, Any]:
    return {
        "effect": result.effect,
        "ci_low": _finite(result.ci_low),
        "ci_high": _finite(result.ci_high),
        "interval": [None if end is None else _finite(end) for end in judged.interval],
        "levels": list(judged.levels),
        "p_value": result.p_value,
        "p_value_less": result.p_value_less,
        "p_value_two_sided": result.p_value_two_sided,
        "p_adjusted": judged.p_adjusted,
        "p_adjusted_less": judged.p_adjusted_less,
        "supported": judged.supported,
        "worse": judged.worse,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
