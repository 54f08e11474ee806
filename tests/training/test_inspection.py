"""Diagnostics of runs: what they compare, on which images, and that the run does not notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.method.batchnorm import SIGMA_ACT, batchnorm_layers
from tune_bn.method.config import ModelConfig
from tune_bn.training import inspection
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.inspection import images_of, inspect_model, inspect_run, try_to_inspect
from tune_bn.training.loop import TrainingRun

CONFIG = RunConfig(
    ModelConfig(arch="resnet8", gamma=0.2),
    DataConfig(source="digits", train_size=300, val_size=40, test_size=40),
    TrainConfig(epochs=2, batch_size=32),
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data() -> DeviceData:
    return DeviceData(load_dataset(CONFIG.data), torch.device("cpu"))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def test_a_run_is_compared_with_its_own_start_and_goes_on_as_if_nothing_had_happened(data: DeviceData) -> None:
    undisturbed, run = TrainingRun(CONFIG, data, 1), TrainingRun(CONFIG, data, 1)
    for one in (undisturbed, run):
        one.train_epoch()
    state = torch.get_rng_state()
    found = inspect_run(run)
    assert torch.equal(torch.get_rng_state(), state)
    for one in (undisturbed, run):
        one.train_epoch()
    own, expected = run.state_dict(), undisturbed.state_dict()
    for clock in ("seconds", "started_at"):
        del own[clock], expected[clock]
    assert equal(own, expected)

    assert (found.seed, found.epoch, found.images, found.gradient_images) == (1, 1, 256, 32)
    assert [layer.name for layer in found.layers][:2] == ["bn1", "stages.0.0.bn1"]
    for layer in found.layers:
        assert layer.gamma.initial == pytest.approx(0.2)
        assert layer.gamma.drift is not None
        assert layer.gamma.drift > 0
        assert layer.gradient is not None
        assert layer.gradient.unit != layer.gradient.own


def test_gradients_are_those_of_the_first_step_whatever_was_learned(data: DeviceData) -> None:
    run = TrainingRun(CONFIG, data, 1)
    before = inspect_run(run)
    run.train_epoch()
    after = inspect_run(run)
    assert [layer.gradient for layer in after.layers] == [layer.gradient for layer in before.layers]
    assert [layer.normalized for layer in after.layers] != [layer.normalized for layer in before.layers]
    assert {layer.gamma.drift for layer in before.layers} == {0.0}


@pytest.mark.parametrize(
    ("model", "gammas"),
    [
        (ModelConfig(arch="resnet8", input_norm="bn", gamma=0.1), {"input_norm": SIGMA_ACT}),
        (ModelConfig(arch="resnet8", gamma={"per_stage": [0.1, 0.2, 0.3]}), {}),
        (ModelConfig(arch="resnet8", gamma=0.5, gamma_branch_end=0.0), {}),
        # γ·gate = 1: RBN's gate is sigmoid(1).
        (ModelConfig(arch="resnet8", gamma=0.5, norm="rbn", unit_gate=True), dict.fromkeys(["bn1"], 1.3678795)),
    ],
    ids=["input norm", "by stage", "zero at the end of branches", "unit gate"],
)
def test_the_counterpart_with_unit_gamma_has_the_same_weights(
    data: DeviceData, monkeypatch: pytest.MonkeyPatch, model: ModelConfig, gammas: dict[str, float]
) -> None:
    config, given = replace(CONFIG, model=model), dict[str, Any]()
    first_gradients = inspection.first_gradients
    monkeypatch.setattr(
        inspection, "first_gradients", lambda *args: given.update(start=args[0], unit=args[3]) or first_gradients(*args)
    )
    found = inspect_run(TrainingRun(config, data, 1))
    plain = TrainingRun(config, data, 1).model
    assert equal(dict(given["start"].state_dict()), dict(plain.state_dict()))
    names = [name for name, _ in batchnorm_layers(plain)]
    assert set(given["unit"]) == set(names) == {layer.name for layer in found.layers}
    for name, gamma in given["unit"].items():
        expected = gammas.get(name, gammas.get("bn1", 1.0))
        assert gamma.detach().tolist() == pytest.approx([expected] * len(gamma))


@pytest.mark.parametrize("count", [7, 256, 300, 1000])
def test_the_images_are_spread_over_all_that_is_stored(data: DeviceData, count: int) -> None:
    images, labels = images_of(data, CONFIG.data, count)
    used = min(count, 300)
    assert images.shape == (used, 1, 8, 8)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    index = [place * 300 // used for place in range(used)]
    assert torch.equal(images * 255, data.train.images[index].float())
    assert torch.equal(labels, data.train.labels[index])
    # Every class is seen, whatever the stored order.
    assert used < 50 or set(labels.tolist()) == set(range(10))


def test_images_are_seen_as_in_evaluation(data: DeviceData) -> None:
    images, _ = images_of(data, replace(CONFIG.data, flip=True, crop_size=4), 300)
    assert torch.equal(images * 255, data.train.images[:, :, 2:6, 2:6].float())


def test_a_run_that_diverged_has_a_problem_instead_of_layers(data: DeviceData) -> None:
    run = TrainingRun(replace(CONFIG, train=replace(CONFIG.train, lr=1e30)), data, 1)
    run.train_epoch()
    assert run.diverged
    found = try_to_inspect(run)
    assert found.problem == "ValueError: the run diverged in epoch 1"
    assert (found.seed, found.layers) == (1, ())


def test_whatever_goes_wrong_becomes_one_line(data: DeviceData) -> None:
    run = TrainingRun(CONFIG, data, 1)
    run.model.fc = torch.nn.Linear(3, 10)
    problem = try_to_inspect(run).problem
    assert problem is not None
    assert problem.startswith("RuntimeError: ")
    assert "shapes cannot be multiplied" in problem
    assert "\n" not in problem


def test_a_network_is_inspected_before_its_first_step(data: DeviceData) -> None:
    model = TrainingRun(CONFIG, data, 1).model
    found = inspect_model(model, model, CONFIG, data, 1, epoch=0)
    assert found == inspect_run(TrainingRun(CONFIG, data, 1))
    assert found.epoch == 0
