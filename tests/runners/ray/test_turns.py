"""Slots that go round: each study has them for as long as any other."""

from __future__ import annotations

import pytest

from tune_bn.runners.ray.share import SILENT_SECONDS, TURN_SECONDS, Turns


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def carried_out(slots: int, lengths: dict[str, float], seconds: float) -> dict[str, float]:
    """What each of some studies with trials of such lengths has of the slots; each asks as often as may be."""
    clock = Clock()
    turns, ends, had = Turns(clock), dict[str, float](), dict.fromkeys(lengths, 0.0)
    while clock.now < seconds:
        for name, length in lengths.items():
            if ends.get(name, 0.0) <= clock.now:
                ends.pop(name, None)
                if turns.may_begin(name, slots, lengths):
                    ends[name] = clock.now + length
        assert len(ends) <= slots
        passed = max(0.5, min(ends.values()) - clock.now) if len(ends) == slots else 0.5
        clock.now += passed
        for name in ends:
            had[name] += passed
    return had


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize(
    "lengths",
    [(1, 1, 1, 1), (1, 2, 4, 8), (1, 1, 60, 60), (2, 100, 3, 30), (25, 19, 21, 20), (7, 7, 7, 7, 7, 7, 300)],
)
def test_turns_are_even_in_time_however_long_the_trials_are(slots: int, lengths: tuple[float, ...]) -> None:
    names = dict(zip("abcdefg", lengths, strict=False))
    seconds = 150 * max(TURN_SECONDS, *lengths)
    had = carried_out(slots, names, seconds)
    even = slots * seconds / len(names)
    assert {name for name, got in had.items() if not 0.95 * even < got < 1.05 * even} == set()


def test_within_a_turn_a_worker_stays_warm_and_no_longer() -> None:
    clock = Clock()
    turns, present = Turns(clock), {"a", "b"}
    assert [turns.may_begin(name, 1, present) for name in "ab"] == [True, False]
    clock.now = TURN_SECONDS - 1
    assert [turns.may_begin(name, 1, present) for name in "ab"] == [True, False]
    clock.now = TURN_SECONDS
    assert [turns.may_begin(name, 1, present) for name in "ab"] == [False, True]


def test_who_comes_or_comes_back_neither_catches_up_nor_waits_for_others_to() -> None:
    clock = Clock()
    turns, names = Turns(clock), {"a", "b", "c"}
    for _ in range(200):
        clock.now += TURN_SECONDS
        for name in "ab":
            turns.may_begin(name, 1, names)
    got = []
    for _ in range(60):
        clock.now += TURN_SECONDS
        got += [name for name in "abc" if turns.may_begin(name, 1, names)]
    # A turn that ends when nobody may have it at once is another's at the next question.
    assert {name: got.count(name) for name in "abc"} == dict.fromkeys("abc", 15)


def test_a_study_keeps_its_turn_while_nobody_else_wants_it() -> None:
    clock = Clock()
    turns, present = Turns(clock), {"a", "b"}
    for _ in range(3):
        assert turns.may_begin("a", 1, present) is True
        clock.now += 2 * TURN_SECONDS
    assert turns.may_begin("b", 1, present) is False
    turns.give_back("b")
    assert turns.may_begin("a", 1, present) is True
    turns.give_back("a")
    assert turns.may_begin("b", 1, present) is True


def test_a_study_that_died_neither_holds_nor_waits_for_ever() -> None:
    clock = Clock()
    turns = Turns(clock)
    assert [turns.may_begin(name, 1, {"a", "b", "c"}) for name in "abc"] == [True, False, False]
    assert turns.may_begin("c", 1, {"c"}) is False, "a may only not be seen yet"
    clock.now = SILENT_SECONDS + 1
    assert turns.may_begin("c", 1, {"c"}) is True
