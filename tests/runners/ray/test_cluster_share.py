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

from tests.runners.ray.tasks import DATA, a_task
from tune_bn.data.dataset import load_dataset
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import RunResult, SchedulerConfig, Task
from tune_bn.runners.ray import share as cluster_share
from tune_bn.runners.ray import trainable
from tune_bn.runners.ray.feed import FeedSearcher, Ledger
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.share import ClusterShare
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.runners.ray.trainable import ALONE, FRESH, PLACE, SHARED, TASK, placement
from tune_bn.runners.worker import WorkerOptions
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig


@pytest.mark.parametrize(
    ("fits", "limit", "elastic", "most", "capacity"),
    [
        (4, None, False, 4, 4),
        # Alone, it may have some wait in Ray.
        (4, 9, False, 9, 4),
        (4, 2, False, 2, 4),
        # As it is, the cluster has nothing: it grows when trials wait.
        (1, 8, True, 8, 8),
        (16, 8, True, 8, 16),
    ],
)
def test_a_study_takes_what_it_may_have_of_a_cluster_as_it_can_be(
    fits: int, limit: int | None, elastic: bool, most: int, capacity: int
) -> None:
    share = ClusterShare(cpu=1, gpu=0, max_concurrent=limit, elastic=elastic)
    # It has just looked.
    share._looked_at, share._fits, share._has = math.inf, fits, {"CPU": fits}
    assert share.most == most
    assert share._capacity() == {"CPU": capacity, "GPU": 0}
    assert [holds for holds in range(20) if share.may_begin(holds)] == [*range(most)]


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


@pytest.mark.parametrize(("gpu", "place", "share"), [(0.25, SHARED, 0.25), (0.25, ALONE, 1.0), (2, SHARED, 1.0)])
def test_a_worker_knows_its_part_of_its_gpus(
    monkeypatch: pytest.MonkeyPatch, gpu: float, place: str, share: float
) -> None:
    context = SimpleNamespace(get_node_id=lambda: "one")
    for name, value in {"is_initialized": True, "get_gpu_ids": [0], "get_runtime_context": context}.items():
        monkeypatch.setattr(trainable.ray, name, lambda value=value: value)
    for name in ("accelerator_types", "DrainNotice"):
        monkeypatch.setattr(trainable, name, lambda *given: {})
    worker = trainable.TaskTrainable.__new__(trainable.TaskTrainable)
    trainer: Any = SimpleNamespace(open=lambda place: None)
    worker.setup({PLACE: place}, trainer=trainer, options=WorkerOptions(None), threads=1, gpu=gpu)
    assert (worker.place.gpus, worker.place.share) == (("0",), share)


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


def searcher(feed: Endless, *, most: int, turns: Sequence[bool] = ()) -> tuple[FeedSearcher, Ledger, Any]:
    left = iter(turns)
    share = SimpleNamespace(most=most, may_begin=lambda holds: next(left, True), told=[])
    share.tell = share.told.append
    ledger = Ledger()
    return FeedSearcher(feed, ledger, share, lambda: None), ledger, share  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("most", "seconds"), [(2, 1.0), (150, 1.0), (1500, 10.0)])
def test_where_many_runs_are_in_flight_each_reports_more_rarely(
    most: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _, _ = searcher(Endless(9), most=most)
    config = search.suggest("a")
    given: list[WorkerOptions] = []
    monkeypatch.setattr(trainable, "TaskWorker", lambda task, session, score, options: given.append(options))
    worker = trainable.TaskTrainable.__new__(trainable.TaskTrainable)
    worker.config, worker.worker, worker.notice, worker.options = config, None, None, WorkerOptions(None)
    worker.session = worker.trainer = SimpleNamespace(is_full=lambda error: False, score=None)
    with pytest.raises(AttributeError):
        worker.step()
    assert [options.report_seconds for options in given] == [seconds]


def test_no_more_trials_are_begun_than_the_share_of_the_moment() -> None:
    search, ledger, share = searcher(Endless(9), most=2)
    assert [search.suggest(name) is not None for name in "abc"] == [True, True, False]
    share.most = 3
    assert search.suggest("c") is not None
    share.most = 1
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
    search, ledger, _ = searcher(Endless(9), most=1, turns=[True, False])
    for name in "ab":
        assert search.suggest(name)[TASK].trial == ord(name) - ord("a") + 1
        assert search.suggest("c") is None, "one is in flight"
        del ledger.tasks[name]
    assert search.suggest("c") == Searcher.FINISHED
    assert (search.yielded, search.finished) == (True, False)


def test_a_turn_that_is_over_ends_nothing_that_is_at_work_and_is_given_back_where_there_is_nothing_to_begin() -> None:
    search, ledger, share = searcher(Endless(4), most=9, turns=[True, True, False, True])
    assert [search.suggest(name) is not None for name in "abc"] == [True, True, True]
    del ledger.tasks["c"]
    assert search.suggest("d") is None, "the turn is over"
    assert not search.yielded
    assert search.suggest("d") is not None
    assert share.told == []
    assert search.suggest("e") is None, "nothing is left"
    assert share.told == [3]


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
import sys, time, ray
from tune_bn.runners.ray.share import ClusterShare
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
share = ClusterShare(cpu=1, gpu=0, max_concurrent=1, shared=True)
share.await_turn()
ray.get(share._presence.__ray_ready__.remote())
print("here", flush=True)
while True:
    time.sleep(0.05)
    # It keeps the one that it has.
    share.may_begin(1)
"""


class Silent:
    """A listener."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def cluster(warm_ray: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
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

    def may_begin(holds: int) -> bool:
        # Granted where it is waited for, and over as soon as a trial has ended.
        asked.append(not (asked and asked[-1]))
        return asked[-1]

    runner.share.may_begin = may_begin  # type: ignore[method-assign]
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
