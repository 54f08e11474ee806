"""Runs that are really trained, by each runner: equal to the run alone, bit for bit, whatever happens on the way."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from ray.tune.experiment import Trial

from tests.study.workers import task_worker
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.errors import RunnerError
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Runner, RunResult, SchedulerConfig, Task
from tune_bn.records.record import COMPLETED, DIVERGED
from tune_bn.runners.local import LocalRunner
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.runners.worker import WorkerOptions
from tune_bn.testing.tasks import Events, Tasks
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import train

DATA = DataConfig(source="digits", train_size=60, val_size=40, test_size=40)
CONFIG = RunConfig(ModelConfig(arch="resnet8", gamma=0.2), DATA, TrainConfig(epochs=3, batch_size=32, c=100))

MakeRunner = Callable[..., Runner]


def task(
    trial: int, *seeds: int, config: RunConfig = CONFIG, test_metric: str | None = None, may_stop: bool = True
) -> Task:
    overrides = {"gamma": config.model.gamma}
    return Task("search", "candidate", trial, overrides, config, seeds or (1,), test_metric, may_stop)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DATA)


@pytest.fixture(scope="module")
def cluster(warm_ray: None) -> Iterator[None]:
    # Workers inherit this: the same number of threads everywhere, or float sums differ in their last bits.
    torch.set_num_threads(1)
    connect(RayOptions(init={"num_cpus": 2}))
    yield
    ray.shutdown()


@pytest.fixture(params=["local", "ray"])
def make_runner(request: pytest.FixtureRequest, dataset: Dataset, cluster: None) -> Iterator[MakeRunner]:
    made: list[RayTuneRunner] = []

    def make(
        checkpoints: Path | None = None,
        checkpoint_seconds: float = 60.0,
        max_failures: int = 0,
        warn: Callable[[str], None] | None = None,
    ) -> Runner:
        settings = {"max_failures": max_failures, "checkpoint_seconds": checkpoint_seconds}
        if request.param == "local":
            return LocalRunner(BuiltinTrainer(dataset), checkpoints=checkpoints, warn=warn, **settings)
        made.append(RayTuneRunner(BuiltinTrainer(dataset), RayOptions(**settings), checkpoints, warn=warn))
        return made[-1]

    yield make
    # The next test's runner is another, on the same two cores.
    for runner in made:
        runner.end_workers()


def alone(dataset: Dataset, a_task: Task, seed: int) -> RunResult:
    """The same run without any runner."""
    data = DeviceData(dataset, torch.device("cpu"))
    return train(a_task.config, data, seed, test_metric=a_task.test_metric)


def test_every_task_comes_back_once_with_the_result_of_a_run_alone(make_runner: MakeRunner, dataset: Dataset) -> None:
    tasks = [task(0, 1), task(1, 2, 3), task(2, 4, config=replace(CONFIG, model=ModelConfig(arch="resnet8")))]
    feed, events = Tasks(*tasks), Events()
    make_runner().run(feed, events)
    assert set(feed.results) == {t.key for t in tasks}
    assert sorted(events.started) == sorted(t.key for t in tasks)
    for a_task in tasks:
        assert [result.seed for result in feed.results[a_task.key]] == list(a_task.seeds)
        for result in feed.results[a_task.key]:
            expected = alone(dataset, a_task, result.seed)
            assert result.status == COMPLETED
            assert result.scores == expected.scores
            assert result.curve == expected.curve
            assert tuple(events.points[a_task.key, result.seed]) == expected.curve
            assert result.attempts == 1


@pytest.mark.parametrize("metric", ["test_accuracy", "final_test_accuracy"])
def test_the_test_images_are_read_where_a_task_asks_for_it(
    make_runner: MakeRunner, dataset: Dataset, metric: str
) -> None:
    a_task = task(0, 1, test_metric=metric)
    feed = Tasks(a_task)
    make_runner().run(feed, Events())
    (result,) = feed.results[a_task.key]
    assert result.scores == alone(dataset, a_task, 1).scores
    assert metric in result.scores


def test_diagnostics_come_where_a_task_asks_for_them_and_change_nothing(
    make_runner: MakeRunner, dataset: Dataset
) -> None:
    plain = task(0, 1, 2, test_metric="test_accuracy")
    asked = replace(plain, trial=1, inspect=True)
    feed = Tasks(plain, asked)
    make_runner().run(feed, Events())
    for without, result in zip(feed.results[plain.key], feed.results[asked.key], strict=True):
        assert (result.status, result.scores, result.curve) == (without.status, without.scores, without.curve)
        assert result.scores == alone(dataset, asked, result.seed).scores
        assert without.diagnostics is None
        found = result.diagnostics
        assert found is not None
        assert (found.seed, found.epoch, found.images, found.gradient_images) == (result.seed, 3, 60, 32)
        assert len(found.layers) == 7
        for layer in found.layers:
            assert layer.gamma.initial == pytest.approx(0.2)
            assert layer.gamma.drift != 0


def test_a_diverged_run_keeps_its_outcome_where_nothing_can_be_seen_inside(make_runner: MakeRunner) -> None:
    wild = replace(CONFIG, train=replace(CONFIG.train, lr=1e30))
    a_task = replace(task(0, 1, config=wild), inspect=True)
    feed = Tasks(a_task)
    make_runner().run(feed, Events())
    ((result,),) = feed.results.values()
    assert (result.status, result.scores["val_accuracy"]) == (DIVERGED, 10.0)
    assert result.epochs < CONFIG.train.epochs
    assert result.diagnostics is not None
    assert result.diagnostics.problem is not None
    assert "diverged" in result.diagnostics.problem


def test_a_retry_goes_on_from_the_checkpoint_and_ends_as_if_nothing_had_happened(
    make_runner: MakeRunner, dataset: Dataset, tmp_path: Path
) -> None:
    long = replace(CONFIG, train=replace(CONFIG.train, epochs=120))
    a_task = task(0, 1, 2, config=long)

    def break_once(_: Task) -> None:
        """Damage the run from outside: kill its process on Ray, raise in this process otherwise."""
        if broken.is_set():
            return
        broken.set()
        workers = ray_workers()
        if not workers or isinstance(runner, LocalRunner):
            raise OSError("a disk hiccup")
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    broken = threading.Event()
    runner = make_runner(tmp_path, checkpoint_seconds=1e-9, max_failures=2)
    feed, events = Tasks(a_task), Events(break_once)
    runner.run(feed, events)
    assert broken.is_set(), "the task ended before it could be broken"
    for result in feed.results[a_task.key]:
        expected = alone(dataset, a_task, result.seed)
        assert (result.status, result.attempts) == (COMPLETED, 2)
        assert result.curve == expected.curve
        assert result.scores == expected.scores


def ray_workers() -> list[int]:
    """Processes below this one that run a trainable."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat, command = (entry / "stat").read_text(), (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            names[int(entry.name)] = command
    mine = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= grown
    return [pid for pid in mine if b"Trainable" in names.get(pid, b"")]


@pytest.mark.parametrize("changed", ["configuration", "images"])
def test_a_checkpoint_of_another_task_by_the_same_name_is_not_taken_up(
    make_runner: MakeRunner, dataset: Dataset, tmp_path: Path, changed: str
) -> None:
    a_task = task(0, 1)
    others = {
        "configuration": (replace(CONFIG, model=ModelConfig(arch="resnet8", gamma=0.7)), dataset.sha256),
        "images": (CONFIG, "of other images"),
    }
    config, fingerprint = others[changed]
    stale = task_worker(
        replace(a_task, config=config),
        dataset,
        WorkerOptions(tmp_path, checkpoint_seconds=1e-9, report_seconds=1e-9),
        fingerprint=fingerprint,
    )
    stale.step()
    stale.close()
    assert (tmp_path / a_task.key).is_dir()
    feed = Tasks(a_task)
    make_runner(tmp_path).run(feed, Events())
    (result,) = feed.results[a_task.key]
    assert result.curve == alone(dataset, a_task, 1).curve


@pytest.mark.parametrize("name", [None, "median"])
def test_the_driver_does_not_keep_the_trials_of_a_long_stage(cluster: None, dataset: Dataset, name: str | None) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, epochs=1))
    alive: list[int] = []

    class Counting(Tasks):
        def finished(self, task: Task, results: Sequence[RunResult]) -> None:
            super().finished(task, results)
            if len(self.results) == 60:
                gc.collect()
                alive.append(sum(type(thing) is Trial for thing in gc.get_objects()))

    feed = Counting(*(task(trial, config=config) for trial in range(60)))
    scheduler = None if name is None else SchedulerConfig(name, grace=2, reduction=3, max_epochs=3)
    runner = RayTuneRunner(BuiltinTrainer(dataset), RayOptions())
    try:
        runner.run(feed, Events(), scheduler=scheduler)
    finally:
        runner.end_workers()
    assert {result.status for results in feed.results.values() for result in results} == {COMPLETED}
    assert 0 < alive[0] < 40, "Tune keeps every trial until the stage is over"


def test_more_than_the_cluster_has_is_refused_with_what_it_has(cluster: None) -> None:
    from tune_bn.runners.ray.start import _require_resources

    with pytest.raises(RunnerError, match=r"resources\.gpu: got 8 per trial, but this process may use 0 GPUs"):
        _require_resources(RayOptions(gpu=8))
    with pytest.raises(RunnerError, match=r"resources\.cpu: got 64 per trial, but this process may use 2 CPUs"):
        _require_resources(RayOptions(cpu=64, elastic=True))
    _require_resources(RayOptions(gpu=8, elastic=True, address="auto"))
