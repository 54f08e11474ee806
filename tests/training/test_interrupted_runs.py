"""A run that is interrupted equals the one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.small_runs import CPU, device_data, equal_states, run_config
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.training.loop import TrainingRun, train

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
