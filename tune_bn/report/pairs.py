"""Sections on the pairs of the confirmation: each seed under both arms, the effects, and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.wording import decimals_of_verdict, metric_words, score_of_verdict
from tune_bn.records.verdict import Candidate, StudyArm, Verdict, known
from tune_bn.report.arms import baseline_of, paired_candidates
from tune_bn.report.blocks import Block, Heading, Picture, first_of, paragraph, table
from tune_bn.report.cells import gain, in_unit, interval, number
from tune_bn.report.figures.canvas import FEW_ARMS
from tune_bn.report.figures.effects import forest, shapes_words
from tune_bn.report.figures.pairs import (
    changes_words,
    has_arrows,
    has_intervals,
    interval_words_of,
    paired,
    results_words,
)
from tune_bn.report.results import finding
from tune_bn.report.study import StudyFiles

ARMS_OF_A_TABLE = 5


def pairs(study: StudyFiles) -> Iterator[Block]:
    """Each seed under both arms."""
    figure = None if study.verdict is None else paired(study.verdict)
    if study.verdict is None or figure is None:
        return
    verdict = study.verdict
    interval = f", and {interval_words_of(verdict)}" if has_intervals(verdict) else ""
    arrows = " (an arrow where it goes on beyond the picture)" if has_arrows(verdict) else ""
    if len(paired_candidates(verdict)) <= FEW_ARMS:
        caption = (
            "Confirmation. Left: each line is one seed under both arms, the thick black one with squares their mean. "
            f"Right: the paired differences, the black bar their mean{interval}{arrows}."
        )
    else:
        caption = (
            "Confirmation. Each point is the paired difference of one seed, the black bar their "
            f"mean{interval.replace(', and', ', the whisker')}{arrows}."
        )
    yield Heading("Paired scores")
    yield Picture(
        "paired.png",
        "Paired scores",
        f"{caption} {changes_words(verdict)}",
        figure,
        result=first_of(results_words(verdict)),
    )


def effects(study: StudyFiles) -> Iterator[Block]:
    """The forest of effects."""
    figure = None if study.verdict is None else forest(study.verdict)
    if study.verdict is None or figure is None:
        return
    digits, claim = decimals_of_verdict(study.verdict), claim_in(study.verdict)
    yield Heading("Effects")
    yield Picture(
        "effects.png",
        "Forest of effects",
        f"Confirmation. {shapes_words(study.verdict)}",
        figure,
        result=first_of(
            [
                f"{arm.arm} {gain(arm.effect, digits)} ({interval(arm.ci, digits)}), {finding(arm, claim)}"
                for arm in study.verdict.candidates
                if arm.effect is not None
            ]
        ),
    )


def scores(study: StudyFiles) -> Iterator[Block]:
    """What the test was given."""
    verdict = study.verdict
    if verdict is None or not verdict.baselines:
        return
    yield Heading("Scores by seed")
    score = score_of_verdict(verdict)
    words = f"{metric_words(known(verdict.metric)).capitalize()}{in_unit(score)}"
    if score.difference_unit:
        words += f"; differences in {score.difference_unit_words}"
    yield paragraph(words + ("." if score.higher_is_better else "; lower is better, and so is a negative difference."))
    for baseline in verdict.every_tuning:
        candidates = [
            arm
            for arm in verdict.candidates
            if baseline_of(verdict, arm) is baseline or any(one.arm == baseline.arm for one in arm.opponents)
        ]
        # More would not fit on paper.
        for start in range(0, len(candidates), ARMS_OF_A_TABLE):
            yield _scores(verdict, baseline, candidates[start : start + ARMS_OF_A_TABLE])


def _scores(verdict: Verdict, baseline: StudyArm, candidates: Sequence[Candidate]) -> Block:
    header, digits = ["seed", baseline.arm], decimals_of_verdict(verdict)
    for arm in candidates:
        header += [arm.arm, "difference"]
    rows = []
    for seed in map(str, verdict.seeds):
        before = baseline.scores.get(seed)
        row = [seed, number(before, f".{digits}f")]
        for arm in candidates:
            after = arm.scores.get(seed)
            difference = None if before is None or after is None else after - before
            row += [number(after, f".{digits}f"), number(difference, f"+.{digits}f")]
        rows.append(row)
    return table(f"Scores of {baseline.arm} and {', '.join(arm.arm for arm in candidates)}", header, rows)
