"""From a plan and its records to a verdict: supported, not supported, or invalid and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tune_bn.analysis.about import covers, divergence, tail_remarks
from tune_bn.analysis.family import Comparison, findings_of
from tune_bn.analysis.findings import average_over_settings, compared, without_test
from tune_bn.analysis.images import TestImages, other_outcomes, over_images, read_images
from tune_bn.analysis.paired import PairsError
from tune_bn.analysis.plan import claim_by, plan_from, plan_problem, read_plan
from tune_bn.analysis.settings_wording import verdict_sentence
from tune_bn.analysis.shrinkage import shrinkage
from tune_bn.analysis.untested import tested, untested_remarks
from tune_bn.analysis.validity import Evidence, gather
from tune_bn.analysis.wording import headline, kind_of_comparisons
from tune_bn.errors import RecordError, StudyError
from tune_bn.records.bundle import CODE_DIFF
from tune_bn.records.files import write_json
from tune_bn.records.ledger import ledger_words
from tune_bn.records.log import VERDICT_SCHEMA_VERSION, RecordLog
from tune_bn.records.plan import ALL, ANY, PLAN_FILE, POOLED, Plan, PlannedArm
from tune_bn.records.record import BASELINE, Record
from tune_bn.records.seal import seal_words
from tune_bn.records.verdict import (
    INVALID,
    NOT_SUPPORTED,
    SUPPORTED,
    VERDICT_FILE,
    Average,
    Candidate,
    StudyArm,
    Verdict,
)

RECORDS_FILE = "records.jsonl"

SELECTION_NOTE = (
    "The scores of search and selection chose the candidates; the gain seen there is not evidence. "
    "Only the confirmation on fresh seeds is."
)


def judge(plan: Plan | Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """The verdict on a plan, from its records alone.

    A candidate is supported where its one-sided paired t-test against its baseline, adjusted by Holm's procedure for
    the number of candidates, has p ≤ alpha; the study is supported where at least one candidate is. In a
    group-sequential confirmation p is the repeated p-value at the look that ended the candidate, and the bounds hold at
    all looks together (:mod:`tune_bn.analysis.sequential`). A candidate is worse by the mirrored test, with the same
    correction over the same family; that takes nothing from what is supported, but is said beside it. A broken rule
    makes the study invalid: then ``problems`` names every rule that was broken, and no p-value is given.

    Args:
        plan: the plan, or what its file holds, as :func:`tune_bn.analysis.plan.seal` returns it.
        records: every record of the study; those of search and selection witness which seeds were used, and show how
            the gain shrank.

    Returns:
        A dict that JSON can hold, equal for equal input, with the keys of
        :class:`tune_bn.records.verdict.Verdict`. ``effect`` and every bound are gains, positive where it is
        better under either goal; scores and means are as they were recorded, and under a plan that states its score
        ``score`` repeats it and ``difference`` is the mean of the candidate minus that of the baseline. ``std`` has
        ddof = 1. Each candidate has the keys of :func:`tune_bn.analysis.family.findings_of`: ``ci`` belongs to the
        one-sided test at alpha, so it is two-sided at ``ci_confidence`` = 1 − 2·alpha, ``ci_adjusted`` to the decision.
        ``worse`` names the candidates that are significantly worse than their baseline, and ``headline`` counts them:
        where there are any, *supported* alone would be read as a plain success. ``minimum_detectable_effect`` is the
        true gain that the planned seeds find with power 0.8 at alpha / candidates, if the differences spread as these
        do. ``not_tested`` says of a candidate whose differences have no spread why it has no p-value: it is neither
        supported nor worse, and counts in the correction of the others. Where that is every candidate, the study is
        invalid.
    """
    return verdict_on(plan, records).to_json()


def verdict_on(plan: Plan | Mapping[str, Any], records: Sequence[Record]) -> Verdict:
    """What :func:`judge` gives, typed."""
    try:
        plan = plan if isinstance(plan, Plan) else plan_from(plan)
    except RecordError as error:
        return _invalid(_unread(None), [f"the plan is not acceptable: {error}"])
    evidence = gather(plan, records)
    verdict = _stated(plan, evidence)
    problems = list(evidence.problems)
    changed = plan_problem(plan)
    if changed is not None:
        problems.insert(0, changed)
    for planned in plan.candidates:
        problems += [
            f"{planned.arm} has the configuration of {_the_baseline(name)}"
            for name in planned.opponents
            if planned.config == plan.configs[name]
        ]
    held = evidence.standing
    if not problems and held is not None and held.problem is not None:
        problems.append(held.problem)
    if problems or held is None:
        return _invalid(verdict, problems)
    rows = {arm.arm: arm for arm in verdict.candidates}
    comparisons: dict[str, Comparison] = {}
    unjudged: dict[str, PairsError] = {}
    for planned in plan.candidates:
        try:
            one, rows[planned.arm] = compared(plan, planned, rows[planned.arm], evidence.scores, held)
            if {planned.arm, *planned.opponents} & set(evidence.imputed):
                # What was put in against a gain must not make a loss.
                one = replace(one, p_value_less=1.0, no_loss=True)
            comparisons[planned.arm] = one
        except PairsError as error:
            unjudged[planned.arm] = error
    if not comparisons or not all(error.without_spread for error in unjudged.values()):
        problems += [f"{name}: {error}" for name, error in unjudged.items()]
    average: Average | None = None
    if not problems and plan.holds == POOLED:
        try:
            average = average_over_settings(plan, evidence.scores, imputed=bool(evidence.imputed))
        except PairsError as error:
            problems.append(f"the average over settings: {error}")
    if problems:
        return _invalid(verdict, problems)
    for planned in plan.candidates:
        if planned.arm in unjudged:
            why = str(unjudged[planned.arm])
            comparisons[planned.arm], row = without_test(plan, planned, rows[planned.arm], evidence, why)
            rows[planned.arm] = row
    judged = findings_of(comparisons, alpha=plan.alpha, correction=plan.correction)
    for planned in plan.candidates:
        row = replace(rows[planned.arm], **vars(judged[planned.arm]))
        luck = shrinkage(planned, records, plan.score)
        rows[planned.arm] = replace(row, shrinkage=luck, divergence=divergence(plan, records, row))
    return _valid(plan, records, verdict, [rows[planned.arm] for planned in plan.candidates], average)


def _the_baseline(name: str) -> str:
    return "the baseline" if name == BASELINE else name


def verify_study(folder: Path) -> dict[str, Any]:
    """The verdict on the study in ``folder``, from its ``plan.json`` and ``records.jsonl``. Writes nothing.

    A plan or a record that was edited or cannot be read makes an invalid verdict.

    Returns:
        What :func:`judge` does.

    Raises:
        StudyError: there is no plan or there are no records, so there is nothing to verify.
    """
    return verdict_on_study(folder).to_json()


def verdict_on_study(folder: Path) -> Verdict:
    """What :func:`verify_study` gives, typed."""
    log = folder / RECORDS_FILE
    for path in (folder / PLAN_FILE, log):
        if not path.is_file():
            raise StudyError(f"{path}: missing; accepted: the folder of a study whose confirmation was started")
    try:
        plan = read_plan(folder / PLAN_FILE)
    except RecordError as error:
        return _invalid(_unread(folder.name), [_without_folder(error, folder)])
    try:
        records = RecordLog(log).read()
    except RecordError as error:
        return _invalid(_stated(plan, Evidence(scores={})), [_without_folder(error, folder)])
    verdict = verdict_on(plan, records)
    if verdict.is_invalid:
        return verdict
    images = read_images(folder, records)
    if images.altered:
        return _invalid(_stated(plan, gather(plan, records)), images.altered)
    verdict = _with_images(verdict, images, folder, plan, records)
    return replace(verdict, remarks=(*verdict.remarks, *_diff_remarks(folder, plan)))


def _diff_remarks(folder: Path, plan: Plan) -> list[str]:
    """Whether the changes of the code that the plan names by their hash are what lies beside it."""
    if plan.code_diff is None:
        return []
    try:
        known = hashlib.sha256((folder / CODE_DIFF).read_bytes()).hexdigest()
    except OSError as error:
        return [f"the code had been changed since its commit, and {CODE_DIFF} cannot be read ({error.strerror})"]
    if known != plan.code_diff:
        return [f"the code had been changed since its commit, and {CODE_DIFF} is not what the plan names"]
    return []


def _with_images(verdict: Verdict, images: TestImages, folder: Path, plan: Plan, records: Sequence[Record]) -> Verdict:
    """A valid verdict with the interval over test images, from files that only a folder has."""
    intervals, remarks = over_images(images, plan, records, verdict.candidates)
    candidates = tuple(replace(arm, over_images=intervals.get(arm.arm)) for arm in verdict.candidates)
    return replace(
        verdict,
        remarks=(*verdict.remarks, *remarks),
        candidates=candidates,
        seal=seal_words(folder, folder / PLAN_FILE),
        covers=covers(plan, records, candidates, with_images=len(intervals) == len(tested(candidates))),
    )


def write_verdict(folder: Path) -> dict[str, Any]:
    """Verify the study in ``folder`` and write its ``verdict.json``, whole or not at all.

    Returns:
        What :func:`verify_study` does.

    Raises:
        StudyError: there is nothing to verify, or the verdict cannot be written.
    """
    return renew_verdict(folder).to_json()


def renew_verdict(folder: Path) -> Verdict:
    """What :func:`write_verdict` gives, typed."""
    verdict = verdict_on_study(folder)
    try:
        write_json(folder / VERDICT_FILE, verdict.to_json())
    except OSError as error:
        raise StudyError(
            f"{folder / VERDICT_FILE}: cannot be written ({error.strerror}); accepted: a folder that can, or "
            "`python -m tune_bn.analysis`, which writes nothing"
        ) from None
    return verdict


def _without_folder(error: RecordError, folder: Path) -> str:
    """The message with paths relative to the study, so that the verdict is the same wherever the study lies."""
    return str(error).replace(f"{folder}/", "")


def _unread(study: str | None) -> Verdict:
    """Where there is no plan that states anything."""
    return Verdict(
        schema_version=VERDICT_SCHEMA_VERSION,
        study=study,
        verdict=INVALID,
        n=0,
        selection=SELECTION_NOTE,
        other_outcomes={},
    )


def _stated(plan: Plan, evidence: Evidence) -> Verdict:
    """What plan and evidence state, before anything is judged."""
    imputed = None if plan.failed is None else {arm: list(seeds) for arm, seeds in evidence.imputed.items()}
    return Verdict(
        schema_version=2 if plan.states_score else VERDICT_SCHEMA_VERSION,
        study=plan.study,
        verdict=INVALID,
        **{key: getattr(plan, key) for key in ("metric", "test", "alpha", "correction", "stopping", "design")},
        score=plan.score if plan.states_score else None,
        **asdict(claim_by(plan)),
        holds=plan.holds or ANY,
        ci_confidence=1 - 2 * plan.alpha,
        n=len(plan.seeds),
        seeds=plan.seeds,
        plan_sha256=plan.plan_sha256,
        space_sha256=plan.space_sha256,
        baselines=tuple(StudyArm(**_row(arm, evidence)) for arm in plan.every_baseline),
        rivals=tuple(StudyArm(**_row(arm, evidence)) for arm in plan.rivals),
        candidates=tuple(Candidate(**_row(arm, evidence), against=arm.opponent) for arm in plan.candidates),
        diverged=evidence.diverged,
        retried=evidence.retried,
        imputed=imputed,
        remarks=evidence.remarks,
        selection=SELECTION_NOTE,
        other_outcomes={},
    )


def _invalid(verdict: Verdict, problems: Sequence[str]) -> Verdict:
    """Where rules are broken."""
    more = f" ({len(problems) - 1} more in `problems`)" if len(problems) > 1 else ""
    return replace(verdict, headline=INVALID, problems=tuple(problems), reason=f"{problems[0]}{more}.")


def _valid(
    plan: Plan,
    records: Sequence[Record],
    verdict: Verdict,
    candidates: Sequence[Candidate],
    average: Average | None,
) -> Verdict:
    """Where none is, from what was found of each candidate.

    Args:
        average: over settings, where the claim is about it.
    """
    enough = all if plan.holds == ALL else any
    supported = enough(arm.supported for arm in ([average] if average else candidates))
    verdict = replace(
        verdict,
        verdict=SUPPORTED if supported else NOT_SUPPORTED,
        candidates=tuple(candidates),
        pooled=average,
        worse=tuple(arm.arm for arm in candidates if arm.worse),
        covers=covers(plan, records, candidates, with_images=False),
        other_outcomes=other_outcomes(plan, records),
    )
    kind = kind_of_comparisons(verdict)
    ledger = ledger_words(plan.earlier_claims, plan.alpha, plan.alpha_spending)
    return replace(
        verdict,
        headline=headline(verdict.verdict, candidates, kind, claim_by(plan), plan.holds == ALL, average),
        reason=verdict_sentence(verdict),
        remarks=(
            *verdict.remarks,
            *untested_remarks(verdict, [arm.arm for arm in candidates]),
            *tail_remarks(plan, records),
            *([] if ledger is None else [ledger]),
        ),
    )


def _row(arm: PlannedArm, evidence: Evidence) -> dict[str, Any]:
    scores = evidence.scores.get(arm.arm, {})
    values = list(scores.values())
    return {
        "arm": arm.arm,
        "trial": arm.trial,
        "config": arm.config,
        "scores": {str(seed): score for seed, score in scores.items()},
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }
