"""Images that do not fit a device are streamed to it: the same runs, and it is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.data.device import DeviceSplit, _fits
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.inspection import images_of
from tune_bn.training.loop import train

CPU = torch.device("cpu")
CONFIG = RunConfig(
    ModelConfig(arch="resnet8"),
    DataConfig(source="folder", flip=True, crop_size=8),
    TrainConfig(epochs=2, batch_size=8),
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Images that are mapped from files, as decoded ones are."""
    splits = []
    for seed, count in enumerate((28, 12, 15)):
        path = tmp_path / f"{seed}.npy"
        np.save(path, np.random.default_rng(seed).integers(0, 256, (count, 3, 10, 10), dtype=np.uint8))
        splits.append(Split(np.asarray(np.load(path, mmap_mode="r")), np.arange(count, dtype=np.int64) % 3))
    return Dataset("noise", ("a", "b", "c"), *splits)


def test_a_streamed_run_equals_a_resident_one(dataset: Dataset) -> None:
    results = [
        train(CONFIG, DeviceData(dataset, CPU, resident=resident), 1, test_metric="test_accuracy")
        for resident in (True, False)
    ]
    assert results[0].curve == results[1].curve
    assert results[0].scores == results[1].scores


def test_a_run_says_that_its_images_are_streamed(dataset: Dataset) -> None:
    assert train(CONFIG, DeviceData(dataset, CPU, resident=False), 1).device == "cpu, images streamed from the host"
    assert train(CONFIG, DeviceData(dataset, CPU), 1).device == "cpu"


def test_batches_are_read_one_ahead_and_in_order(dataset: Dataset) -> None:
    split = DeviceSplit(dataset.train, CPU, resident=False)
    order = torch.randperm(28, generator=torch.Generator().manual_seed(0))
    parts = [*order.split(8), slice(3, 9), slice(20, 28)]
    taken: list[int] = []

    def asked() -> Iterator[torch.Tensor | slice]:
        for number, part in enumerate(parts):
            taken.append(number)
            yield part

    for number, images in enumerate(split.batches(asked())):
        assert len(taken) == min(number + 2, len(parts))
        part = parts[number]
        assert np.array_equal(images.numpy(), dataset.train.images[part if isinstance(part, slice) else part.numpy()])


def test_no_batches_are_no_images(dataset: Dataset) -> None:
    assert list(DeviceSplit(dataset.train, CPU, resident=False).batches([])) == []


def test_diagnostics_see_the_same_images(dataset: Dataset) -> None:
    resident, streamed = (
        images_of(DeviceData(dataset, CPU, resident=resident), CONFIG.data, 5) for resident in (True, False)
    )
    assert torch.equal(resident[0], streamed[0])
    assert torch.equal(resident[1], streamed[1])


def test_a_gpu_keeps_room_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte, gpu = 10**9, torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * gigabyte, 80 * gigabyte))
    assert _fits(20 * gigabyte, gpu)
    assert not _fits(20 * gigabyte + 1, gpu)
    assert _fits(10**15, CPU)
