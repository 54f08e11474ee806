"""The tests of a table of scores, one for each way in which runs were made. Arrays hold gains: higher is better.

An arm whose scores do not vary against what it is compared with has no test, and says why in ``not_tested``; the others
are corrected for it as for any member of their family. Where that is all arms, :class:`Problems` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tune_bn.analysis.claims import PLAIN, Claim, outcome_by
from tune_bn.analysis.family import Comparison, comparison, findings_of, untested
from tune_bn.analysis.one_sample import corrected_resampled_t_test, threshold_t_test
from tune_bn.analysis.paired import PairedResult, paired_t_test
from tune_bn.analysis.pairing import doubt_of
from tune_bn.analysis.rounding import difference_error, mean_of, score_error, std_of
from tune_bn.analysis.sensitivity import other_tests
from tune_bn.analysis.sequential import Design, Outcome, decide, repeated_comparison
from tune_bn.analysis.t_result import PairsError, PairsProblem, TResult
from tune_bn.analysis.unpaired import hodges_lehmann, rank_sum_test, welch_from_summaries, welch_t_test
from tune_bn.records.plan import HOLM
from tune_bn.records.score_verdict import TableCandidate
from tune_bn.records.verdict_details import OtherTests, RankSum, RankTests, Shift, Welch

Array = NDArray[np.float64]
Arms = Mapping[str, Array]
LeftOut = Mapping[str, str]
"""Arms that have no test whatever their scores, and why."""

__all__ = ["against_threshold", "over_folds", "over_looks", "over_pairs", "with_doubts", "without_pairs"]

Found = dict[str, TableCandidate]
"""By arm what is known of it but its scores, which are for the caller to add."""


class Problems(Exception):
    """Arms that cannot be judged, one sentence each."""

    def __init__(self, problems: Sequence[tuple[str, PairsError]]) -> None:
        super().__init__(str(problems))
        self.problems = problems


def _each(arms: Arms, judge: Any, left_out: LeftOut) -> tuple[dict[str, Any], dict[str, str]]:
    """By arm what ``judge`` found, and of the others why they have no test.

    Raises:
        Problems: no arm can be tested, or the scores of one are not sound.
    """
    found, problems = {}, []
    for name, values in arms.items():
        try:
            if name in left_out:
                raise PairsError(PairsProblem.CONSTANT, left_out[name])
            # The correlation of huge scores may overflow; it is then null.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                found[name] = judge(name, values)
        except PairsError as error:
            problems.append((name, error))
    if not found or not all(error.without_spread for _, error in problems):
        raise Problems(problems)
    return found, {name: str(error) for name, error in problems}


def _as_one_family(
    arms: Arms,
    judge: Any,
    member: Callable[..., Comparison],
    known: Callable[..., TableCandidate],
    *,
    alpha: float,
    left_out: LeftOut,
    correction: str = HOLM,
    aside: Callable[[str], Comparison] = lambda _: untested(),
) -> Found:
    """For each arm its place in the family, and what is known of it by itself.

    Args:
        arms: of the family, in its order.
        judge: from the name and the gains of an arm to the parts that the next two are called with.
        member: the name and those parts as a comparison.
        known: the name and those parts as what is known of the arm beside its place in the family.
        alpha: family-wise level.
        left_out: arms that are not tested.
        correction: for several arms.
        aside: an arm that is not tested as a comparison.
    """
    found, why = _each(arms, judge, left_out)
    compared = {name: member(name, *found[name]) if name in found else aside(name) for name in arms}
    judged = findings_of(compared, alpha=alpha, correction=correction)
    rows = {
        name: known(name, *found[name]) if name in found else replace(_unknown(name), not_tested=why[name])
        for name in arms
    }
    return {name: replace(row, **vars(judged[name])) for name, row in rows.items()}


def _unknown(name: str) -> TableCandidate:
    return TableCandidate(arm=name, scores={})


def over_pairs(
    arms: Arms,
    baseline: Array,
    *,
    alpha: float,
    claim: Claim = PLAIN,
    correction: str = HOLM,
    left_out: LeftOut | None = None,
) -> Found:
    """Paired t-test.

    Args:
        arms: gains of every arm but the baseline, in the order of the pairs, shape (n,).
        baseline: those of the baseline.
        alpha: family-wise level.
        claim: what is to be shown of each.
        correction: for several arms.
        left_out: arms that have no test whatever their scores, and why.

    Raises:
        Problems: differences that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        result = paired_t_test(values, baseline, alpha=alpha)
        error = difference_error(values, baseline)
        return result, other_tests(values - baseline, alpha=alpha, error=error, claim=claim)

    def member(name: str, result: PairedResult, _: Any) -> Comparison:
        return comparison(result, claim, arms[name] - baseline)

    def known(name: str, result: PairedResult, also: OtherTests) -> TableCandidate:
        return replace(_of_pairs(name, result), sensitivity=also)

    return _as_one_family(
        arms,
        one,
        member,
        known,
        alpha=alpha,
        left_out=left_out or {},
        correction=correction,
        aside=lambda name: untested(claim, arms[name] - baseline),
    )


def _of_pairs(name: str, result: PairedResult) -> TableCandidate:
    return replace(
        _unknown(name),
        effect=result.effect,
        std_difference=result.std,
        d_z=result.d_z,
        correlation=result.correlation,
    )


def with_doubts(
    found: Mapping[str, TableCandidate],
    arms: Arms,
    baseline: Array,
    *,
    alpha: float,
    against: str,
    paired_by: str,
    rows: Sequence[int] | None = None,
    claim: Claim = PLAIN,
) -> Found:
    """With what speaks against the pairs of each arm, and Welch's test; in grave doubt a gain has to hold by it too.

    Args:
        found: what a paired test knows of each arm.
        arms, baseline: gains, in the order of the pairs.
        alpha: family-wise level.
        against, paired_by: names, for the words.
        rows: the pairs in the order of the file, where all arms have the same.
        claim: what is to be shown of each.
    """
    welch = _welch(arms, baseline, alpha, claim)
    told = {}
    for name, row in found.items():
        told[name] = row
        if row.not_tested:
            continue
        doubt = doubt_of(arms[name], baseline, name=name, against=against, paired_by=paired_by, rows=rows)
        other = welch.get(name)
        told[name] = row = replace(row, welch=other, doubt=None if doubt is None else doubt.text)
        if doubt is not None and doubt.is_grave:
            supported = row.supported and other is not None and other.supported
            worse = row.worse and other is not None and other.worse
            outcome = outcome_by(supported=supported, worse=worse)
            told[name] = replace(row, supported=supported, worse=worse, outcome=outcome)
    return told


def _welch(arms: Arms, baseline: Array, alpha: float, claim: Claim) -> dict[str, Welch]:
    """Welch's test of every arm for which it can be made, adjusted as the paired test is."""
    results: dict[str, TResult] = {}
    for name, values in arms.items():
        try:
            results[name] = _welch_of_one(values, baseline, alpha)
        except PairsError as error:
            if not error.without_spread:
                return {}
    judged = findings_of(
        {name: comparison(results[name], claim) if name in results else untested() for name in arms}, alpha=alpha
    )
    stated = [item.name for item in fields(Welch) if item.name != "df"]
    return {
        name: Welch(df=result.df, **{key: getattr(judged[name], key) for key in stated})
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
    arms: Arms, baseline: Array, *, folds: int, alpha: float, claim: Claim = PLAIN, left_out: LeftOut | None = None
) -> Found:
    """Corrected resampled t-test over the folds of one or several cross-validations of ``folds`` folds each.

    Raises:
        ConfigError: ``folds`` does not divide the pairs.
        Problems: differences that cannot be judged.
    """

    def one(name: str, values: Array) -> tuple[Any, ...]:
        plain = paired_t_test(values, baseline, alpha=alpha)
        return corrected_resampled_t_test(values, baseline, folds=folds, alpha=alpha), plain

    def member(_: str, result: TResult, plain: PairedResult) -> Comparison:
        return comparison(result, claim)

    def known(name: str, result: Any, plain: PairedResult) -> TableCandidate:
        return replace(
            _unknown(name),
            effect=result.effect,
            std_difference=result.std,
            correlation=plain.correlation,
            uncorrected_p_value=plain.p_value,
            test_to_train=result.test_to_train,
        )

    return _as_one_family(arms, one, member, known, alpha=alpha, left_out=left_out or {})


def without_pairs(
    arms: Arms, baseline: Array, *, alpha: float, claim: Claim = PLAIN, left_out: LeftOut | None = None
) -> Found:
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

    def member(_: str, result: TResult, *others: Any) -> Comparison:
        return comparison(result, claim)

    def known(name: str, result: TResult, ranks: RankSum, shift: Shift) -> TableCandidate:
        return replace(_unknown(name), effect=result.effect, df=result.df, sensitivity=RankTests(ranks, shift))

    return _as_one_family(arms, one, member, known, alpha=alpha, left_out=left_out or {})


def _rank_sum(values: Array, baseline: Array, claim: Claim) -> RankSum:
    if claim.is_plain:
        return rank_sum_test(values, baseline)
    above = rank_sum_test(values - claim.null, baseline)
    if claim.ceiling is None:
        return above
    below = rank_sum_test(baseline, values - claim.ceiling)
    return max(above, below, key=lambda found: found.p_value)


def against_threshold(
    arms: Arms, threshold: float, *, alpha: float, claim: Claim = PLAIN, left_out: LeftOut | None = None
) -> Found:
    """One-sample t-test against a number that is known.

    Raises:
        Problems: scores that cannot be judged.
    """

    def one(_: str, values: Array) -> tuple[Any, ...]:
        above = values - threshold
        (error,) = score_error(values)
        result = threshold_t_test(values, threshold, alpha=alpha)
        return result, other_tests(above, alpha=alpha, error=error, claim=claim)

    def member(_: str, result: TResult, also: Any) -> Comparison:
        return comparison(result, claim)

    def known(name: str, result: Any, also: OtherTests) -> TableCandidate:
        return replace(_unknown(name), effect=result.effect, d_z=result.effect / result.std, sensitivity=also)

    return _as_one_family(arms, one, member, known, alpha=alpha, left_out=left_out or {})


def over_looks(
    arms: Arms, baseline: Array, rule: Design, *, claim: Claim = PLAIN, left_out: LeftOut | None = None
) -> Found:
    """Group-sequential paired t-test: p-values and bounds that hold at all looks together.

    Pairs after the look that ended an arm are not used.

    Raises:
        Problems: differences that cannot be judged.
    """
    aside = left_out or {}
    looked_at = {name: values for name, values in arms.items() if name not in aside}
    try:
        outcomes = decide(looked_at, baseline, rule, claim, beside=len(aside)) if looked_at else {}
    except PairsError as error:
        name, _, words = str(error).partition(": ")
        raise Problems([(name, PairsError(error.problem, words or str(error)))]) from None

    def one(name: str, values: Array) -> tuple[PairedResult, Any]:
        outcome = outcomes[name]
        n = outcome.last.n
        return paired_t_test(values[:n], baseline[:n], alpha=rule.alpha), outcome

    def member(_: str, result: PairedResult, outcome: Any) -> Comparison:
        return repeated_comparison(result, rule.looks, outcome.last.p_value, claim)

    def known(name: str, result: PairedResult, outcome: Outcome) -> TableCandidate:
        of_pairs = _of_pairs(name, result)
        return replace(of_pairs, n=result.n, decision=str(outcome.last.decision), looks=outcome.looks)

    return _as_one_family(arms, one, member, known, alpha=rule.alpha, left_out=aside)
