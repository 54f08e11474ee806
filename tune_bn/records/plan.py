"""``plan.json``: what will be compared, on which seeds, by which test. Locked before the first run of the confirmation.

The types of :class:`Plan` say what each key holds. Whether the keys go together is for :mod:`tune_bn.analysis.plan` to
say, whose reader all others use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from tune_bn.records.files import canonical_json, sha256_of
from tune_bn.records.reading import Check, ExactKeys, ReadBy, fields_as_json, from_json
from tune_bn.records.record import BASELINE
from tune_bn.records.score import Score, accuracy, score_from

SCHEMA_VERSION = 3
"""Plans of version 1 lock neither the data nor the kind of device. Those of 1 and 2 are about accuracy in percent, of
which more is better; they state the score of a diverged run by itself, under ``diverged``."""
PLAN_FILE = "plan.json"
HASH = "plan_sha256"

FIXED, GROUP_SEQUENTIAL = "fixed", "group_sequential"
STOPPING = (FIXED, GROUP_SEQUENTIAL)

SUPERIOR, NONINFERIOR, EQUIVALENT = "superior", "noninferior", "equivalent"
KINDS = (SUPERIOR, NONINFERIOR, EQUIVALENT)

HOLM, MAX_T = "holm", "max_t"
CORRECTIONS = (HOLM, MAX_T)
NONE = "none"
"""Where all comparisons have to hold together, each is tested at alpha (intersection–union); losses keep Holm's."""

ANY, ALL, POOLED = "any", "all", "pooled"
"""Of ``holds``: the claim is that every comparison holds, or their average; without the key, that some does, which a
verdict calls ``any``."""

WORST = "worst"
"""Of ``failed``: a run that failed for good has the score that is worst for the claim; without the key the verdict is
invalid."""

BUDGET = "budget"
"""Of ``claim.alpha_spending``: the level is that of :func:`tune_bn.records.ledger.spent_level`."""

LARGEST_FLOAT = sys.float_info.max


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_number_in(low: float, high: float, value: Any) -> bool:
    """Whether it is a number of JSON between two others; ``true`` is none."""
    return type(value) in (int, float) and low <= value <= high


def _are_integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_object, value))


def _one(*words: Any) -> Check:
    # True == 1 in Python, but not in a plan.
    return Check(
        lambda value: any(type(value) is type(word) and value == word for word in words),
        " or ".join(map(repr, words)),
    )


_OBJECT, _OBJECTS = Check(_is_object, "an object"), Check(_are_objects, "a list of one or more objects")
_VERSION = _one(*range(1, SCHEMA_VERSION + 1))
_LEVEL = Check(
    # Beyond 0.5 a worse arm could count as better; far below, the bound of the effect is infinite.
    lambda value: is_number_in(1e-8, 0.5, value) and value < 0.5,
    "a number from 1e-8 to below 0.5",
)
_SEEDS_BY_STAGE = Check(
    lambda value: _is_object(value) and all(map(_are_integers, value.values())),
    "an object with a list of integers for each earlier stage",
)

_TEXT, _SEEDS = Check(_is_text, "text"), Check(_are_integers, "a list of integers")
_TEXTS = Check(_are_texts, "a list of one or more names")
_TEXT_OR_NULL = Check(lambda value: value is None or _is_text(value), "text or null")
_TRIAL = Check(lambda value: value is None or type(value) is int, "an integer or null")
_PERCENT = Check(lambda value: is_number_in(0, 100, value), "a score in percent, 0 to 100")
_MARGIN = Check(lambda value: is_number_in(0, LARGEST_FLOAT, value), "a number ≥ 0")

Text = Annotated[str, _TEXT]
Object = Annotated[Mapping[str, Any], _OBJECT]


@dataclass(frozen=True)
class PlannedArm(ExactKeys):
    """A baseline."""

    arm: Text
    """Its name."""
    trial: Annotated[int | None, _TRIAL]
    """Of the search; None where it is stated."""
    config: Object
    selection: Annotated[Mapping[str, Any] | None, _OBJECT] = None
    """Its scores on the selection seeds; None of an arm that was not selected."""


@dataclass(frozen=True)
class PlannedCandidate(PlannedArm):
    """A candidate."""

    against: Annotated[str | None, _TEXT] = None
    """The baseline that it is compared with, where there are several settings."""
    rivals: Annotated[tuple[str, ...], _TEXTS] = ()
    """Of the plan's rivals those that it has to be better than as well."""

    @property
    def opponent(self) -> str:
        """The name of the baseline that it is compared with."""
        return BASELINE if self.against is None else self.against

    @property
    def opponents(self) -> tuple[str, ...]:
        """The baseline and the rivals: the claim has to hold against each of them."""
        return (self.opponent, *self.rivals)


@dataclass(frozen=True)
class DivergedRule(ExactKeys):
    """What a diverged run scores, in plans of before version 3."""

    rule: Text
    score: Annotated[float, _PERCENT]


@dataclass(frozen=True)
class EarlierClaim(ExactKeys):
    """A claim that was locked before on the same test data."""

    study: Text
    plan_sha256: Text


@dataclass(frozen=True)
class AlphaSpending(ExactKeys):
    """Of which budget the level of a plan is a part, and which claim on its test data it is."""

    rule: Annotated[str, _one(BUDGET)]
    total: Annotated[float, _LEVEL]
    place: int


@dataclass(frozen=True)
class Plan(ExactKeys):
    """A plan; numbers stand in it as in its file, so that the hash of what is written is that of what was read."""

    schema_version: Annotated[int, _VERSION]
    study: Text
    space_sha256: Text
    created_at: Text
    baseline: Annotated[PlannedArm, _OBJECT]
    """The first baseline."""
    candidates: Annotated[tuple[PlannedCandidate, ...], _OBJECTS]
    metric: Text
    """Name of the test score."""
    test: Annotated[str, _one("paired_t_greater")]
    alpha: Annotated[float, _LEVEL]
    correction: Annotated[str, _one(*CORRECTIONS, NONE)]
    stopping: Annotated[str, _one(*STOPPING)]
    seeds: Annotated[tuple[int, ...], _SEEDS]
    """In the order in which they are run."""
    used_seeds: Annotated[Mapping[str, list[int]], _SEEDS_BY_STAGE]
    """By which the candidates came about."""
    commit: Annotated[str | None, _TEXT_OR_NULL]
    versions: Object
    plan_sha256: Text
    """Hash of everything else in the plan. Each confirmation record carries it, so a plan that was changed afterwards
    no longer fits its records."""
    data: Annotated[Mapping[str, Any] | None, _OBJECT] = None
    """None before version 2, as the next one."""
    device_kind: Annotated[str | None, _one("cpu", "gpu")] = None
    direction: Annotated[str | None, _one("maximize")] = None
    """Before version 3 alone, as the next one."""
    diverged: Annotated[DivergedRule | None, _OBJECT] = None
    score: Annotated[Score, ReadBy(score_from)] = field(default_factory=accuracy)
    """What its runs are scored by; plans of before version 3 state it by ``metric`` and ``diverged``."""
    baselines: Annotated[tuple[PlannedArm, ...], _OBJECTS] = ()
    """The baselines of further settings."""
    rivals: Annotated[tuple[PlannedArm, ...], _OBJECTS] = ()
    """Other tunings of the baseline: its other finalists, and itself at what was tuned for a candidate. A candidate
    that is better than the one that happened to be chosen is no better than the baseline."""
    design: Annotated[Mapping[str, Any] | None, _OBJECT] = None
    """As it is stated; :func:`tune_bn.analysis.plan.design_of` is what decides."""
    earlier_claims: Annotated[tuple[EarlierClaim, ...], _OBJECTS] = ()
    alpha_spending: Annotated[AlphaSpending | None, _OBJECT] = None
    code_diff: Annotated[str | None, _TEXT] = None
    """Hash of what the code differed by from its commit."""
    holds: Annotated[str | None, _one(ALL, POOLED)] = None
    failed: Annotated[str | None, _one(WORST)] = None
    kind: Annotated[str | None, _one(*KINDS)] = None
    """None, as the margin: any gain is claimed."""
    margin: Annotated[float | None, _MARGIN] = None

    @classmethod
    def keys(cls, content: Mapping[str, Any]) -> list[str]:
        """Which there are depends on the version, and on what is claimed."""
        version = content.get("schema_version", SCHEMA_VERSION)
        given = {"design"} if content.get("stopping") == GROUP_SEQUENTIAL else set()
        given |= {"kind", "margin"} if {"kind", "margin"} & set(content) else set()
        given |= {"data", "device_kind"} if version >= 2 else set()
        given |= {"direction", "diverged"} if version < 3 else {"score"}
        by_version = {"data", "device_kind", "direction", "diverged", "score", "design"}
        return super().keys({**dict.fromkeys(set(content) - by_version), **dict.fromkeys(given)})

    @property
    def states_score(self) -> bool:
        """Whether it is of a version that states its score."""
        return self.schema_version >= 3

    @property
    def arms(self) -> tuple[PlannedArm, ...]:
        """The baselines first, then their rivals and the candidates in their order."""
        return (*self.every_tuning, *self.candidates)

    @property
    def every_baseline(self) -> tuple[PlannedArm, ...]:
        """One, or one for each setting of the claim."""
        return (self.baseline, *self.baselines)

    @property
    def every_tuning(self) -> tuple[PlannedArm, ...]:
        """All that a candidate may be compared with: the baselines, then their rivals."""
        return (*self.every_baseline, *self.rivals)

    @property
    def most_opponents(self) -> int:
        """How many tunings of the baseline a candidate meets at most."""
        return max(len(arm.opponents) for arm in self.candidates)

    @property
    def configs(self) -> Mapping[str, Mapping[str, Any]]:
        """The configuration of each arm by its name."""
        return {arm.arm: arm.config for arm in self.arms}

    def to_json(self) -> dict[str, Any]:
        """As its file has it: the keys in the order of their names, the hash behind all of them."""
        content = {key: value for key, value in fields_as_json(self).items() if key not in ("score", HASH)}
        content |= {"score": self.score.to_json()} if self.states_score else {}
        ordered: dict[str, Any] = json.loads(canonical_json(content))
        return ordered | {HASH: self.plan_sha256}


def hash_of(content: Mapping[str, Any]) -> str:
    """The hash of everything in a plan but its hash."""
    return sha256_of({key: value for key, value in content.items() if key != HASH})


def plan_of_types(content: Mapping[str, Any]) -> Plan:
    """JSON as a plan of which every key by itself is acceptable. Raises :class:`Refused`."""
    if "schema_version" in content:
        # Which keys there are depends on it, so another version is not called a plan that lacks some.
        from_json(_Version, dict(content), lenient=True)
    plan = from_json(Plan, dict(content))
    if plan.states_score or plan.diverged is None:
        return plan
    return replace(plan, score=accuracy(plan.metric, plan.diverged.score))


@dataclass(frozen=True)
class _Version:
    schema_version: Annotated[int, _VERSION]
