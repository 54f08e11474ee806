"""What belongs to a modern recipe, against plain loops written out here: equal bit for bit, also in a recorded step."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.noise import noise_dataset
from tests.training.recording import TapeRecorder
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset
from tune_bn.errors import ConfigError
from tune_bn.method.build import build_model
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData, architecture
from tune_bn.training.engine import Step
from tune_bn.training.loop import TrainingRun
from tune_bn.training.optimizer import learning_rates
from tune_bn.training.seeds import make_generators

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]

CPU = torch.device("cpu")
GAMMA, C, SEED = 0.1, 100.0, 3


@pytest.fixture
def dataset() -> Dataset:
    return noise_dataset()


def config_of(**train: Any) -> RunConfig:
    course = {"epochs": 5, "batch_size": 8, "lr": 0.05, "c": C, "weight_decay": 0.01} | train
    return RunConfig(ModelConfig(arch="resnet8", gamma=GAMMA), DataConfig(), TrainConfig(**course))


# --- plain loops


def cosine(epoch: int, epochs: int, rate: float) -> float:
    return 1e-8 + (rate - 1e-8) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def by_steps(epoch: int, epochs: int, rate: float) -> float:
    return rate * 0.1 ** ((epoch >= epochs / 2) + (epoch >= 3 * epochs / 4))


def constant(epoch: int, epochs: int, rate: float) -> float:
    return rate


def one_cycle(epoch: int, epochs: int, rate: float) -> float:
    """Smith & Topin (2018) in the form of torch: half a cosine up from 1/25, half a cosine down to 1/250,000."""
    top, last = 0.3 * epochs - 1, epochs - 1
    low, end = rate / 25, rate / 25 / 1e4
    if epoch <= top:
        return rate + (low - rate) / 2 * (1 + math.cos(math.pi * epoch / top))
    return end + (rate - end) / 2 * (1 + math.cos(math.pi * (epoch - top) / (last - top)))


def plain_training(
    dataset: Dataset,
    rate_of: Callable[[int, int, float], float],
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    *,
    lr: float = 0.05,
    epochs: int = 5,
    warmup: int = 0,
    smoothing: float = 0.0,
    decay: float | None = None,
) -> list[tuple[dict[str, Tensor], tuple[float, ...]]]:
    """The weights that are scored, with training loss, validation loss and accuracy, after each epoch."""
    generators = make_generators(SEED, CPU)
    model = build_model(
        ModelConfig(arch="resnet8", gamma=GAMMA), in_channels=3, num_classes=3, generator=generators.init
    ).to(memory_format=torch.channels_last)
    gammas = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    shifts = [m.bias for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.Linear)]
    taken = {id(p) for p in (*gammas, *shifts)}
    weights = [p for p in model.parameters() if id(p) not in taken]
    bases = (lr, lr, lr / C)
    optimizer = make(
        [
            {"params": weights, "lr": lr, "weight_decay": 0.01},
            {"params": shifts, "lr": lr, "weight_decay": 0.0},
            {"params": gammas, "lr": lr / C, "weight_decay": 0.0},
        ]
    )
    mean: dict[str, Tensor] | None = None
    found = []
    for epoch in range(epochs):
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = rate_of(epoch - warmup, epochs - warmup, base)
            if epoch < warmup:
                group["lr"] = base * (0.01 + 0.99 * epoch / warmup)
        order = torch.randperm(len(dataset.train), generator=generators.order)
        model.train()
        total = 0.0
        for part in torch.split(order, 8):
            images = torch.tensor(dataset.train.images[part.numpy()].astype(np.float32) / np.float32(255))
            labels = torch.tensor(dataset.train.labels[part.numpy()])
            optimizer.zero_grad()
            logits = model(images.to(memory_format=torch.channels_last))
            soft = F.one_hot(labels, 3) * (1 - smoothing) + smoothing / 3
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            assert loss.item() == pytest.approx(-(soft * F.log_softmax(logits, 1)).sum(1).mean().item(), rel=1e-5)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(labels)
            now = {name: value.detach().clone() for name, value in model.state_dict().items()}
            if decay is not None and mean is not None:
                for name, value in now.items():
                    if value.is_floating_point():
                        value = mean[name].lerp(value, 1 - decay)
                    mean[name] = value
            else:
                mean = now
        assert mean is not None
        scored = mean if decay is not None else now
        model.eval()
        with torch.no_grad():
            images = torch.tensor(dataset.val.images.astype(np.float32) / np.float32(255))
            logits = torch.func.functional_call(model, scored, (images.to(memory_format=torch.channels_last),))
            labels = torch.tensor(dataset.val.labels)
            losses = F.cross_entropy(logits, labels).item(), 100 * int((logits.argmax(1) == labels).sum()) / 12
        found.append(({name: value.clone() for name, value in scored.items()}, (total / 28, *losses)))
    return found


def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


def nesterov(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.999), eps=1e-8)


RECIPES: dict[str, tuple[dict[str, Any], Callable[..., float], Any, dict[str, Any]]] = {
    "plain": ({}, cosine, sgd, {}),
    "steps": ({"schedule": "step"}, by_steps, sgd, {}),
    "cycle": ({"schedule": "one_cycle", "label_smoothing": 0.1}, one_cycle, sgd, {"smoothing": 0.1}),
    "nesterov": ({"nesterov": True, "warmup_epochs": 2}, cosine, nesterov, {"warmup": 2}),
    "adamw": ({"optimizer": "adamw", "lr": 0.003}, cosine, adamw, {"lr": 0.003}),
    "average": ({"ema": 0.8, "schedule": "constant"}, constant, sgd, {"decay": 0.8}),
    "all with sgd": (
        {"nesterov": True, "warmup_epochs": 1, "label_smoothing": 0.2, "schedule": "step", "ema": 0.9},
        by_steps,
        nesterov,
        {"warmup": 1, "smoothing": 0.2, "decay": 0.9},
    ),
    "all with adamw": (
        {"optimizer": "adamw", "lr": 0.003, "warmup_epochs": 2, "label_smoothing": 0.1, "ema": 0.7},
        cosine,
        adamw,
        {"lr": 0.003, "warmup": 2, "smoothing": 0.1, "decay": 0.7},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_plain_loop_epoch_by_epoch(name: str, dataset: Dataset) -> None:
    train, rate_of, make, plain = RECIPES[name]
    run = TrainingRun(config_of(**train), DeviceData(dataset, CPU), SEED, "final_test_accuracy")
    for weights, (train_loss, val_loss, val_accuracy) in plain_training(dataset, rate_of, make, **plain):
        point = run.train_epoch()
        found = run.scored.state_dict()
        # Schedules by torch go from rate to rate, which rounds in the last digit now and then.
        assert [key for key in weights if not torch.allclose(found[key], weights[key], rtol=1e-4, atol=1e-6)] == []
        assert point["train_loss"] == pytest.approx(train_loss, rel=1e-5)
        assert point["val_loss"] == pytest.approx(val_loss, rel=1e-4)
        assert point["val_accuracy"] == val_accuracy
    assert run.done


@pytest.mark.parametrize("name", ["average", "nesterov", "adamw", "all with adamw"])
def test_where_no_rate_is_rounded_it_is_so_bit_for_bit(name: str, dataset: Dataset) -> None:
    train, _, make, plain = RECIPES[name]
    run = TrainingRun(config_of(**train | {"schedule": "constant"}), DeviceData(dataset, CPU), SEED)
    for weights, (train_loss, val_loss, _) in plain_training(dataset, constant, make, **plain):
        point = run.train_epoch()
        found = run.scored.state_dict()
        assert [key for key in weights if not torch.equal(found[key], weights[key])] == []
        assert (point["train_loss"], point["val_loss"]) == (train_loss, val_loss)


def test_the_average_is_torchs_own(dataset: Dataset) -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    run = TrainingRun(config_of(ema=0.8), DeviceData(dataset, CPU), SEED)
    own = AveragedModel(run.model, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)  # type: ignore[no-untyped-call]
    step = run.optimizer.step

    def counted(*given: Any) -> Any:
        done = step(*given)
        own.update_parameters(run.model)
        return done

    run.optimizer.step = counted  # type: ignore[method-assign]
    run.train_epoch()
    run.train_epoch()
    expected = own.module.state_dict()
    for key, value in run.scored.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key], rtol=1e-6, atol=1e-7)
    assert not torch.equal(run.scored.state_dict()["conv1.weight"], run.model.state_dict()["conv1.weight"])


# --- learning rates


@pytest.mark.parametrize("schedule", ["constant", "step", "one_cycle", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_gamma_learns_at_its_own_rate_throughout(schedule: str, warmup: int) -> None:
    if schedule == "one_cycle" and warmup:
        return
    course = TrainConfig(epochs=12, lr=0.4, c=50.0, c_beta=4.0, schedule=schedule, warmup_epochs=warmup)
    table = np.array(learning_rates(course, ["weights", "beta", "gamma"]))
    assert table.shape == (12, 3)
    end = np.where(np.arange(12) >= warmup, 1e-8, 0.0) if schedule == "cosine" else 0.0
    np.testing.assert_allclose((table[:, 0] - end) / (table[:, 1] - end), 4, rtol=1e-4)
    np.testing.assert_allclose((table[:, 0] - end) / (table[:, 2] - end), 50, rtol=1e-4)
    if warmup:
        np.testing.assert_allclose(table[:4, 0], [0.004, 0.136, 0.268, 0.4], rtol=1e-12)


@pytest.mark.parametrize(("warmup", "epochs"), [(0, 8), (2, 10), (5, 30)])
def test_a_warm_up_is_that_of_torchvisions_recipes(warmup: int, epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    rest = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs - warmup, eta_min=1e-8)
    whole: Any = rest
    if warmup:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
        first = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=warmup)
        rest = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs - warmup, eta_min=1e-8)
        whole = torch.optim.lr_scheduler.SequentialLR(optimizer, [first, rest], milestones=[warmup])
    expected = []
    for _ in range(epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SequentialLR's own call of its schedules
            whole.step()
    course = TrainConfig(epochs=epochs, lr=0.4, warmup_epochs=warmup)
    found = [rates[0] for rates in learning_rates(course, ["weights"])]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 30])
def test_short_runs_have_rates_too(epochs: int) -> None:
    for schedule in ("step", "one_cycle", "cosine", "constant"):
        rates = learning_rates(TrainConfig(epochs=epochs, schedule=schedule), ["weights", "gamma"])
        assert len(rates) == epochs
        assert all(0 < rate <= 0.1 + 1e-12 for pair in rates for rate in pair)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"warmup_epochs": 5}, "warmup_epochs: got 5; accepted: an integer from 0 to 4"),
        ({"warmup_epochs": 1, "schedule": "one_cycle"}, "warmup_epochs: got 1; accepted: 0 with schedule: one_cycle"),
        ({"warmup_epochs": -1}, "warmup_epochs: got -1"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov: got True; accepted: false, or optimizer: sgd with a momentum"),
        ({"nesterov": True, "optimizer": "adamw"}, "nesterov: got True"),
        ({"label_smoothing": 1.0}, "label_smoothing: got 1.0"),
        ({"ema": 1.0}, "ema: got 1.0"),
        ({"ema": 0.0}, "ema: got 0.0"),
        ({"optimizer": "adam"}, "optimizer: got 'adam'; accepted: sgd | adamw"),
        ({"schedule": "linear"}, "accepted: cosine | constant | one_cycle | step"),
    ],
)
def test_keys_that_do_not_go_together(train: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainConfig(**{"epochs": 5} | train)
    assert words in str(error.value)


# --- one engine for many runs


def as_written(step: Step, warm_up: Step) -> Step:
    return step


def outcome(run: TrainingRun) -> tuple[Any, dict[str, Tensor], list[Tensor]]:
    while not run.done:
        run.train_epoch()
    scores = dict(run.result().scores)
    run.engine.hold(run)
    state = run.engine.state().copy()
    return (run.curve, scores), dict(run.scored.state_dict()), list(state.momenta or ())


def assert_equal(found: Any, expected: Any) -> None:
    assert found[0] == expected[0]
    assert [name for name, value in found[1].items() if not torch.equal(value, expected[1][name])] == []
    assert len(found[2]) == len(expected[2])
    assert all(torch.equal(a, b) for a, b in zip(found[2], expected[2], strict=True))


@pytest.mark.parametrize("name", ["nesterov", "adamw", "average", "all with adamw"])
@pytest.mark.parametrize("metric", ["test_accuracy", "final_test_accuracy"])
def test_one_recording_serves_all_runs_of_a_recipe(name: str, metric: str, dataset: Dataset) -> None:
    made: list[TapeRecorder] = []

    def recorder() -> TapeRecorder:
        made.append(TapeRecorder())
        return made[-1]

    data, first = DeviceData(dataset, CPU, recorder=recorder), config_of(**RECIPES[name][0])
    other = RunConfig(
        replace(first.model, gamma=1.0), first.data, replace(first.train, lr=0.001, c=1.0, schedule="step", epochs=4)
    )
    for config, seed in ((first, 1), (other, 1), (first, 2), (first, 1)):
        run = TrainingRun(config, data, seed, metric)
        assert run.engine.recorded
        alone = DeviceData(dataset, CPU, recorder=lambda: as_written)
        assert_equal(outcome(run), outcome(TrainingRun(config, alone, seed, metric)))
    assert [recorder.recorded for recorder in made] == [2]


@pytest.mark.parametrize("name", ["adamw", "all with adamw", "all with sgd"])
def test_the_fused_step_is_the_plain_one_but_for_rounding(name: str, dataset: Dataset) -> None:
    config = config_of(**RECIPES[name][0])
    plain = TrainingRun(config, DeviceData(dataset, CPU), 1)
    fused = TrainingRun(config, DeviceData(dataset, CPU, recorder=TapeRecorder), 1)
    for _ in range(2):
        found, expected = fused.train_epoch(), plain.train_epoch()
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)
        assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-3)


@pytest.mark.parametrize("recorder", [None, TapeRecorder])
@pytest.mark.parametrize("name", ["all with adamw", "all with sgd", "cycle"])
def test_a_resumed_run_is_the_uninterrupted_one(name: str, recorder: Any, dataset: Dataset) -> None:
    config = config_of(**RECIPES[name][0])
    whole = outcome(TrainingRun(config, DeviceData(dataset, CPU, recorder=recorder), 1, "test_accuracy"))
    first = TrainingRun(config, DeviceData(dataset, CPU, recorder=recorder), 1, "test_accuracy")
    first.train_epoch()
    first.train_epoch()
    stream = io.BytesIO()
    torch.save(first.state_dict(), stream)
    stream.seek(0)
    second = TrainingRun(config, DeviceData(dataset, CPU, recorder=recorder), 1, "test_accuracy")
    second.load_state_dict(torch.load(stream, weights_only=True))
    assert_equal(outcome(second), whole)


def test_what_belongs_to_the_step_has_an_engine_of_its_own() -> None:
    plain = config_of()
    for change in ({"nesterov": True}, {"optimizer": "adamw"}, {"label_smoothing": 0.1}, {"ema": 0.9}):
        assert architecture(config_of(**change)) != architecture(plain)
    for change in ({"warmup_epochs": 3}, {"schedule": "one_cycle"}, {"lr": 0.2}, {"c": 3.0}):
        assert architecture(config_of(**change)) == architecture(plain)


def test_adamw_lets_no_gamma_decay(dataset: Dataset) -> None:
    """Without a gradient what decays shrinks, and nothing else moves."""
    config = config_of(optimizer="adamw", weight_decay=0.5)
    for recorder in (None, lambda: as_written):
        run = TrainingRun(config, DeviceData(dataset, CPU, recorder=recorder), SEED)
        before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        for parameter in run.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        run.optimizer.step()
        moved = {name for name, value in run.model.named_parameters() if not torch.equal(value, before[name])}
        assert moved == {name for name, value in before.items() if value.ndim > 1}
