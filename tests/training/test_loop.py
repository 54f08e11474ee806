"""One run: its steps and rates, what arms of one seed share, and how it evaluates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.small_runs import CPU, device_data, equal_states, make_dataset, make_split, run_config
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset
from tune_bn.method.config import NORMS
from tune_bn.method.convert import convert
from tune_bn.training import engine
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun, train
from tune_bn.training.optimizer import make_optimizer, make_schedule

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]


@pytest.mark.parametrize(("images", "batch", "sizes"), [(20, 8, [8, 8, 4]), (16, 8, [8, 8]), (5, 64, [5])])
def test_the_short_last_batch_is_kept(images: int, batch: int, sizes: list[int]) -> None:
    run = TrainingRun(run_config(batch_size=batch), device_data(train=images), seed=1)
    seen, steps = [], 0

    def step(*_: Any) -> None:
        nonlocal steps
        steps += 1

    run.model.register_forward_pre_hook(lambda module, x: seen.append(len(x[0])) if module.training else None)
    run.optimizer.register_step_post_hook(step)
    run.train_epoch()
    assert seen == sizes
    assert steps == math.ceil(images / batch)


@pytest.mark.parametrize("epochs", [1, 2, 40, 180])
@pytest.mark.parametrize(("lr", "c"), [(0.1, 100.0), (0.01, 1.0), (0.1, 1000.0)])
def test_the_rates_follow_the_cosine(epochs: int, lr: float, c: float) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    config = run_config(epochs=epochs, lr=lr, c=c)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config.train)
    start = {"weights": lr, "shifts": lr, "gamma": lr / c}
    for epoch in range(epochs + 1):
        share = math.cos(math.pi * epoch / (2 * epochs)) ** 2
        found = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert found == pytest.approx({k: 1e-8 + (v - 1e-8) * share for k, v in start.items()}, rel=1e-12, abs=0)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_decays_with_the_rivals_as_their_authors_train_them(norm: str) -> None:
    model = convert(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), norm)
    optimizer = make_optimizer(model, run_config({"norm": norm}, weight_decay=0.01))
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    others = 0.01 if norm in ("rbn", "iebn") else 0
    assert decays == {"weights": 0.01, "shifts": others, "gamma": others}


def test_beta_learns_at_a_rate_of_its_own() -> None:
    run = TrainingRun(run_config(epochs=2, lr=0.2, c_beta=10.0), device_data(), seed=1)
    rates = {group["name"]: group["lr"] for group in run.optimizer.param_groups}
    assert rates == pytest.approx({"weights": 0.2, "shifts": 0.2, "beta": 0.02, "gamma": 0.2})


def test_a_frozen_gamma_keeps_its_initial_value() -> None:
    run = TrainingRun(run_config({"gamma": 0.25}, epochs=1, freeze_gamma=True), device_data(), seed=1)
    run.train_epoch()
    layers = [layer for layer in run.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert layers
    assert all((layer.weight == 0.25).all() for layer in layers)
    assert all(layer.bias.any() for layer in layers)


def test_the_rate_changes_once_per_epoch_and_is_recorded() -> None:
    run = TrainingRun(run_config(epochs=4, lr=0.2, c=10.0), device_data(), seed=1)
    gamma = next(group for group in run.optimizer.param_groups if group["name"] == "gamma")
    rates = []
    run.optimizer.register_step_pre_hook(lambda *_: rates.append(gamma["lr"]))
    while not run.done:
        run.train_epoch()
    share = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert [point["lr"] for point in run.curve] == pytest.approx([1e-8 + (0.2 - 1e-8) * part for part in share])
    steps = 3
    assert rates == pytest.approx([1e-8 + (0.02 - 1e-8) * part for part in share for _ in range(steps)])
    assert [point.step for point in run.curve] == [1, 2, 3, 4]


def test_a_constant_schedule_keeps_the_rates() -> None:
    run = TrainingRun(run_config(epochs=3, schedule="constant", c=10.0), device_data(), seed=1)
    while not run.done:
        run.train_epoch()
    assert [point["lr"] for point in run.curve] == [0.1] * 3
    assert [group["lr"] for group in run.optimizer.param_groups] == [0.1, 0.1, 0.01]


def test_momentum_is_plain_and_only_weights_decay() -> None:
    run = TrainingRun(run_config(momentum=0.7, weight_decay=0.03), device_data(), seed=1)
    settings = {g["name"]: (g["momentum"], g["nesterov"], g["weight_decay"]) for g in run.optimizer.param_groups}
    assert settings == {"weights": (0.7, False, 0.03), "shifts": (0.7, False, 0.0), "gamma": (0.7, False, 0.0)}


def test_the_input_layer_learns_its_scale_slowly_and_keeps_its_shift() -> None:
    run = TrainingRun(run_config({"input_norm": "bn", "gamma": 0.1}, c=100.0), device_data(), seed=1)
    front = run.model.input_norm
    assert front.weight.tolist() == pytest.approx([0.058] * 3)
    gamma = next(group for group in run.optimizer.param_groups if group["name"] == "gamma")
    assert any(parameter is front.weight for parameter in gamma["params"])
    assert gamma["lr"] == pytest.approx(0.1 / 100)
    run.train_epoch()
    assert front.weight.tolist() != pytest.approx([0.058] * 3, rel=1e-7)
    assert front.bias.tolist() == [0, 0, 0]


def inputs(seed: int, model: dict[str, Any], epochs: int = 2) -> list[Tensor]:
    """The batches that a run trains on, as they enter its model."""
    run, seen = TrainingRun(run_config(model, epochs=epochs), device_data(), seed), []
    run.model.register_forward_pre_hook(lambda module, x: seen.append(x[0].clone()) if module.training else None)
    while not run.done:
        run.train_epoch()
    return seen


@pytest.mark.parametrize("arm", [{"gamma": 0.1, "input_norm": "bn"}, {"gamma": 0.5}, {"arch": "resnet20"}])
def test_arms_of_one_seed_see_the_same_batches(arm: dict[str, Any]) -> None:
    reference = inputs(3, {})
    assert len(reference) == 6
    assert all(torch.equal(a, b) for a, b in zip(inputs(3, arm), reference, strict=True))


def test_seeds_and_epochs_see_other_batches() -> None:
    reference = inputs(3, {})
    assert not any(torch.equal(a, b) for a, b in zip(inputs(4, {}), reference, strict=True))
    assert not torch.equal(reference[0], reference[3])


def test_an_epoch_shows_every_image_once() -> None:
    dataset = make_dataset()
    run, seen = TrainingRun(run_config(data=DataConfig()), DeviceData(dataset, CPU), seed=1), []
    run.model.register_forward_pre_hook(lambda module, x: seen.extend(x[0]) if module.training else None)
    run.train_epoch()
    shown = sorted((image * 255).round().to(torch.uint8).numpy().tobytes() for image in seen)
    assert shown == sorted(image.tobytes() for image in dataset.train.images)


def test_runs_side_by_side_do_not_touch_each_other() -> None:
    alone, data = train(run_config(), device_data(), 1).curve, device_data()
    runs = [TrainingRun(run_config(), data, seed) for seed in (1, 2)]
    while not runs[0].done:
        for run in runs:
            torch.manual_seed(run.epochs)
            run.train_epoch()
    assert tuple(runs[0].curve) == alone
    assert tuple(runs[1].curve) != alone


def test_evaluation_changes_nothing() -> None:
    run = TrainingRun(run_config(), device_data(), 1)
    run.train_epoch()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.evaluate(run.data.val) == run.evaluate(run.data.val)
    assert equal_states(run.model.state_dict(), before)
    assert all(parameter.requires_grad for parameter in run.model.parameters())


class Brightness(nn.Module):
    """Logits without a network: which of three thirds the mean pixel lies in. Notes the batches that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        third = (x.mean(dim=(1, 2, 3)) * 3).long().clamp(0, 2)
        return F.one_hot(third, 3).float()


# An evaluation batch holds at most 2^20 pixels and 1,024 images, of which a CPU takes at most 2^17 and 256 at once.
@pytest.mark.parametrize(
    ("side", "images", "batches"),
    [(8, 1500, [256, 256, 256, 256, 256, 220]), (128, 70, [8] * 8 + [6]), (256, 5, [2, 2, 1]), (1100, 2, [1, 1])],
)
def test_large_images_are_evaluated_in_smaller_batches(side: int, images: int, batches: list[int]) -> None:
    split = make_split(images, side, classes=3, seed=0, channels=1)
    dataset = Dataset("large", ("a", "b", "c"), make_split(6, 8, 3, 0, channels=1), split, None)
    run = TrainingRun(run_config(), DeviceData(dataset, CPU), 1)
    model = run.engine.model = Brightness()
    loss, accuracy = run.evaluate(run.data.val)
    assert model.batches == batches
    thirds = np.minimum(split.images.mean(axis=(1, 2, 3)) / 255 * 3, 2.999).astype(int)
    share = (thirds == split.labels).mean()
    assert accuracy == pytest.approx(100 * share)
    hit = math.log(math.e + 2) - 1
    assert loss == pytest.approx(share * hit + (1 - share) * (hit + 1), rel=1e-6)


def test_the_pieces_of_an_evaluation_batch_change_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset("many", ("a", "b", "c"), make_split(60, 16, 3, 0), make_split(700, 16, 3, 1), None)
    run = TrainingRun(run_config(), DeviceData(dataset, CPU), 1)
    run.train_epoch()
    logits: list[list[Tensor]] = [[], []]
    totals = run.engine.evaluate(run.data.val, lambda one, _: logits[0].append(one))
    monkeypatch.setattr(engine, "CPU_BATCH", 1024)
    whole = run.engine.evaluate(run.data.val, lambda one, _: logits[1].append(one))
    assert torch.equal(torch.cat(logits[0]), torch.cat(logits[1]))
    assert torch.equal(totals, whole)


def test_pixels_are_scaled_to_one_and_laid_out_channels_last() -> None:
    run, seen = TrainingRun(run_config(data=DataConfig()), device_data(), 1), []
    run.model.register_forward_pre_hook(lambda _module, x: seen.append(x[0]))
    run.train_epoch()
    assert all(x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert max(float(x.max()) for x in seen) == pytest.approx(make_dataset().train.images.max() / 255)
    assert run.model.conv1.weight.is_contiguous(memory_format=torch.channels_last)
