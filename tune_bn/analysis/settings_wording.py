"""The sentence of a verdict whose claim is about several settings together: every one of them, or their average."""

from __future__ import annotations

from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.untested import tested
from tune_bn.analysis.wording import (
    claim_words,
    comparison_sentence,
    decimals_of_verdict,
    effect_words,
    interval_words,
    metric_words,
    number_words,
    p_words,
    score_of_verdict,
    way_words,
    with_unit,
)
from tune_bn.records.plan import ALL
from tune_bn.records.score import Score
from tune_bn.records.verdict import Average, Candidate, Verdict, known


def verdict_sentence(verdict: Verdict) -> str:
    """The outcome of a valid verdict as a sentence: of the strongest candidate, or of all settings together."""
    score, decimals = score_of_verdict(verdict), decimals_of_verdict(verdict)
    if verdict.holds == ALL:
        return _together(verdict, score, decimals)
    if verdict.pooled is not None:
        return _average(verdict, verdict.pooled, score, decimals)
    return comparison_sentence(verdict)


def _setting(arm: Candidate) -> str:
    return known(arm.against).partition(".")[2]


def _together(verdict: Verdict, score: Score, decimals: int) -> str:
    """The outcome of a claim that has to hold in every setting: the weakest decides."""
    arms, alpha = verdict.candidates, known(verdict.alpha)
    weakest = max(known(arm.p_value) for arm in tested(arms))
    listed = ", ".join(
        f"{_setting(arm)} {effect_words(known(arm.effect), score, decimals)} ({_p_of(arm)}"
        f"{', worse' if arm.worse else ''})"
        for arm in arms
    )
    shown = "holds" if verdict.is_supported else "is not shown"
    return (
        f"The claim {shown} in all {len(arms)} settings of {metric_words(known(verdict.metric))}{way_words(score)}: "
        f"{listed}; n = {verdict.n} seeds each, one-sided paired t-tests, each at α = {alpha:g} "
        f"(intersection–union), the weakest p = {p_words(weakest, alpha)}."
    )


def _p_of(arm: Candidate) -> str:
    return "not tested" if arm.not_tested else f"p = {arm.p_value:.2g}"


def _average(verdict: Verdict, found: Average, score: Score, decimals: int) -> str:
    """The outcome of a claim about the average over settings, with how much these differ."""
    alpha, claim = known(verdict.alpha), claim_in(verdict)
    metric = f"{metric_words(known(verdict.metric))}{way_words(score)}"

    def effect(value: float) -> str:
        return effect_words(value, score, decimals)

    shown = "holds" if found.supported else "is not shown"
    (low, least), (high, most) = found.least, found.most
    ranks = found.over_settings
    over = (
        f"no signed-rank test over so few settings ({found.settings})"
        if ranks is None
        else f"signed-rank test over the {ranks.n} settings, each one observation, p = {ranks.p_value:.2g}"
    )
    worse = [_setting(arm) for arm in verdict.candidates if arm.worse]
    loss = f"; worse by itself in {', '.join(worse)}" if worse else ""
    mirrored = f", for a loss p = {p_words(known(found.p_worse_adjusted), alpha)}" if found.worse else ""
    what = "" if claim.is_plain else f" ({claim_words(claim)})"
    spread = with_unit(number_words(found.between), score.difference_unit)
    return (
        f"The claim{what} {shown} on average over these {found.settings} settings of {metric}: "
        f"{effect(found.effect)}, n = {found.n} seeds, each averaged over the settings, one-sided paired t-test "
        f"p = {p_words(known(found.p_value), alpha)}{mirrored}, {100 * (1 - 2 * alpha):g} % interval "
        f"{interval_words(known(found.ci), decimals)}. Between settings the true effects differ by a standard "
        f"deviation of {spread}, from {effect(least)} ({low}) to {effect(most)} ({high}){loss}; {over}."
    )
