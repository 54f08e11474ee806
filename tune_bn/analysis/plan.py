"""A plan, read whole: what is locked before the first run of a confirmation, and whether its keys go together.

:class:`tune_bn.records.plan.Plan` says what each key holds; here are the one reader of it and the seal. ``plan_sha256``
is the hash of everything else in the plan.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tune_bn.analysis.claims import NO_LOOKS, Claim, claim_of
from tune_bn.analysis.family import check_correction
from tune_bn.analysis.sequential import Design, design
from tune_bn.errors import ConfigError, RecordError, StudyError
from tune_bn.records.files import canonical_json, read_bytes
from tune_bn.records.ledger import spent_level
from tune_bn.records.plan import (
    ALL,
    CORRECTIONS,
    FIXED,
    HASH,
    HOLM,
    LARGEST_FLOAT,
    MAX_T,
    NONE,
    POOLED,
    WORST,
    Plan,
    hash_of,
    is_number_in,
    plan_of_types,
)
from tune_bn.records.reading import Refused
from tune_bn.records.record import BASELINE


def seal(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan as it will be read back from JSON, with its ``plan_sha256``.

    Raises:
        RecordError: a key is missing, unknown, or holds a value that is not acceptable.
    """
    try:
        content = json.loads(canonical_json({key: value for key, value in plan.items() if key != HASH}))
    except (TypeError, ValueError) as error:
        raise RecordError(f"plan: {error}; accepted: what JSON can hold") from None
    sealed: dict[str, Any] = content | {HASH: hash_of(content)}
    try:
        plan_from(sealed)
    except RecordError as error:
        raise RecordError(f"plan: {error}") from None
    return sealed


def sealed(plan: Plan) -> Plan:
    """The plan with its ``plan_sha256``. Raises what :func:`seal` raises."""
    return plan_from(seal(plan.to_json()))


def read_plan(path: Path) -> Plan:
    """Read a plan and check its structure; whether its hash fits is :func:`plan_problem`'s to say.

    Raises:
        StudyError: there is no such file.
        RecordError: it cannot be read, or a key is missing, unknown, or holds a value that is not acceptable.
    """
    try:
        content = json.loads(read_bytes(path))
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; accepted: a study whose confirmation was started") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); accepted: the plan as it was written") from None
    try:
        return plan_from(content)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None


def plan_problem(plan: Plan | Mapping[str, Any]) -> str | None:
    """Why the plan's hash does not fit its content, in one sentence; None where it fits."""
    content = plan.to_json() if isinstance(plan, Plan) else plan
    stated, actual = content[HASH], hash_of(content)
    if stated == actual:
        return None
    return f"the plan was changed after it was sealed (its {HASH} says {stated[:12]}…, its content {actual[:12]}…)"


def plan_from(content: object) -> Plan:
    """A plan out of what JSON holds.

    Raises:
        RecordError: what is wrong with its shape, as ``key: got …; accepted: …``.
    """
    if not isinstance(content, Mapping):
        raise RecordError(f"got {reprlib.repr(content)}; accepted: a JSON object")
    try:
        canonical_json(dict(content)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"cannot be written as JSON ({error}); accepted: what JSON can hold") from None
    try:
        plan = plan_of_types(content)
    except Refused as error:
        raise RecordError(str(error)) from None
    problem = _arms_problem(plan) or _claim_problem(plan) or _score_problem(plan) or _design_problem(plan)
    if problem is not None:
        raise RecordError(problem)
    return plan


def design_of(plan: Plan) -> Design | None:
    """The group-sequential design of a plan; None where every seed is run whatever the scores are."""
    if plan.design is None:
        return None
    return design(plan.design["looks"], plan.design["alpha"], futility=plan.design["futility"])


def claim_by(plan: Plan) -> Claim:
    """The claim of a plan."""
    return claim_of(plan.kind, plan.margin)


def _score_problem(plan: Plan) -> str | None:
    if plan.score.test == plan.metric:
        return None
    return f"score.test: got {plan.score.test!r}; accepted: the plan's metric, {plan.metric!r}"


def _arms_problem(plan: Plan) -> str | None:
    names = [arm.arm for arm in plan.arms]
    baselines = names[: len(plan.every_baseline)]
    if not f"{baselines[0]}.".startswith(f"{BASELINE}.") or len(set(names)) != len(names):
        return f"arm: got {reprlib.repr(names)}; accepted: {BASELINE!r}, then a name of its own for each candidate"
    for index, candidate in enumerate(plan.candidates):
        if candidate.opponent not in baselines:
            accepted = f"one of {reprlib.repr(baselines)}"
            return f"candidates[{index}].against: got {candidate.opponent!r}; accepted: {accepted}"
    alone = set(baselines).difference(candidate.opponent for candidate in plan.candidates)
    if alone:
        return f"baselines: got {reprlib.repr(min(alone))} without a candidate; accepted: one or more each"
    return _rivals_problem(plan)


def _rivals_problem(plan: Plan) -> str | None:
    rivals, met = [arm.arm for arm in plan.rivals], set[str]()
    for index, candidate in enumerate(plan.candidates):
        own = candidate.rivals
        if not set(own) <= set(rivals) or len(set(own)) != len(own):
            accepted = f"names out of {reprlib.repr(rivals)}, each once" if rivals else "no such key without rivals"
            return f"candidates[{index}].rivals: got {reprlib.repr(list(own))}; accepted: {accepted}"
        met.update(own)
    if alone := set(rivals) - met:
        return f"rivals: got {reprlib.repr(min(alone))} without a candidate; accepted: one or more each"
    if rivals and (plan.holds == POOLED or plan.correction == MAX_T):
        why = f"holds: {POOLED!r}" if plan.holds == POOLED else f"correction: {MAX_T!r}"
        return f"rivals: got {reprlib.repr(rivals)} with {why}; accepted: no such key beside it"
    return None


def _claim_problem(plan: Plan) -> str | None:
    try:
        claim = claim_by(plan)
    except ConfigError as error:
        return str(error)
    if plan.kind is not None and claim.is_plain:
        return "kind: got 'superior' with margin 0; accepted: neither key, where any gain is claimed"
    if claim.ceiling is not None and plan.stopping != FIXED:
        return f"stopping: got {plan.stopping!r} with kind {claim.kind!r}; accepted: {FIXED!r}, since {NO_LOOKS}"
    if problem := _spending_problem(plan):
        return f"alpha_spending.{problem}"
    if plan.failed is not None and (plan.stopping != FIXED or plan.score.low is None or plan.score.high is None):
        return f"failed: got {WORST!r}; accepted: no such key, where there are looks or the score has no range"
    if plan.holds is not None:
        paired_off = len(plan.every_baseline) == len(plan.candidates) > 1
        correction = NONE if plan.holds == ALL else HOLM
        if plan.correction != correction or not paired_off or plan.stopping != FIXED:
            return (
                f"holds: got {plan.holds!r} with correction {plan.correction!r}, {len(plan.candidates)} "
                f"candidates and stopping {plan.stopping!r}; accepted: correction {correction!r}, one candidate in "
                f"each of several settings, and {FIXED!r}"
            )
        return None
    if plan.correction == NONE:
        return f"correction: got {NONE!r}; accepted: {' or '.join(CORRECTIONS)}, or holds: {ALL!r} beside it"
    try:
        check_correction(plan.correction, claim, seeds=len(plan.seeds), fixed=plan.stopping == FIXED)
    except ConfigError as error:
        return str(error)
    return None


def _spending_problem(plan: Plan) -> str | None:
    """The level of the plan must be that of its place in the ledger."""
    spent, place = plan.alpha_spending, len(plan.earlier_claims) + 1
    if spent is None:
        return None
    if spent.place != place:
        return f"place: got {spent.place!r}; accepted: {place}"
    level = spent_level(spent.total, place)
    if not math.isclose(plan.alpha, level, rel_tol=1e-9):
        return f"total: got {spent.total!r} with alpha {plan.alpha!r}; accepted: alpha {level!r} for claim {place}"
    return None


def _design_problem(plan: Plan) -> str | None:
    stated = plan.design
    if stated is None:
        return None
    try:
        expected = asdict(design(stated["looks"], stated["alpha"], futility=stated["futility"]))
    except KeyError as error:
        return f"design.{error.args[0]}: missing; accepted: exactly {', '.join(Design.__annotations__)}"
    except (ConfigError, TypeError) as error:
        return f"design.{error}"
    if stated["looks"][-1] != len(plan.seeds) or stated["alpha"] != plan.alpha:
        return (
            f"design.looks: got {stated['looks']} at alpha = {stated['alpha']}; accepted: the last look at all "
            f"{len(plan.seeds)} seeds of the plan, at its alpha = {plan.alpha}"
        )
    wrong = [key for key in sorted(set(stated) | set(expected)) if not _agrees(stated.get(key), expected.get(key))]
    if wrong:
        return (
            f"design.{wrong[0]}: got {reprlib.repr(stated.get(wrong[0]))}; accepted: "
            f"{reprlib.repr(expected.get(wrong[0]))}, the boundaries that follow from its looks"
        )
    return None


def _agrees(stated: Any, expected: Any) -> bool:
    """Equal, but for the last digits of computed numbers, which another library may round differently."""
    if isinstance(expected, tuple):
        same_length = isinstance(stated, list) and len(stated) == len(expected)
        return same_length and all(map(_agrees, stated, expected))
    if isinstance(expected, float):
        # An integer beyond any float, which JSON can hold, is refused by its size.
        return is_number_in(-LARGEST_FLOAT, LARGEST_FLOAT, stated) and math.isclose(stated, expected, rel_tol=1e-4)
    return type(stated) is type(expected) and bool(stated == expected)
