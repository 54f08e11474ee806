"""Networks that draw while they train, such as dropout does: a seed still determines the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun, train

CPU = torch.device("cpu")
NETWORK = """
import torch
from torch import nn

class Drop(nn.Module):
    def forward(self, x):
        return x * (torch.rand(1) + 0.5) if self.training else x

def net(in_channels, num_classes):
    layers = [nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), Drop()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    (tmp_path / "users_dropout.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    return RunConfig(ModelConfig(arch="users_dropout:net"), train=TrainConfig(epochs=3, batch_size=8))


@pytest.fixture
def data() -> Iterator[DeviceData]:
    rng = np.random.default_rng(0)
    splits = [
        Split(rng.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8), np.arange(count, dtype=np.int64) % 2)
        for count in (16, 8)
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield DeviceData(Dataset("noise", ("a", "b"), *splits, test=None), CPU)
    torch.set_num_threads(threads)


def test_a_seed_determines_the_run_whatever_else_happens_in_the_process(config: RunConfig, data: DeviceData) -> None:
    alone = train(config, data, 1).curve
    runs = [TrainingRun(config, data, seed) for seed in (1, 2)]
    while not runs[0].done:
        for run in runs:
            torch.manual_seed(run.epochs)
            state = torch.get_rng_state()
            run.train_epoch()
            assert torch.equal(torch.get_rng_state(), state)
    assert tuple(runs[0].curve) == alone
    assert tuple(runs[1].curve) != alone


def test_a_resumed_run_goes_on_with_the_same_noise(config: RunConfig, data: DeviceData, tmp_path: Path) -> None:
    whole = train(config, data, 1).curve
    first = TrainingRun(config, data, 1)
    first.train_epoch()
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(first.state_dict())
    second = TrainingRun(config, data, 1)
    second.load_state_dict(store.load(CPU) or {})
    while not second.done:
        second.train_epoch()
    assert tuple(second.curve) == whole
