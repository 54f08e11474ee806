"""The verdict on a table of scores in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.goals import MIN
from tune_bn.analysis.untested import tested, untested_words
from tune_bn.analysis.wording import claim_sentence, harm_sentence, number_words, p_words
from tune_bn.errors import listed
from tune_bn.records.plan import EQUIVALENT
from tune_bn.records.score_verdict import ScoreVerdict, TableCandidate
from tune_bn.records.verdict import Arm, known

PAIRED, UNPAIRED, THRESHOLD, FOLDS, LOOKS = "paired", "unpaired", "threshold", "folds", "looks"

FEWEST_RANKED = 5
"""Pairs from which on the tests that assume no distribution can reach 0.05."""

TEST_WORDS: Mapping[str, str] = {
    PAIRED: "one-sided paired t-test",
    UNPAIRED: "one-sided Welch t-test",
    THRESHOLD: "one-sided one-sample t-test",
    FOLDS: "one-sided corrected resampled t-test",
    LOOKS: "one-sided group-sequential paired t-test",
}


def metric_name(verdict: ScoreVerdict) -> str:
    """``the score``, or the column's own name."""
    name = known(verdict.metric)
    return "the score" if name.casefold() == "score" else listed([name])


def sentence(verdict: ScoreVerdict) -> str:
    """The outcome of a valid verdict: the strongest arm, the arms that are worse, and what is in doubt."""
    best = strongest(verdict)
    parts = [
        f"{_claim(verdict, best)} ({_numbers(verdict, best)}).",
        _harm(verdict),
        _doubts(verdict, best),
        _few(verdict),
        untested_words(verdict.candidates, [listed([arm.arm]) for arm in verdict.candidates]).strip(),
    ]
    return " ".join(part for part in parts if part)


def strongest(verdict: ScoreVerdict) -> TableCandidate:
    """The arm that the sentence is about."""
    return min(
        tested(verdict.candidates), key=lambda arm: (not arm.supported, known(arm.p_adjusted), -known(arm.effect))
    )


def _against(verdict: ScoreVerdict) -> str:
    return f"{verdict.threshold:g}" if verdict.baseline is None else listed([verdict.baseline.arm])


def _claim(verdict: ScoreVerdict, best: TableCandidate) -> str:
    name, against, effect, metric = listed([best.arm]), _against(verdict), known(best.effect), metric_name(verdict)
    lower, stated = verdict.goal == MIN, claim_in(verdict)
    signed = f"{'+' if effect > 0 else ''}{number_words(effect)}"
    if not stated.is_plain:
        gain = f"a gain of {signed}" if stated.kind != EQUIVALENT else f"a difference (as a gain) of {signed}"
        margin = number_words(stated.margin)
        told = claim_sentence(stated, best, metric=metric, against=against, effect=gain, margin=margin)
        return f"{name} {told}"
    if best.worse:
        verb, over = ("raises", "above") if lower else ("lowers", "below")
        return f"{name} {verb} {metric} by {number_words(-effect)} {over} {against}"
    if best.supported:
        verb, over = ("lowers", "below") if lower else ("raises", "over")
        return f"{name} {verb} {metric} by {number_words(effect)} {over} {against}"
    gain = f"gain (lower {metric.removeprefix('the ')})" if lower else "gain"
    return f"{name} shows no significant {gain} over {against}: {signed}"


def _numbers(verdict: ScoreVerdict, best: TableCandidate) -> str:
    mode, alpha, m, baseline = verdict.mode, known(verdict.alpha), len(verdict.candidates), verdict.baseline
    words = [arm_words(best) if baseline is None else f"{arm_words(best)} against {_baseline_words(verdict, best)}"]
    by = listed([verdict.paired_by])
    if baseline is None:
        words.append(f"n = {best.n} runs")
    elif mode == UNPAIRED:
        words.append(f"n = {best.n} and {baseline.n} runs")
    elif mode == FOLDS:
        words.append(f"n = {verdict.n} pairs by {by}, {verdict.folds} folds each")
    elif mode == LOOKS and best.n != verdict.n:
        words.append(f"n = {best.n} of {verdict.n} pairs by {by}")
    else:
        words.append(f"n = {verdict.n} pairs by {by}")
    test, p_value, adjusted = TEST_WORDS[mode], known(best.p_value), known(best.p_adjusted)
    if m == 1:
        words.append(f"{test} p = {p_words(p_value, alpha)}")
    else:
        supported = sum(arm.supported for arm in verdict.candidates)
        words.append(f"{test} p = {p_value:.2g}, adjusted for {m} arms p = {p_words(adjusted, alpha)}")
    words.append(f"two-sided p = {best.p_two_sided:.2g}")
    low, high = known(best.ci_adjusted)
    words.append(f"{interval_name(best)} of the gain {end_words(low)} to {end_words(high)}")
    said = ", ".join(words)
    return said if m == 1 else f"{said}; {supported} of {m} supported"


def _baseline_words(verdict: ScoreVerdict, arm: TableCandidate) -> str:
    """Mean ± standard deviation of the baseline over the pairs on which the arm was judged."""
    baseline = known(verdict.baseline)
    if verdict.mode != LOOKS or arm.n == baseline.n:
        return arm_words(baseline)
    scores = list(baseline.scores.values())[: arm.n]
    return spread_words(fmean(scores), stdev(scores))


def interval_name(arm: TableCandidate) -> str:
    """``90 % interval``: the two-sided interval that belongs to the one-sided test of this arm."""
    low, high = known(arm.adjusted_levels)
    return f"{100 * (1 - low - high):.4g} % interval"


def end_words(value: float | None) -> str:
    """An end of an interval; infinite where it is open."""
    return "∞" if value is None else number_words(value)


def _harm(verdict: ScoreVerdict) -> str:
    """The arms that are worse by the mirrored test: a gain of one must not hide them."""
    arms = verdict.candidates
    if len(arms) == 1 and arms[0].worse:
        return f"It is significantly worse than {_against(verdict)} (p = {arms[0].p_worse_adjusted:.2g})."
    names = [listed([arm.arm]) for arm in arms]
    told = harm_sentence(
        arms, names, "arms", lambda value: f"{'+' if value > 0 else ''}{number_words(value)}", claim_in(verdict)
    )
    return told.strip()


def _doubts(verdict: ScoreVerdict, best: TableCandidate) -> str:
    if not best.doubt:
        return ""
    welch, words = best.welch, f"The pairs are in doubt: {best.doubt}. Without the pairs Welch's t-test "
    words += "cannot be made" if welch is None else f"gives p = {welch.p_value:.2g}"
    if welch is not None and len(verdict.candidates) > 1:
        words += f", adjusted {welch.p_adjusted:.2g}"
    if known(best.p_adjusted) <= known(verdict.alpha) and not best.supported:
        words += ", so nothing is supported" if len(verdict.candidates) == 1 else ", so this arm is not supported"
    return f"{words}."


def _few(verdict: ScoreVerdict) -> str:
    """What few pairs cannot show."""
    if verdict.mode not in (PAIRED, THRESHOLD):
        return ""
    n = min((known(arm.n) for arm in verdict.candidates), default=FEWEST_RANKED)
    if n >= FEWEST_RANKED:
        return ""
    what = "runs" if verdict.mode == THRESHOLD else "pairs"
    return (
        f"With {n} {what} no test free of assumptions on the distribution (Wilcoxon, sign-flip) can go below "
        f"p = 1/2^{n} = {0.5**n:g}, so this rests on normal {'scores' if what == 'runs' else 'differences'} alone."
    )


def spread_words(mean: float, std: float) -> str:
    """``97.16 ± 0.71`` or ``0.9716 ± 0.0071``: two digits of the spread, and the mean to the same place."""
    places = 1 - math.floor(math.log10(std)) if std > 0 else 2
    if not -6 <= places <= 9:
        return f"{mean:.4g} ± {std:.2g}"
    return f"{mean:.{max(places, 0)}f} ± {std:.{max(places, 0)}f}"


def arm_words(arm: Arm) -> str:
    """Mean ± standard deviation of an arm; a dash where they overflow or are missing."""
    return "–" if arm.mean is None or arm.std is None else spread_words(arm.mean, arm.std)


def problem_words(problems: Sequence[str]) -> str:
    """The first problem, and how many there are beside it."""
    more = f" ({len(problems) - 1} more in `problems`)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}."
