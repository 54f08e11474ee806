"""What the report says behind the verdict's own sentence: the gain that could have been seen, and what else got worse.

Both are described from plan, records and verdict; neither is a part of the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from tune_bn.analysis.characteristics import detectable
from tune_bn.analysis.claims import claim_in
from tune_bn.analysis.plan import design_of
from tune_bn.analysis.wording import decimals_of_verdict, score_of_verdict, signed_words, with_unit
from tune_bn.errors import ConfigError
from tune_bn.records.plan import POOLED
from tune_bn.records.record import COMPLETED, CONFIRM
from tune_bn.records.verdict import Candidate, Verdict
from tune_bn.report.arms import baseline_of, is_sequential
from tune_bn.report.cells import spread_digits
from tune_bn.report.figures.canvas import FEW_ARMS
from tune_bn.report.study import StudyFiles

OUTCOMES = {
    "loss": "test loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "worst_class": "accuracy of the worst class, %",
}
"""What is described beside the score, in the order in which it is told."""
_HIGHER_IS_BETTER = ("worst_class",)
FEWEST_PAIRS = 3
"""Of two pairs the spread of the differences is next to unknown."""
STANDARD_ERRORS = 2.0


def aside(study: StudyFiles) -> str:
    """The sentences behind the finding, each after a space; empty where there is nothing to be said."""
    return "".join(f" {words}" for words in (detectable_words(study), worse_outcomes_words(study)) if words)


def detectable_words(study: StudyFiles) -> str:
    """The smallest true gain that the design finds, where a candidate is undecided: no gain shown is not no gain."""
    verdict = study.verdict
    if verdict is None or verdict.is_invalid or verdict.holds == POOLED:
        return ""
    open_ones = [arm for arm in verdict.candidates if _is_undecided(arm)]
    found = [gain for arm in open_ones if (gain := detectable_gain(study, verdict, arm)) is not None]
    if not found:
        return ""
    digits, unit = decimals_of_verdict(verdict), score_of_verdict(verdict).difference_unit_words
    low, high = (signed_words(gain, digits) for gain in (min(found), max(found)))
    size = with_unit(low if low == high else f"{low} to {high}", unit)
    lead = "Undecided:"
    if len(verdict.candidates) > 1:
        names = _and([arm.arm for arm in open_ones])
        lead = f"Undecided: {names if len(open_ones) <= FEW_ARMS else f'{len(open_ones)} candidates'};"
    what = "true gains" if claim_in(verdict).is_plain else "true differences"
    design = "the design, with its looks," if is_sequential(verdict) else "the design"
    return (
        f"{lead} {design} finds {what} from {size} on with power 0.8, if the differences spread as these do; a smaller "
        "one may exist and not be seen."
    )


def _is_undecided(arm: Candidate) -> bool:
    return not (arm.supported or arm.worse or arm.not_tested) and arm.effect is not None


def detectable_gain(study: StudyFiles, verdict: Verdict, arm: Candidate) -> float | None:
    """The smallest true gain that is found with power 0.8 by the planned seeds, with the planned looks; None where it
    is not known."""
    stated = arm.minimum_detectable_effect
    if not is_sequential(verdict) or stated is None or arm.std_difference is None:
        return stated
    rule = None if study.plan is None else design_of(study.plan)
    if rule is None:
        return None
    try:
        return claim_in(verdict).null + detectable(rule, candidates=len(verdict.candidates)) * arm.std_difference
    except ConfigError:
        return None


def worse_outcomes_words(study: StudyFiles) -> str:
    """Which outcomes beside the score got worse by more than their own spread over the pairs explains."""
    verdict = study.verdict
    if verdict is None or verdict.is_invalid:
        return ""
    values = _values(study)
    told = [(arm.arm, list(_worse(verdict, arm, values))) for arm in verdict.candidates]
    told = [(name, found) for name, found in told if found]
    if not told:
        return ""
    alone = len(verdict.candidates) == 1
    parts = [_and(found) if alone else f"{name} in {_and(found)}" for name, found in told[:FEW_ARMS]]
    if len(told) > FEW_ARMS:
        parts.append(f"{len(told) - FEW_ARMS} more in the table below")
    who = (
        f"those of the candidate are worse than its baseline's in {parts[0]}" if alone else f"worse: {'; '.join(parts)}"
    )
    return (
        f"Described, not tested: of the means on the same test images {who}; each of these mean differences is more "
        f"than {STANDARD_ERRORS:g} of its standard errors over the seeds."
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


Values = Mapping[tuple[str, str], Mapping[str, float]]


def _values(study: StudyFiles) -> Values:
    """What completed runs of the confirmation state beside their score, by arm and seed."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for record in study.records:
        if record.stage == CONFIRM and record.status == COMPLETED and isinstance(record.test, Mapping):
            numbers: dict[str, float] = {}
            for name in OUTCOMES:
                value: Any = record.test.get(name)
                if type(value) in (int, float) and math.isfinite(value):
                    numbers[name] = float(value)
            found[record.arm, str(record.seed)] = numbers
    return found


def _worse(verdict: Verdict, arm: Candidate, values: Values) -> Iterator[str]:
    baseline = baseline_of(verdict, arm)
    seeds = list(arm.scores)[: arm.n]
    for name, words in OUTCOMES.items():
        if f"test_{name}" == verdict.metric:
            continue
        pairs = [
            (one[name], two[name])
            for seed in seeds
            if name in (one := values.get((baseline.arm, seed), {}))
            and name in (two := values.get((arm.arm, seed), {}))
        ]
        if len(pairs) < FEWEST_PAIRS or len(pairs) < len(seeds) or not _got_worse(pairs, name):
            continue
        before, after = (fmean(side) for side in zip(*pairs, strict=True))
        spread = max(stdev(side) for side in zip(*pairs, strict=True))
        digits = spread_digits(spread, abs(after - before))
        named, _, unit = words.partition(", ")
        yield f"{named} ({with_unit(f'{after:.{digits}f} against {before:.{digits}f}', unit)})"


def _got_worse(pairs: Sequence[tuple[float, float]], name: str) -> bool:
    sign = -1.0 if name in _HIGHER_IS_BETTER else 1.0
    losses = [sign * (after - before) for before, after in pairs]
    mean = fmean(losses)
    return mean > 0 and mean > STANDARD_ERRORS * stdev(losses) / math.sqrt(len(losses))
