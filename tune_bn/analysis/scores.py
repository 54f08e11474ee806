"""A verdict on scores of anybody: a table with one score per arm and seed, judged as a confirmation is.

The table says nothing of how its scores came about. Where the arms were chosen on the same seeds, or runs were left
out, no test can see it; :data:`SCORES_NOTE` says so with every verdict. What can be seen is refused or said:
:mod:`tune_bn.analysis.doorman` and :mod:`tune_bn.analysis.pairing`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, SupportsFloat

import numpy as np

from tune_bn.analysis.columns import Scores
from tune_bn.analysis.family import check_correction
from tune_bn.analysis.goals import MAX, goal_of
from tune_bn.analysis.score_rows import common_order, doorman_findings, named_baseline, natural_order, usable_scores
from tune_bn.analysis.score_tests import (
    Problems,
    against_threshold,
    over_folds,
    over_looks,
    over_pairs,
    with_doubts,
    without_pairs,
)
from tune_bn.analysis.score_words import FOLDS, LOOKS, PAIRED, THRESHOLD, UNPAIRED, problem_words, sentence, strongest
from tune_bn.analysis.sequential import design
from tune_bn.analysis.table_test import TableTest
from tune_bn.analysis.untested import plain_effect, untested_remarks
from tune_bn.analysis.wording import headline
from tune_bn.errors import ConfigError, ScoresError, listed
from tune_bn.records.log import VERDICT_SCHEMA_VERSION
from tune_bn.records.plan import HOLM
from tune_bn.records.score_verdict import ScoreVerdict, TableArm, TableCandidate
from tune_bn.records.verdict import INVALID, NOT_SUPPORTED, SUPPORTED, known

SCORES_NOTE = (
    "The scores are judged as they stand. Whether the arms were chosen on the same seeds, or runs were left out, "
    "a table cannot show."
)
_NOTES: Mapping[str, str] = {
    PAIRED: "",
    UNPAIRED: " The runs of two arms count as independent.",
    THRESHOLD: " The threshold counts as exact: the spread of the runs behind a published mean is not in the test.",
    FOLDS: " The corrected test is calibrated in practice, not exact; it speaks of this one set of data.",
    LOOKS: " The looks count as planned before the first of them.",
}
_TESTS: Mapping[str, str] = {
    PAIRED: "paired_t_greater",
    UNPAIRED: "welch_t_greater",
    THRESHOLD: "one_sample_t_greater",
    FOLDS: "corrected_resampled_t_greater",
    LOOKS: "group_sequential_paired_t_greater",
}


def judge_scores(scores: Scores, **options: Any) -> dict[str, Any]:
    """What :func:`verdict_on_scores` finds, as JSON has it: :meth:`ScoreVerdict.to_json`.

    Args:
        scores: as :func:`tune_bn.analysis.columns.read_scores` returns them.
        options: the fields of :class:`tune_bn.analysis.table_test.TableTest`: ``baseline``, ``goal``, ``alpha`` and
            their like.

    Raises:
        ConfigError: an option is out of range or does not go with another, or ``baseline`` is no arm of the table.
        ScoresError: the table has no other arm, or does not say its baseline or its goal.
    """
    return verdict_on_scores(scores, TableTest(**options)).to_json()


def verdict_on_scores(scores: Scores, asked: TableTest) -> ScoreVerdict:
    """The verdict on every other arm of a table against its baseline: the rules of a confirmation, without its plan.

    One-sided t-test, Holm-adjusted for the number of other arms; supported where at least one has p ≤ alpha. An arm
    that is worse by the mirrored test, adjusted alike, is ``worse``, and the reason names it.

    Invalid, with every broken rule in ``problems`` and no p-value: a pair that an arm lacks or has twice, a score that
    is not finite, fewer than three pairs, rows that are no runs, runs that count twice, scores in different units. One
    arm that breaks a rule makes the whole table invalid, because the others would be adjusted for too few.

    An arm that is identical to the baseline, differs from it by a constant, or is one number where runs differ, has no
    spread that a test could judge. Among several it is ``not_tested``, with the reason and without a p-value, and the
    others are judged, adjusted for it too; where no other arm is left the table is invalid.

    Args:
        scores: as :func:`tune_bn.analysis.columns.read_scores` returns them.
        asked: how they are judged.

    Returns:
        The verdict. ``effect`` and every bound are gains: positive is better under either goal; ``difference`` is the
        mean of the arm minus that of the baseline. ``remarks`` holds what is no broken rule and has to be known. It
        does not depend on the order of the rows, but for the order of the candidates, which is that of their first
        rows.

    Raises:
        ConfigError: ``baseline`` is no arm of the table, or looks, folds or the correction do not go with its pairs.
        ScoresError: the table has no other arm, or does not say its baseline or its goal.
    """
    mode, claim, baseline, alpha, paired = asked.mode, asked.claim, asked.baseline, asked.alpha, asked.is_paired
    threshold, folds, looks = asked.threshold, asked.folds, asked.looks
    goal = goal_of(scores.metric, source=scores.source, others=scores.arms if scores.wide else (), goal=asked.goal)
    arms = scores.arms
    if mode != THRESHOLD:
        baseline = named_baseline(scores, baseline, arms)
        arms.remove(baseline)
        if not arms:
            raise ScoresError(
                f"{scores.source}: column arm: only {listed([baseline])}; accepted: the baseline and at least one other"
                " arm"
            )
    everyone = arms if baseline is None else [baseline, *arms]
    pairs = sorted({pair for _, pair, _ in scores.rows}, key=natural_order)
    if looks is not None and len(pairs) not in looks:
        raise ConfigError("looks", list(looks), f"looks of which one is at the {len(pairs)} pairs of the table")
    if folds is not None and (folds < 2 or len(pairs) % folds):
        raise ConfigError("folds", folds, f"2 or more, and a divisor of the {len(pairs)} pairs")
    rule = None if looks is None else design(looks, alpha, futility=None)
    check_correction(asked.correction, claim, seeds=len(pairs), fixed=mode == PAIRED)
    correction = asked.correction if len(arms) > 1 else HOLM
    usable, problems = usable_scores(scores, everyone, pairs, paired=paired)
    refused, remarks, left_out = doorman_findings(
        scores, usable, pairs, asked.accept, paired=paired and not problems, threshold=threshold, arms=arms
    )
    problems += refused
    sign = 1.0 if goal == MAX else -1.0
    found: dict[str, TableCandidate] = {}
    if not problems:
        values = {arm: sign * np.array(list(usable[arm].values())) for arm in everyone}
        others = {arm: values[arm] for arm in arms}
        given: Any = {"claim": claim, "left_out": left_out}
        try:
            if threshold is not None:
                found = against_threshold(others, sign * threshold, alpha=alpha, **given)
            elif baseline is not None and asked.unpaired:
                found = without_pairs(others, values[baseline], alpha=alpha, **given)
            elif baseline is not None and folds is not None:
                found = over_folds(others, values[baseline], folds=folds, alpha=alpha, **given)
            elif baseline is not None and rule is not None:
                found = over_looks(others, values[baseline], rule, **given)
            elif baseline is not None:
                found = over_pairs(others, values[baseline], alpha=alpha, correction=correction, **given)
            if baseline is not None and paired:
                names: Any = {"against": baseline, "paired_by": scores.paired_by, "claim": claim}
                rows = common_order(scores, pairs)
                found = with_doubts(found, others, values[baseline], alpha=alpha, rows=rows, **names)
            for name, row in found.items():
                if row.not_tested:
                    reference: Any = sign * threshold if threshold is not None else values[str(baseline)]
                    found[name] = replace(row, effect=plain_effect(values[name], reference))
        except Problems as error:
            problems += [f"{listed([name])}: {problem}" for name, problem in error.problems]
    compared = {arm: _arm(arm, usable[arm]) for arm in everyone}
    if problems:
        candidates = [TableCandidate(**vars(compared[arm])) for arm in arms]
    else:
        candidates = [_candidate(found[arm], compared[arm], sign) for arm in arms]
    verdict = ScoreVerdict(
        schema_version=VERDICT_SCHEMA_VERSION,
        source=scores.source,
        verdict=INVALID,
        headline=INVALID,
        problems=tuple(problems),
        remarks=(*scores.remarks, *remarks, *([] if problems else _remarks(scores, mode, compared, paired))),
        metric=scores.metric,
        goal=goal,
        goal_from="name" if asked.goal is None else "stated",
        mode=mode,
        test=_TESTS[mode],
        alpha=alpha,
        correction=correction,
        kind=claim.kind,
        margin=claim.margin,
        n=len(pairs) if paired else None,
        paired_by=scores.paired_by,
        pairs=tuple(pairs),
        threshold=threshold,
        folds=folds,
        looks=None if looks is None else tuple(looks),
        baseline=None if baseline is None else compared[baseline],
        candidates=tuple(candidates),
        worse=tuple(arm.arm for arm in candidates if arm.worse),
        ci_confidence=1 - 2 * alpha,
        selection=SCORES_NOTE + _NOTES[mode],
    )
    if problems:
        return replace(verdict, reason=problem_words(problems))
    word = SUPPORTED if any(arm.supported for arm in candidates) else NOT_SUPPORTED
    verdict = replace(verdict, verdict=word, headline=headline(word, candidates, "arms", claim))
    told = strongest(verdict).arm
    doubted = [
        f"{arm.doubt}; without the pairs Welch's t-test gives {listed([arm.arm])} p = {arm.welch.p_value:.2g}"
        for arm in candidates
        if arm.doubt and arm.welch and arm.arm != told
    ]
    not_tested = untested_remarks(verdict, [listed([arm.arm]) for arm in candidates])
    return replace(verdict, reason=sentence(verdict), remarks=(*verdict.remarks, *not_tested, *doubted))


def _candidate(found: TableCandidate, arm: TableArm, sign: float) -> TableCandidate:
    """What was found of an arm, with its scores; where it ended at a look, their mean is that of the pairs up to it."""
    n = arm.n if found.n is None else found.n
    judged = arm if n == arm.n else _arm(arm.arm, dict(list(arm.scores.items())[:n]))
    return replace(
        found, n=n, scores=arm.scores, mean=judged.mean, std=judged.std, difference=sign * known(found.effect)
    )


_MOMENT = re.compile(
    r"(?:.*[\W_])?(epochs?|steps?|global_?step|iter(ation)?s?|checkpoints?|ckpts?|timesteps?)", re.IGNORECASE
)


def _remarks(scores: Scores, mode: str, arms: Mapping[str, TableArm], paired: bool) -> list[str]:
    """What is no broken rule and yet has to be known."""
    said = []
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, arm in arms.items():
        alike.setdefault(tuple(arm.scores.values()), []).append(name)
    for names in alike.values():
        if paired and len(names) > 1:
            said.append(f"{listed(names)} have the same scores in every pair")
    if mode == PAIRED and re.search(r"fold|split|cv", scores.paired_by, re.IGNORECASE):
        said.append(
            f"pairs by {listed([scores.paired_by])}: the folds of a cross-validation share training data, so the plain "
            "paired test rejects too often; --folds K takes the corrected resampled t-test"
        )
    parts = scores.paired_by.split("/")
    if mode not in (UNPAIRED, FOLDS) and any(_MOMENT.fullmatch(part) for part in parts):
        said.append(
            f"pairs by {listed([scores.paired_by])}: the scores of one run at several epochs or steps are no "
            "independent runs, so the test rejects too often; it takes one score of each run"
        )
    if mode == UNPAIRED and scores.paired_by and len(arms) > 1:
        sets = [set(arm.scores) for arm in arms.values()]
        if all(one == sets[0] for one in sets):
            said.append(
                f"every arm has the same {listed([scores.paired_by])}s; where equal ones belong together, the paired "
                "test (without --unpaired) is the one to take"
            )
    return said


def _arm(name: str, scores: Mapping[str, float]) -> TableArm:
    values = list(scores.values())
    with np.errstate(over="ignore", invalid="ignore"):
        return TableArm(
            arm=name,
            n=len(values),
            scores=dict(scores),
            mean=_finite(np.mean(values)) if values else None,
            # Equal numbers have a mean that is off by a rounding, and with it a spread.
            std=_finite(np.std(values, ddof=1) if np.ptp(values) else 0.0) if len(values) > 1 else None,
        )


def _finite(value: SupportsFloat) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
