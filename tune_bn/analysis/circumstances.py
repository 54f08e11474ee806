"""Whether the runs of a study saw the same data and ran alike: what breaks a pair, and what a verdict says beside.

Data and kinds of device decide what is computed, so a difference makes the verdict invalid. Models of one kind, threads
and versions of a device's libraries decide in which order numbers are added up: that is noise of the kind that other
seeds bring too, and as a rule hits both arms alike, so a difference is said. :data:`tune_bn.records.provenance.FACTS`
is the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from tune_bn.errors import listed
from tune_bn.records.plan import Plan
from tune_bn.records.provenance import (
    CLASSES,
    FACTS,
    OF_A_NETWORK,
    POOL,
    SPLITS,
    Fact,
    data_changes,
    fact_differences,
    facts_of,
)
from tune_bn.records.record import CONFIRM, DIVERGED, FAILED, Record

Scored = Mapping[tuple[str, int], Record]
"""The run that gives the score of an arm on a seed."""


def distinct(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order in which they first came."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def data_problems(plan: Plan, records: Sequence[Record], scored: Scored) -> list[str]:
    """Runs on other data than the plan's, or than each other's; a split is compared where it was seen."""
    planned = plan.data or {}
    known: dict[str, Any] = dict(planned)
    of = "the plan" if planned else "the runs before"
    found: dict[str, list[str]] = {}
    for record in records:
        if record.status != FAILED and isinstance(record.data, Mapping):
            for change in data_changes(known, record.data):
                found.setdefault(f"{record.stage} runs saw other data than {of}: {change}", []).append(record.key)
            known = {key: record.data[key] for key in (CLASSES, POOL, *SPLITS) if key in record.data} | known
    for record in scored.values():
        missing = [key for key in planned if not isinstance(record.data, Mapping) or key not in record.data]
        if missing:
            what = "confirmation runs do not say which data they saw, and the plan does"
            found.setdefault(what, []).append(record.key)
    return [f"{what}: {listed(keys)}" for what, keys in found.items()]


def device_problems(plan: Plan, scored: Scored) -> list[str]:
    """Pairs whose runs computed in different ways, and runs on another kind of device than the plan is for."""
    found = [
        f"the runs of a pair were on different {where}, so they are no pair"
        for fact, where in _pairs_apart(plan, scored)
        if fact.breaks
    ]
    # A plan for GPUs does not say of which kind they are; where no worker has one, all runs are alike on the CPU.
    off = [record.key for record in scored.values() if plan.device_kind == "cpu" and _kind(record) != "cpu"]
    return found + (
        [f"the plan is for runs on cpu, and confirmation runs were elsewhere: {listed(off)}"] if off else []
    )


def remarks(plan: Plan, records: Sequence[Record], scored: Scored) -> Iterator[str]:
    """What the circumstances of the runs ask to be said, one sentence each."""
    if not scored:
        return
    yield from _seen_before(plan, list(scored.values()))
    yield from _begun_before(plan, list(scored.values()))
    for fact, where in _pairs_apart(plan, scored):
        if not fact.breaks:
            yield f"the runs of a pair were on different {where}; the verdict counts it as noise"
    kinds = [kind for kind in distinct(map(_kind, scored.values())) if kind]
    if len(kinds) > 1:
        yield f"the confirmation ran on several kinds of device ({listed(kinds)})"
    elif kinds == ["cpu"] and plan.device_kind == "gpu":
        yield "GPUs were reserved (resources.gpu), but every confirmation run was on the CPU"
    confirm = list(scored.values())
    before = [record for record in records if record.stage != CONFIRM and record.status != FAILED]
    yield from _lacking(confirm)
    silent = sum(not record.data for record in before)
    if silent and all(record.data for record in confirm):
        who = "a version or a trainer that did not record which data they saw"
        yield f"{silent} runs of search and selection come from {who}"
    yield from _other_before(before, confirm)
    yield from _other_than_planned(plan, confirm)


CLOCKS_APART = timedelta(minutes=5)
"""By so much the clocks of a cluster's machines may differ."""


def _begun_before(plan: Plan, scored: Sequence[Record]) -> Iterator[str]:
    """Confirmation runs that say of themselves that they began before their plan was locked."""
    locked = _time(plan.created_at)
    began = [(when, record.key) for record in scored if (when := _time(record.started_at)) is not None]
    if locked is None or not began or min(began)[0] >= locked - CLOCKS_APART:
        return
    keys = [key for when, key in began if when < locked - CLOCKS_APART]
    yield (
        f"{listed(keys)} began before the plan was locked, the first by {locked - min(began)[0]}: either a clock was "
        "wrong, or the plan was made when its scores were known, and the verdict is worth nothing"
    )


def _time(words: str) -> datetime | None:
    """A time as records and plans state it; None where there is none that can be read."""
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(words)
        return found if found.tzinfo is not None else None
    return None


ALIKE_BY_CHANCE = 2
"""So many runs may score the same on two data sets, of scores that take few values."""


def _seen_before(plan: Plan, scored: Sequence[Record]) -> Iterator[str]:
    """Test scores that are the validation scores of their runs, to the last digit: it was the same data.

    Of runs that all score the same, or that are at an end of the score's range, nothing follows.
    """
    validation, ends = plan.score.validation, (plan.score.low, plan.score.high)
    pairs = [
        (float(record.scores[validation]), float(record.scores[plan.metric]))
        for record in scored
        if record.status != DIVERGED and validation in record.scores and plan.metric in record.scores
    ]
    alike = [one for one, other in pairs if one == other and one not in ends]
    if len(alike) > max(ALIKE_BY_CHANCE, len(pairs) // 2) and len(set(alike)) > 1:
        yield (
            f"{plan.metric} equals {validation} to the last digit in {len(alike)} of {len(pairs)} confirmed runs: "
            "either the validation data is the test data, which every choice of the study has looked at then, and the "
            "verdict is worth nothing, or the test score is no score of its own"
        )


def _kind(record: Record) -> Any:
    return facts_of(record.device, record.environment).get("device_kind")


def _pairs_apart(plan: Plan, scored: Scored) -> Iterator[tuple[Fact, str]]:
    """The facts in which runs of pairs differ, and in words which arms and seeds."""
    configs = plan.configs
    found: dict[tuple[str, str, str, str, str], list[int]] = {}
    pairs = [(candidate.arm, other) for candidate in plan.candidates for other in candidate.opponents]
    for arm, other in pairs:
        for seed in distinct(plan.seeds):
            if (arm, seed) in scored and (other, seed) in scored:
                one, two = scored[other, seed], scored[arm, seed]
                facts, other_facts = (facts_of(run.device, run.environment) for run in (one, two))
                for fact, before, now in fact_differences(facts, other_facts, configs[other], configs[arm]):
                    found.setdefault((fact.key, other, _word(before), arm, _word(now)), []).append(seed)
    by_key = {fact.key: fact for fact in FACTS}
    for (key, other, before, arm, now), seeds in found.items():
        yield by_key[key], f"{by_key[key].words} ({other}: {before}, {arm}: {now}; seed {listed(seeds)})"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=repr)


def _lacking(scored: Sequence[Record]) -> Iterator[str]:
    lacks = {
        "the data that the run saw (images, labels, classes)": [not record.data for record in scored],
        "what the run ran on beside the name of its device (precision, threads, libraries of the device)": [
            not record.environment for record in scored
        ],
    }
    for what, missing in lacks.items():
        if any(missing):
            how_many = "the records" if all(missing) else f"{sum(missing)} of {len(missing)} records"
            yield (
                f"{how_many} of the confirmation come from a version or a trainer that did not record {what}; that it "
                "was the same for all of them cannot be checked"
            )


def _other_before(before: Sequence[Record], scored: Sequence[Record]) -> Iterator[str]:
    """Where the candidates come from runs of another kind; the confirmation stands, on fresh seeds and by itself."""
    told: dict[str, tuple[list[Any], list[Any]]] = {}
    names = distinct(name for record in scored for name in _versions(record))
    archs = [record.config.get("arch") for record in scored]
    for name in names:
        # Where networks are searched, those that were not confirmed have sources of their own.
        alike = [r for r in before if name not in OF_A_NETWORK or r.config.get("arch") in archs]
        then, now = (distinct(_versions(r)[name] for r in runs if name in _versions(r)) for runs in (alike, scored))
        told[name] = (then, now)
    told["kind of device"] = (
        distinct(kind for kind in map(_kind, before) if kind),
        distinct(kind for kind in map(_kind, scored) if kind),
    )
    changed = [
        f"{name} {listed(then)} (confirmation: {listed(now)})"
        for name, (then, now) in told.items()
        if then and now and any(value not in now for value in then)
    ]
    if changed:
        yield f"search or selection ran otherwise than the confirmation: {'; '.join(changed)}"


def _other_than_planned(plan: Plan, scored: Sequence[Record]) -> Iterator[str]:
    """Where whoever locked the plan had other code or libraries than whoever ran it, as head and nodes of a cluster."""
    planned = plan.versions
    told = {
        name: distinct(_versions(record)[name] for record in scored if name in _versions(record))
        for name in planned
        # Those of the plan are of all networks together.
        if name not in OF_A_NETWORK
    }
    changed = [
        f"{name} {listed([planned[name]])} (confirmation: {listed(now)})"
        for name, now in told.items()
        if now and now != [planned[name]]
    ]
    if changed:
        yield f"the plan was locked under other versions than the confirmation ran under: {'; '.join(changed)}"


def _versions(record: Record) -> Mapping[str, Any]:
    return record.versions if isinstance(record.versions, Mapping) else {}
