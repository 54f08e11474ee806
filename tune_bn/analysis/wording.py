"""How configurations, numbers and comparisons are put into words, the same in the verdict and in the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from tune_bn.analysis.characteristics import detectable
from tune_bn.analysis.claims import PLAIN, WORSE, Claim, claim_in, outcome
from tune_bn.analysis.power import minimum_detectable_effect, std_of_differences
from tune_bn.analysis.sequential import Decision, Design
from tune_bn.analysis.untested import tested, untested_words
from tune_bn.errors import ConfigError
from tune_bn.records.plan import ANY, EQUIVALENT, FIXED, MAX_T, NONINFERIOR
from tune_bn.records.score import Score, accuracy
from tune_bn.records.verdict import AnyVerdict, Average, Compared, Finding, Verdict, known
from tune_bn.records.verdict_details import OverImages


def symbol(key: str) -> str:
    """A key as it is printed: ``γ`` for ``gamma``, ``γ.2`` for ``gamma.2``, the key itself for the rest."""
    name, dot, part = key.partition(".")
    return f"γ{dot}{part}" if name == "gamma" else key


def number_words(value: float) -> str:
    """A number to three significant digits, without an exponent where it is of everyday size."""
    return f"{float(f'{value:.3g}'):g}"


def value_words(value: Any) -> str:
    """A value of a configuration; numbers that are not whole are shortened."""
    return number_words(value) if isinstance(value, float) else str(value)


def config_words(config: Mapping[str, Any]) -> str:
    """A configuration as ``γ = 0.16, c = 43, lr = 0.1``: gamma and c first, the rest by name."""
    return ", ".join(f"{symbol(key)} = {value_words(config[key])}" for key in config_keys([config]))


def config_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every key of the configurations: gamma and c first, the rest by name."""
    first = {"gamma": 0, "c": 1}
    keys = {key for config in configs for key in config}
    return sorted(keys, key=lambda key: (first.get(key.partition(".")[0], 2), len(key), key))


def metric_words(metric: str) -> str:
    """``test_accuracy`` as ``test accuracy``."""
    return metric.replace("_", " ")


def p_words(p_value: float, alpha: float) -> str:
    """``0.006 ≤ 0.05``, with as many digits as it takes for what is printed to be true."""
    below = p_value <= alpha
    digits = 2
    while (float(f"{p_value:.{digits}g}") <= alpha) != below and digits < 17:
        digits += 1
    return f"{p_value:.{digits}g} {'≤' if below else '>'} {alpha:g}"


def detectable_words(
    seeds: int,
    alpha: float,
    candidates: int,
    std: float | None = None,
    rule: Design | None = None,
    unit: str = "points",
) -> str:
    """What a confirmation on so many seeds can find, before it runs.

    Args:
        std: of one arm over seeds, where known.
        rule: the looks, where there are any.
        unit: of ``std``; empty: it has none.
    """
    try:
        if rule is None:
            least = minimum_detectable_effect(1.0, seeds, alpha=alpha, candidates=candidates)
        else:
            least = detectable(rule, candidates=candidates)
    except ConfigError:
        return f"not computed for level {alpha:g} / {candidates}"
    level = f"α = {alpha:g}" + (f" / {candidates}, the first Holm step" if candidates > 1 else "")
    test = f"one-sided {'' if rule is None else 'group-sequential '}paired t-test, {level}"
    most = f"{seeds} seeds" if rule is None else f"at most {seeds} seeds, looks at {', '.join(map(str, rule.looks))},"
    if not std:
        return (
            f"{most} find a true gain of {number_words(least)} standard deviations of the paired differences with "
            f"power 0.8 ({test})"
        )
    gain = with_unit(number_words(least * std_of_differences(std)), unit)
    return (
        f"{most} find a true gain of {gain} with power 0.8 where an arm spreads by {number_words(std)} and the "
        f"arms are uncorrelated ({test})"
    )


def spread_words(mean: float, std: float, decimals: int = 2) -> str:
    """``97.16 ± 0.71``."""
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}"


def signed_words(value: float, decimals: int = 2) -> str:
    """``+1.25``, with as many digits as it takes for a number that is not 0 to be seen on its side of 0."""
    words = f"{value:+.{decimals}f}"
    return words if value == 0 or float(words) != 0 else f"{value:+.1g}"


def interval_words(ends: Sequence[float | None], decimals: int = 2) -> str:
    """``+0.13 to +0.90``; an end that is open is a dash."""
    return " to ".join("–" if end is None else signed_words(end, decimals) for end in ends)


def score_of_verdict(verdict: AnyVerdict) -> Score:
    """What the runs of a verdict are scored by; verdicts from before there were others are about accuracy."""
    return verdict.stated_score or accuracy(verdict.metric or "test_accuracy")


def decimals_of_verdict(verdict: AnyVerdict) -> int:
    """Decimals of its scores and differences, all alike: as many as the baseline's mean takes."""
    baseline = verdict.first_baseline
    mean = None if baseline is None else baseline.mean
    return score_of_verdict(verdict).decimals_of(0.0 if mean is None else mean)


def with_unit(words: str, unit: str) -> str:
    """``+0.24 pp``; the words alone where there is no unit."""
    return f"{words} {unit}" if unit else words


def images_words(found: OverImages, score: Score) -> str:
    """The interval over seeds × test images in words."""
    ends = interval_words((found.low, found.high), score.decimals_of(found.effect))
    return (
        f"{100 * found.confidence:g} % interval over {found.seeds} seeds × {found.images:,} test images "
        f"{with_unit(ends, score.difference_unit)}; the drawing of the images is "
        f"{100 * found.share_images:.0f} % of its variance"
    )


def kind_of_comparisons(verdict: Verdict) -> str:
    """What the comparisons of a verdict are: ``candidates`` of one baseline, ``settings`` of one candidate, or both."""
    baselines = len(verdict.baselines)
    if baselines == 1:
        return "candidates"
    return "settings" if baselines == len(verdict.candidates) else "comparisons"


def correction_words(verdict: AnyVerdict) -> str:
    """The name of the correction for several comparisons: ``Holm`` or ``max-t``."""
    return "max-t" if verdict.correction == MAX_T else "Holm"


def claim_words(claim: Claim) -> str:
    """What is claimed beside any gain: ``noninferior, margin 0.5``; empty for a plain claim."""
    return "" if claim.is_plain else f"{claim.kind}, margin {number_words(claim.margin)}"


def headline(
    verdict: str,
    arms: Sequence[Compared],
    kind: str,
    claim: Claim = PLAIN,
    together: bool = False,
    average: Average | None = None,
) -> str:
    """The verdict in a few words that cannot be taken for a plain success where an arm is worse than its baseline.

    It begins with the verdict's own word, and is that word alone where no arm is worse; else ``not_supported, and
    worse`` of one arm, and of several ``supported in 1 of 4 settings, worse in 3``. Where no gain is claimed, or one
    by a margin, it says so: ``supported: noninferior, margin 0.5``.

    Args:
        verdict: ``supported`` or ``not_supported``.
        arms: all of them.
        kind: what the arms are, in the plural.
        claim: of all of them.
        together: whether the claim is that every one of them holds.
        average: what the claim is about instead.
    """
    better, worse = sum(arm.supported for arm in arms), sum(arm.worse for arm in arms)
    if average is not None:
        loss = ", worse on average" if average.worse else ""
        loss += f", worse in {worse} of them" if worse else ""
        return (
            f"{verdict} on average over {len(arms)} {kind}{'' if claim.is_plain else f': {claim_words(claim)}'}{loss}"
        )
    if together:
        rest = "" if better == len(arms) else f", held in {better}"
        loss = f", worse in {worse}" if worse else ""
        return (
            f"{verdict} in all of {len(arms)} {kind}{'' if claim.is_plain else f': {claim_words(claim)}'}{rest}{loss}"
        )
    what = "" if claim.is_plain else f": {claim_words(claim)}"
    if not worse:
        return f"{verdict}{what}"
    if len(arms) == 1:
        return f"{verdict}{what}, {'though' if better else 'and'} worse"
    counted = f"supported in {better}" if better else "not_supported in any"
    return f"{counted} of {len(arms)} {kind}{what}, worse in {worse}"


def spoken(verdict: AnyVerdict) -> str:
    """The headline of a verdict as it is said: ``worse, by 34.60 percentage points (-35.10 to -34.02)``.

    Where no arm is worse it is the headline itself.
    """
    said, arms = verdict.headline or verdict.verdict, verdict.candidates
    if outcome(verdict) != WORSE or verdict.together not in (None, ANY):
        return said
    if len(arms) > 1:
        if claim_in(verdict).is_plain and len(verdict.worse) == len(arms):
            _, _, kind = said.partition(",")[0].partition(f"of {len(arms)} ")
            return f"worse in every one of {len(arms)} {kind}"
        return said.replace("not_supported in any", "supported in none")
    (arm,) = arms
    # What was claimed is said too, where it is more than a gain.
    start = "worse," if claim_in(verdict).is_plain else said
    if arm.effect is None:
        return start.rstrip(",")
    score, decimals = score_of_verdict(verdict), decimals_of_verdict(verdict)
    within = f" ({interval_words(arm.ci, decimals)})" if arm.ci and None not in arm.ci else ""
    size = with_unit(signed_words(arm.effect, decimals)[1:], score.difference_unit_words)
    return f"{start} by {size}{within}"


def claim_sentence(claim: Claim, arm: Finding, *, metric: str, against: str, effect: str, margin: str) -> str:
    """What is shown of an arm under a claim that is not plain, as the rest of a sentence after its name.

    Args:
        claim: what is claimed.
        arm: what was found of it.
        metric, against: names.
        effect: the effect with its sign and unit.
        margin: the margin with its unit.
    """
    loss = ", though it is worse" if arm.worse and arm.supported else ", and is worse" if arm.worse else ""
    if claim.kind == NONINFERIOR:
        shown = "is noninferior" if arm.supported else "is not shown to be noninferior"
        return f"{shown} to {against} in {metric}, by a margin of {margin}{loss}: {effect}"
    if claim.kind == EQUIVALENT:
        shown = "is equivalent" if arm.supported else "is not shown to be equivalent"
        return f"{shown} to {against} in {metric}, within ±{margin}{loss}: {effect}"
    shown = "is better" if arm.supported else "is not shown to be better"
    return f"{shown} than {against} in {metric} by more than {margin}{loss}: {effect}"


def harm_sentence(
    arms: Sequence[Compared],
    names: Sequence[str],
    kind: str,
    effect_words: Callable[[float], str],
    claim: Claim = PLAIN,
) -> str:
    """Names every arm that is worse, and every one that is better; empty where none is worse, or there is but one arm.

    Args:
        arms: all of a valid verdict.
        names: of the arms, as the table beside it has them.
        kind: what the arms are, in the plural.
        effect_words: an effect with its sign and unit.
        claim: of all of them.
    """
    told = [f"{name} ({effect_words(known(arm.effect))})" for name, arm in zip(names, arms, strict=True)]
    better = [words for words, arm in zip(told, arms, strict=True) if arm.supported]
    worse = [words for words, arm in zip(told, arms, strict=True) if arm.worse]
    if not worse or len(arms) == 1:
        return ""
    named = f": {', '.join(better)}" if better else ""
    rest = sum(not arm.supported and not arm.worse for arm in tested(arms))
    undecided = f"; undecided in {rest}" if rest else ""
    shown = "Better" if claim.is_plain else f"Supported ({claim_words(claim)})"
    return (
        f"{shown} in {len(better)} of {len(arms)} {kind}{named}; worse in {len(worse)}: {', '.join(worse)}, by the "
        f"mirrored test with the same correction{undecided}. "
    )


def comparison_sentence(verdict: Verdict) -> str:
    """The outcome for the strongest candidate of a valid verdict, with its numbers, as one sentence.

    Where a candidate is worse than its baseline another sentence stands before it, with every one that is.
    """
    candidates, alpha, stated = verdict.candidates, known(verdict.alpha), claim_in(verdict)
    best = min(tested(candidates), key=lambda arm: (known(arm.p_adjusted), -known(arm.effect)))
    baseline = verdict.arm_against(best)
    metric, effect, n = metric_words(known(verdict.metric)), known(best.effect), known(best.n)
    against = config_words(baseline.config)
    if best.opponents:
        against += f" (the hardest to beat of {len(best.opponents)} tunings of the baseline)"
    score, decimals = score_of_verdict(verdict), decimals_of_verdict(verdict)
    size = with_unit(f"{abs(effect):.{decimals}f}", score.difference_unit_words)
    up, down = f"raises {metric} by {size} over {against}", f"lowers {metric} by {size} below {against}"
    if not stated.is_plain:
        gain = with_unit(signed_words(effect, decimals), score.difference_unit_words)
        margin = with_unit(number_words(stated.margin), score.difference_unit_words)
        told = f"{gain}{way_words(score)}"
        claim = claim_sentence(stated, best, metric=metric, against=against, effect=told, margin=margin)
    elif best.supported:
        claim = up if score.higher_is_better else down
    elif best.worse:
        claim = down if score.higher_is_better else up
    else:
        gain = with_unit(f"{effect:+.{decimals}f}", score.difference_unit_words)
        claim = f"shows no significant gain in {metric} over {against}: {gain}{way_words(score)}"
    # A baseline that other candidates go on with has more runs than the pairs that this effect is the mean of.
    pairs = list(best.scores)[:n]
    scores = " against ".join(_spread_over(arm.scores, pairs, decimals) for arm in (best, baseline))
    ended = f", ended for {best.decision}" if best.decision in (Decision.EFFICACY, Decision.FUTILITY) else ""
    seeds = f"n = {n} seeds" if n == verdict.n else f"n = {n} of {verdict.n} planned seeds{ended}"
    test = "one-sided paired t-test" if verdict.stopping == FIXED else "one-sided group-sequential paired t-test"
    p_value = p_value_words(best, alpha, kind_of_comparisons(verdict), candidates, decimals, correction_words(verdict))
    if best.effect_adjusted is not None:
        adjusted = effect_words(best.effect_adjusted, score, decimals)
        p_value += f", adjusted for the looks {adjusted} (median-unbiased)"
    diverged = len(verdict.diverged)
    note = f"; {diverged} diverged run{'s' if diverged > 1 else ''} scored by the plan's rule" if diverged else ""
    kind = kind_of_comparisons(verdict)
    names = [known(arm.against).partition(".")[2] if kind == "settings" else arm.arm for arm in candidates]
    harm = harm_sentence(candidates, names, kind, lambda value: effect_words(value, score, decimals), stated)
    sentence = (
        f"{config_words(best.config)} {claim} ({with_unit(scores, score.unit)}, {seeds}, {test} {p_value}{note})."
    )
    sentence = f"{harm}The strongest: {sentence}" if harm else sentence
    return sentence + untested_words(candidates, names)


def effect_words(effect: float, score: Score, decimals: int) -> str:
    """``+0.24 pp``."""
    return with_unit(signed_words(effect, decimals), score.difference_unit)


def way_words(score: Score) -> str:
    """Said behind a gain with its sign, where a gain is a lower score."""
    return "" if score.higher_is_better else " (+ is lower)"


def p_value_words(
    best: Compared,
    alpha: float,
    kind: str,
    arms: Sequence[Compared],
    decimals: int = 2,
    step: str = "Holm",
) -> str:
    """The p-values of the strongest arm, one- and two-sided, and the interval that belongs to the decision on it.

    Args:
        best: of the arms that were tested.
        alpha: level of the one-sided test.
        kind: what the arms are, in the plural.
        arms: all of the family.
        decimals: of the ends of the interval.
        step: name of the correction.
    """
    p_value, two_sided = known(best.p_value), known(best.p_two_sided)
    loss = f", for a loss p = {p_words(known(best.p_worse_adjusted), alpha)}" if best.worse else ""
    if len(arms) == 1:
        return (
            f"p = {p_words(p_value, alpha)}{loss}, two-sided p = {two_sided:.2g}, "
            f"{100 * (1 - 2 * alpha):g} % interval {interval_words(known(best.ci), decimals)}"
        )
    supported = sum(arm.supported for arm in arms)
    return (
        f"p = {p_value:.2g}, two-sided {two_sided:.2g}, adjusted for {len(arms)} {kind} "
        f"p = {p_words(known(best.p_adjusted), alpha)}{loss}, interval at its {step} step "
        f"{interval_words(known(best.ci_adjusted), decimals)}; {supported} of {len(arms)} supported"
    )


def _spread_over(scores: Mapping[str, float], seeds: Sequence[str], decimals: int) -> str:
    values = [scores[seed] for seed in seeds]
    return spread_words(fmean(values), stdev(values), decimals)
