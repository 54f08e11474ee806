"""``data.split: per_seed``: each run divides the pool by its own seed, and is else the run that it would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.recording import TapeRecorder
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split, describe_data, load_dataset, read_data
from tune_bn.data.splits import SPLIT_SEED
from tune_bn.method.config import ModelConfig
from tune_bn.records.provenance import data_changes
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.inspection import images_of, inspect_run
from tune_bn.training.loop import TrainingRun

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]

CPU = torch.device("cpu")
FIXED = DataConfig(train_size=50, val_size=40, test_size=30, flip=True, crop_padding=1)
DRAWN = replace(FIXED, split="per_seed")
MODEL = ModelConfig(arch="resnet8", input_norm="dataset")


def config(data: DataConfig, **train: Any) -> RunConfig:
    return RunConfig(MODEL, data, TrainConfig(**({"epochs": 2, "batch_size": 16} | train)))


def as_fixed(drawn: Dataset, seed: int) -> Dataset:
    """The split of a seed as a data set whose split is the same for every run."""
    assert drawn.redraw is not None

    def part(index: NDArray[np.intp]) -> Split:
        return Split(np.ascontiguousarray(drawn.train.images[index]), drawn.train.labels[index])

    train, val = map(part, drawn.redraw.parts(drawn.train.labels, seed))
    return Dataset(drawn.name, drawn.classes, train, val, drawn.test)


def outcome(run: TrainingRun) -> list[Any]:
    while not run.done:
        run.train_epoch()
    return [[(point.step, dict(point.metrics)) for point in run.curve], dict(run.result().scores)]


def test_every_seed_has_a_split_of_its_own_and_seed_0_the_fixed_one() -> None:
    pool = load_dataset(DRAWN)
    assert pool.redraw is not None
    splits = [pool.redraw.parts(pool.train.labels, seed) for seed in (0, 1, 2, 2)]
    for train, val in splits:
        assert (len(train), len(val)) == (50, 40)
        assert not set(train) & set(val)
        assert np.bincount(pool.train.labels[val]).min() >= 1
        assert np.bincount(pool.train.labels[train]).min() >= 1
    assert splits[2][1].tolist() == splits[3][1].tolist()
    assert splits[1][1].tolist() != splits[2][1].tolist()
    fixed, zero = load_dataset(FIXED), as_fixed(pool, SPLIT_SEED)
    assert zero.sha256 == fixed.sha256
    # No test image is ever in the pool, and the test images are those of the fixed split.
    assert fixed.test is not None
    assert pool.test is not None
    assert (pool.test.images == fixed.test.images).all()
    assert len(pool.train) == 1797 - 30


@pytest.mark.parametrize(
    "options", [{}, {"resident": False}, {"recorder": lambda: TapeRecorder()}], ids=["plain", "streamed", "recorded"]
)
def test_a_run_is_the_run_on_its_own_split_bit_for_bit(options: dict[str, Callable[[], Any] | bool]) -> None:
    pool = load_dataset(DRAWN)
    shared = DeviceData(pool, CPU, **options)  # type: ignore[arg-type]
    runs = {seed: TrainingRun(config(DRAWN), shared, seed, "test_accuracy") for seed in (3, 4)}
    # In turns, so that an engine that they share has to tell them apart.
    for _ in range(2):
        for run in runs.values():
            run.train_epoch()
    for seed, run in runs.items():
        alone = DeviceData(as_fixed(pool, seed), CPU, **options)  # type: ignore[arg-type]
        assert outcome(run) == outcome(TrainingRun(config(FIXED), alone, seed, "test_accuracy"))
    splits = {run.environment["split"] for run in runs.values()}
    assert len(splits) == 2
    again = TrainingRun(config(DRAWN, lr=0.2), shared, 3)
    assert again.environment["split"] in splits
    assert "split" not in TrainingRun(config(FIXED), DeviceData(load_dataset(FIXED), CPU), 3).environment


def test_a_run_resumes_on_its_split() -> None:
    data = DeviceData(load_dataset(DRAWN), CPU)
    first = TrainingRun(config(DRAWN), data, 5)
    first.train_epoch()
    second = TrainingRun(config(DRAWN), DeviceData(load_dataset(DRAWN), CPU), 5)
    second.load_state_dict(first.state_dict())
    assert outcome(second) == outcome(TrainingRun(config(DRAWN), data, 5))


def test_what_is_inspected_is_what_the_run_trained_on() -> None:
    pool = load_dataset(DRAWN)
    data = DeviceData(pool, CPU)
    alone = DeviceData(as_fixed(pool, 6), CPU)
    for found, expected in zip(images_of(data, DRAWN, 20, seed=6), images_of(alone, FIXED, 20, seed=6), strict=True):
        assert torch.equal(found, expected)
    run = TrainingRun(config(DRAWN), data, 6)
    run.train_epoch()
    assert inspect_run(run).problem is None


def test_the_identity_of_the_data_knows_the_rule_and_the_pool() -> None:
    fixed, drawn = load_dataset(FIXED).identity, load_dataset(DRAWN).identity
    assert drawn["pool"]["count"] == 1767
    assert (drawn["train"]["count"], drawn["val"]["count"]) == (50, 40)
    assert drawn["test"] == fixed["test"]
    other = load_dataset(replace(DRAWN, val_size=41)).identity
    assert data_changes(drawn, other) == ["validation images (40 before, 41 now)"]
    assert data_changes(drawn, drawn) == []
    assert data_changes(fixed, drawn) == [
        "other training images and labels (50 before and now)",
        "other validation images and labels (40 before and now)",
    ]
    changed = drawn | {"pool": drawn["pool"] | {"images": "0" * 32}}
    assert data_changes(drawn, changed) == ["other images that train or validate (1767 before and now)"]


def test_validate_says_it() -> None:
    told = describe_data(DRAWN)
    assert (told.train_size, told.val_size, told.test_size) == (50, 40, 30)
    assert told.remarks == ("each run draws its validation images by its own seed (data.split)",)
    assert read_data(DRAWN)[0] == 1797
