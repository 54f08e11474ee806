"""Section on how far the verdict hangs on its test."""

from __future__ import annotations

from collections.abc import Iterator

from tune_bn.analysis.wording import decimals_of_verdict, score_of_verdict
from tune_bn.records.verdict import Candidate, Verdict
from tune_bn.records.verdict_details import OtherTests
from tune_bn.report.arms import is_sequential, percent_words
from tune_bn.report.blocks import Block, Heading, Mono, Span, paragraph, table
from tune_bn.report.cells import heading_with, interval, number, significant
from tune_bn.report.study import StudyFiles


def sensitivity(study: StudyFiles) -> Iterator[Block]:
    """Other tests of the same differences, the gain that could have been seen, and runs that went wrong."""
    verdict = study.verdict
    if verdict is None or not verdict.baselines:
        return
    judged = [(arm, arm.sensitivity) for arm in verdict.candidates if arm.sensitivity is not None]
    events = list(_events(verdict))
    if not judged and not events:
        return
    yield Heading("Does the verdict hang on the test?")
    if judged:
        header = _sensitivity_header(verdict, judged[0][1].confidence)
        yield table("Other tests and intervals", header, [_sensitivity_row(verdict, *one) for one in judged])
        yield paragraph(_sensitivity_words(verdict))
    yield from events


def _sensitivity_header(verdict: Verdict, confidence: float) -> list[str]:
    level, unit = percent_words(confidence), score_of_verdict(verdict).difference_unit
    return [
        "candidate",
        "p of the verdict",
        "p, Wilcoxon",
        "p, sign-flip",
        heading_with(f"{level} t interval", unit),
        heading_with(f"{level} bootstrap interval", unit),
        heading_with("std", unit),
        heading_with("detectable gain", unit),
    ]


def _sensitivity_row(verdict: Verdict, arm: Candidate, other: OtherTests) -> list[str]:
    digits = decimals_of_verdict(verdict)
    return [
        arm.arm,
        significant(arm.p_value),
        significant(other.wilcoxon.p_value),
        significant(other.sign_flip.p_value),
        interval(other.t_interval, digits),
        interval(other.bootstrap_interval, digits),
        number(arm.std_difference, f".{digits}f"),
        number(arm.minimum_detectable_effect, f".{digits}f"),
    ]


def _sensitivity_words(verdict: Verdict) -> str:
    m = len(verdict.candidates)
    level = f"α = {verdict.alpha:g}" + (f" / {m}, the first step of Holm's procedure" if m > 1 else "")
    fixed = (
        " All but the first column treat the number of pairs as fixed, which it was not; they are no evidence, only a "
        "look from another side."
        if is_sequential(verdict)
        else ""
    )
    known = [arm.sensitivity.bootstrap_interval for arm in verdict.candidates if arm.sensitivity is not None]
    open_end = any(ends is not None and None in ends for ends in known)
    dash = ", and a dash is an end that so few pairs leave open" if open_end else ""
    return (
        "The t-test decides; the others stand beside it, one-sided, not adjusted for several candidates. Wilcoxon: "
        "signed ranks; sign-flip: Fisher's randomization test of the mean; intervals: two-sided; the bootstrap is "
        f"studentized{dash}; std: of the differences; detectable gain: the smallest true gain that the planned seeds "
        "find with power 0.8, if the differences spread so, at "
        f"{level}.{fixed}"
    )


def _events(verdict: Verdict) -> Iterator[Block]:
    for what, runs in (
        ("Diverged, scored by the plan's rule: ", verdict.diverged),
        ("Retried: ", verdict.retried),
    ):
        if runs:
            spans: list[Span] = [what]
            for index, run in enumerate(runs):
                spans += [", ", Mono(run)] if index else [Mono(run)]
            yield paragraph(*spans, ".")
