"""The tests of a table of scores, one for each way in which runs were made. Arrays hold gains: higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.analysis.claims import PLAIN, Claim, outcome_of
from tune_bn.analysis.family import FIELDS, HOLM, comparison, family_fields
from tune_bn.analysis.one_sample import corrected_resampled_t_test, threshold_t_test
from tune_bn.analysis.paired import PairedResult, paired_t_test
from tune_bn.analysis.pairing import doubt_of
from tune_bn.analysis.rounding import difference_error, mean_of, score_error, std_of
from tune_bn.analysis.sensitivity import sensitivity_analysis
from tune_bn.analysis.sequential import Design, decide, repeated_comparison
from tune_bn.analysis.t_result import PairsError, PairsProblem, TResult
from tune_bn.analysis.unpaired import hodges_lehmann, rank_sum_test, welch_from_summaries, welch_t_test

Array = NDArray[np.float64]
Arms = Mapping[str, Array]

__all__ = ["NOTHING", "add_doubts", "against_threshold", "over_folds", "over_looks", "over_pairs", "without_pairs"]

NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("effect", "difference", "std_difference", *FIELDS)),
    **dict.fromkeys(("d_z", "correlation", "sensitivity", "welch", "doubt")),
    "supported": False,
    "worse": False,
    "outcome": None,
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


def _as_one_family(
    found: Mapping[str, tuple[Any, ...]], known: Callable[..., dict[str, Any]], *, alpha: float, claim: Claim
) -> dict[str, dict[str, Any]]:
    """For each arm its place in the family and its effect, by the first of what was found, and what ``known`` adds."""
    judged = family_fields({name: comparison(parts[0], claim) for name, parts in found.items()}, alpha=alpha)
    return {name: judged[name] | {"effect": parts[0].effect} | known(*parts) for name, parts in found.items()}


def over_pairs(
    arms: Arms, baseline: Array, *, alpha: float, claim: Claim = PLAIN, correction: str = HOLM
) -> dict[str, dict[str, Any]]:
    """Paired t-test.

    Args:
        arms: gains of every arm but the baseline, in the order of the pairs, shape (n,).
        baseline: those of the baseline.
        alpha: family-wise level.
        claim: what is to be shown of each.
        correction: for several arms.

    Returns:
        For each arm what is known of it, as :data:`NOTHING` names it.

    Raises:
        Problems: differences that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        result = paired_t_test(values, baseline, alpha=alpha)
        error = difference_error(values, baseline)
        return result, sensitivity_analysis(values - baseline, alpha=alpha, error=error, claim=claim)

    found = _each(arms, one)
    compared = {name: comparison(result, claim, arms[name] - baseline) for name, (result, _) in found.items()}
    judged = family_fields(compared, alpha=alpha, correction=correction)
    return {
        name: judged[name]
        | {
            "effect": result.effect,
            "std_difference": result.std,
            "d_z": result.d_z,
            "correlation": result.correlation,
            "sensitivity": also,
        }
        for name, (result, also) in found.items()
    }


def add_doubts(
    found: Mapping[str, dict[str, Any]],
    arms: Arms,
    baseline: Array,
    *,
    alpha: float,
    against: str,
    paired_by: str,
    rows: Sequence[int] | None = None,
    claim: Claim = PLAIN,
) -> None:
    """Add what speaks against the pairs of each arm, with Welch's test; in grave doubt a gain has to hold by it too.

    Args:
        found: what a paired test knows of each arm; the keys ``welch`` and ``doubt`` are added.
        arms, baseline: gains, in the order of the pairs.
        alpha: family-wise level.
        against, paired_by: names, for the words.
        rows: the pairs in the order of the file, where all arms have the same.
    """
    welch = _welch(arms, baseline, alpha, claim)
    for name, answer in found.items():
        doubt = doubt_of(arms[name], baseline, name=name, against=against, paired_by=paired_by, rows=rows)
        answer |= {"welch": welch.get(name), "doubt": None if doubt is None else doubt.text}
        if doubt is not None and doubt.is_grave:
            other = welch.get(name) or {"supported": False, "worse": False}
            answer |= {key: answer[key] and other[key] for key in ("supported", "worse")}
            answer["outcome"] = outcome_of(answer)


def _welch(arms: Arms, baseline: Array, alpha: float, claim: Claim) -> dict[str, dict[str, Any]]:
    """Welch's test of every arm, adjusted as the paired test is; nothing where it cannot be made."""
    results: dict[str, TResult] = {}
    for name, values in arms.items():
        try:
            results[name] = _welch_of_one(values, baseline, alpha)
        except PairsError:
            return {}
    judged = family_fields({name: comparison(result, claim) for name, result in results.items()}, alpha=alpha)
    return {
        name: {"df": result.df}
        | {key: judged[name][key] for key in ("p_value", "p_adjusted", "p_two_sided", "ci", "supported", "worse")}
        for name, result in results.items()
    }


def _welch_of_one(values: Array, baseline: Array, alpha: float) -> TResult:
    try:
        return welch_t_test(values, baseline, alpha=alpha)
    except PairsError as error:
        if error.problem is not PairsProblem.IDENTICAL:
            raise
        # The same scores in another order: no finding of its own beside pairs, and a test of equal means.
        return welch_from_summaries(
            *(mean_of(baseline), std_of(baseline), values.size),
            *(mean_of(baseline), std_of(baseline), baseline.size),
            alpha=alpha,
        )


def over_folds(
    arms: Arms, baseline: Array, *, folds: int, alpha: float, claim: Claim = PLAIN
) -> dict[str, dict[str, Any]]:
    """Corrected resampled t-test over the folds of one or several cross-validations of ``folds`` folds each.

    Raises:
        ConfigError: ``folds`` does not divide the pairs.
        Problems: differences that cannot be judged.
    """

    def one(name: str, values: Array) -> tuple[Any, ...]:
        plain = paired_t_test(values, baseline, alpha=alpha)
        return corrected_resampled_t_test(values, baseline, folds=folds, alpha=alpha), plain

    def known(result: Any, plain: PairedResult) -> dict[str, Any]:
        return {
            "std_difference": result.std,
            "correlation": plain.correlation,
            "uncorrected_p_value": plain.p_value,
            "test_to_train": result.test_to_train,
        }

    return _as_one_family(_each(arms, one), known, alpha=alpha, claim=claim)


def without_pairs(arms: Arms, baseline: Array, *, alpha: float, claim: Claim = PLAIN) -> dict[str, dict[str, Any]]:
    """Welch's t-test, with the rank-sum test and Hodges and Lehmann's shift beside it.

    Raises:
        Problems: scores that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        return (
            welch_t_test(values, baseline, alpha=alpha),
            _rank_sum(values, baseline, claim),
            hodges_lehmann(values, baseline, alpha=alpha),
        )

    def known(result: TResult, ranks: Any, shift: Any) -> dict[str, Any]:
        return {"df": result.df, "sensitivity": {"rank_sum": asdict(ranks), "hodges_lehmann": asdict(shift)}}

    return _as_one_family(_each(arms, one), known, alpha=alpha, claim=claim)


def _rank_sum(values: Array, baseline: Array, claim: Claim) -> Any:
    if claim.is_plain:
        return rank_sum_test(values, baseline)
    above = rank_sum_test(values - claim.null, baseline)
    if claim.ceiling is None:
        return above
    below = rank_sum_test(baseline, values - claim.ceiling)
    return max(above, below, key=lambda found: found.p_value)


def against_threshold(arms: Arms, threshold: float, *, alpha: float, claim: Claim = PLAIN) -> dict[str, dict[str, Any]]:
    """One-sample t-test against a number that is known.

    Raises:
        Problems: scores that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        above = values - threshold
        (error,) = score_error(values)
        result = threshold_t_test(values, threshold, alpha=alpha)
        return result, sensitivity_analysis(above, alpha=alpha, error=error, claim=claim)

    def known(result: Any, also: Any) -> dict[str, Any]:
        return {"d_z": result.effect / result.std, "sensitivity": also}

    return _as_one_family(_each(arms, one), known, alpha=alpha, claim=claim)


def over_looks(arms: Arms, baseline: Array, rule: Design, *, claim: Claim = PLAIN) -> dict[str, dict[str, Any]]:
    """Group-sequential paired t-test: p-values and bounds that hold at all looks together.

    Pairs after the look that ended an arm are not used.

    Raises:
        Problems: differences that cannot be judged.
    """
    try:
        outcomes = decide(arms, baseline, rule, claim)
    except PairsError as error:
        name, _, words = str(error).partition(": ")
        raise Problems([(name, PairsError(error.problem, words or str(error)))]) from None

    def one(name: str, values: Array) -> PairedResult:
        n = outcomes[name].last.n
        return paired_t_test(values[:n], baseline[:n], alpha=rule.alpha)

    results: dict[str, PairedResult] = _each(arms, one)
    judged = family_fields(
        {
            name: repeated_comparison(result, rule.looks, outcomes[name].last.p_value, claim)
            for name, result in results.items()
        },
        alpha=rule.alpha,
    )
    return {
        name: judged[name]
        | {
            "n": result.n,
            "effect": result.effect,
            "std_difference": result.std,
            "d_z": result.d_z,
            "correlation": result.correlation,
            "decision": str(outcomes[name].last.decision),
            "looks": [asdict(look) | {"decision": str(look.decision)} for look in outcomes[name].looks],
        }
        for name, result in results.items()
    }
