"""Who may begin the next trial on a cluster that several studies share: the real code, over thousands of turns."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.load.many_users_shares import even
from tests.runners.ray.shared_cluster import SharedCluster, Study
from tune_bn.runners.ray.share import SILENT_SECONDS, TURN_SECONDS, UNKNOWN_SECONDS, Turns

ONE = {"CPU": 1.0}


def at_work(monkeypatch: pytest.MonkeyPatch, cores: int | Callable[[float], int], *studies: Study) -> SharedCluster:
    """They work for an hour."""
    cluster = SharedCluster(monkeypatch, cores, studies)
    cluster.work(3600)
    return cluster


def uneven(*studies: Study) -> dict[str, float]:
    """Those that had not what is even, within a tenth."""
    return {study.name: study.ratio for study in studies if not 0.9 <= study.ratio <= 1.1}


@pytest.mark.parametrize("cores", [1, 8])
@pytest.mark.parametrize(
    "seconds",
    [(5, 5, 5), (1, 2, 4, 8), (25, 19, 21, 20), ((1, 100), 3, 30), (7, 7, 7, 7, 100)],
    ids=str,
)
def test_shares_are_even_however_long_the_runs_are(
    seconds: tuple[float, ...], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies = [Study(str(number), length) for number, length in enumerate(seconds)]
    at_work(monkeypatch, cores, *studies)
    assert uneven(*studies) == {}
    assert sum(study.held for study in studies) > 0.95 * 3600 * cores, "nothing lies idle"


def test_a_user_with_ten_studies_has_as_much_as_one_with_a_single_study(monkeypatch: pytest.MonkeyPatch) -> None:
    studies = Study("one", 5, "ada"), *(Study(str(number), 7, "ben") for number in range(10))
    at_work(monkeypatch, 4, *studies)
    assert uneven(*studies) == {}
    one, *ten = studies
    assert one.held == pytest.approx(sum(study.held for study in ten), rel=0.05)


def test_what_a_user_cannot_use_is_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    studies = Study("one", 5, "ada", most=2), Study("two", 7, "ben"), Study("three", 9, "cleo"), Study("4", 9, "cleo")
    at_work(monkeypatch, 8, *studies)
    assert uneven(*studies) == {}
    assert [round(study.even / 3600, 1) for study in studies] == [2.0, 3.0, 1.5, 1.5]


@pytest.mark.parametrize(
    "studies",
    [
        (Study("a", 5), Study("b", 30, cpu=4), Study("c", 7)),
        (Study("a", 5, most=6), Study("b", 30, cpu=3), Study("c", 7, cpu=2), Study("d", 60, "ben", cpu=4)),
        (Study("a", 1), Study("b", 25, cpu=8)),
    ],
    ids=["a large one", "of all sizes", "all at once"],
)
def test_cores_are_shared_whatever_a_run_takes_of_them(
    studies: tuple[Study, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work(monkeypatch, 8, *studies)
    # What becomes free lies idle until there is enough of it for who needs more: all lose as much by it.
    had = sum(study.held for study in studies) / sum(study.even for study in studies)
    assert had > 0.5
    assert {study.name for study in studies if not 0.9 < study.ratio / had < 1.1} == set()


def test_studies_that_come_and_go_leave_the_others_even(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Study("a", 5), Study("b", 6), Study("c", 7, begins=900, dies=2700)
    short = [Study(f"d{number}", 5, "ben", begins=60 * number, runs=6, most=1) for number in range(40)]
    at_work(monkeypatch, 8, *long, *short)
    assert uneven(*long) == {}
    # A run that has begun runs to its end, so that who comes waits for the first that ends.
    waits = [study.first - study.begins for study in short if study.first is not None]
    assert len(waits) == 40
    assert max(waits) <= 15
    assert {study.name for study in short if study.over is None} == set()


def test_who_had_to_wait_for_long_runs_is_made_up_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = Study("early", 150), Study("late", 5, begins=20)
    at_work(monkeypatch, 8, early, late)
    assert uneven(early, late) == {}


def test_nobody_is_owed_for_time_in_which_more_was_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    few, others = Study("few", 5, most=1), [Study("a", 5), Study("b", 5)]
    cluster = at_work(monkeypatch, 8, few, *others)
    assert cluster.made == 1, "the account is kept"
    before = [study.held for study in (few, *others)]
    # After an hour it wants all that it can have.
    few.most = few.share.max_concurrent = None
    cluster.work(600)
    had = [(study.held - earlier) / 600 for study, earlier in zip((few, *others), before, strict=True)]
    assert had == [pytest.approx(8 / 3, rel=0.05)] * 3


def test_a_cluster_that_grows_and_shrinks_is_shared_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    studies = [Study(name, length) for name, length in zip("abcd", (2, 5, 10, 30), strict=True)]
    at_work(monkeypatch, lambda now: 8 if now // 200 % 2 else 5, *studies)
    assert uneven(*studies) == {}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_within_a_turn_a_worker_stays_warm_and_no_longer() -> None:
    clock = Clock()
    turns, present = Turns(clock), {"a", "b"}
    for name in "ab":
        turns.hear(name, name, ONE, 0)

    def asked(holds: int = 0) -> list[bool]:
        return [turns.may_begin(name, name, ONE, holds, ONE, present) for name in "ab"]

    assert asked() == [True, False]
    clock.now = TURN_SECONDS - 1
    assert asked() == [True, False]
    clock.now = TURN_SECONDS
    assert asked() == [False, True]


def test_a_study_keeps_its_turn_while_nobody_else_wants_it() -> None:
    clock = Clock()
    turns, present = Turns(clock), {"a", "b"}
    turns.hear("b", "", ONE, 0)
    for _ in range(3):
        assert turns.may_begin("a", "", ONE, 0, ONE, present)
        clock.now += 2 * TURN_SECONDS
    assert not turns.may_begin("b", "", ONE, 0, ONE, present)
    turns.tell("b", "", ONE, 0)
    assert turns.may_begin("a", "", ONE, 0, ONE, present)
    turns.tell("a", "", ONE, 0)
    assert turns.may_begin("b", "", ONE, 0, ONE, present)


def test_a_study_that_died_neither_holds_nor_waits_for_ever() -> None:
    clock = Clock()
    turns = Turns(clock)
    for name in "abc":
        turns.hear(name, "", ONE, 0)
    assert [turns.may_begin(name, "", ONE, 0, ONE, {"a", "b", "c"}) for name in "abc"] == [True, False, False]
    assert not turns.may_begin("c", "", ONE, 0, ONE, {"c"}), "a may only not be seen yet"
    clock.now = SILENT_SECONDS + 1
    assert turns.may_begin("c", "", ONE, 0, ONE, {"c"})


def test_nothing_is_given_away_before_it_is_known_who_holds_what() -> None:
    clock = Clock()
    turns, capacity = Turns(clock), {"CPU": 2.0}
    # As after the study that made the actor has gone, or where one was alone until now.
    assert not turns.may_begin("b", "", ONE, 0, capacity, {"a", "b"})
    turns.hear("a", "", ONE, 2)
    assert not turns.may_begin("b", "", ONE, 0, capacity, {"a", "b"})
    assert turns.may_begin("b", "", ONE, 0, {"CPU": 3.0}, {"a", "b"})
    turns.forget("a")
    turns.tell("b", "", ONE, 0)
    assert not turns.may_begin("b", "", ONE, 0, capacity, {"a", "b"})
    # One that never says so, since it is between two stages or stands still.
    clock.now += UNKNOWN_SECONDS
    assert turns.may_begin("b", "", ONE, 0, capacity, {"a", "b"})


def test_who_needs_a_gpu_is_in_nobodys_way_who_needs_none() -> None:
    turns, capacity = Turns(Clock()), {"CPU": 8.0, "GPU": 1.0}
    on_gpu, present = {"CPU": 1.0, "GPU": 1.0}, {"a", "b", "c"}
    for name in present:
        turns.hear(name, "", ONE if name == "c" else on_gpu, 0)
    assert turns.may_begin("a", "", on_gpu, 0, capacity, present)
    assert not turns.may_begin("b", "", on_gpu, 0, capacity, present)
    assert [turns.may_begin("c", "", ONE, holds, capacity, present) for holds in range(7)] == [True] * 6 + [False]


def test_even_is_what_nobody_can_complain_of() -> None:
    assert even(8, {"a": 9, "b": 9, "c": 9}) == dict.fromkeys("abc", pytest.approx(8 / 3))
    assert even(8, {"a": 1, "b": 9, "c": 9}) == {"a": 1, "b": 3.5, "c": 3.5}
    assert even(8, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
