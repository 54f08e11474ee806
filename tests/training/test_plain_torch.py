"""A run against the loop that most scripts contain, written out here from the definition: equal bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun

CPU = torch.device("cpu")
Groups = Callable[[nn.Module], list[dict[str, Any]]]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def dataset() -> Dataset:
    """Twenty images of noise to train on, in batches of eight: the last one is short."""
    rng = np.random.default_rng(0)
    splits = [
        Split(rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8), np.arange(count, dtype=np.int64) % 3)
        for count in (20, 12)
    ]
    return Dataset("noise", ("a", "b", "c"), *splits, test=None)


def stream(seed: int, name: str) -> torch.Generator:
    number = int(hashlib.md5(str(seed).encode()).hexdigest()[-8:], 16)
    digest = hashlib.sha256(f"{number}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def one_image(image: np.ndarray[Any, Any], flip: bool, row: int, column: int, padding: int) -> Tensor:
    pixels = image[:, :, ::-1] if flip else image
    framed = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding)))
    cut = framed[:, row : row + image.shape[1], column : column + image.shape[2]]
    return torch.tensor(cut.astype(np.float32)) / 255


def plain_training(
    dataset: Dataset, weights: dict[str, Tensor], gamma: float, groups: Groups, seed: int, epochs: int, batch: int
) -> tuple[nn.Module, list[tuple[float, float, float, float]]]:
    """torchvision's ResNet-18 and torch's SGD, batch by batch and image by image, from the same conv and fc weights."""
    model = torchvision.models.resnet18(num_classes=dataset.num_classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    model.load_state_dict({name: weights[name] for name in weights if weights[name].ndim > 1}, strict=False)
    nn.init.zeros_(model.fc.bias)
    if gamma != 1:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, gamma)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(groups(model), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=1e-8)
    order, augment = stream(seed, "order"), stream(seed, "augment")
    count, curve = len(dataset.train), []
    for _ in range(epochs):
        indices = torch.randperm(count, generator=order).tolist()
        flips = (torch.rand(count, generator=augment) < 0.5).tolist()
        rows, columns = torch.randint(0, 3, (2, count), generator=augment).tolist()
        seen = [
            one_image(dataset.train.images[i], *place, padding=1)
            for i, *place in zip(indices, flips, rows, columns, strict=True)
        ]
        loss_sum, correct = 0.0, 0
        model.train()
        for start in range(0, count, batch):
            images = torch.stack(seen[start : start + batch]).contiguous(memory_format=torch.channels_last)
            labels = torch.tensor([int(dataset.train.labels[i]) for i in indices[start : start + batch]])
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
        schedule.step()
        model.eval()
        with torch.no_grad():
            images = torch.tensor(dataset.val.images.astype(np.float32)) / 255
            logits = model(images.contiguous(memory_format=torch.channels_last))
            labels = torch.tensor(dataset.val.labels)
            val_loss = F.cross_entropy(logits, labels).item()
            val_accuracy = 100 * int((logits.argmax(1) == labels).sum()) / len(labels)
        curve.append((loss_sum / count, 100 * correct / count, val_loss, val_accuracy))
    return model, curve


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    """As most scripts do it: decay for what has more than one dimension."""
    return [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-4},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0},
    ]


def three_groups(model: nn.Module) -> list[dict[str, Any]]:
    """In torchvision's ResNets the γ's are the one-dimensional parameters called weight."""
    gamma = [p for name, p in model.named_parameters() if p.ndim == 1 and name.endswith("weight")]
    decayed, plain = two_groups(model)
    shifts = [p for p in plain["params"] if not any(p is g for g in gamma)]
    return [decayed, {"params": shifts, "weight_decay": 0}, {"params": gamma, "lr": 0.1 / 100, "weight_decay": 0}]


@pytest.mark.parametrize(("gamma", "c", "groups"), [(1.0, 1.0, two_groups), (0.1, 100.0, three_groups)])
def test_a_run_equals_plain_torch_bit_for_bit(dataset: Dataset, gamma: float, c: float, groups: Groups) -> None:
    seed = 7
    config = RunConfig(
        ModelConfig(arch="resnet18", gamma=gamma),
        DataConfig(flip=True, crop_padding=1),
        TrainConfig(epochs=2, batch_size=8, lr=0.1, c=c),
    )
    run = TrainingRun(config, DeviceData(dataset, CPU), seed)
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    while not run.done:
        run.train_epoch()
    model, curve = plain_training(dataset, weights, gamma, groups, seed, epochs=2, batch=8)
    assert not torch.equal(run.model.fc.weight, weights["fc.weight"])
    expected = model.state_dict()
    assert run.model.state_dict().keys() == expected.keys()
    assert [name for name, value in run.model.state_dict().items() if not torch.equal(value, expected[name])] == []
    assert [(p["train_loss"], p["train_accuracy"], p["val_loss"], p["val_accuracy"]) for p in run.curve] == curve
