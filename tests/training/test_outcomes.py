"""Outcomes beside the claimed score, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, recall_score

from tune_bn.training.outcomes import PerImage


def test_they_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    logits, labels = 2 * torch.randn(203, 5, generator=generator), torch.randint(0, 5, (203,), generator=generator)
    gathered = PerImage()
    for part in (slice(0, 64), slice(64, 128), slice(128, 203)):
        gathered.add(logits[part], labels[part])
    found, bits = gathered.summary()
    p, y = torch.softmax(logits.double(), 1).numpy(), labels.numpy()
    right = p.argmax(1) == y
    assert found["images"] == 203
    assert found["right"] == right.sum()
    assert np.array_equal(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little", count=203), right)
    assert found["loss"] == pytest.approx(log_loss(y, p), rel=1e-6)
    assert found["brier"] == pytest.approx(np.mean(np.sum((p - np.eye(5)[y]) ** 2, 1)), rel=1e-6)
    assert found["worst_class"] == pytest.approx(100 * recall_score(y, p.argmax(1), average=None).min())
    confidence, error = p.max(1), 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert found["calibration_error"] == pytest.approx(error, rel=1e-5)


def test_a_class_without_images_is_not_the_worst():
    gathered = PerImage()
    gathered.add(torch.eye(4)[[0, 2]], torch.tensor([0, 2]))
    assert gathered.summary()[0]["worst_class"] == 100.0


def test_what_is_not_finite_is_left_out():
    gathered = PerImage()
    gathered.add(torch.tensor([[float("inf"), 0.0], [0.0, 1.0]]), torch.tensor([1, 1]))
    found, _ = gathered.summary()
    assert not {"loss", "brier", "calibration_error"} & set(found)
    assert found["images"] == 2
