"""Divergence, and what a run scores."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.small_runs import CPU, TEST_METRICS, device_data, equal_states, make_dataset, run_config
from tune_bn.data.dataset import Dataset, Split
from tune_bn.protocols.trainer import COMPLETED, DIVERGED
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun, train


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
