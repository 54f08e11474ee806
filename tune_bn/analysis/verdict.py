"""From a plan and its records to a verdict: supported, not supported, or invalid and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tune_bn.analysis.evidence import Evidence, gather
from tune_bn.analysis.paired import PairedResult, PairsError, holm, paired_t_test
from tune_bn.analysis.plan import PLAN_FILE, arms_of, plan_problem, read_plan, structure_problem
from tune_bn.analysis.wording import comparison_sentence
from tune_bn.errors import RecordError, StudyError
from tune_bn.records import SCHEMA_VERSION, Record, RecordLog, write_json

SUPPORTED, NOT_SUPPORTED, INVALID = "supported", "not_supported", "invalid"
VERDICT_FILE = "verdict.json"
RECORDS_FILE = "records.jsonl"

SELECTION_NOTE = (
    "The scores of search and selection chose the candidates; the gain seen there is not evidence. "
    "Only the confirmation on fresh seeds is."
)


def judge(plan: Mapping[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    """The verdict on a plan, from its records alone.

    A candidate is supported where its one-sided paired t-test against the baseline, adjusted by Holm's procedure for
    the number of candidates, has p ≤ alpha; the study is supported where at least one candidate is. A broken rule makes
    the study invalid: then ``problems`` names every rule that was broken, and no p-value is given.

    Args:
        plan: as :func:`tune_bn.analysis.plan.seal` returns it.
        records: every record of the study; those of search and selection only witness which seeds were used.

    Returns:
        A dict that JSON can hold, equal for equal input. Scores in percent, effects in percentage points; ``std`` has
        ddof = 1; ``ci_low`` is the one-sided lower bound at 1 − alpha, not adjusted for the number of candidates.
    """
    malformed = structure_problem(plan)
    if malformed is not None:
        return _verdict(None, None, Evidence(scores={}), (f"the plan is not acceptable: {malformed}",), {})
    evidence = gather(plan, records)
    problems = list(evidence.problems)
    changed = plan_problem(plan)
    if changed is not None:
        problems.insert(0, changed)
    baseline = plan["baseline"]
    for arm in plan["candidates"]:
        if arm["config"] == baseline["config"]:
            problems.append(f"{arm['arm']} has the configuration of the baseline")
    results: dict[str, PairedResult] = {}
    if not problems:
        for arm in plan["candidates"]:
            try:
                results[arm["arm"]] = paired_t_test(
                    list(evidence.scores[arm["arm"]].values()),
                    list(evidence.scores[baseline["arm"]].values()),
                    alpha=plan["alpha"],
                )
            except PairsError as error:
                problems.append(f"{arm['arm']}: {error}")
    return _verdict(plan["study"], plan, evidence, problems, {} if problems else results)


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
    return judge(plan, records)


def write_verdict(folder: Path) -> dict[str, Any]:
    """Verify the study in ``folder`` and write its ``verdict.json``, whole or not at all. Returns the verdict."""
    verdict = verify_study(folder)
    write_json(folder / VERDICT_FILE, verdict)
    return verdict


def _without_folder(error: RecordError, folder: Path) -> str:
    """The message with paths relative to the study, so that the verdict is the same wherever the study lies."""
    return str(error).replace(f"{folder}/", "")


def _verdict(
    study: str | None,
    plan: Mapping[str, Any] | None,
    evidence: Evidence,
    problems: Sequence[str],
    results: Mapping[str, PairedResult],
) -> dict[str, Any]:
    """Put the verdict together; ``results`` is empty exactly where there are problems."""
    arms = [] if plan is None else [_arm(arm, evidence.scores.get(arm["arm"], {})) for arm in arms_of(plan)]
    known = plan or {}
    verdict: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "verdict": INVALID,
        "reason": "",
        "problems": list(problems),
        "metric": known.get("metric"),
        "test": known.get("test"),
        "alpha": known.get("alpha"),
        "correction": known.get("correction"),
        "n": len(known.get("seeds", ())),
        "seeds": list(known.get("seeds", ())),
        "plan_sha256": known.get("plan_sha256"),
        "space_sha256": known.get("space_sha256"),
        "baseline": arms[0] if arms else None,
        "candidates": _compare(arms[1:], results, known.get("alpha", 0.0)),
        "diverged": list(evidence.diverged),
        "retried": list(evidence.retried),
        "selection": SELECTION_NOTE,
    }
    if problems:
        more = f" ({len(problems) - 1} more in `problems`)" if len(problems) > 1 else ""
        verdict["reason"] = f"{problems[0]}{more}."
    else:
        supported = any(arm["supported"] for arm in verdict["candidates"])
        verdict["verdict"] = SUPPORTED if supported else NOT_SUPPORTED
        verdict["reason"] = comparison_sentence(verdict)
    return verdict


def _arm(arm: Mapping[str, Any], scores: Mapping[int, float]) -> dict[str, Any]:
    values = list(scores.values())
    return {
        "arm": arm["arm"],
        "trial": arm["trial"],
        "config": arm["config"],
        "scores": {str(seed): score for seed, score in scores.items()},
        "mean": float(np.mean(values)) if values else None,
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
    }


def _compare(arms: Sequence[dict[str, Any]], results: Mapping[str, PairedResult], alpha: float) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(("effect", "ci_low", "p_value", "p_adjusted", "d_z", "correlation"))
    if not results:
        return [arm | nothing | {"supported": False} for arm in arms]
    adjusted = holm([results[arm["arm"]].p_value for arm in arms])
    return [
        arm
        | {
            "effect": result.effect,
            "ci_low": result.ci_low,
            "p_value": result.p_value,
            "p_adjusted": float(p_adjusted),
            "d_z": result.d_z,
            "correlation": result.correlation,
            "supported": bool(p_adjusted <= alpha),
        }
        for arm, result, p_adjusted in zip(arms, (results[arm["arm"]] for arm in arms), adjusted, strict=True)
    ]
