"""How much of the gain that a search found was luck: the same configuration's validation score, stage by stage.

The search keeps what scored best, so the winner's score there is too high on average; on fresh seeds it shrinks. Only
validation scores are compared, since search and selection never read the test data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from tune_bn.records.plan import PlannedCandidate
from tune_bn.records.record import CANDIDATE, COMPLETED, CONFIRM, SEARCH, SELECT, Record
from tune_bn.records.score import Score


def shrinkage(candidate: PlannedCandidate, records: Sequence[Record], score: Score) -> dict[str, Any] | None:
    """The candidate's validation score in each stage beside its baseline's, and what the gain lost on fresh seeds.

    The gain of every stage is taken against the baseline of the confirmation, whose seeds nothing was chosen on.

    Args:
        candidate: an arm of the plan.
        records: every record of the study.
        score: what they are scored by.

    Returns:
        ``search``, ``select`` (None without a selection), ``confirm`` and ``baseline``, each with ``mean`` and
        ``n`` (seeds); ``searched_gain``, ``selected_gain`` and ``confirmed_gain``, positive where it is better; and
        ``luck`` = searched − confirmed gain. None where the candidate was not searched in the setting in which it is
        confirmed.
    """
    metric = score.validation
    trained = [record for record in records if record.status == COMPLETED and metric in record.scores]

    def of(stage: str, arm: str) -> dict[str, Any] | None:
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
    gains = [None if stage is None else _gain(score, stage, baseline) for stage in (search, select, confirm)]
    return {
        "metric": metric,
        "search": search,
        "select": select,
        "confirm": confirm,
        "baseline": baseline,
        "searched_gain": gains[0],
        "selected_gain": gains[1],
        "confirmed_gain": gains[2],
        "luck": _gain(score, search, confirm),
    }


def _gain(score: Score, stage: Mapping[str, Any], over: Mapping[str, Any]) -> float:
    return score.objective(stage["mean"]) - score.objective(over["mean"])


def _summary(values: Iterable[float]) -> dict[str, Any] | None:
    found = list(values)
    return {"mean": fmean(found), "n": len(found)} if found else None
