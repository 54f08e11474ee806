"""The load test of many users: its plan, its oracle and its measure of shares. The load itself is `make soak`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.load.many_users import tables_of
from benchmarks.load.many_users_oracle import undisturbed
from benchmarks.load.many_users_plan import (
    CANCEL,
    CLAIM_SHAPE,
    COST,
    FOLLOWER,
    INTERRUPT,
    JOB_ACTS,
    KILL,
    LIMIT,
    LONG_SHAPE,
    SEARCH_SHAPE,
    SHELL_ACTS,
    STOP,
    TERM,
    USERS,
    Act,
    Left,
    Step,
    StudyPlan,
    faults_of,
    make_plan,
    runs_left,
    space_of,
)
from benchmarks.load.many_users_shares import shares, use, user_of
from tune_bn.records.record import FAILED, Record
from tune_bn.space.loading import parse_space

PLAN = StudyPlan("ada", "s01", 7, CLAIM_SHAPE, "quick", 0.0, False, (), False)
WELL = Step("", 0, "finished", "", 0.0)


@pytest.fixture(scope="module")
def alone() -> list[Record]:
    return undisturbed(PLAN)


def left(alone: list[Record], **changes: Any) -> Left:
    return replace(Left(PLAN, (WELL,), tuple(alone), True, False, ()), **changes)


def test_a_plan_is_made_again_from_its_seed_and_has_all_that_can_happen() -> None:
    plan = make_plan(1, 30, 20)
    assert plan == make_plan(1, 30, 20)
    assert plan != make_plan(2, 30, 20)
    assert Counter(study.user for study in plan.studies) == dict.fromkeys(USERS, 10)
    assert len({study.words for study in plan.studies}) == 30
    # The names of one user's studies are those of another's.
    assert len({study.name for study in plan.studies}) == 10
    assert [study.shape for study in plan.studies].count(LONG_SHAPE) == 3
    assert all(study.acts for study in plan.studies if study.left)
    assert {study.told for study in plan.studies} == {"finished", "stopped", "limit"}
    many = [study for seed in range(20) for study in make_plan(seed, 30, 20).studies]
    for as_job, acts in ((True, JOB_ACTS), (False, SHELL_ACTS)):
        assert {act.kind for study in many if study.as_job == as_job for act in study.acts} == set(acts)
    assert all(0 < event.at < 20 * 60 for event in plan.events)


@pytest.mark.parametrize("shape", [SEARCH_SHAPE, CLAIM_SHAPE, LONG_SHAPE])
def test_every_study_of_it_is_a_sound_one_of_its_own(shape: str) -> None:
    spaces = [parse_space(space_of(replace(PLAN, shape=shape, number=number)), "x") for number in range(30)]
    assert len({space.sha256 for space in spaces}) == 30


def test_a_study_as_it_was_told_has_no_fault(alone: list[Record]) -> None:
    assert len(alone) == 6
    assert faults_of(left(alone), alone) == []
    # Runs that raised or were lost on the way are no second result.
    stopped = replace(PLAN, acts=(Act(STOP, 1, 0.0),), left=True)
    step = Step(STOP, 130, "stopped", "tune_bn stop asked for it", 2.0)
    assert faults_of(left(alone, plan=stopped, steps=(step,), records=tuple(alone[:2]), has_verdict=False), alone) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda records: {"records": records[1:]}, "lost: "),
        (lambda records: {"records": (*records, records[0])}, "doubled: "),
        (lambda records: {"records": (replace(records[0], scores={"val_accuracy": 1.0}), *records[1:])}, "differs: "),
        (lambda records: {"records": (replace(records[0], seed=99), *records)}, "more than the undisturbed study: "),
        (lambda records: {"records": (replace(records[0], status=FAILED, reason="it died"), *records)}, "failed: "),
        (lambda records: {"has_verdict": False}, "has no verdict"),
        (lambda records: {"locked": True}, "is still locked"),
        (lambda records: {"files": ("stop",)}, "left behind: stop"),
        (lambda records: {"steps": (replace(WELL, exit_code=2, said="error"),)}, "finished with exit code 2: error"),
        (lambda records: {"steps": (replace(WELL, exit_code=None), WELL)}, "undisturbed: its driver did not end"),
    ],
)
def test_the_oracle_sees_every_fault(alone: list[Record], change: Any, fault: str) -> None:
    found = faults_of(left(alone, **change(tuple(alone))), alone)
    assert [line for line in found if line.startswith(fault)] != []
    assert len(found) == 1


@pytest.mark.parametrize(
    ("step", "right"),
    [
        (Step(STOP, 130, "stopped", "tune_bn stop asked for it", 1.0), True),
        (Step(STOP, 130, "working", "", 1.0), False),
        (Step(STOP, 1, "failed", "", 1.0), False),
        (Step(TERM, -15, "", "", 1.0), True),
        (Step(TERM, -15, "working", "", 1.0), False),
        (Step(INTERRUPT, 130, "stopped", "", 1.0), True),
        (Step(INTERRUPT, 1, "lost", "", 1.0), False),
        (Step(KILL, -9, "working", "", 1.0), True),
        (Step(LIMIT, 130, "stopped", "budget.total_hours = 0.1 is used up", 1.0), True),
        (Step(LIMIT, 0, "finished", "", 1.0), True),
        (Step(LIMIT, 130, "stopped", "tune_bn stop asked for it", 1.0), False),
        (Step(COST, 130, "stopped", "budget.cost = 3 is used up: 0.1 device-hours", 1.0), True),
        (Step(COST, 0, "stopped", "budget.cost = 3 is used up", 1.0), False),
        (Step(CANCEL, 130, "stopped", "", 1.0), True),
        (Step(CANCEL, 1, "working", "", 1.0), False),
        (Step(CANCEL, 0, "resumed", "s01: goes on", 1.0), False),
        (Step(FOLLOWER, 0, "finished", "", 1.0), True),
        (Step("", 1, "failed", "", 1.0), False),
    ],
)
def test_how_a_driver_must_end_depends_on_what_happened_to_it(alone: list[Record], step: Step, right: bool) -> None:
    faults = faults_of(left(alone, steps=(step, WELL)), alone)
    assert (faults == []) is right


def samples(*rows: tuple[dict[str, int], dict[str, int]]) -> list[dict[str, Any]]:
    """One a second."""
    return [{"at": float(at), "capacity": 8, "held": held, "wants": wants} for at, (held, wants) in enumerate(rows)]


def test_shares_are_of_users_first_and_then_of_their_studies_while_there_is_too_little() -> None:
    busy = ({"ada/a": 3, "ben/b": 1, "ben/c": 1, "cleo/d": 3}, {"ada/a": 8, "ben/b": 1, "ben/c": 9, "cleo/d": 8})
    enough = ({"ada/a": 7, "ben/b": 1}, {"ada/a": 7, "ben/b": 1})
    found = {share.name: share for share in shares(samples(*[busy] * 150, *[enough] * 100, busy))}
    assert {name: (share.held / 150, share.even / 150) for name, share in found.items()} == {
        "ada/a": (3, pytest.approx(8 / 3)),
        # One that has all that it can use is counted with it.
        "ben/b": (1, pytest.approx(1)),
        "ben/c": (1, pytest.approx(8 / 3 - 1)),
        "cleo/d": (3, pytest.approx(8 / 3)),
    }
    assert {name for name, share in found.items() if not share.is_even} == {"ada/a", "ben/c", "cleo/d"}
    ada, ben, _ = shares(samples(*[busy] * 151), user_of)
    assert (ada.ratio, ben.ratio) == (pytest.approx(9 / 8), pytest.approx(6 / 8))
    assert [share.compared for share in shares(samples(*[busy] * 100))] == [True, False, True, True]
    assert use(samples(*[busy] * 3)) == 1.0
    assert use(samples(enough, ({}, {}), ({"ada/a": 4}, {"ada/a": 9}))) == 0.5


def test_a_study_could_use_no_more_slots_than_its_stage_has_runs_left() -> None:
    search, claim, long = (replace(PLAN, shape=shape) for shape in (SEARCH_SHAPE, CLAIM_SHAPE, LONG_SHAPE))
    assert [runs_left(search, records) for records in range(10)] == [2, 1, 1, 6, 5, 4, 3, 2, 1, 0]
    assert [runs_left(claim, records) for records in (0, 5, 6, 7)] == [6, 1, 0, 0]
    assert runs_left(long, 400) == 80


def test_the_tables_say_what_is_wrong_and_only_an_even_share_without_fault_is_well() -> None:
    even = samples(*[({"ada/a": 4, "ben/b": 4}, {"ada/a": 8, "ben/b": 8})] * 200)
    study = {
        "study": "ada/a",
        "shape": "claim",
        "pace": "quick",
        "how": "job",
        "told": "finished",
        "records": 6,
        "steps": [{"act": "", "exit_code": 0, "state": "finished"}],
        "wrong": [],
    }
    outcome: dict[str, Any] = {"seconds": 9.0, "events": {"node killed": 2}, "samples": even, "left": []}
    options = {"seed": 1, "studies": 1, "minutes": 20}
    tables, well = tables_of({**outcome, "studies": [study]}, options)
    assert well
    assert "| node killed | 2 |" in "".join(tables.values())
    for changed in (
        {"studies": [{**study, "wrong": ["lost: confirm-a-1"]}]},
        {"studies": [study], "left": ["process ray::x"]},
        {"studies": [study], "samples": samples(*[({"ada/a": 5, "ben/b": 3}, {"ada/a": 8, "ben/b": 8})] * 200)},
    ):
        assert not tables_of({**outcome, **changed}, options)[1]
    assert (
        "lost: confirm-a-1"
        in tables_of({**outcome, "studies": [{**study, "wrong": ["lost: confirm-a-1"]}]}, options)[0]["What is wrong."]
    )
