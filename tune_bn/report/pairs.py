"""Sections on the pairs of the confirmation: each seed under both arms, the effects, and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tune_bn.analysis.wording import decimals_of_verdict, metric_words, score_of_verdict
from tune_bn.records.verdict import Candidate, StudyArm, Verdict, known
from tune_bn.report.arms import baseline_of
from tune_bn.report.blocks import Block, Heading, Picture, paragraph, table
from tune_bn.report.cells import in_unit, number
from tune_bn.report.figures.canvas import FEW_ARMS
from tune_bn.report.figures.effects import bars_words, forest
from tune_bn.report.figures.pairs import interval_words_of, paired
from tune_bn.report.study import StudyFiles

ARMS_OF_A_TABLE = 5


def pairs(study: StudyFiles) -> Iterator[Block]:
    """Each seed under both arms."""
    figure = None if study.verdict is None else paired(study.verdict)
    if study.verdict is None or figure is None:
        return
    if len(study.verdict.candidates) <= FEW_ARMS:
        caption = (
            "Confirmation. Left: each line is one seed under both arms, the thick one their mean. Right: the paired "
            f"differences, their mean, and {interval_words_of(study.verdict)} (an arrow where it goes on beyond the "
            "picture)."
        )
    else:
        caption = (
            "Confirmation. Each point is the paired difference of one seed, the black bar their mean, the whisker "
            f"{interval_words_of(study.verdict)} (an arrow where it goes on beyond the picture)."
        )
    yield Heading("Paired scores")
    yield Picture(
        "paired.png",
        "Paired scores",
        f"{caption} Round points are seeds on which the candidate is better, triangles seeds on which it is worse.",
        figure,
    )


def effects(study: StudyFiles) -> Iterator[Block]:
    """The forest of effects."""
    figure = None if study.verdict is None else forest(study.verdict)
    if study.verdict is None or figure is None:
        return
    yield Heading("Effects")
    yield Picture(
        "effects.png",
        "Forest of effects",
        f"Confirmation. Square, cross or circle: effect; {bars_words(study.verdict)}; triangle: the smallest true "
        "gain that the planned seeds find with power 0.8, if the differences spread as these do. "
        "A gain below the triangle may well exist and not be seen here. An arrow: "
        "the interval goes on beyond the picture.",
        figure,
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
    for baseline in verdict.baselines:
        candidates = [arm for arm in verdict.candidates if baseline_of(verdict, arm) is baseline]
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
