"""The plan of a confirmation: what will be compared, on which seeds, by which test. Sealed before its first run.

``plan_sha256`` is the hash of everything else in the plan. Each confirmation record carries it, so a plan that was
changed afterwards no longer fits its records.
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tune_bn.analysis.claims import KINDS, NO_LOOKS, claim_of
from tune_bn.analysis.family import CORRECTIONS, HOLM, NONE, check_correction
from tune_bn.analysis.sequential import Design, design
from tune_bn.errors import ConfigError, RecordError, StudyError
from tune_bn.records.files import canonical_json, read_bytes, sha256_of
from tune_bn.records.ledger import BUDGET, spent_level
from tune_bn.records.record import BASELINE
from tune_bn.records.score import Score, accuracy, score_from, score_problem

SCHEMA_VERSION = 3
"""Plans of version 1 lock neither the data nor the kind of device. Those of 1 and 2 are about accuracy in percent, of
which more is better; they state the score of a diverged run by itself, under ``diverged``."""
PLAN_FILE = "plan.json"
HASH = "plan_sha256"
FIXED, GROUP_SEQUENTIAL = "fixed", "group_sequential"
STOPPING = (FIXED, GROUP_SEQUENTIAL)
ALL, POOLED = "all", "pooled"
"""Of ``holds``: the claim is that every comparison holds, or their average; without the key, that some does."""

WORST = "worst"
"""Of ``failed``: a run that failed for good has the score that is worst for the claim; without the key the verdict is
invalid."""

LARGEST_FLOAT = sys.float_info.max

Check = tuple[Callable[[Any], bool], str]


def seal(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as it will be read back from JSON, with its ``plan_sha256``.

    Raises:
        RecordError: a key is missing, unknown, or holds a value that is not acceptable.
    """
    try:
        content = json.loads(canonical_json({key: value for key, value in plan.items() if key != HASH}))
    except (TypeError, ValueError) as error:
        raise RecordError(f"plan: {error}; accepted: what JSON can hold") from None
    sealed: dict[str, Any] = content | {HASH: sha256_of(content)}
    problem = structure_problem(sealed)
    if problem is not None:
        raise RecordError(f"plan: {problem}")
    return sealed


def read_plan(path: Path) -> dict[str, Any]:
    """Read a plan and check its structure; whether its hash fits is :func:`plan_problem`'s to say.

    Raises:
        StudyError: there is no such file.
        RecordError: it cannot be read, or a key is missing, unknown, or holds a value that is not acceptable.
    """
    try:
        plan: dict[str, Any] = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; accepted: a study whose confirmation was started") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); accepted: the plan as it was written") from None
    problem = structure_problem(plan)
    if problem is not None:
        raise RecordError(f"{path}: {problem}")
    return plan


def plan_problem(plan: Mapping[str, Any]) -> str | None:
    """Why the plan's hash does not fit its content, in one sentence; None where it fits."""
    actual = sha256_of({key: value for key, value in plan.items() if key != HASH})
    if plan[HASH] == actual:
        return None
    return f"the plan was changed after it was sealed (its {HASH} says {plan[HASH][:12]}…, its content {actual[:12]}…)"


def arms_of(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The arms of a plan: the baselines first, then the candidates in their order."""
    return [*baselines_of(plan), *plan["candidates"]]


def baselines_of(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The baselines of a plan: one, or one for each setting of the claim."""
    return [plan["baseline"], *plan.get("baselines", ())]


def opponent(candidate: Mapping[str, Any]) -> str:
    """Name of the baseline that a candidate is compared with."""
    return str(candidate.get("against", BASELINE))


def score_of(plan: Mapping[str, Any]) -> Score:
    """What the runs of a plan are scored by."""
    if "score" in plan:
        return score_from(plan["score"])
    return accuracy(plan["metric"], plan["diverged"]["score"])


def design_of(plan: Mapping[str, Any]) -> Design | None:
    """The group-sequential design of a plan; None where every seed is run whatever the scores are."""
    if plan["stopping"] == FIXED:
        return None
    stated = plan["design"]
    return design(stated["looks"], stated["alpha"], futility=stated["futility"])


def structure_problem(plan: object) -> str | None:
    """What is wrong with the shape of a plan, as ``key: got …; accepted: …``; None where nothing is."""
    if not isinstance(plan, Mapping):
        return f"got {reprlib.repr(plan)}; accepted: a JSON object"
    try:
        canonical_json(dict(plan)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON ({error}); accepted: what JSON can hold"
    # Which keys there are depends on the version, so another one is not called a plan that lacks some.
    known, accepted = _PLAN["schema_version"]
    if "schema_version" in plan and not known(plan["schema_version"]):
        return f"schema_version: got {reprlib.repr(plan['schema_version'])}; accepted: {accepted}"
    version = plan.get("schema_version")
    checks = {**_PLAN, **({} if version == 1 else _SINCE_2), **(_BEFORE_3 if version in (1, 2) else _SINCE_3)}
    checks |= {"baselines": _OBJECTS} if "baselines" in plan else {}
    checks |= {"design": _OBJECT} if plan.get("stopping") == GROUP_SEQUENTIAL else {}
    # A plan that claims a gain of whatever size says no more than it always did.
    checks |= {"earlier_claims": _OBJECTS} if "earlier_claims" in plan else {}
    checks |= {"alpha_spending": _OBJECT} if "alpha_spending" in plan else {}
    checks |= {"code_diff": _TEXT} if "code_diff" in plan else {}
    checks |= {"holds": _one(ALL, POOLED)} if "holds" in plan else {}
    checks |= {"failed": _one(WORST)} if "failed" in plan else {}
    checks |= _KIND if {"kind", "margin"} & set(plan) else {}
    return (
        _object_problem(plan, checks)
        or _arms_problem(plan)
        or _claim_problem(plan)
        or (_within("diverged", _object_problem(plan["diverged"], _DIVERGED)) if "diverged" in plan else None)
        or (_score_problem(plan) if "score" in plan else None)
        or (_within("design", _design_problem(plan)) if "design" in plan else None)
    )


def _score_problem(plan: Mapping[str, Any]) -> str | None:
    problem = score_problem(plan["score"])
    if problem is None and plan["score"]["test"] != plan["metric"]:
        problem = f"test: got {plan['score']['test']!r}; accepted: the plan's metric, {plan['metric']!r}"
    return _within("score", problem)


def _arms_problem(plan: Mapping[str, Any]) -> str | None:
    places = [("baseline", plan["baseline"])]
    for name in ("baselines", "candidates"):
        places += [(f"{name}[{index}]", arm) for index, arm in enumerate(plan.get(name, ()))]
    for place, arm in places:
        # An arm that was searched was also selected; one that the space states was not.
        checks = dict(_SELECTED if "selection" in arm else _ARM)
        checks |= {"against": _TEXT} if "against" in arm and place.startswith("candidates") else {}
        problem = _object_problem(arm, checks)
        if problem is not None:
            return f"{place}.{problem}"
    names = [arm["arm"] for arm in arms_of(plan)]
    baselines = names[: len(baselines_of(plan))]
    if not f"{baselines[0]}.".startswith(f"{BASELINE}.") or len(set(names)) != len(names):
        return f"arm: got {reprlib.repr(names)}; accepted: {BASELINE!r}, then a name of its own for each candidate"
    for index, candidate in enumerate(plan["candidates"]):
        if opponent(candidate) not in baselines:
            accepted = f"one of {reprlib.repr(baselines)}"
            return f"candidates[{index}].against: got {opponent(candidate)!r}; accepted: {accepted}"
    alone = set(baselines).difference(map(opponent, plan["candidates"]))
    return (
        f"baselines: got {reprlib.repr(min(alone))} without a candidate; accepted: one or more each" if alone else None
    )


def _claim_problem(plan: Mapping[str, Any]) -> str | None:
    try:
        claim = claim_of(plan.get("kind"), plan.get("margin"))
    except ConfigError as error:
        return str(error)
    if "kind" in plan and claim.is_plain:
        return "kind: got 'superior' with margin 0; accepted: neither key, where any gain is claimed"
    if claim.ceiling is not None and plan["stopping"] != FIXED:
        return f"stopping: got {plan['stopping']!r} with kind {claim.kind!r}; accepted: {FIXED!r}, since {NO_LOOKS}"
    for place, earlier in enumerate(plan.get("earlier_claims", ())):
        problem = _object_problem(earlier, {"study": _TEXT, "plan_sha256": _TEXT})
        if problem is not None:
            return f"earlier_claims[{place}].{problem}"
    if "alpha_spending" in plan:
        problem = _spending_problem(plan)
        if problem is not None:
            return f"alpha_spending.{problem}"
    if "failed" in plan:
        score = score_of(plan)
        if plan["stopping"] != FIXED or score.low is None or score.high is None:
            return f"failed: got {WORST!r}; accepted: no such key, where there are looks or the score has no range"
    if "holds" in plan:
        paired_off = len(baselines_of(plan)) == len(plan["candidates"]) > 1
        correction = NONE if plan["holds"] == ALL else HOLM
        if plan["correction"] != correction or not paired_off or plan["stopping"] != FIXED:
            return (
                f"holds: got {plan['holds']!r} with correction {plan['correction']!r}, {len(plan['candidates'])} "
                f"candidates and stopping {plan['stopping']!r}; accepted: correction {correction!r}, one candidate in "
                f"each of several settings, and {FIXED!r}"
            )
        return None
    if plan["correction"] == NONE:
        return f"correction: got {NONE!r}; accepted: {' or '.join(CORRECTIONS)}, or holds: {ALL!r} beside it"
    try:
        check_correction(plan["correction"], claim, seeds=len(plan["seeds"]), fixed=plan["stopping"] == FIXED)
    except ConfigError as error:
        return str(error)
    return None


def _spending_problem(plan: Mapping[str, Any]) -> str | None:
    """The level of the plan must be that of its place in the ledger."""
    spent, place = plan["alpha_spending"], len(plan.get("earlier_claims", ())) + 1
    checks = {"rule": _one(BUDGET), "total": _PLAN["alpha"], "place": _one(place)}
    problem = _object_problem(spent, checks)
    if problem is not None:
        return problem
    level = spent_level(spent["total"], place)
    if not math.isclose(plan["alpha"], level, rel_tol=1e-9):
        return (
            f"total: got {spent['total']!r} with alpha {plan['alpha']!r}; accepted: alpha {level!r} for claim {place}"
        )
    return None


def _design_problem(plan: Mapping[str, Any]) -> str | None:
    stated = plan["design"]
    try:
        expected = asdict(design(stated["looks"], stated["alpha"], futility=stated["futility"]))
    except KeyError as error:
        return f"{error.args[0]}: missing; accepted: exactly {', '.join(Design.__annotations__)}"
    except (ConfigError, TypeError) as error:
        return str(error)
    if stated["looks"][-1] != len(plan["seeds"]) or stated["alpha"] != plan["alpha"]:
        return (
            f"looks: got {stated['looks']} at alpha = {stated['alpha']}; accepted: the last look at all "
            f"{len(plan['seeds'])} seeds of the plan, at its alpha = {plan['alpha']}"
        )
    wrong = [key for key in sorted(set(stated) | set(expected)) if not _agrees(stated.get(key), expected.get(key))]
    if wrong:
        return (
            f"{wrong[0]}: got {reprlib.repr(stated.get(wrong[0]))}; accepted: {reprlib.repr(expected.get(wrong[0]))}, "
            "the boundaries that follow from its looks"
        )
    return None


def _agrees(stated: Any, expected: Any) -> bool:
    """Equal, but for the last digits of computed numbers, which another library may round differently."""
    if isinstance(expected, tuple):
        same_length = isinstance(stated, list) and len(stated) == len(expected)
        return same_length and all(map(_agrees, stated, expected))
    if isinstance(expected, float):
        # An integer beyond any float, which JSON can hold, is refused by its size.
        return _is_number_in(-LARGEST_FLOAT, LARGEST_FLOAT, stated) and math.isclose(stated, expected, rel_tol=1e-4)
    return type(stated) is type(expected) and bool(stated == expected)


def _within(place: str, problem: str | None) -> str | None:
    return None if problem is None else f"{place}.{problem}"


def _object_problem(value: Mapping[str, Any], checks: Mapping[str, Check]) -> str | None:
    odd = sorted(set(value) ^ set(checks))
    if odd:
        return f"{odd[0]}: missing or unknown key; accepted: exactly {', '.join(checks)}"
    for key, (check, accepted) in checks.items():
        if not check(value[key]):
            return f"{key}: got {reprlib.repr(value[key])}; accepted: {accepted}"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number_in(low: float, high: float, value: Any) -> bool:
    return type(value) in (int, float) and low <= value <= high


def _are_integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _one(*words: Any) -> Check:
    # True == 1 in Python, but not in a plan.
    return (
        lambda value: any(type(value) is type(word) and value == word for word in words),
        " or ".join(map(repr, words)),
    )


_TEXT: Check = (_is_text, "text")
_OBJECT: Check = (_is_object, "an object")
_OBJECTS: Check = (
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_object, value)),
    "a list of one or more objects",
)

_ARM: Mapping[str, Check] = {
    "arm": _TEXT,
    "trial": (lambda value: value is None or type(value) is int, "an integer or null"),
    "config": _OBJECT,
}
_SELECTED: Mapping[str, Check] = {**_ARM, "selection": _OBJECT}
_DIVERGED: Mapping[str, Check] = {
    "rule": _TEXT,
    "score": (lambda value: _is_number_in(0, 100, value), "a score in percent, 0 to 100"),
}
_PLAN: Mapping[str, Check] = {
    "schema_version": _one(*range(1, SCHEMA_VERSION + 1)),
    "study": _TEXT,
    "space_sha256": _TEXT,
    "created_at": _TEXT,
    "baseline": _OBJECT,
    "candidates": _OBJECTS,
    "metric": _TEXT,
    "test": _one("paired_t_greater"),
    "alpha": (
        # Beyond 0.5 a worse arm could count as better; far below, the bound of the effect is infinite.
        lambda value: _is_number_in(1e-8, 0.5, value) and value < 0.5,
        "a number from 1e-8 to below 0.5",
    ),
    "correction": _one(*CORRECTIONS, NONE),
    "stopping": _one(*STOPPING),
    "seeds": (_are_integers, "a list of integers"),
    "used_seeds": (
        lambda value: _is_object(value) and all(map(_are_integers, value.values())),
        "an object with a list of integers for each earlier stage",
    ),
    "commit": (lambda value: value is None or _is_text(value), "text or null"),
    "versions": _OBJECT,
    HASH: _TEXT,
}
_BEFORE_3: Mapping[str, Check] = {
    "direction": _one("maximize"),
    "diverged": _OBJECT,
}
_SINCE_3: Mapping[str, Check] = {"score": _OBJECT}
_KIND: Mapping[str, Check] = {
    "kind": _one(*KINDS),
    "margin": (lambda value: _is_number_in(0, LARGEST_FLOAT, value), "a number ≥ 0"),
}
_SINCE_2: Mapping[str, Check] = {
    "data": _OBJECT,
    "device_kind": _one("cpu", "gpu"),
}
