"""A network of the user's on Ray's workers: in the folder where the search started, or sent to a cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.errors import MethodError
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Runner, Task
from tune_bn.records.record import COMPLETED
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.testing.tasks import Tasks
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import train
from tune_bn.training.versions import library_versions

DATA = DataConfig(source="digits", train_size=60, val_size=40, test_size=40)
SMALL = """
from torch import nn

def net(in_channels, num_classes):
    layers = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, num_classes))
"""


class Feed(Tasks):
    """Tasks with one configuration each, and what came of them."""

    def __init__(self, *archs: str) -> None:
        super().__init__(
            *(
                Task(
                    "search",
                    "candidate",
                    n,
                    {},
                    RunConfig(ModelConfig(arch=a, gamma=0.3), DATA, TrainConfig(epochs=2)),
                    (1,),
                )
                for n, a in enumerate(archs)
            )
        )

    def finished(self, task: Task, results: list[object]) -> None:
        (self.results[task.config.model.arch],) = results


class Silent:
    """A listener."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module and a package, which this process can import."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    place = tmp_path / "mine"
    (place / "users_package_on_ray").mkdir(parents=True)
    # A helper beside it, which is imported when the network is made.
    (place / "users_module_on_ray.py").write_text(
        "def net(**sizes):\n    from helper_on_ray import net\n    return net(**sizes)\n"
    )
    (place / "helper_on_ray.py").write_text(SMALL)
    (place / "users_package_on_ray/parts.py").write_text(SMALL)
    (place / "users_package_on_ray/nets.py").write_text("from users_package_on_ray.parts import net\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    yield place
    ray.shutdown()
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.endswith("_on_ray") or "_on_ray." in name]:
        del sys.modules[name]


SHADOWS = ("timeit", "random", "typing", "numpy", "torch/__init__", "yaml", "types", "mlflow", "ray", "signal", "json")
"""Names of installed modules that users give to files of their own."""

ARCHS = ("users_module_on_ray:net", "users_package_on_ray.nets:net")


def code_of(*archs: str) -> Sequence[Path]:
    """What workers elsewhere are sent of these networks."""
    return BuiltinTrainer(load_dataset(DATA), archs=archs).code


def check_runs(runner: Runner) -> None:
    """The runs equal those of this process, and their records tell the state of the file."""
    feed = Feed(*ARCHS)
    tasks = list(feed.left)
    runner.run(feed, Silent())
    for task in tasks:
        result = feed.results[task.config.model.arch]
        assert result.status == COMPLETED, result.reason
        alone = train(task.config, DeviceData(load_dataset(DATA), torch.device("cpu")), 1)
        assert result.curve == alone.curve
        assert result.versions == library_versions(task.config.model.arch)
        assert len(result.versions["network"]) == 16


def test_workers_of_this_machine_import_it_where_the_search_started(
    folder: Path, warm_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "torch").mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text("raise RuntimeError('a file of the current folder was imported')")
    connect(RayOptions(code=code_of(*ARCHS), init={"num_cpus": 2}))
    assert "py_modules" not in ray.get_runtime_context().runtime_env
    check_runs(RayTuneRunner(BuiltinTrainer(load_dataset(DATA)), RayOptions(max_concurrent=1)))


def test_a_cluster_is_sent_the_module_or_the_package(
    folder: Path, tmp_path: Path, warm_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        connect(RayOptions(address=cluster.address, code=code_of("resnet8", *ARCHS, "torchvision.models:resnet18")))
        assert len(ray.get_runtime_context().runtime_env["py_modules"]) == 3
        check_runs(RayTuneRunner(BuiltinTrainer(load_dataset(DATA)), RayOptions(max_concurrent=1)))
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_module_that_cannot_be_sent_is_refused_before_the_cluster_is_reached() -> None:
    with pytest.raises(MethodError, match="there is no module there_is_none"):
        connect(RayOptions(address="auto", code=code_of("there_is_none:net")))
    assert not ray.is_initialized()
