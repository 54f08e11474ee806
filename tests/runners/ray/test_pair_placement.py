"""Both runs of a pair on one type of device: who goes where, and that nobody waits for what does not come back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tune_bn.data.config import DataConfig
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Task
from tune_bn.runners.ray.feed import FeedCallback, FeedSearcher, Ledger, Pairs
from tune_bn.runners.ray.pair_placement import ELASTIC_PATIENCE_SECONDS, PATIENCE_SECONDS, PairPlacement
from tune_bn.runners.ray.trainable import KIND, placement
from tune_bn.training.config import RunConfig, TrainConfig

CONFIG = RunConfig(ModelConfig(arch="resnet8"), DataConfig(source="digits"), TrainConfig(epochs=1))
MIXED = {"A100": 2.0, "H100": 1.0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(arm: str, seed: int, beside: str | None = None) -> Task:
    return Task("confirm", arm, None, {}, CONFIG, (seed,), pair=f"confirm-s{seed}", beside=beside)


def test_both_runs_of_a_pair_get_one_type_and_types_get_pairs_by_their_number() -> None:
    pairs = PairPlacement()
    got = {}
    for seed in range(1, 7):
        for arm in ("baseline", "small", "large"):
            task = run(arm, seed)
            got[arm, seed] = pairs.type_for(task, MIXED)
            pairs.ended(task, got[arm, seed])
    of_pair = [got["baseline", seed] for seed in range(1, 7)]
    assert all(got[arm, seed] == of_pair[seed - 1] for arm, seed in got)
    assert sorted(of_pair, key=str) == ["A100"] * 4 + ["H100"] * 2


def test_a_new_pair_goes_where_devices_are_free() -> None:
    pairs = PairPlacement()
    placed = [pairs.type_for(run("baseline", seed), MIXED) for seed in (1, 2, 3)]
    assert sorted(map(str, placed)) == ["A100", "A100", "H100"]
    # The one on the H100 has ended, the others have not.
    pairs.ended(run("baseline", 1 + placed.index("H100")), "H100")
    assert pairs.type_for(run("baseline", 4), MIXED) == "H100"


def test_a_pair_of_which_a_run_is_recorded_goes_on_beside_it() -> None:
    assert PairPlacement().type_for(run("small", 1, beside="H100"), {"A100": 8.0, "H100": 1.0}) == "H100"


def test_where_a_run_really_was_decides_for_the_other() -> None:
    pairs = PairPlacement()
    first = run("baseline", 1)
    assert pairs.type_for(first, {"A100": 1.0}) is None, "one type needs no pin"
    pairs.ended(first, "A100")
    assert pairs.type_for(run("small", 1), {"A100": 1.0, "H100": 9.0}) == "A100", "another type joined meanwhile"


@pytest.mark.parametrize("types", [{}, {"A100": 4.0}])
def test_clusters_of_one_type_or_of_none_pin_nothing(types: dict[str, float]) -> None:
    assert PairPlacement().type_for(run("baseline", 1), types) is None


def test_tasks_without_a_pair_go_anywhere() -> None:
    task = Task("search", "candidate", 1, {}, CONFIG, (1,))
    assert PairPlacement().type_for(task, MIXED) is None


@pytest.mark.parametrize(("elastic", "patience"), [(False, PATIENCE_SECONDS), (True, ELASTIC_PATIENCE_SECONDS)])
def test_a_type_that_went_away_is_waited_for_and_then_given_up_with_a_word(elastic: bool, patience: float) -> None:
    clock, told = Clock(), []
    pairs = PairPlacement(elastic=elastic, warn=told.append, clock=clock)
    assert pairs.type_for(run("baseline", 1, beside="H100"), MIXED) == "H100"
    left = {"A100": 2.0}
    assert pairs.type_for(run("small", 1), left) == "H100", "it may come back"
    clock.now = patience - 1
    assert not pairs.given_up("H100", left)
    clock.now = patience
    assert pairs.given_up("H100", left)
    assert pairs.type_for(run("small", 1), left) is None, "on what is left"
    (line,) = told
    assert "confirm-small-s1: another run of its pair ran on H100, which the cluster has no more" in line
    assert pairs.type_for(run("large", 1), left) is None
    assert len(told) == 1


def test_a_type_that_came_back_is_as_it_was() -> None:
    clock = Clock()
    pairs = PairPlacement(clock=clock)
    assert not pairs.given_up("H100", {"A100": 1.0})
    clock.now = PATIENCE_SECONDS - 1
    assert not pairs.given_up("H100", MIXED)
    clock.now = 2 * PATIENCE_SECONDS
    assert not pairs.given_up("H100", {"A100": 1.0}), "it counts from when it was missed last"


def test_a_pinned_trial_asks_for_a_node_of_its_type() -> None:
    asked = placement({KIND: "A100"}, cpu=2, gpu=1)
    assert asked.bundles == [{"CPU": 2, "GPU": 1, "accelerator_type:A100": 0.001}]
    assert asked != placement({KIND: "H100"}, cpu=2, gpu=1)
    assert asked != placement({}, cpu=2, gpu=1)


class Feed:
    def __init__(self, *tasks: Task) -> None:
        self.left = list(tasks)

    @property
    def exhausted(self) -> bool:
        return not self.left

    def next(self) -> Task | None:
        return self.left.pop(0) if self.left else None


def test_trials_that_wait_for_a_type_in_vain_are_released() -> None:
    clock = Clock()
    pairs = Pairs(PairPlacement(clock=clock), gpu=1)
    pairs._types, pairs._looked_at = dict(MIXED), float("inf")
    ledger = Ledger()
    share: Any = SimpleNamespace(most=9, may_begin=lambda in_flight: True, tell=lambda in_flight: None)
    feed: Any = Feed(run("baseline", 1, beside="H100"), run("baseline", 2, beside="A100"))
    search = FeedSearcher(feed, ledger, share, lambda: None, pairs.kind_of)
    assert [search.suggest(name)[KIND] for name in "ab"] == ["H100", "A100"]
    listener: Any = SimpleNamespace(task_started=lambda task: None, task_killed=lambda task: None)
    warn: Any = None
    callback = FeedCallback(feed, listener, ledger, None, 0, warn, pairs)
    callback.on_trial_start(0, [], SimpleNamespace(trial_id="a"))
    del pairs._types["H100"]
    callback.on_step_begin(0, [])
    clock.now = PATIENCE_SECONDS
    callback.on_step_begin(1, [])
    assert not callback.released, "what runs there is Tune's to look after"
    callback.on_trial_recover(2, [], SimpleNamespace(trial_id="a"))
    callback.on_step_begin(3, [])
    clock.now += PATIENCE_SECONDS
    callback.on_step_begin(4, [])
    assert callback.released
    assert {task.seeds for task in ledger.tasks.values()} == {(1,), (2,)}, "none is lost"
