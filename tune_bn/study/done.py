"""What a study has done already, and a resume need not do again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tune_bn.analysis.monitoring import standing
from tune_bn.analysis.plan import read_plan
from tune_bn.analysis.verdict import verdict_on_study
from tune_bn.errors import RecordError, StudyError
from tune_bn.records.plan import Plan, PlannedArm
from tune_bn.records.record import CONFIRM, FAILED, Record, run_key
from tune_bn.records.verdict import Verdict
from tune_bn.study.folder import StudyFolder


def confirmation_due(plan: Plan, done: Mapping[str, Record]) -> list[tuple[PlannedArm, int]]:
    """Arm and seed of every run of the confirmation up to the next look, done or not, pair by pair.

    Args:
        plan: that was locked.
        done: records of runs that are done, by their key.
    """
    seeds, metric, arms = plan.seeds, plan.metric, plan.arms
    scores: dict[str, dict[int, float]] = {arm.arm: {} for arm in arms}
    for arm in arms:
        for seed in seeds:
            run = done.get(run_key(CONFIRM, arm.arm, arm.trial, seed))
            # One that diverged and has no score stays without one: no look can be held over it.
            if run is not None and metric in run.scores:
                scores[arm.arm][seed] = run.scores[metric]
    needed = standing(plan, scores).needed
    return [(arm, seed) for index, seed in enumerate(seeds) for arm in arms if index < needed[arm.arm]]


def done_records(records: Sequence[Record]) -> dict[str, Record]:
    """The records of the runs that are done, by key; a run that failed is not done."""
    return {record.key: record for record in records if record.status != FAILED}


def final_verdict(folder: StudyFolder) -> Verdict | None:
    """The verdict of a study that has nothing left to run; None where a resume has something to do, or to say.

    It is computed anew from plan and records, so that what was changed since is not called finished.
    """
    if not folder.verdict_file.exists():
        return None
    try:
        verdict = verdict_on_study(folder.path)
        plan, done = read_plan(folder.plan_file), done_records(folder.records.read())
    except (StudyError, RecordError):
        return None
    if verdict.is_invalid:
        return None
    due = (run_key(CONFIRM, arm.arm, arm.trial, seed) for arm, seed in confirmation_due(plan, done))
    return verdict if all(key in done for key in due) else None
