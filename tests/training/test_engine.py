"""One engine for many runs: what is recorded once trains each of them as the plain step does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.noise import noise_dataset
from tests.training.recording import TapeRecorder
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset
from tune_bn.method.config import ModelConfig
from tune_bn.training import engine as engine_module
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData, architecture
from tune_bn.training.engine import Recorder, Step
from tune_bn.training.loop import TrainingRun, train

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]

CPU = torch.device("cpu")
CONFIG = RunConfig(
    ModelConfig(arch="resnet8", gamma=0.5),
    DataConfig(flip=True, crop_padding=1),
    TrainConfig(epochs=3, batch_size=8, lr=0.1, c=10.0),
)


@pytest.fixture
def dataset() -> Dataset:
    return noise_dataset()


def as_written(step: Step, warm_up: Step) -> Step:
    """A recorder that records nothing, so that an engine is shared and the step is the plain one."""
    return step


class Recorders:
    """Makes tape recorders and keeps them."""

    def __init__(self) -> None:
        self.made: list[TapeRecorder] = []

    def __call__(self) -> Recorder:
        self.made.append(TapeRecorder())
        return self.made[-1]


def changed(config: RunConfig, model: dict[str, Any] | None = None, **train: Any) -> RunConfig:
    return RunConfig(replace(config.model, **(model or {})), config.data, replace(config.train, **train))


TRIALS = [
    (CONFIG, 1),
    (changed(CONFIG, {"gamma": 0.05}, c=300.0, lr=0.03), 1),
    (changed(CONFIG, {"gamma": {"per_stage": [0.1, 0.2, 0.3]}, "gamma_branch_end": 0.0}, epochs=2), 2),
    (RunConfig(ModelConfig(arch="resnet8", norm="base"), CONFIG.data, replace(CONFIG.train, c=1.0)), 3),
    (changed(CONFIG, schedule="constant"), 4),
]


def outcome(run: TrainingRun) -> tuple[Any, dict[str, Tensor], list[Tensor]]:
    """Curve, scores, weights and momentum of a run, trained to its end."""
    while not run.done:
        run.train_epoch()
    scores = dict(run.result().scores)
    run.engine.hold(run)
    state = run.engine.state().copy()
    return (run.curve, scores), dict(state.model), list(state.momenta or ())


def assert_equal(found: tuple[Any, dict[str, Tensor], list[Tensor]], expected: Any) -> None:
    assert found[0] == expected[0]
    assert [name for name, value in found[1].items() if not torch.equal(value, expected[1][name])] == []
    assert all(torch.equal(a, b) for a, b in zip(found[2], expected[2], strict=True))


# --- what is recorded


@pytest.mark.parametrize(
    "data_config", [CONFIG.data, DataConfig(), DataConfig(crop_size=6), DataConfig(crop_scale=[0.3, 1])]
)
def test_one_recording_trains_every_trial_and_seed_as_the_plain_step_does(
    dataset: Dataset, data_config: DataConfig
) -> None:
    recorders = Recorders()
    data = DeviceData(dataset, CPU, recorder=recorders)
    for config, seed in TRIALS:
        config = replace(config, data=data_config)
        run = TrainingRun(config, data, seed, "test_accuracy")
        assert run.engine.recorded
        alone = DeviceData(dataset, CPU, recorder=lambda: as_written)
        assert_equal(outcome(run), outcome(TrainingRun(config, alone, seed, "test_accuracy")))
    # Full batches and the short last one, for one engine.
    assert [recorder.recorded for recorder in recorders.made] == [2]


def test_the_fused_update_is_that_of_the_plain_optimizer(dataset: Dataset) -> None:
    fused = train(CONFIG, DeviceData(dataset, CPU, recorder=TapeRecorder), 1).curve
    plain = train(CONFIG, DeviceData(dataset, CPU), 1).curve
    for found, expected in zip(fused, plain, strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)
        assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-3)


def test_runs_that_take_turns_do_not_touch_each_other(dataset: Dataset) -> None:
    recorders = Recorders()
    data = DeviceData(dataset, CPU, recorder=recorders)
    runs = [TrainingRun(config, data, seed, "test_accuracy") for config, seed in TRIALS[:3]]
    while not all(run.done for run in runs):
        for run in runs:
            if not run.done:
                run.train_epoch()
    assert len(recorders.made) == 1
    for run, (config, seed) in zip(runs, TRIALS, strict=False):
        alone = DeviceData(dataset, CPU, recorder=lambda: as_written)
        assert_equal(outcome(run), outcome(TrainingRun(config, alone, seed, "test_accuracy")))


def test_a_run_on_a_shared_engine_resumes(dataset: Dataset) -> None:
    data = DeviceData(dataset, CPU, recorder=TapeRecorder)
    whole = outcome(TrainingRun(CONFIG, data, 1))
    first = TrainingRun(CONFIG, data, 1)
    first.train_epoch()
    state = first.state_dict()
    state = state | {"model": {n: v.clone() for n, v in state["model"].items()}}
    state = state | {"momenta": [momentum.clone() for momentum in state["momenta"]]}
    first.train_epoch()
    second = TrainingRun(CONFIG, data, 1)
    second.load_state_dict(state)
    assert_equal(outcome(second), whole)


def test_a_finished_run_leaves_nothing_to_the_next(dataset: Dataset) -> None:
    data = DeviceData(dataset, CPU, recorder=TapeRecorder)
    first = outcome(TrainingRun(CONFIG, data, 1))
    bad = TrainingRun(changed(CONFIG, lr=1e30), data, 2)
    while not bad.done:
        bad.train_epoch()
    assert bad.diverged
    assert_equal(outcome(TrainingRun(CONFIG, data, 1)), first)


NOISY = """
import torch
from torch import nn

class Drop(nn.Module):
    def forward(self, x):
        return x * (torch.rand(1) + 0.5) if self.training else x

def on_the_host(in_channels, num_classes):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), Drop(),
                         nn.Flatten(), nn.Linear(4, num_classes))

class Counter(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += self.training
        return x * (1 + 0.5 * self.calls)

def by_counting(in_channels, num_classes):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), Counter(),
                         nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.mark.parametrize(
    ("function", "reason"),
    [("on_the_host", "draws random numbers on the host"), ("by_counting", "another loss and accuracy")],
)
def test_a_step_that_would_not_be_the_same_is_not_recorded(
    function: str, reason: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "users_noise.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    config = RunConfig(ModelConfig(arch=f"users_noise:{function}"), train=TrainConfig(epochs=1, batch_size=8))
    with pytest.warns(UserWarning, match=reason):
        run = TrainingRun(config, DeviceData(dataset, CPU, recorder=TapeRecorder), 1)
    assert not run.engine.recorded


def test_networks_of_the_user_are_not_shared(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_plain.py").write_text(NOISY.replace("Drop(),", "").replace("on_the_host", "plain"))
    monkeypatch.syspath_prepend(tmp_path)
    config = RunConfig(ModelConfig(arch="users_plain:plain"), train=TrainConfig(epochs=1, batch_size=8))
    data = DeviceData(dataset, CPU, recorder=TapeRecorder)
    runs = [TrainingRun(config, data, seed) for seed in (1, 2)]
    assert all(run.engine.recorded for run in runs)
    assert runs[0].engine is not runs[1].engine


def test_what_cannot_be_recorded_runs_as_it_is_written(dataset: Dataset) -> None:
    def refusing(step: Step, warm_up: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with pytest.warns(UserWarning, match=r"cannot be recorded \(operation not permitted when stream is capturing\)"):
        run = TrainingRun(CONFIG, DeviceData(dataset, CPU, recorder=lambda: refusing), 1)
    expected = TrainingRun(CONFIG, DeviceData(dataset, CPU, recorder=lambda: as_written), 1)
    assert_equal(outcome(run), outcome(expected))


def test_a_device_that_is_full_is_an_error_of_the_run(dataset: Dataset) -> None:
    def full(step: Step, warm_up: Step) -> Step:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        TrainingRun(CONFIG, DeviceData(dataset, CPU, recorder=lambda: full), 1)


def test_set_up_is_paid_once_and_counted_apart(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DeviceData(dataset, CPU, recorder=TapeRecorder)
    first, second = (TrainingRun(CONFIG, data, seed) for seed in (1, 2))
    assert first.engine is second.engine
    assert first.seconds == second.seconds == 0
    assert 0 < second.setup_seconds < first.engine.setup_seconds <= first.setup_seconds
    assert first.result().setup_seconds == round(first.setup_seconds, 3)


def test_what_is_compiled_is_compiled_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def compile(module: nn.Module, *, dynamic: bool) -> Callable[[Tensor], Tensor]:
        assert not dynamic
        compiled.append(module)
        return lambda x: module(x)

    monkeypatch.setattr(torch, "compile", compile)
    data, config = DeviceData(dataset, CPU), changed(CONFIG, compile=True)
    for seed in (1, 2):
        run = TrainingRun(config, data, seed)
        assert_equal(outcome(run), outcome(TrainingRun(CONFIG, DeviceData(dataset, CPU), seed)))
        assert run.engine.setup_seconds > 0
    assert len(compiled) == 1


# --- which runs share an engine


@pytest.mark.parametrize(
    "other",
    [
        changed(CONFIG, {"gamma": 0.01}),
        changed(CONFIG, {"gamma_branch_end": 0.5}),
        changed(CONFIG, {"norm": "base", "gamma": 1.0}, c=1.0),
        changed(CONFIG, lr=0.5, c=3.0),
        changed(CONFIG, epochs=90, schedule="constant"),
    ],
)
def test_initial_values_and_rates_are_no_matter_of_the_step(other: RunConfig) -> None:
    assert architecture(other) == architecture(CONFIG)


@pytest.mark.parametrize(
    "other",
    [
        changed(CONFIG, {"arch": "resnet20"}),
        changed(CONFIG, {"norm": "rbn"}),
        changed(CONFIG, {"input_norm": "bn"}),
        changed(CONFIG, batch_size=16),
        changed(CONFIG, momentum=0.8),
        changed(CONFIG, weight_decay=0.01),
        changed(CONFIG, c_beta=2.0),
        changed(CONFIG, freeze_gamma=True),
        changed(CONFIG, precision="bf16"),
        changed(CONFIG, compile=True),
        replace(CONFIG, data=DataConfig(flip=False, crop_padding=1)),
    ],
)
def test_everything_else_is(other: RunConfig) -> None:
    assert architecture(other) != architecture(CONFIG)


def test_a_worker_keeps_the_engines_used_last(dataset: Dataset) -> None:
    data = DeviceData(dataset, CPU, recorder=lambda: as_written)

    def engine(momentum: float) -> Any:
        return TrainingRun(changed(CONFIG, momentum=momentum), data, 1).engine

    first, second = engine(0.1), engine(0.2)
    assert engine(0.1) is first
    engine(0.3)
    assert engine(0.1) is first
    assert engine(0.2) is not second


# --- gradients


class Transposed(nn.Module):
    """Its parameter lies in memory otherwise than the gradient that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5).t())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize("make", [Transposed, lambda: nn.Linear(5, 3)])
def test_gradients_lie_as_their_parameters_do(make: Callable[[], nn.Module]) -> None:
    model, x = make(), torch.randn(4, 5)
    model(x).sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    # As where a library lays out gradients as it likes.
    for parameter in model.parameters():
        if isinstance(model, Transposed):
            parameter.grad = parameter.grad.contiguous()
    keep = engine_module._keep_gradients_if_laid_out_otherwise(model)
    assert keep == isinstance(model, Transposed)
    if keep:
        model(x).sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert parameter.grad.stride() == parameter.stride()
        assert torch.allclose(parameter.grad, gradient)


def test_a_step_does_not_warn(dataset: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TrainingRun(CONFIG, DeviceData(dataset, CPU, recorder=TapeRecorder), 1).train_epoch()
