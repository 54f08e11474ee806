"""How much of the gain that a search found was luck: the same configuration's validation score, stage by stage.

The search keeps what scored best, so the winner's score there is too high on average; on fresh seeds it shrinks. Only
validation scores are compared, since search and selection never read the test data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from tune_bn.records.plan import PlannedCandidate
from tune_bn.records.record import CANDIDATE, COMPLETED, CONFIRM, SEARCH, SELECT, Record
from tune_bn.records.score import Score
from tune_bn.records.verdict_details import Shrinkage, StageMean


def shrinkage(candidate: PlannedCandidate, records: Sequence[Record], score: Score) -> Shrinkage | None:
    """The candidate's validation score in each stage beside its baseline's, and what the gain lost on fresh seeds.

    The gain of every stage is taken against the baseline of the confirmation, whose seeds nothing was chosen on.

    Args:
        candidate: an arm of the plan.
        records: every record of the study.
        score: what they are scored by.

    Returns:
        None where the candidate was not searched in the setting in which it is confirmed.
    """
    metric = score.validation
    trained = [record for record in records if record.status == COMPLETED and metric in record.scores]

    def of(stage: str, arm: str) -> StageMean | None:
        return _summary(
            record.scores[metric]
            for record in trained
            if (record.stage, record.arm) == (stage, arm)
            and (stage == CONFIRM or (record.trial, record.config) == (candidate.trial, candidate.config))
        )

    search = None if candidate.trial is None else of(SEARCH, CANDIDATE)
    confirm, baseline = of(CONFIRM, candidate.arm), of(CONFIRM, candidate.opponent)
    if search is None or confirm is None or baseline is None:
        return None
    select = of(SELECT, CANDIDATE)
    return Shrinkage(
        metric=metric,
        search=search,
        select=select,
        confirm=confirm,
        baseline=baseline,
        searched_gain=_gain(score, search, baseline),
        selected_gain=None if select is None else _gain(score, select, baseline),
        confirmed_gain=_gain(score, confirm, baseline),
        luck=_gain(score, search, confirm),
    )


def _gain(score: Score, stage: StageMean, over: StageMean) -> float:
    return score.objective(stage.mean) - score.objective(over.mean)


def _summary(values: Iterable[float]) -> StageMean | None:
    found = list(values)
    return StageMean(fmean(found), len(found)) if found else None
