"""From a plan and its records to a verdict: supported, not supported, or invalid and why."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tune_bn.analysis.about import covers, divergence, tail_remarks
from tune_bn.analysis.characteristics import median_unbiased
from tune_bn.analysis.claims import EQUIVALENT, Claim, claim_in
from tune_bn.analysis.family import FIELDS, Comparison, comparison, family_fields, untested
from tune_bn.analysis.images import other_outcomes, over_images
from tune_bn.analysis.monitoring import Standing
from tune_bn.analysis.paired import PairedResult, PairsError, paired_t_test
from tune_bn.analysis.plan import (
    ALL,
    PLAN_FILE,
    POOLED,
    arms_of,
    baselines_of,
    design_of,
    opponent,
    plan_problem,
    read_plan,
    score_of,
    structure_problem,
)
from tune_bn.analysis.pooled import pooled
from tune_bn.analysis.power import minimum_detectable_effect
from tune_bn.analysis.rounding import Array, difference_error
from tune_bn.analysis.sensitivity import sensitivity_analysis
from tune_bn.analysis.sequential import Decision, Outcome, repeated_comparison
from tune_bn.analysis.settings_wording import verdict_sentence
from tune_bn.analysis.shrinkage import shrinkage
from tune_bn.analysis.untested import plain_effect, tested, untested_remarks
from tune_bn.analysis.validity import Evidence, gather
from tune_bn.analysis.wording import headline, kind_of_comparisons
from tune_bn.errors import ConfigError, RecordError, StudyError
from tune_bn.records.bundle import CODE_DIFF
from tune_bn.records.files import write_json
from tune_bn.records.ledger import ledger_words
from tune_bn.records.log import VERDICT_SCHEMA_VERSION, RecordLog
from tune_bn.records.record import BASELINE, Record
from tune_bn.records.seal import seal_words

SUPPORTED, NOT_SUPPORTED, INVALID = "supported", "not_supported", "invalid"
VERDICT_FILE = "verdict.json"
RECORDS_FILE = "records.jsonl"

SELECTION_NOTE = (
    "The scores of search and selection chose the candidates; the gain seen there is not evidence. "
    "Only the confirmation on fresh seeds is."
)


def judge(plan: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """The verdict on a plan, from its records alone.

    A candidate is supported where its one-sided paired t-test against its baseline, adjusted by Holm's procedure for
    the number of candidates, has p ≤ alpha; the study is supported where at least one candidate is. In a
    group-sequential confirmation p is the repeated p-value at the look that ended the candidate, and the bounds hold at
    all looks together (:mod:`tune_bn.analysis.sequential`). A candidate is worse by the mirrored test, with the same
    correction over the same family; that takes nothing from what is supported, but is said beside it. A broken rule
    makes the study invalid: then ``problems`` names every rule that was broken, and no p-value is given.

    Args:
        plan: as :func:`tune_bn.analysis.plan.seal` returns it.
        records: every record of the study; those of search and selection witness which seeds were used, and show how
            the gain shrank.

    Returns:
        A dict that JSON can hold, equal for equal input. ``effect`` and every bound are gains, positive where it is
        better under either goal; scores and means are as they were recorded, and under a plan that states its score
        ``score`` repeats it and ``difference`` is the mean of the candidate minus that of the baseline. ``std`` has
        ddof = 1. Each candidate has the keys of :func:`tune_bn.analysis.family.family_fields`: ``ci`` belongs to the
        one-sided test at alpha, so it is two-sided at ``ci_confidence`` = 1 − 2·alpha, ``ci_adjusted`` to the decision.
        ``worse`` names the candidates that are significantly worse than their baseline, and ``headline`` counts them:
        where there are any, *supported* alone would be read as a plain success. ``minimum_detectable_effect`` is the
        true gain that the planned seeds find with power 0.8 at alpha / candidates, if the differences spread as these
        do. ``not_tested`` says of a candidate whose differences have no spread why it has no p-value: it is neither
        supported nor worse, and counts in the correction of the others. Where that is every candidate, the study is
        invalid.
    """
    malformed = structure_problem(plan)
    if malformed is not None:
        return _verdict(None, None, Evidence(scores={}), (f"the plan is not acceptable: {malformed}",), {})
    evidence = gather(plan, records)
    problems = list(evidence.problems)
    changed = plan_problem(plan)
    if changed is not None:
        problems.insert(0, changed)
    configs = {arm["arm"]: arm["config"] for arm in arms_of(plan)}
    for arm in plan["candidates"]:
        if arm["config"] == configs[opponent(arm)]:
            problems.append(f"{arm['arm']} has the configuration of {_the_baseline(opponent(arm))}")
    held = evidence.standing
    if not problems and held is not None and held.problem is not None:
        problems.append(held.problem)
    findings: dict[str, dict[str, Any]] = {}
    comparisons: dict[str, Comparison] = {}
    if not problems and held is not None:
        unjudged: dict[str, PairsError] = {}
        for arm in plan["candidates"]:
            try:
                one, findings[arm["arm"]] = _compare(plan, arm, evidence.scores, held)
                if {arm["arm"], opponent(arm)} & set(evidence.imputed):
                    # What was put in against a gain must not make a loss.
                    one = replace(one, p_value_less=1.0, no_loss=True)
                comparisons[arm["arm"]] = one
            except PairsError as error:
                unjudged[arm["arm"]] = error
        if not comparisons or not all(error.without_spread for error in unjudged.values()):
            problems += [f"{name}: {error}" for name, error in unjudged.items()]
    average: dict[str, Any] | None = None
    if not problems and plan.get("holds") == POOLED:
        try:
            average = _average(plan, evidence.scores, imputed=bool(evidence.imputed))
        except PairsError as error:
            problems.append(f"the average over settings: {error}")
    if not problems:
        for arm in plan["candidates"]:
            if arm["arm"] in unjudged:
                found = _without_test(plan, arm, evidence, str(unjudged[arm["arm"]]))
                comparisons[arm["arm"]], findings[arm["arm"]] = found
        judged = family_fields(comparisons, alpha=plan["alpha"], correction=plan["correction"])
        for arm in plan["candidates"]:
            beside = {"over_images": None, "shrinkage": shrinkage(arm, records, score_of(plan))}
            findings[arm["arm"]] |= judged[arm["arm"]] | beside
    verdict = _verdict(plan["study"], plan, evidence, problems, {} if problems else findings, average)
    if not problems:
        for arm in verdict["candidates"]:
            arm["divergence"] = divergence(plan, records, arm)
        verdict["covers"] = covers(plan, records, verdict["candidates"], with_images=False)
        verdict["remarks"] += untested_remarks(verdict, [arm["arm"] for arm in plan["candidates"]])
        verdict["remarks"] += tail_remarks(plan, records)
        known = ledger_words(plan.get("earlier_claims", ()), plan["alpha"], plan.get("alpha_spending"))
        verdict["remarks"] += [] if known is None else [known]
        verdict["other_outcomes"] = other_outcomes(plan, records)
    return verdict


def _average(plan: Mapping[str, Any], scores: Mapping[str, Mapping[int, float]], *, imputed: bool) -> dict[str, Any]:
    """The average over the settings of a plan that claims it.

    Raises:
        PairsError: it cannot be judged.
    """
    score = score_of(plan)

    def objectives(name: str) -> Array:
        return np.array([score.objective(scores[name][seed]) for seed in plan["seeds"]])

    settings = {opponent(arm).partition(".")[2]: arm for arm in plan["candidates"]}
    candidate = {setting: objectives(arm["arm"]) for setting, arm in settings.items()}
    baseline = {setting: objectives(opponent(arm)) for setting, arm in settings.items()}
    return pooled(candidate, baseline, claim_in(plan), alpha=plan["alpha"], no_loss=imputed)


def _the_baseline(name: str) -> str:
    return "the baseline" if name == BASELINE else name


def _compare(
    plan: Mapping[str, Any], arm: Mapping[str, Any], scores: Mapping[str, Mapping[int, float]], held: Standing
) -> tuple[Comparison, dict[str, Any]]:
    """What the pairs of a candidate say, as a member of its family, and what does not depend on the other candidates.

    Raises:
        PairsError: its differences cannot be judged.
    """
    alpha, score, claim = plan["alpha"], score_of(plan), claim_in(plan)
    outcome = held.outcomes.get(arm["arm"])
    n = len(plan["seeds"]) if outcome is None else outcome.last.n
    candidate, baseline = (
        np.array([score.objective(scores[name][seed]) for seed in plan["seeds"][:n]])
        for name in (arm["arm"], opponent(arm))
    )
    result = paired_t_test(candidate, baseline, alpha=alpha)
    found: dict[str, Any] = {
        "n": n,
        "effect": result.effect,
        **({"difference": score.objective(result.effect)} if "score" in plan else {}),
        "std_difference": result.std,
        "t": result.t,
        "d_z": result.d_z,
        "correlation": result.correlation,
        "minimum_detectable_effect": _detectable(plan, result.std, claim),
        "sensitivity": sensitivity_analysis(
            candidate - baseline, alpha=alpha, error=difference_error(candidate, baseline), claim=claim
        ),
        "effect_adjusted": None,
        "decision": None,
        "looks": [],
        "not_tested": None,
    }
    if outcome is None:
        return comparison(result, claim, candidate - baseline), found
    found["effect_adjusted"] = _after_looks(plan, result, outcome, claim)
    return repeated_comparison(result, plan["design"]["looks"], outcome.last.p_value, claim), found | _path(outcome)


def _path(outcome: Outcome) -> dict[str, Any]:
    """What each look said of a candidate, and what the last one decided."""
    looks = [asdict(look) | {"decision": str(look.decision)} for look in outcome.looks]
    return {"decision": str(outcome.last.decision), "looks": looks}


def _without_test(
    plan: Mapping[str, Any], arm: Mapping[str, Any], evidence: Evidence, why: str
) -> tuple[Comparison, dict[str, Any]]:
    """A candidate of which there is no test: all its pairs are there, since no look can have ended it."""
    score, seeds, held = score_of(plan), plan["seeds"], evidence.standing
    candidate, baseline = (
        np.array([score.objective(evidence.scores[name][seed]) for seed in seeds])
        for name in (arm["arm"], opponent(arm))
    )
    effect = plain_effect(candidate, baseline)
    known: dict[str, Any] = {"n": len(seeds), "effect": effect, "std_difference": 0.0, "not_tested": why}
    known |= {"difference": score.objective(effect)} if "score" in plan else {}
    known |= _path(held.outcomes[arm["arm"]]) if held is not None and held.outcomes else {}
    return untested(claim_in(plan), candidate - baseline), {**_UNKNOWN, **known}


def _after_looks(plan: Mapping[str, Any], result: PairedResult, outcome: Outcome, claim: Claim) -> float | None:
    """The median-unbiased gain of a candidate that ended with its gain shown, where it is the only one; else None."""
    rule, last = design_of(plan), outcome.last
    if rule is None or last.t is None or last.decision is not Decision.EFFICACY or len(plan["candidates"]) > 1:
        return None
    return claim.null + median_unbiased(rule, last.n, last.t) * result.std


def _detectable(plan: Mapping[str, Any], std: float, claim: Claim) -> float | None:
    """None where the level is too small, or the spread too large or small, for a power to be computed, and for
    equivalence, where no gain is looked for."""
    if claim.kind == EQUIVALENT:
        return None
    candidates = len(plan["candidates"])
    try:
        above = minimum_detectable_effect(std, len(plan["seeds"]), alpha=plan["alpha"], candidates=candidates)
    except ConfigError:
        return None
    return claim.null + above


def verify_study(folder: Path) -> dict[str, Any]:
    """The verdict on the study in ``folder``, from its ``plan.json`` and ``records.jsonl``. Writes nothing.

    A plan or a record that was edited or cannot be read makes an invalid verdict.

    Raises:
        StudyError: there is no plan or there are no records, so there is nothing to verify.
    """
    log = folder / RECORDS_FILE
    for path in (folder / PLAN_FILE, log):
        if not path.is_file():
            raise StudyError(f"{path}: missing; accepted: the folder of a study whose confirmation was started")
    try:
        plan = read_plan(folder / PLAN_FILE)
    except RecordError as error:
        return _verdict(folder.name, None, Evidence(scores={}), (_without_folder(error, folder),), {})
    try:
        records = RecordLog(log).read()
    except RecordError as error:
        return _verdict(plan["study"], plan, Evidence(scores={}), (_without_folder(error, folder),), {})
    verdict = judge(plan, records)
    if verdict["verdict"] != INVALID:
        _add_images(verdict, folder, plan, records)
        verdict["remarks"] += _diff_remarks(folder, plan)
    return verdict


def _diff_remarks(folder: Path, plan: Mapping[str, Any]) -> list[str]:
    """Whether the changes of the code that the plan names by their hash are what lies beside it."""
    if "code_diff" not in plan:
        return []
    try:
        known = hashlib.sha256((folder / CODE_DIFF).read_bytes()).hexdigest()
    except OSError as error:
        return [f"the code had been changed since its commit, and {CODE_DIFF} cannot be read ({error.strerror})"]
    if known != plan["code_diff"]:
        return [f"the code had been changed since its commit, and {CODE_DIFF} is not what the plan names"]
    return []


def _add_images(verdict: dict[str, Any], folder: Path, plan: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Beside a valid verdict: the interval over test images, from files that only a folder has."""
    intervals, remarks = over_images(folder, plan, records, verdict)
    verdict["remarks"] += remarks
    for arm in verdict["candidates"]:
        arm["over_images"] = intervals.get(arm["arm"])
    verdict["seal"] = seal_words(folder, folder / PLAN_FILE)
    verdict["covers"] = covers(
        plan, records, verdict["candidates"], with_images=len(intervals) == len(tested(verdict["candidates"]))
    )


def write_verdict(folder: Path) -> dict[str, Any]:
    """Verify the study in ``folder`` and write its ``verdict.json``, whole or not at all. Returns the verdict.

    Raises:
        StudyError: there is nothing to verify, or the verdict cannot be written.
    """
    verdict = verify_study(folder)
    try:
        write_json(folder / VERDICT_FILE, verdict)
    except OSError as error:
        raise StudyError(
            f"{folder / VERDICT_FILE}: cannot be written ({error.strerror}); accepted: a folder that can, or "
            "`python -m tune_bn.analysis`, which writes nothing"
        ) from None
    return verdict


def _without_folder(error: RecordError, folder: Path) -> str:
    """The message with paths relative to the study, so that the verdict is the same wherever the study lies."""
    return str(error).replace(f"{folder}/", "")


_UNKNOWN: Mapping[str, Any] = {
    **dict.fromkeys(("n", "effect", "std_difference", "t", "d_z", "correlation")),
    **dict.fromkeys(("minimum_detectable_effect", "sensitivity", "decision", "effect_adjusted")),
    "looks": [],
    **dict.fromkeys(FIELDS),
    "supported": False,
    "worse": False,
    "outcome": None,
    "not_tested": None,
    "over_images": None,
    "shrinkage": None,
    "divergence": None,
}
"""What is said of a candidate of an invalid verdict."""


def _verdict(
    study: str | None,
    plan: Mapping[str, Any] | None,
    evidence: Evidence,
    problems: Sequence[str],
    findings: Mapping[str, Mapping[str, Any]],
    average: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the verdict together; ``findings`` is empty exactly where there are problems.

    Args:
        average: over settings, where the claim is about it.
    """
    known = plan or {}
    unknown = {**_UNKNOWN, **({"difference": None} if "score" in known else {})}
    baselines = [] if plan is None else [_arm(arm, evidence) for arm in baselines_of(plan)]
    verdict: dict[str, Any] = {
        "schema_version": 2 if "score" in known else VERDICT_SCHEMA_VERSION,
        "study": study,
        "verdict": INVALID,
        "headline": INVALID,
        "reason": "",
        "problems": list(problems),
        **{key: known.get(key) for key in ("metric", "test", "alpha", "correction", "stopping", "design")},
        **({"score": known["score"]} if "score" in known else {}),
        **({} if plan is None else asdict(claim_in(plan)) | {"holds": known.get("holds", "any")}),
        "ci_confidence": None if plan is None else 1 - 2 * plan["alpha"],
        "n": len(known.get("seeds", ())),
        "seeds": list(known.get("seeds", ())),
        "plan_sha256": known.get("plan_sha256"),
        "space_sha256": known.get("space_sha256"),
        "baseline": baselines[0] if baselines else None,
        "baselines": baselines,
        "candidates": [
            _arm(arm, evidence) | {"against": opponent(arm)} | dict(findings.get(arm["arm"], unknown))
            for arm in known.get("candidates", ())
        ],
        **({"pooled": None if average is None else dict(average)} if known.get("holds") == POOLED else {}),
        "worse": [name for name, found in findings.items() if found["worse"]],
        "diverged": list(evidence.diverged),
        "retried": list(evidence.retried),
        **({"imputed": {arm: list(seeds) for arm, seeds in evidence.imputed.items()}} if "failed" in known else {}),
        "remarks": list(evidence.remarks),
        "selection": SELECTION_NOTE,
        "covers": None,
        "other_outcomes": {},
        "seal": None,
    }
    if problems:
        more = f" ({len(problems) - 1} more in `problems`)" if len(problems) > 1 else ""
        verdict["reason"] = f"{problems[0]}{more}."
    else:
        holds = all if known.get("holds") == ALL else any
        supported = holds(arm["supported"] for arm in ([average] if average else verdict["candidates"]))
        verdict["verdict"] = SUPPORTED if supported else NOT_SUPPORTED
        verdict["reason"] = verdict_sentence(verdict)
        kind = kind_of_comparisons(verdict)
        verdict["headline"] = headline(
            verdict["verdict"], verdict["candidates"], kind, claim_in(known), known.get("holds") == ALL, average
        )
    return verdict


def _arm(arm: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    scores = evidence.scores.get(arm["arm"], {})
    values = list(scores.values())
    return {
        "arm": arm["arm"],
        "trial": arm["trial"],
        "config": arm["config"],
        "scores": {str(seed): score for seed, score in scores.items()},
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }
