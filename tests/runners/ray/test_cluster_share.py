"""Studies that share a cluster: how many trials each may have in flight, and what becomes of a warm worker."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.tune.search import Searcher

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import RunResult, SchedulerConfig, Task
from tune_bn.runners.ray import share as cluster_share
from tune_bn.runners.ray.feed import FeedSearcher, Ledger
from tune_bn.runners.ray.runner import RayOptions, RayTuneRunner, connect
from tune_bn.runners.ray.share import ClusterShare, divided
from tune_bn.runners.ray.trainable import ALONE, FRESH, PLACE, SHARED, TASK, placement
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig

DATA = DataConfig(source="digits", train_size=20, val_size=20, test_size=20)
CONFIG = RunConfig(ModelConfig(arch="resnet8"), DATA, TrainConfig(epochs=1, batch_size=20))


def a_task(trial: int) -> Task:
    return Task("search", "candidate", trial, {}, CONFIG, (1,))


@pytest.mark.parametrize(
    ("fits", "studies", "limit", "elastic", "own", "most", "crowded"),
    [
        (4, 1, None, False, 4, 4, False),
        (4, 1, 9, False, 9, 9, False),
        (4, 2, None, False, 2, 2, False),
        # The fifth goes round.
        (5, 2, None, False, 2, 3, False),
        (8, 3, None, False, 2, 3, False),
        (5, 2, 2, False, 2, 2, False),
        (5, 2, 9, False, 2, 3, False),
        (1, 2, None, False, 0, 1, True),
        (2, 3, 2, False, 0, 1, True),
        # As it is, the cluster has nothing: it grows when trials wait.
        (1, 1, 8, True, 8, 8, False),
        (1, 2, 8, True, 4, 4, False),
        (16, 2, 8, True, 8, 8, False),
    ],
)
def test_a_study_takes_no_more_than_its_share(
    fits: int, studies: int, limit: int | None, elastic: bool, own: int, most: int, crowded: bool
) -> None:
    share = ClusterShare(cpu=1, gpu=0, max_concurrent=limit, elastic=elastic)
    # It has just looked.
    share._looked_at, share._fits, share._present = math.inf, fits, frozenset(map(str, range(studies)))
    assert (share.own, share.most, share.crowded) == (own, most, crowded)
    assert studies * own <= max(fits, limit or 0)


@pytest.mark.parametrize(
    ("slots", "limits", "own", "around"),
    [
        (8, [8, 8], 4, 0),
        (8, [8, 8, 8], 2, 2),
        # What the others will never need is left to those that do.
        (8, [1, 8], 7, 0),
        (8, [1, 1, 8, 8], 3, 0),
        (8, [2, 2, 8, 8, 8], 1, 3),
        (8, [1, 2, 8, 8, 8], 1, 3),
        (8, [3, 8, 8], 2, 2),
        (8, [1, 1, 1], 8, 0),
        (2, [1, 1, 2], 0, 2),
        (1, [1] * 9, 0, 1),
    ],
)
def test_the_cluster_is_divided_evenly_among_those_that_may_have_more(
    slots: int, limits: list[int], own: int, around: int
) -> None:
    assert divided(slots, limits) == (own, around)
    # All of it is somebody's, and nothing is two studies'.
    held = sum(min(own, limit) for limit in limits) + around
    assert held == min(slots, sum(limits))


def test_the_others_know_what_a_study_will_never_need() -> None:
    has = {"CPU": 32.0, "GPU": 8.0}
    small, wide, mine = (
        ClusterShare(cpu=4, gpu=0.5, max_concurrent=2),
        ClusterShare(cpu=12, gpu=1, max_concurrent=1),
        ClusterShare(cpu=4, gpu=1),
    )
    for share, fits in ((small, 8), (wide, 2), (mine, 8)):
        share._looked_at, share._fits, share._has = math.inf, fits, has
        share._present = frozenset({small._name, wide._name, mine._name})
    # A quarter of the cores and three eighths of them leave three eighths, in trials of its own.
    assert [mine._limit_of(share._name) for share in (small, wide, mine)] == [2, 3, 8]
    assert (mine.own, mine.most) == (3, 3)
    assert (small.own, small.most) == (2, 2)
    assert wide.most == 1


@pytest.mark.parametrize(
    ("gpu", "place", "bundle"),
    [
        (0, SHARED, {"CPU": 2}),
        (0.5, SHARED, {"CPU": 2, "GPU": 0.5}),
        (0.5, FRESH, {"CPU": 2, "GPU": 0.5}),
        (0.5, ALONE, {"CPU": 2, "GPU": 1}),
        (1, ALONE, {"CPU": 2, "GPU": 1}),
        (0, ALONE, {"CPU": 2}),
    ],
)
def test_a_trial_that_is_to_be_alone_asks_for_whole_gpus(gpu: float, place: str, bundle: dict[str, float]) -> None:
    made = placement({PLACE: place}, cpu=2, gpu=gpu)
    assert made.bundles == [bundle]


def test_tune_gives_no_warm_worker_to_a_trial_of_another_place() -> None:
    # Tune compares requests, and ones that are equal share workers.
    made = [placement({PLACE: place}, cpu=1, gpu=1) for place in (SHARED, FRESH, ALONE)]
    assert len(set(made)) == 3
    assert placement({}, cpu=1, gpu=1) == made[0]


class Endless:
    """A feed of tasks, up to so many."""

    def __init__(self, most: int) -> None:
        self.most, self.given = most, 0
        self.results: list[RunResult] = []

    @property
    def exhausted(self) -> bool:
        return self.given >= self.most

    def next(self) -> Task | None:
        if self.exhausted:
            return None
        self.given += 1
        return a_task(self.given)

    def spares(self, task: Task) -> bool:
        return False

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        self.results.extend(results)


def searcher(
    feed: Endless, *, most: int, own: int | None = None, turns: Sequence[bool] = ()
) -> tuple[FeedSearcher, Ledger, Any]:
    left = iter(turns)
    share = SimpleNamespace(most=most, own=most if own is None else own, my_turn=lambda: next(left, True), returned=0)
    share.give_back = lambda: vars(share).update(returned=share.returned + 1)
    ledger = Ledger()
    return FeedSearcher(feed, ledger, share, lambda: None), ledger, share  # type: ignore[arg-type, return-value]


def test_no_more_trials_are_begun_than_the_share_of_the_moment() -> None:
    search, ledger, share = searcher(Endless(9), most=2)
    assert [search.suggest(name) is not None for name in "abc"] == [True, True, False]
    share.own = share.most = 3
    assert search.suggest("c") is not None
    share.own = share.most = 1
    for name in "ab":
        del ledger.tasks[name]
        assert search.suggest("d") is None
    del ledger.tasks["c"]
    assert search.suggest("d") is not None


def test_the_search_ends_when_no_task_can_come_back() -> None:
    search, ledger, _ = searcher(Endless(1), most=2)
    search.suggest("a")
    assert search.suggest("b") is None
    ledger.again.append(ledger.tasks.pop("a"))
    assert search.suggest("b")[TASK] == a_task(1)
    del ledger.tasks["b"]
    assert search.suggest("c") == Searcher.FINISHED


def test_a_study_yields_between_two_trials_when_its_turn_is_over() -> None:
    search, ledger, _ = searcher(Endless(9), most=1, own=0, turns=[True, False])
    for name in "ab":
        assert search.suggest(name)[TASK].trial == ord(name) - ord("a") + 1
        assert search.suggest("c") is None, "one is in flight"
        del ledger.tasks[name]
    assert search.suggest("c") == Searcher.FINISHED
    assert (search.yielded, search.finished) == (True, False)


def test_a_slot_that_goes_round_is_used_in_a_turn_alone_and_given_back_where_there_is_nothing_to_begin() -> None:
    search, ledger, share = searcher(Endless(4), most=3, own=2, turns=[True, False, True])
    assert [search.suggest(name) is not None for name in "abc"] == [True, True, True], "the third in its turn"
    del ledger.tasks["c"]
    assert search.suggest("d") is None, "the turn is over, and nothing ends for it"
    assert not search.yielded
    del ledger.tasks["b"]
    assert search.suggest("d") is not None, "what is its own waits for nobody"
    assert share.returned == 0
    assert search.suggest("e") is None, "nothing is left"
    assert share.returned == 1


def test_nothing_new_is_begun_until_a_run_has_its_gpu_alone() -> None:
    search, ledger, _ = searcher(Endless(9), most=9)
    search.suggest("a")
    task = ledger.tasks.pop("a")
    ledger.again.append(task)
    ledger.alone.add(task.key)
    handed_out = search.suggest("b")
    assert (handed_out[TASK], handed_out[PLACE]) == (task, ALONE)
    assert search.suggest("c") is None
    ledger.making_room.discard("b")
    assert search.suggest("c")[PLACE] == SHARED


OTHER = """
import sys, ray
from ray.util import list_named_actors
from tune_bn.runners.ray.share import SILENT_SECONDS, ClusterShare, Turns
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
share = ClusterShare(cpu=1, gpu=0, shared=True)
ray.get(share._presence.__ray_ready__.remote())
print("here", flush=True)
sys.stdin.read()
"""


class Silent:
    """A listener."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(cluster_share, "LOOK_SECONDS", 0.05)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_a_study_takes_half_beside_another_and_all_once_that_is_gone(cluster: Cluster) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, cluster.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        connect(RayOptions(address=cluster.address))
        runner = RayTuneRunner(BuiltinTrainer(load_dataset(DATA)), RayOptions(address=cluster.address))
        in_flight: list[list[int]] = [[], []]

        class Growing(Endless):
            """Ends once two tasks were in flight; the other study dies after the fifth."""

            @property
            def exhausted(self) -> bool:
                return super().exhausted or 2 in in_flight[1]

            def next(self) -> Task | None:
                task = super().next()
                in_flight[len(self.results) >= 5].append(self.given - len(self.results))
                return task

            def finished(self, task: Task, results: Sequence[RunResult]) -> None:
                super().finished(task, results)
                if len(self.results) == 5:
                    other.kill()

        feed = Growing(500)
        runner.run(feed, Silent())
        assert in_flight[0] == [1] * 5
        assert max(in_flight[1]) == 2
        assert len(feed.results) == feed.given
        runner.close()
    finally:
        other.kill()
        other.communicate()


def test_a_search_in_several_turns_is_one_search(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(RayOptions(address=cluster.address, max_concurrent=1))
    data = replace(DATA, train_size=400, val_size=100)
    runner = RayTuneRunner(BuiltinTrainer(load_dataset(data)), RayOptions(address=cluster.address, max_concurrent=1))
    asked: list[bool] = []

    def my_turn() -> bool:
        # Granted where it is waited for, and over as soon as a trial has ended.
        asked.append(not (asked and asked[-1]))
        return asked[-1]

    monkeypatch.setattr(ClusterShare, "own", 0)
    runner.share.my_turn = my_turn  # type: ignore[method-assign]
    # Only what learns passes; without learning a trial is below the one of the first turn.
    learning = RunConfig(ModelConfig(arch="resnet8"), data, TrainConfig(epochs=4, batch_size=20, lr=0.05))
    hopeless = RunConfig(ModelConfig(arch="resnet8"), data, TrainConfig(epochs=4, batch_size=20, lr=1e-12))

    class Given(Endless):
        def next(self) -> Task | None:
            if (task := super().next()) is None:
                return None
            return Task(
                task.stage, task.arm, task.trial, {}, learning if self.given == 1 else hopeless, (1,), None, True
            )

    feed = Given(3)
    runner.run(feed, Silent(), scheduler=SchedulerConfig("asha", grace=3, reduction=2, max_epochs=4))
    assert [result.epochs for result in feed.results] == [4, 3, 3]
    assert asked == [True, False, True, False, True]
    runner.close()
