"""Whatever is fed to ``judge``, it answers; and it never says "supported" where a rule is broken."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_bn.analysis.images import OUTCOMES
from tune_bn.analysis.monitoring import standing
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.sequential import design
from tune_bn.analysis.verdict import judge
from tune_bn.records.files import canonical_json, sha256_of
from tune_bn.records.record import Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(-3, 120), st.floats(), TEXT),
        st.sampled_from(["baseline", "candidate-1", "confirm", "search", "completed", "failed", "diverged"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Fields in the types that reading the records guarantees; the others may hold any JSON.
TYPED = {
    "stage": st.sampled_from(["search", "select", "confirm"]),
    "arm": st.one_of(st.sampled_from(["baseline", "candidate-1", "candidate-2"]), TEXT),
    "trial": st.one_of(st.none(), st.integers(0, 30)),
    "seed": st.integers(0, 20),
    "status": st.sampled_from(["completed", "pruned", "diverged", "failed"]),
    "config": st.dictionaries(TEXT, JSON, max_size=3),
    "scores": st.dictionaries(st.sampled_from(["test_accuracy", "val_accuracy"]), st.one_of(st.floats(), JSON)),
    "test": st.one_of(JSON, st.dictionaries(st.sampled_from(OUTCOMES), st.one_of(st.floats(), JSON))),
    "versions": st.dictionaries(st.sampled_from(["torch", "numpy"]), JSON),
}
FIELDS = sorted({f.name for f in fields(Record)} - {"schema_version", "previous_sha256", "sha256"})


@pytest.fixture(scope="module")
def study(synthetic_study):
    return synthetic_study(n=4, effect=4.0, trials=12)


def reseal(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan whose hash fits whatever it holds, where it can be hashed."""
    content = {key: value for key, value in plan.items() if key != "plan_sha256"}
    try:
        return content | {"plan_sha256": sha256_of(content)}
    except ValueError:
        return plan


def keeps_the_rules(plan: dict[str, Any], records: list[Record]) -> bool:
    """The rules once more, written as one plain statement instead of as a search for problems."""
    confirm = [record for record in records if record.stage == "confirm"]
    arms = {arm["arm"]: arm for arm in [plan["baseline"], *plan["candidates"]]}
    scored = [record for record in confirm if record.status != "failed"]
    seeds = plan["seeds"]
    used = {seed for earlier in plan["used_seeds"].values() for seed in earlier}
    used |= {record.seed for record in records if record.stage != "confirm"}
    return (
        len(seeds) == len(set(seeds)) >= 2
        and not used & set(seeds)
        and Counter((r.arm, r.seed) for r in scored) == Counter((arm, seed) for arm in arms for seed in seeds)
        and all(
            r.plan_sha256 == plan["plan_sha256"]
            and r.space_sha256 == plan["space_sha256"]
            and r.config == arms[r.arm]["config"]
            for r in confirm
        )
        and all(
            0 <= r.scores[plan["metric"]] <= 100
            and ((r.status == "completed" and r.epochs == r.epochs_planned) or r.status == "diverged")
            and (r.status != "diverged" or r.scores[plan["metric"]] == plan["diverged"]["score"])
            and (r.versions, r.commit) == (scored[0].versions, scored[0].commit)
            for r in scored
        )
    )


def check(plan: Any, records: list[Record]) -> dict[str, Any]:
    verdict = judge(plan, records)
    assert verdict["verdict"] in ("supported", "not_supported", "invalid")
    assert verdict["reason"]
    assert "\n" not in verdict["reason"]
    # What is written is JSON without NaN, in UTF-8.
    assert json.loads(canonical_json(verdict).encode()) == verdict
    if verdict["verdict"] == "invalid":
        assert verdict["problems"]
        assert all(arm["p_value"] is None and not arm["supported"] for arm in verdict["candidates"])
    else:
        assert keeps_the_rules(plan, records)
        assert all(0 < arm["p_value"] <= arm["p_adjusted"] <= 1 for arm in verdict["candidates"])
        passed = any(arm["p_adjusted"] <= plan["alpha"] for arm in verdict["candidates"])
        assert (verdict["verdict"] == "supported") == passed
    return verdict


def test_the_untouched_study_is_supported(study):
    assert check(study.plan, study.records)["verdict"] == "supported"


@QUICK
@given(plan=JSON)
def test_any_json_as_a_plan(study, plan):
    assert check(plan, study.records)["verdict"] == "invalid"


@QUICK
@given(data=st.data())
def test_any_json_in_a_key_of_the_plan(study, data):
    key = data.draw(st.sampled_from(sorted(study.plan)))
    plan = study.plan | {key: data.draw(JSON)}
    check(plan, study.records)
    plan = reseal(plan)
    check(plan, [replace(r, plan_sha256=plan["plan_sha256"]) if r.stage == "confirm" else r for r in study.records])


@QUICK
@given(data=st.data())
def test_any_json_in_an_arm_of_the_plan(study, data):
    arm = data.draw(st.sampled_from(["baseline", "candidate"]))
    original = study.plan["baseline"] if arm == "baseline" else study.plan["candidates"][0]
    changed = original | {data.draw(st.sampled_from(sorted(original))): data.draw(JSON)}
    plan = reseal(study.plan | ({"baseline": changed} if arm == "baseline" else {"candidates": [changed]}))
    check(plan, [replace(r, plan_sha256=plan["plan_sha256"]) if r.stage == "confirm" else r for r in study.records])


@pytest.mark.long
@QUICK
@given(data=st.data())
def test_any_value_in_some_records(study, data):
    records = list(study.records)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(records) - 1))
        name = data.draw(st.sampled_from(FIELDS))
        records[index] = replace(records[index], **{name: data.draw(TYPED.get(name, JSON))})
    check(study.plan, records)


@QUICK
@given(data=st.data())
def test_any_choice_and_order_of_records(study, data):
    picked = data.draw(st.lists(st.sampled_from(study.records), max_size=2 * len(study.records)))
    check(study.plan, picked)


@pytest.mark.long
@QUICK
@given(data=st.data())
def test_any_records_at_all(study, data):
    made = st.builds(
        Record,
        **{name: TYPED.get(name, JSON) for name in FIELDS} | {"plan_sha256": st.just(study.plan["plan_sha256"])},
    )
    records = data.draw(st.lists(made, max_size=6))
    assert check(study.plan, records)["verdict"] == "invalid"


def test_the_least_level_of_a_plan_gives_a_verdict_at_looks_too(synthetic_study):
    """The two-sided interval spends half of it to each side."""
    made = synthetic_study(n=3, effect=2.0)
    sequential = made.with_plan(
        stopping="group_sequential", alpha=1e-8, design=asdict(design((3,), 1e-8, futility=None))
    )
    assert check(sequential.plan, sequential.records)["verdict"] == "not_supported"


SEQUENTIAL = design((3, 5, 8), 0.05, futility=0.05)


@pytest.fixture(scope="module")
def looked(synthetic_study):
    """Two candidates with baselines of their own, at looks after 3, 5 and 8 pairs, in the order of the looks.

    Only the runs that the looks asked for are there, so that the untouched study is valid.
    """
    made = synthetic_study(n=8, effect=1.5, candidates=2, trials=24)
    first, second = made.plan["candidates"]
    other = made.plan["baseline"] | {"arm": "baseline.slow", "config": made.plan["baseline"]["config"] | {"lr": 0.01}}
    second = second | {"against": "baseline.slow", "config": second["config"] | {"lr": 0.01}}
    arms = {"candidate-2": second, "baseline.slow": other}
    made = made.with_plan(
        stopping="group_sequential", design=asdict(SEQUENTIAL), baselines=[other], candidates=[first, second]
    )
    copies = [replace(r, arm="baseline.slow", scores=_nudged(r)) for r in made.confirm if r.arm == "baseline"]
    runs = [replace(r, config=arms.get(r.arm, {"config": r.config})["config"]) for r in [*made.confirm, *copies]]
    plan = plan_from(made.plan)
    scores: dict[str, dict[int, float]] = {arm.arm: {} for arm in plan.arms}
    taken: list[Record] = []
    while not (held := standing(plan, scores)).finished:
        due = [r for r in runs if r.seed <= held.needed[r.arm] and r.seed not in scores[r.arm]]
        for record in due:
            scores[record.arm][record.seed] = record.scores["test_accuracy"]
        taken += due
    return made.with_records([r for r in made.records if r.stage != "confirm"] + taken)


def _nudged(record: Record) -> dict[str, float]:
    return dict(record.scores) | {"test_accuracy": record.scores["test_accuracy"] - 0.1 * (record.seed % 3)}


def answers(plan: Any, records: list[Record]) -> dict[str, Any]:
    verdict = judge(plan, records)
    assert json.loads(canonical_json(verdict).encode()) == verdict
    assert bool(verdict["problems"]) == (verdict["verdict"] == "invalid")
    return verdict


def test_the_untouched_sequential_study_is_supported(looked):
    verdict = answers(looked.plan, looked.records)
    assert (verdict["verdict"], verdict["problems"]) == ("supported", [])


@QUICK
@given(data=st.data())
def test_any_json_in_a_design_a_baseline_or_an_opponent(looked, data):
    plan = looked.plan
    huge = st.one_of(JSON, st.integers(), st.sampled_from([10**400, -(10**400), 1e308]))
    wild = st.one_of(huge, st.lists(huge, max_size=30))
    match data.draw(st.sampled_from(["design", "baselines", "against", "whole"])):
        case "design":
            plan = plan | {
                "design": plan["design"] | {data.draw(st.sampled_from(sorted(plan["design"]))): data.draw(wild)}
            }
        case "baselines":
            (arm,) = plan["baselines"]
            plan = plan | {"baselines": [arm | {data.draw(st.sampled_from(sorted(arm))): data.draw(wild)}]}
        case "against":
            first, second = plan["candidates"]
            plan = plan | {"candidates": [first, second | {"against": data.draw(wild)}]}
        case _:
            plan = plan | {data.draw(st.sampled_from(["design", "baselines", "stopping"])): data.draw(wild)}
    if plan != looked.plan:
        assert answers(plan, looked.records)["verdict"] == "invalid"
    plan = reseal(plan)
    answers(plan, [replace(r, plan_sha256=plan["plan_sha256"]) if r.stage == "confirm" else r for r in looked.records])


@QUICK
@given(data=st.data())
def test_no_choice_of_the_runs_of_a_sequential_study_is_valid_but_all_of_them(looked, data):
    """A run left out, repeated, or moved before its look: each is an invalid verdict, none a better one."""
    confirm = looked.confirm
    match data.draw(st.sampled_from(["leave out", "repeat", "move"])):
        case "leave out":
            gone = data.draw(st.sets(st.integers(0, len(confirm) - 1), min_size=1))
            runs = [record for index, record in enumerate(confirm) if index not in gone]
        case "repeat":
            runs = [*confirm, data.draw(st.sampled_from(confirm))]
        case _:
            # The last run of the first look, after one of the second.
            first = [index for index, record in enumerate(confirm) if record.seed <= SEQUENTIAL.looks[0]][-1]
            later = data.draw(st.integers(first + 1, len(confirm) - 1))
            runs = [*confirm[:first], *confirm[first + 1 : later + 1], confirm[first], *confirm[later + 1 :]]
    assert answers(looked.plan, runs)["verdict"] == "invalid"
