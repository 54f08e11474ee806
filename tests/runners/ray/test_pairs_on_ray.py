"""A cluster with two types of GPU: pairs stay together, and a type that goes away holds nobody up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import ray
from ray.cluster_utils import Cluster

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import RunResult, Task
from tune_bn.records.record import COMPLETED
from tune_bn.runners.ray import feed as ray_feed
from tune_bn.runners.ray import pair_placement
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig

DATA = DataConfig(source="digits", train_size=20, val_size=20, test_size=20)
CONFIG = RunConfig(ModelConfig(arch="resnet8"), DATA, TrainConfig(epochs=1, batch_size=20))
ARMS = ("baseline", "small")


class Feed:
    """Tasks, and what became of them; ``then`` is called when one comes back."""

    def __init__(self, *tasks: Task, then: Callable[[], None] = lambda: None) -> None:
        self.left = list(tasks)
        self.results: dict[str, RunResult] = {}
        self.then = then

    @property
    def exhausted(self) -> bool:
        return not self.left

    def spares(self, task: Task) -> bool:
        return False

    def next(self) -> Task | None:
        return self.left.pop(0) if self.left else None

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        assert task.key not in self.results, "a task came back twice"
        (self.results[task.key],) = results
        self.then()

    def types(self, seed: int) -> list[str]:
        return [self.results[f"confirm-{arm}-s{seed}"].environment["accelerator_type"] for arm in ARMS]


class Silent:
    """A listener."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def pair(seed: int, beside: str | None = None) -> list[Task]:
    return [Task("confirm", arm, None, {}, CONFIG, (seed,), pair=f"confirm-s{seed}", beside=beside) for arm in ARMS]


@pytest.fixture
def cluster(warm_ray: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(ray_feed, "LOOK_SECONDS", 0.1)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


def test_pairs_stay_together_and_a_type_that_goes_away_holds_nobody_up(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_placement, "PATIENCE_SECONDS", 1.0)
    cluster.add_node(num_cpus=2, num_gpus=2, resources={"accelerator_type:A100": 1})
    spot = cluster.add_node(num_cpus=1, num_gpus=1, resources={"accelerator_type:H100": 1})
    connect(RayOptions(address=cluster.address, gpu=1))
    told: list[str] = []
    runner = RayTuneRunner(
        BuiltinTrainer(load_dataset(DATA)), RayOptions(address=cluster.address, gpu=1), warn=told.append
    )
    try:
        feed = Feed(*(task for seed in range(1, 7) for task in pair(seed)))
        runner.run(feed, Silent())
        assert {result.status for result in feed.results.values()} == {COMPLETED}
        of_pair = [feed.types(seed) for seed in range(1, 7)]
        assert all(len(set(types)) == 1 for types in of_pair), of_pair
        assert {types[0] for types in of_pair} == {"A100", "H100"}
        assert told == []

        # The node is gone before the second stage begins, whose pair had a run there.
        cluster.remove_node(spot)
        feed = Feed(*pair(1, beside="H100"), *pair(2, beside="A100"))
        runner.run(feed, Silent())
        assert {result.status for result in feed.results.values()} == {COMPLETED}
        assert feed.types(1) == feed.types(2) == ["A100", "A100"]
        (line,) = told
        assert "another run of its pair ran on H100, which the cluster has no more" in line
    finally:
        runner.close()
