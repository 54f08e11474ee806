"""Whatever is fed to ``judge``, it answers; and it never says "supported" where a rule is broken."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tune_bn.analysis.verdict import judge
from tune_bn.records import Record, canonical_json, sha256_of

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


@QUICK
@given(data=st.data())
def test_any_records_at_all(study, data):
    made = st.builds(
        Record,
        **{name: TYPED.get(name, JSON) for name in FIELDS} | {"plan_sha256": st.just(study.plan["plan_sha256"])},
    )
    records = data.draw(st.lists(made, max_size=6))
    assert check(study.plan, records)["verdict"] == "invalid"
