from __future__ import annotations

import json

import pytest

from tune_bn.analysis.plan import plan_problem, read_plan, seal
from tune_bn.errors import RecordError, StudyError
from tune_bn.records.files import sha256_of, write_json


def test_a_sealed_plan_is_read_back_as_it_is(synthetic_study, tmp_path):
    plan = synthetic_study().plan
    write_json(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json").to_json() == plan
    assert plan_problem(plan) is None
    assert plan["plan_sha256"] == sha256_of({key: value for key, value in plan.items() if key != "plan_sha256"})


def test_sealing_again_changes_nothing(synthetic_study):
    plan = synthetic_study().plan
    assert seal(plan) == plan


def test_what_json_turns_into_a_list_is_sealed_as_a_list(synthetic_study):
    plan = synthetic_study().plan
    assert seal(plan | {"seeds": tuple(plan["seeds"])}) == plan


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", 0.1),
        ("seeds", [1, 2, 3]),
        ("metric", "final_test_accuracy"),
        ("baseline", {"arm": "baseline", "trial": None, "config": {"gamma": 0.9, "c": 1.0}}),
        ("diverged", {"rule": "chance", "score": 0.0}),
    ],
)
def test_a_change_after_sealing_is_noticed(synthetic_study, key, value):
    problem = plan_problem(synthetic_study().plan | {key: value})
    assert problem is not None
    assert "changed after it was sealed" in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 4}, ["schema_version", "4", "accepted: 1 or 2 or 3"]),
        ({"schema_version": 3}, ["data: missing"]),
        ({"schema_version": 2}, ["data: missing"]),
        ({"schema_version": True}, ["schema_version", "True"]),
        ({"alpha": 0}, ["alpha", "from 1e-8 to below 0.5"]),
        ({"alpha": 1}, ["alpha", "from 1e-8 to below 0.5"]),
        ({"alpha": "0.05"}, ["alpha", "'0.05'"]),
        ({"alpha": float("nan")}, ["JSON"]),
        ({"seeds": [1, 2.5]}, ["seeds", "2.5", "integers"]),
        ({"seeds": [1, True]}, ["seeds", "True", "integers"]),
        ({"candidates": []}, ["candidates", "one or more"]),
        ({"candidates": [1]}, ["candidates", "objects"]),
        ({"direction": "minimize"}, ["direction", "'minimize'", "'maximize'"]),
        ({"test": "welch"}, ["test", "'welch'", "'paired_t_greater'"]),
        ({"correction": None}, ["correction", "'holm'"]),
        ({"used_seeds": [101]}, ["used_seeds", "object"]),
        ({"diverged": {"rule": "chance", "score": 101}}, ["diverged.score", "101", "percent"]),
        ({"diverged": {"rule": "chance"}}, ["diverged.score", "missing"]),
        ({"baseline": {"arm": "base", "trial": None, "config": {}}}, ["arm", "'base'", "'baseline'"]),
        ({"baseline": {"arm": "baseline", "trial": 1.5, "config": {}}}, ["baseline.trial", "1.5"]),
        ({"commit": 5}, ["commit", "text or null"]),
        ({"colour": "blue"}, ["colour", "unknown"]),
    ],
)
def test_a_plan_of_another_shape_is_refused_with_key_value_and_what_is_accepted(synthetic_study, changes, words):
    with pytest.raises(RecordError) as caught:
        seal(synthetic_study().plan | changes)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in [*words, "accepted"])


def test_two_arms_of_one_name_are_refused(synthetic_study):
    plan = synthetic_study(candidates=2).plan
    with pytest.raises(RecordError, match="name of its own"):
        seal(plan | {"candidates": [plan["candidates"][0]] * 2})


def test_a_baseline_may_have_been_selected(synthetic_study):
    plan = synthetic_study().plan
    tuned = plan["baseline"] | {"trial": 3, "selection": {"val_accuracy_mean": 96.4, "n": 3}}
    assert seal(plan | {"baseline": tuned})["baseline"] == tuned
    with pytest.raises(RecordError, match=r"baseline\.selection"):
        seal(plan | {"baseline": tuned | {"selection": 96.4}})


def test_a_missing_key_is_named(synthetic_study):
    plan = synthetic_study().plan
    del plan["metric"]
    with pytest.raises(RecordError, match="metric: missing"):
        seal(plan)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"alpha": NaN}', "[" * 100_000])
def test_a_file_that_is_no_plan_is_refused_with_its_path(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"plan\.json"):
        read_plan(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "plan.json").write_bytes(b'{"study": "\xff\xfe"}')
    with pytest.raises(RecordError, match="cannot be read"):
        read_plan(tmp_path / "plan.json")


def test_a_missing_plan_is_no_broken_plan(tmp_path):
    with pytest.raises(StudyError, match=r"plan\.json: missing"):
        read_plan(tmp_path / "plan.json")


def test_reading_does_not_judge_the_hash(synthetic_study, tmp_path):
    plan = synthetic_study().plan | {"alpha": 0.2}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert read_plan(tmp_path / "plan.json").alpha == 0.2
