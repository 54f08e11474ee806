"""scale_batchnorm warns where it overwrites a γ that was learned, and nowhere else."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import tune_bn


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def test_a_learned_gamma_is_not_overwritten_in_silence() -> None:
    model = network()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.9, 1.1, 1.0, 1.0]))
    with pytest.warns(UserWarning, match=r"overwrites the γ of 1 BN layers \(1\)") as caught:
        tune_bn.scale_batchnorm(model, gamma=0.1)
    assert caught[0].filename == __file__
    assert torch.equal(model[1].weight.detach(), torch.full((4,), 0.1))


@pytest.mark.parametrize("start", [1.0, 0.0, 0.3])
def test_a_constant_is_no_learned_gamma(start: float) -> None:
    model = network()
    nn.init.constant_(model[1].weight, start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tune_bn.scale_batchnorm(tune_bn.scale_batchnorm(model, gamma=0.5), gamma=0.1)
        tune_bn.scale_batchnorm(network().to("meta"), gamma=0.1)
        tune_bn.scale_batchnorm(nn.Sequential(nn.BatchNorm2d(1)), gamma=0.1)
