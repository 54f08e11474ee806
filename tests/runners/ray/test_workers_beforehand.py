"""The workers that Ray starts beforehand are those that train: others would load everything a second time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runners.ray.tasks import CONFIG, DATA
from tune_bn.data.dataset import load_dataset
from tune_bn.protocols.runner import Task
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect, disconnect, folder_here
from tune_bn.testing.tasks import Events, Tasks
from tune_bn.trainers.builtin import BuiltinTrainer


@pytest.fixture
def own_ray(warm_ray: None) -> Iterator[None]:
    connect(RayOptions(init={"num_cpus": 2}))
    yield
    disconnect()


def test_no_worker_is_started_besides_those_of_the_cores(own_ray: None) -> None:
    tasks = [Task("search", "candidate", trial, {}, CONFIG, (1,)) for trial in range(4)]
    runner = RayTuneRunner(BuiltinTrainer(load_dataset(DATA)), RayOptions())
    feed = Tasks(*tasks)
    runner.run(feed, Events())
    assert len(feed.results) == 4
    folder = folder_here()
    assert folder is not None
    (log,) = folder.glob("r/session_2*/logs/raylet.out")
    assert log.read_text().count("Started worker process") == 2
    runner.close()
