"""``plan.json`` as a dataclass: what is read is written again, number by number, so that its hash stays what it was."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.report.golden_studies import OLD, OLD_STUDIES, STUDIES
from tune_bn.analysis.plan import plan_from, plan_problem, read_plan, seal, sealed
from tune_bn.errors import RecordError
from tune_bn.records.files import canonical_json, write_json
from tune_bn.records.plan import Plan
from tune_bn.records.score import accuracy


@pytest.mark.parametrize("name", STUDIES)
def test_a_plan_of_any_kind_is_written_as_it_was_read(name: str, tmp_path: Path) -> None:
    content = STUDIES[name]().plan
    plan = plan_from(content)
    # Not equal alone: 1 and 1.0 have different hashes.
    assert canonical_json(plan.to_json()) == canonical_json(content)
    write_json(tmp_path / "plan.json", plan.to_json())
    write_json(tmp_path / "sealed.json", content)
    # As whoever seals writes it, to the byte.
    assert name == "edited" or (tmp_path / "plan.json").read_bytes() == (tmp_path / "sealed.json").read_bytes()
    assert read_plan(tmp_path / "plan.json") == plan
    assert (plan_problem(plan) is None) == (name != "edited")


@pytest.mark.parametrize("name", OLD_STUDIES)
def test_the_plans_of_earlier_versions_are_written_as_they_were(name: str, tmp_path: Path) -> None:
    path = OLD / name / "plan.json"
    plan = read_plan(path)
    write_json(tmp_path / "plan.json", plan.to_json())
    assert (tmp_path / "plan.json").read_bytes() == path.read_bytes()
    assert plan_problem(plan) is None
    assert not plan.states_score
    assert plan.score.validation == "val_accuracy"


def test_whole_and_broken_numbers_stay_what_they_are() -> None:
    content = STUDIES["noninferior"]().plan
    assert type(content["margin"]) is int
    whole, broken = (plan_from(seal(content | {"margin": margin})) for margin in (1, 1.0))
    assert [type(plan.to_json()["margin"]) for plan in (whole, broken)] == [int, float]
    assert whole.plan_sha256 != broken.plan_sha256
    assert plan_problem(whole) is plan_problem(broken) is None


def test_a_score_that_is_the_default_is_written_all_the_same() -> None:
    content = STUDIES["today"]().plan | {"metric": "test_accuracy", "score": accuracy().to_json()}
    del content["failed"]
    plan = plan_from(seal(content))
    assert plan.score == accuracy()
    assert plan.to_json()["score"] == accuracy().to_json()


def test_what_is_made_here_is_sealed_and_read_back(tmp_path: Path) -> None:
    plan = plan_from(STUDIES["today"]().plan)
    made = sealed(replace(plan, study="another", plan_sha256=""))
    assert made.plan_sha256 not in ("", plan.plan_sha256)
    assert plan_problem(made) is None
    write_json(tmp_path / "plan.json", made.to_json())
    assert read_plan(tmp_path / "plan.json") == made
    with pytest.raises(RecordError, match=r"^plan: alpha: got 0\.7; accepted: a number from 1e-8 to below 0\.5$"):
        sealed(replace(plan, alpha=0.7))


def test_no_key_of_the_file_is_without_a_field() -> None:
    plan = plan_from(STUDIES["today"]().plan)
    assert set(plan.to_json()) < set(asdict(plan)) == set(Plan.__dataclass_fields__)
