"""One run: its steps and rates, what arms of one seed share, interruptions, divergence, scores."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import NORMS, ModelConfig
from tune_bn.method.convert import convert
from tune_bn.protocols.trainer import COMPLETED, DIVERGED
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun, train
from tune_bn.training.optimizer import make_optimizer, make_schedule

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]

CPU = torch.device("cpu")
AUGMENTED = DataConfig(flip=True, crop_padding=1)
TEST_METRICS = ("test_accuracy", "final_test_accuracy")


def make_split(count: int, side: int, classes: int, seed: int, channels: int = 3) -> Split:
    """Noise that is brighter for higher classes; read-only, as the views of shared memory are."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    noise = rng.integers(0, 128, (count, channels, side, side))
    images = (noise + (127 * labels // max(1, classes - 1))[:, None, None, None]).astype(np.uint8)
    images.flags.writeable = labels.flags.writeable = False
    return Split(images, labels)


def make_dataset(train: int = 20, side: int = 8, classes: int = 3, test: bool = True) -> Dataset:
    names = tuple(str(label) for label in range(classes))
    splits = [make_split(count, side, classes, seed) for seed, count in enumerate((train, 12, 15))]
    return Dataset("noise", names, splits[0], splits[1], splits[2] if test else None)


def device_data(**options: Any) -> DeviceData:
    return DeviceData(make_dataset(**options), CPU)


def run_config(model: dict[str, Any] | None = None, data: DataConfig = AUGMENTED, **train: Any) -> RunConfig:
    return RunConfig(
        ModelConfig(**({"arch": "resnet8"} | (model or {}))),
        data,
        TrainConfig(**({"epochs": 3, "batch_size": 8} | train)),
    )


def equal_states(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- steps and rates


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


# --- what arms share


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


# --- interruptions

LONG = run_config({"input_norm": "bn", "gamma": 0.2}, epochs=5, c=30.0)


def finish(run: TrainingRun) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Any]]:
    """Everything that a run ends with: weights, momentum, and what is recorded of it but the time it took."""
    while not run.done:
        run.train_epoch()
    momenta = [state["momentum_buffer"] for state in run.optimizer.state_dict()["state"].values()]
    result = run.result()
    kept = {"curve": result.curve, "scores": dict(result.scores), "status": result.status, "reason": result.reason}
    return run.model.state_dict(), momenta, kept


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[dict[str, Tensor], list[Tensor], dict[str, Any]]:
    return finish(TrainingRun(LONG, device_data(), 11, "test_accuracy"))


@pytest.mark.parametrize("boundary", [0, 1, 2, 3, 4, 5])
def test_a_resumed_run_equals_the_uninterrupted_one(uninterrupted: Any, boundary: int, tmp_path: Path) -> None:
    first = TrainingRun(LONG, device_data(), 11, "test_accuracy")
    for _ in range(boundary):
        first.train_epoch()
    first.started_at = "2020-02-02T20:20:20+00:00"
    CheckpointStore(tmp_path).save(first.state_dict())
    torch.manual_seed(boundary)
    second = TrainingRun(LONG, device_data(), 11, "test_accuracy")
    state = CheckpointStore(tmp_path).load(CPU)
    assert state is not None
    second.load_state_dict(state)
    assert (second.started_at, second.seconds) == (first.started_at, first.seconds)
    weights, momenta, kept = finish(second)
    assert equal_states(weights, uninterrupted[0])
    assert all(torch.equal(a, b) for a, b in zip(momenta, uninterrupted[1], strict=True))
    assert kept == uninterrupted[2]


def test_a_run_that_is_interrupted_after_every_epoch_is_the_same_too(uninterrupted: Any, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    run = TrainingRun(LONG, device_data(), 11, "test_accuracy")
    while not run.done:
        run.train_epoch()
        store.save(run.state_dict())
        run = TrainingRun(LONG, device_data(), 11, "test_accuracy")
        state = store.load(CPU)
        assert state is not None
        run.load_state_dict(state)
    weights, _, kept = finish(run)
    assert equal_states(weights, uninterrupted[0])
    assert kept == uninterrupted[2]


def test_the_weights_of_the_best_epoch_survive_an_interruption(tmp_path: Path) -> None:
    first = TrainingRun(LONG, device_data(), 11, "test_accuracy")
    first.train_epoch()
    assert first.best_weights is not None
    CheckpointStore(tmp_path).save(first.state_dict())
    second = TrainingRun(LONG, device_data(), 11, "test_accuracy")
    second.load_state_dict(CheckpointStore(tmp_path).load(CPU) or {})
    assert second.best_weights is not None
    assert equal_states(second.best_weights, first.best_weights)


def test_the_state_of_another_seed_is_refused() -> None:
    state = TrainingRun(run_config(), device_data(), 1).state_dict()
    with pytest.raises(ValueError, match="must be of seed 2, but got seed 1"):
        TrainingRun(run_config(), device_data(), 2).load_state_dict(state)


def test_bf16_trains_in_fp32_weights_and_resumes(tmp_path: Path) -> None:
    config, store = run_config(epochs=3, precision="bf16"), CheckpointStore(tmp_path)
    whole = finish(TrainingRun(config, device_data(), 1))
    run, computed = TrainingRun(config, device_data(), 1), set()
    run.model.register_forward_hook(lambda module, _x, y: computed.add((module.training, y.dtype)))
    run.train_epoch()
    assert computed == {(True, torch.bfloat16), (False, torch.bfloat16)}
    store.save(run.state_dict())
    resumed = TrainingRun(config, device_data(), 1)
    resumed.load_state_dict(store.load(CPU) or {})
    assert finish(resumed)[2] == whole[2]
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    exact = train(run_config(epochs=3), device_data(), 1).curve
    assert whole[2]["curve"] != exact
    assert whole[2]["curve"][0]["train_loss"] == pytest.approx(exact[0]["train_loss"], rel=0.05)


# --- outcomes


@pytest.mark.parametrize("metric", TEST_METRICS)
def test_a_loss_that_is_not_finite_ends_the_run_with_the_score_of_guessing(metric: str) -> None:
    run = TrainingRun(run_config(epochs=50, lr=1e30), device_data(classes=4), 1, metric)
    while not run.done:
        run.train_epoch()
    result = run.result()
    assert result.status == DIVERGED
    assert result.epochs == len(result.curve) < 50
    assert result.reason == f"loss not finite in epoch {result.epochs}"
    assert result.scores["val_accuracy"] == result.scores[metric] == run.val_accuracy == 25.0


def test_a_run_that_diverges_late_keeps_no_earlier_score(tmp_path: Path) -> None:
    run = TrainingRun(run_config(epochs=50, schedule="constant"), device_data(), 1, "test_accuracy")
    run.train_epoch()
    run.rates = [[1e30] * len(rates) for rates in run.rates]
    while not run.done:
        run.train_epoch()
    assert run.result().status == DIVERGED
    assert run.result().scores["test_accuracy"] == run.val_accuracy == pytest.approx(100 / 3)
    CheckpointStore(tmp_path).save(run.state_dict())
    resumed = TrainingRun(run.config, run.data, 1, "test_accuracy")
    resumed.load_state_dict(CheckpointStore(tmp_path).load(CPU) or {})
    assert resumed.done
    assert resumed.result().scores == run.result().scores


def misleading_validation() -> Dataset:
    """Validation and test call every class by the name of the next: who learns, gets worse there."""
    dataset = make_dataset(train=60)
    wrong = [Split(s.images, (s.labels + 1) % 3) for s in (dataset.val, dataset.test) if s is not None]
    return Dataset("wrong", dataset.classes, dataset.train, *wrong)


def test_the_two_test_scores_are_those_of_the_best_and_of_the_last_epoch() -> None:
    dataset = misleading_validation()
    assert dataset.test is not None
    images, labels = torch.tensor(dataset.test.images) / 255, torch.tensor(dataset.test.labels)
    config = run_config(epochs=8)
    watched = TrainingRun(config, DeviceData(dataset, CPU), 1)
    by_epoch = []
    while not watched.done:
        watched.train_epoch()
        model = copy.deepcopy(watched.model).eval()
        with torch.no_grad():
            by_epoch.append(100 * (model(images).argmax(1) == labels).double().mean().item())
    validation = [point["val_accuracy"] for point in watched.curve]
    best = int(np.argmax(validation))
    assert by_epoch[best] != by_epoch[-1], "the case must tell the two scores apart"
    scores = {m: train(config, DeviceData(dataset, CPU), 1, test_metric=m).scores for m in TEST_METRICS}
    assert scores["test_accuracy"]["test_accuracy"] == pytest.approx(by_epoch[best])
    assert scores["final_test_accuracy"]["final_test_accuracy"] == pytest.approx(by_epoch[-1])
    for found in scores.values():
        assert found["best_epoch"] == best + 1
        assert found["val_accuracy"] == max(validation)


def test_reading_the_score_leaves_the_run_as_it_was() -> None:
    run = TrainingRun(run_config(epochs=8), DeviceData(misleading_validation(), CPU), 1, "test_accuracy")
    while not run.done:
        run.train_epoch()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    assert run.best_weights is not None
    assert not equal_states(run.best_weights, before)
    assert run.result().scores == run.result().scores
    assert equal_states(run.model.state_dict(), before)


def test_the_result_of_a_whole_run() -> None:
    points = []
    result = train(run_config(), device_data(), 5, test_metric="test_accuracy", on_epoch=points.append)
    assert (result.status, result.seed, result.epochs, result.attempts) == (COMPLETED, 5, 3, 1)
    assert result.curve == tuple(points)
    assert set(result.scores) == {"val_accuracy", "best_epoch", "test_accuracy"}
    assert all(0 <= result.scores[name] <= 100 for name in ("val_accuracy", "test_accuracy"))
    assert result.device == "cpu"
    assert result.duration_seconds > 0
    assert result.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


def test_without_a_test_metric_the_test_images_are_not_needed() -> None:
    result = train(run_config(), device_data(test=False), 1)
    assert set(result.scores) == {"val_accuracy", "best_epoch"}


def test_a_test_metric_without_test_images_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="must be on the device for test_accuracy"):
        TrainingRun(run_config(), device_data(test=False), 1, "test_accuracy")


def test_an_unknown_test_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="final_test_accuracy or None, but got 'accuracy'"):
        TrainingRun(run_config(), device_data(), 1, "accuracy")


# --- evaluation


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


# An evaluation batch holds at most 2^20 pixels and at most 1,024 images.
@pytest.mark.parametrize(
    ("side", "images", "batches"), [(8, 1500, [1024, 476]), (256, 40, [16, 16, 8]), (1100, 2, [1, 1])]
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


def test_pixels_are_scaled_to_one_and_laid_out_channels_last() -> None:
    run, seen = TrainingRun(run_config(data=DataConfig()), device_data(), 1), []
    run.model.register_forward_pre_hook(lambda _module, x: seen.append(x[0]))
    run.train_epoch()
    assert all(x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    assert max(float(x.max()) for x in seen) == pytest.approx(make_dataset().train.images.max() / 255)
    assert run.model.conv1.weight.is_contiguous(memory_format=torch.channels_last)
