"""Sections on what the confirmation found: the verdict, and the paper's table."""

from __future__ import annotations

from collections.abc import Iterator

from tune_bn.analysis.claims import Claim, claim_in, outcome
from tune_bn.analysis.wording import (
    claim_words,
    config_words,
    correction_words,
    decimals_of_verdict,
    metric_words,
    number_words,
    score_of_verdict,
    spoken,
    with_unit,
)
from tune_bn.records.commands import line_in_report
from tune_bn.records.plan import ANY, EQUIVALENT, NONINFERIOR, SUPERIOR
from tune_bn.records.record import BASELINE, CONFIRM, FAILED
from tune_bn.records.verdict import INVALID, NOT_SUPPORTED, SUPPORTED, Candidate, Verdict, known
from tune_bn.report.arms import (
    baseline_of,
    confidence_of,
    is_sequential,
    name_without,
    percent_words,
    setting_of,
    states_losses,
)
from tune_bn.report.aside import OUTCOMES, aside
from tune_bn.report.blocks import Block, Bullets, Heading, Span, Strong, paragraph, spans, table
from tune_bn.report.blocks import Verdict as VerdictBlock
from tune_bn.report.cells import (
    NONE,
    gain,
    heading_with,
    in_unit,
    interval,
    mean_cell,
    number,
    outcome_cell,
    significant,
)
from tune_bn.report.study import StudyFiles

_WORDS = {SUPPORTED: "Supported", NOT_SUPPORTED: "Not supported", INVALID: "Invalid"}


def headline(study: StudyFiles) -> Iterator[Block]:
    """The verdict in one sentence, and every broken rule of an invalid one."""
    verdict = study.verdict
    if verdict is None:
        yield VerdictBlock(
            "open",
            "Not confirmed yet",
            f"there is no verdict, and scores of the search are no evidence.{_progress(study)}",
        )
    else:
        # A gain beside a loss is no plain success, and a loss is more than a gain that was not shown.
        told = verdict.worse or not claim_in(verdict).is_plain or verdict.holds not in (None, ANY)
        said = spoken(verdict).replace("_", " ") if told else _WORDS[verdict.verdict]
        yield VerdictBlock(outcome(verdict), said[0].upper() + said[1:], f"{verdict.reason}{aside(study)}")
        problems = verdict.problems
        if len(problems) > 1:
            yield Bullets(tuple(spans(str(problem)) for problem in problems))


def beside(study: StudyFiles) -> Iterator[Block]:
    """What a verdict is about, what must be known beside it, and files that could not be read."""
    verdict = study.verdict
    if verdict is not None and verdict.covers:
        yield paragraph(Strong("What it is about:"), f" {verdict.covers}")
    for remark in study.data_remarks:
        yield paragraph(Strong("Data:"), *spans(f" {remark}."))
    for remark in () if verdict is None else verdict.remarks:
        yield paragraph(Strong("Note:"), *spans(f" {remark}."))
    for problem in study.problems:
        yield paragraph(Strong("Damaged file:"), f" {problem}")


def _progress(study: StudyFiles) -> str:
    if study.plan is None:
        return ""
    done = sum(record.status != FAILED for record in study.records if record.stage == CONFIRM)
    planned = len(study.plan.seeds) * len(study.plan.arms)
    most = "at most " if study.plan.stopping != "fixed" else ""
    words = f" {done} of {most}{planned} confirmation runs are done; "
    return words + f"{line_in_report('confirm', study.folder.absolute())} goes on."


def result(study: StudyFiles) -> Iterator[Block]:
    """The paper's table, and the comparison of each candidate with its baseline."""
    verdict = study.verdict
    if verdict is None or not verdict.baselines:
        return
    yield Heading("Result")
    if len(verdict.baselines) > 1:
        yield from _by_setting(verdict)
    # A baseline is an arm of which nothing was compared.
    arms = [*(Candidate(**vars(arm)) for arm in verdict.every_tuning), *verdict.candidates]
    several, step = len(verdict.candidates) > 1, correction_words(verdict)
    losses = states_losses(verdict)
    # Older verdicts have the one-sided bound beside an interval that does not belong to the test.
    score, digits = score_of_verdict(verdict), decimals_of_verdict(verdict)
    unit = score.difference_unit
    bound = [] if losses else [heading_with(f"{percent_words(1 - known(verdict.alpha))} lower bound", unit)]
    repeated = "repeated " if is_sequential(verdict) else ""
    alone_head = [heading_with(f"{percent_words(confidence_of(verdict))} interval", unit), f"{repeated}p"]
    # What decides stands right after the score, where a narrow screen shows it.
    header = [
        "arm",
        heading_with(metric_words(known(verdict.metric)), score.unit),
        heading_with("effect", unit),
        *([heading_with(f"interval at its {step} step", unit)] if several and losses else []),
        *([f"p, adjusted ({step})"] if several else []),
        *([] if several else alone_head),
        *(["finding"] if losses else []),
        "n",
        "configuration",
        *(["p of a loss, adjusted"] if several and losses else []),
        *bound,
        *(alone_head if several else []),
        *([f"{repeated}p, two-sided", f"{repeated}p of a loss"] if losses else []),
        "d_z",
        "ρ",
    ]
    rows = []
    for arm in arms:
        alone = [interval(arm.ci, digits), significant(arm.p_value)]
        cells = [
            mean_cell(arm, digits),
            gain(arm.effect, digits),
            *([interval(arm.ci_adjusted, digits)] if several and losses else []),
            *([significant(arm.p_adjusted)] if several else []),
            *([] if several else alone),
            *([finding(arm, claim_in(verdict))] if losses else []),
            str(arm.n or len(arm.scores)),
            config_words(arm.config) or NONE,
            *([significant(arm.p_worse_adjusted)] if several and losses else []),
            *([gain(arm.ci_low, digits)] if bound else []),
            *(alone if several else []),
            *([significant(arm.p_two_sided), significant(arm.p_worse)] if losses else []),
            number(arm.d_z, ".2f"),
            number(arm.correlation, ".2f"),
        ]
        # As in the paper's tables, bold is what differs significantly from the baseline.
        shown: list[Span] = [Strong(cell) if arm.supported or arm.worse else cell for cell in cells]
        rows.append([arm.arm, *shown])
    yield table("Result by arm", header, rows)
    yield paragraph(_legend(verdict))
    if verdict.rivals:
        yield from _by_opponent(verdict)
    yield from _beside(verdict)


def _by_opponent(verdict: Verdict) -> Iterator[Block]:
    """Each candidate against each tuning of the baseline that it met."""
    unit, digits = score_of_verdict(verdict).difference_unit, decimals_of_verdict(verdict)
    configs = {arm.arm: config_words(arm.config) for arm in verdict.every_tuning}
    rows: list[list[Span]] = []
    for arm in verdict.candidates:
        for other in arm.opponents:
            cells = [arm.arm, other.arm, gain(other.effect, digits), interval(other.ci, digits)]
            cells += [significant(other.p_value), configs[other.arm] or NONE]
            rows.append([Strong(cell) if other.arm == arm.against else cell for cell in cells])
    if rows:
        yield paragraph(
            "The baseline has nuisance parameters of its own, and how well they were tuned is partly luck. So the "
            "claim has to hold against every tuning of it that may be its best, and against the baseline at the "
            "candidate's own values: p is the largest of these, which needs no correction, and the bold row is the one "
            "that decides. A loss is one to any of them; its p and the upper end of the interval above are corrected "
            "for their number."
        )
        head = ["arm", "against", heading_with("effect", unit)]
        head += [heading_with(f"{percent_words(confidence_of(verdict))} interval", unit), "p", "configuration"]
        yield table("Against each tuning of the baseline", head, rows)


def _beside(verdict: Verdict) -> Iterator[Block]:
    """What the seed test leaves out: test images as a source of variation, and outcomes beside the claimed score."""
    judged = [(arm.arm, arm.over_images) for arm in verdict.candidates if arm.over_images is not None]
    unit, digits = score_of_verdict(verdict).difference_unit, decimals_of_verdict(verdict)
    if judged:
        same = " of the deciding comparison by itself" if verdict.rivals else ""
        yield paragraph(
            "Over seeds and test images: the test above takes the test images as they are; this interval takes them as "
            "drawn at random, as the seeds are (two-way variance components). It is never shorter than that over seeds"
            f"{same}."
        )
        yield table(
            "Over seeds and test images",
            [
                "arm",
                heading_with("effect", unit),
                heading_with("interval", unit),
                "seeds",
                "images",
                "share of the images in its variance",
            ],
            [
                [
                    arm,
                    gain(found.effect, digits),
                    interval((found.low, found.high), digits),
                    str(found.seeds),
                    f"{found.images:,}",
                    f"{100 * found.share_images:.0f} %",
                ]
                for arm, found in judged
            ],
        )
    others = verdict.other_outcomes or {}
    names = [name for name in OUTCOMES if any(name in found for found in others.values())]
    if names:
        yield paragraph(
            "Other outcomes on the test images, mean ± standard deviation over seeds: described, not tested. Loss, "
            "Brier score and calibration error are better where they are lower."
        )
        yield table(
            "Other outcomes",
            ["arm", *(OUTCOMES[name] for name in names)],
            [
                [
                    arm,
                    *(outcome_cell(found[name].mean, found[name].std) if name in found else NONE for name in names),
                ]
                for arm, found in others.items()
            ],
        )


_SHOWN = {SUPERIOR: "better", NONINFERIOR: "noninferior", EQUIVALENT: "equivalent"}


def finding(arm: Candidate, claim: Claim) -> str:
    """``better`` (or what is claimed), ``worse``, ``undecided`` or ``not tested``; a dash for a baseline."""
    if arm.not_tested:
        return "not tested"
    if arm.p_value is None:
        return NONE
    if arm.supported and arm.worse:
        return f"{_SHOWN[claim.kind]}, but worse"
    return _SHOWN[claim.kind] if arm.supported else "worse" if arm.worse else "undecided"


def _legend(verdict: Verdict) -> str:
    seeds = "the n seeds that the arm ran" if is_sequential(verdict) else "n seeds"
    p_value, plain = "p: one-sided paired t-test", ""
    if is_sequential(verdict):
        p_value = (
            "p: repeated p-value of the one-sided paired t-test, which holds at all looks together, as do the bounds "
            "and the intervals"
        )
        plain = ", up to the look that ended the candidate (too high on average where a gain was shown early)"
    score = score_of_verdict(verdict)
    unit = f" in {score.difference_unit_words}" if score.difference_unit else ""
    unit += f" ({score.difference_unit})" if score.difference_unit != score.difference_unit_words else ""
    way = "" if score.higher_is_better else ", turned so that + is a lower score, which is better"
    start = (
        f"Mean ± standard deviation over {seeds}; effect: mean of the paired differences from the baseline"
        f"{unit}{way}{plain}; "
    )
    end = (
        f"; α = {verdict.alpha:g}; d_z: effect divided by the standard deviation of the differences; ρ: correlation "
        "of the two arms over the seeds"
    )
    if not states_losses(verdict):
        end += _bold(verdict, "better than the baseline")
        return f"{start}lower bound: one-sided; interval: two-sided; {p_value}{end}."
    intervals = (
        "interval: two-sided, the one that belongs to the one-sided test at α: its lower end is the one-sided "
        f"{percent_words(1 - known(verdict.alpha))} bound, above 0 where p < α, and its upper end is below 0 where p "
        "of a loss is"
    )
    if len(verdict.candidates) > 1:
        intervals += (
            f", both before any correction for several candidates; interval at its {correction_words(verdict)} step: "
            "at the levels at which the correction decided on this arm, so that it excludes 0 where the arm is found "
            "better or worse and "
            "nowhere else; it speaks of this arm alone"
        )
    claim = claim_in(verdict)
    if not claim.is_plain:
        margin = with_unit(number_words(claim.margin), score.difference_unit)
        within = {
            SUPERIOR: f"the gain exceeds the margin of {margin}, which the lower end does then",
            NONINFERIOR: f"no loss of {margin} or more, which the lower end lies above then",
            EQUIVALENT: f"no difference of {margin} or more (the larger p of two one-sided tests), within which the "
            "interval lies then",
        }
        return (
            f"{start}{intervals}; {p_value}, of the claim ({claim_words(claim)}): {within[claim.kind]}; p of a loss: "
            "the test of any loss at all, with the same correction over the same family; two-sided: of any difference"
            f"{end}{_bold(verdict, 'better or worse than the baseline, or the claim holds')}."
        )
    return (
        f"{start}{intervals}; {p_value}, for a gain; p of a loss: the mirrored test, with the same correction over the "
        f"same family; two-sided: twice the smaller of the two{end}"
        f"{_bold(verdict, 'better or worse than the baseline')}."
    )


def _bold(verdict: Verdict, words: str) -> str:
    """What is bold, where anything is."""
    return f"; bold: significantly {words}" if any(arm.supported or arm.worse for arm in verdict.candidates) else ""


def _by_setting(verdict: Verdict) -> Iterator[Block]:
    score, digits = score_of_verdict(verdict), decimals_of_verdict(verdict)
    settings = {arm.arm: setting_of(arm.arm) for arm in verdict.baselines}
    cells: dict[str, dict[str, Span]] = {BASELINE: {}}
    for arm in verdict.baselines:
        cells[BASELINE][settings[arm.arm]] = mean_cell(arm, digits)
    for arm in verdict.candidates:
        setting = settings[baseline_of(verdict, arm).arm]
        text = mean_cell(arm, digits)
        text += " (worse)" if arm.worse else ""
        marked = arm.supported or arm.worse
        cells.setdefault(name_without(arm.arm, setting), {})[setting] = Strong(text) if marked else text
    rows = [[name, *(row.get(setting, NONE) for setting in settings.values())] for name, row in cells.items()]
    yield paragraph(
        f"{metric_words(known(verdict.metric)).capitalize()}{in_unit(score)} by setting, mean ± standard deviation "
        "over seeds"
        f"{_bold(verdict, 'better than the baseline of the same setting, or worse where it says so')}."
    )
    yield table("Result by setting", ["arm", *settings.values()], rows)
