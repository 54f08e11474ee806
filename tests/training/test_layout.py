"""The memory format of a network: decided by real steps of it, the same for every run of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import models

from tests.training.recording import TapeRecorder
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.training import layout as layout_module
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.inspection import inspect_run
from tune_bn.training.layout import layout_of
from tune_bn.training.loop import TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = """
import torch
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels, num_classes, flatten):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc, self.own = nn.Linear(8 * 4 * 4, num_classes), flatten

    def forward(self, x):
        return self.fc(self.own(self, F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)))

def of(flatten):
    return lambda in_channels, num_classes: Net(in_channels, num_classes, flatten)

def whole(x):
    return x.reshape(len(x), -1)

def copied(x):
    return F.conv2d(x, torch.ones(8, 1, 1, 1), groups=8)

def strided(x):
    return x.as_strided((len(x), 128), (128, 1))

reshaped = of(lambda net, x: whole(x))
dropped = of(lambda net, x: F.dropout(whole(x), 0.4, net.training))
noisy = of(lambda net, x: whole(x * torch.rand_like(x) if net.training else x))
only_single = of(lambda net, x: whole(x @ torch.eye(4)))
last = of(lambda net, x: x.permute(0, 2, 3, 1).view(len(x), -1))

viewed = of(lambda net, x: x.view(x.size(0), -1))
viewed_in_eval = of(lambda net, x: whole(x) if net.training else x.view(x.size(0), -1))
viewed_in_training = of(lambda net, x: x.view(x.size(0), -1) if net.training else whole(x))
read = of(lambda net, x: strided(x))
read_in_eval = of(lambda net, x: whole(x) if net.training else strided(x))
read_in_training = of(lambda net, x: strided(x) if net.training else whole(x))
read_a_little = of(lambda net, x: whole(x) + 1e-4 * strided(x))
read_single = of(lambda net, x: strided(copied(x)))
asks = of(lambda net, x: whole(x) if x.is_contiguous() else 2 * whole(x))
noisy_in_eval = of(lambda net, x: whole(x * torch.rand_like(x)))
raises = of(lambda net, x: 1 / 0)

class Backward(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2

    @staticmethod
    def backward(context, gradient):
        return gradient.view(-1).view_as(gradient) * 2

viewed_backward = of(lambda net, x: whole(copied(Backward.apply(x))))

class View(nn.Module):
    def forward(self, x):
        return x.view(len(x), -1)

def pixel(in_channels, num_classes):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 4), nn.BatchNorm2d(4), View(), nn.LazyLinear(num_classes))

class Volume(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv, self.norm = nn.Conv3d(1, 4, (in_channels, 3, 3)), nn.BatchNorm3d(4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x[:, None])).mean((2, 3, 4)))

def volume(in_channels, num_classes):
    return Volume(in_channels, num_classes)
"""
SHAPE = (3, 8, 8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "users_own_laid_out.py").write_text(OWN)
    sys.path.append(str(folder))


@pytest.fixture
def data() -> DeviceData:
    return DeviceData(dataset(), CPU)


def dataset() -> Dataset:
    splits = []
    for seed, count in enumerate((28, 12, 15)):
        labels = np.arange(count, dtype=np.int64) % 3
        noise = np.random.default_rng(seed).integers(0, 128, (count, *SHAPE))
        splits.append(Split((noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels))
    return Dataset("noise", ("a", "b", "c"), *splits)


def model_of(name: str, **options: object) -> ModelConfig:
    return ModelConfig(**({"arch": f"users_own_laid_out:{name}"} | options))  # type: ignore[arg-type]


def config_of(name: str, **options: object) -> RunConfig:
    return RunConfig(model_of(name, **options), DataConfig(), TrainConfig(epochs=2, batch_size=8))


@pytest.mark.parametrize("name", ["reshaped", "dropped", "noisy", "only_single", "last"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_can_be_is_channels_last(name: str, channels: int) -> None:
    found = layout_of(model_of(name), (channels, 8, 8), 3)
    assert (found.name, found.reason) == ("channels_last", None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((f"viewed{when}", "it raises RuntimeError: view size is not") for when in ("", "_in_eval", "_in_training")),
        ("viewed_backward", "it raises RuntimeError: view size is not"),
        ("volume", "it raises RuntimeError: required rank 4 tensor"),
        *((f"read{when}", "other numbers") for when in ("", "_in_eval", "_in_training", "_a_little", "_single")),
        ("asks", "other numbers"),
        ("noisy_in_eval", "other numbers"),
    ],
)
def test_where_it_cannot_the_reason_is_told(name: str, reason: str) -> None:
    found = layout_of(model_of(name), SHAPE, 3)
    assert found.name == "contiguous"
    assert found.reason is not None
    assert reason in found.reason


def test_an_error_in_either_format_is_left_to_who_trains() -> None:
    found = layout_of(model_of("raises"), SHAPE, 3)
    assert (found.name, found.reason) == ("contiguous", None)


def test_networks_that_ship_are_channels_last_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "make_network", None)
    for arch in ("resnet8", "resnet50", "torchvision/densenet121"):
        assert layout_of(ModelConfig(arch=arch), SHAPE, 3).name == "channels_last"


@pytest.mark.parametrize(
    "name", ["shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0", "googlenet", "densenet121", "regnet_y_400mf"]
)
def test_those_of_torchvision_compute_the_same_in_both_formats(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}

    def network(in_channels: int, num_classes: int) -> Any:
        return models.get_model(name, num_classes=num_classes, **options)

    # As a function of the user's it is tried.
    monkeypatch.setattr(sys.modules["users_own_laid_out"], name, network, raising=False)
    assert layout_of(model_of(name), (3, 64, 64), 3).name == "channels_last"


def test_arms_and_seeds_of_a_network_have_one_format() -> None:
    """Norm and γ do not count, nor what this process drew before."""
    layout_module._tried.cache_clear()
    found = set()
    for options in ({}, {"norm": "rbn"}, {"norm": "base"}, {"gamma": 0.1}, {"input_norm": "bn"}):
        torch.rand(3)
        for name in ("viewed", "reshaped"):
            found.add((name, layout_of(model_of(name, **options), SHAPE, 3).name))
    assert found == {("viewed", "contiguous"), ("reshaped", "channels_last")}


@pytest.mark.parametrize(("name", "expected"), [("viewed", "contiguous"), ("reshaped", "channels_last")])
def test_a_run_has_images_weights_and_momenta_in_the_format(name: str, expected: str, data: DeviceData) -> None:
    run, seen = TrainingRun(config_of(name), data, 1, "test_accuracy"), list[Tensor]()
    assert run.engine.memory_format == expected
    run.model.register_forward_pre_hook(lambda _module, x: seen.append(x[0]))
    while not run.done:
        run.train_epoch()
    assert "test_accuracy" in run.result().scores
    kept = [*seen, run.model.conv.weight, run.optimizer.state[run.model.conv.weight]["momentum_buffer"]]
    assert len(seen) == 2 * (4 + 1) + 1
    assert all(tensor.is_contiguous(memory_format=layout_module.FORMATS[expected]) for tensor in kept)
    assert {"contiguous": 0, "channels_last": len(kept)}[expected] == sum(not x.is_contiguous() for x in kept)


def test_the_two_formats_train_alike(data: DeviceData) -> None:
    viewed, reshaped = (TrainingRun(config_of(name), data, 1) for name in ("viewed", "reshaped"))
    for _ in range(2):
        one, other = viewed.train_epoch(), reshaped.train_epoch()
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)


def test_a_step_in_the_other_format_is_recorded_too() -> None:
    recorded = DeviceData(dataset(), CPU, recorder=TapeRecorder)
    alone = DeviceData(dataset(), CPU, recorder=lambda: lambda step, warm_up: step)
    runs = [TrainingRun(config_of("viewed"), where, 1) for where in (recorded, alone)]
    assert runs[0].engine.recorded
    for _ in range(2):
        points = [run.train_epoch() for run in runs]
        assert points[0] == points[1]


def test_a_run_in_the_other_format_resumes_and_is_inspected(data: DeviceData) -> None:
    whole = TrainingRun(config_of("viewed"), data, 1)
    whole.train_epoch()
    state = dict(whole.state_dict())
    state["model"] = {name: value.clone() for name, value in state["model"].items()}
    state["momenta"] = [momentum.clone() for momentum in state["momenta"]]
    resumed = TrainingRun(config_of("viewed"), data, 1)
    resumed.load_state_dict(state)
    assert resumed.train_epoch() == whole.train_epoch()
    assert resumed.model.conv.weight.is_contiguous()
    assert [layer.name for layer in inspect_run(whole).layers] == ["norm"]


def test_the_shape_of_the_images_counts() -> None:
    """A feature map of one pixel is a view in either format."""
    assert layout_of(model_of("pixel"), (3, 4, 4), 3).name == "channels_last"
    assert layout_of(model_of("pixel"), (3, 8, 8), 3).name == "contiguous"
    data = DeviceData(dataset(), CPU)
    for crop, expected in ((DataConfig(crop_size=4), "channels_last"), (DataConfig(), "contiguous")):
        assert TrainingRun(replace(config_of("pixel"), data=crop), data, 1).engine.memory_format == expected
