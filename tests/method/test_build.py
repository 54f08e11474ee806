"""The whole model: what stands before the network, and what two arms share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tune_bn.method.batchnorm import InputBatchNorm2d
from tune_bn.method.build import Standardize, build_model
from tune_bn.method.config import ModelConfig

STATISTICS = ([0.5, 0.25], [0.25, 0.5])


def build(seed: int = 0, **options: object) -> nn.Module:
    config = ModelConfig(arch="resnet8", **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    return build_model(config, in_channels=2, num_classes=5, generator=generator, channel_statistics=STATISTICS)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def scales(model: nn.Module) -> list[float]:
    return [
        value
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, InputBatchNorm2d)
        for value in module.weight.tolist()
    ]


@pytest.mark.parametrize("input_norm", ["none", "dataset", "bn"])
@pytest.mark.parametrize("gamma", [1.0, 0.1])
def test_arms_of_one_seed_start_from_the_same_weights(input_norm: str, gamma: float) -> None:
    reference = weights(build())
    arm = build(input_norm=input_norm, gamma=gamma)
    assert len(weights(arm)) == len(reference) == 8
    assert all(torch.equal(a, b) for a, b in zip(weights(arm), reference, strict=True))
    assert scales(arm) == pytest.approx(
        [gamma] * sum(layer.out_channels for layer in arm.modules() if isinstance(layer, nn.Conv2d))
    )


def test_another_seed_starts_elsewhere() -> None:
    assert not any(torch.equal(a, b) for a, b in zip(weights(build(0)), weights(build(1)), strict=True))


def test_the_input_layer_is_a_scaled_batchnorm_with_a_frozen_shift() -> None:
    front = build(input_norm="bn", gamma=0.5).input_norm
    assert isinstance(front, InputBatchNorm2d)
    assert front.weight.tolist() == pytest.approx([0.29, 0.29])
    assert front.bias.tolist() == [0, 0]
    assert not front.bias.requires_grad


def test_the_statistics_of_the_data_are_fixed_and_not_learned() -> None:
    model = build(input_norm="dataset")
    assert not list(model.input_norm.parameters())
    images = torch.rand(3, 2, 4, 5)
    out = model.input_norm(images)
    assert torch.allclose(out[:, 0], (images[:, 0] - 0.5) / 0.25)
    assert torch.allclose(out[:, 1], (images[:, 1] - 0.25) / 0.5)


def test_a_constant_channel_stays_finite() -> None:
    out = Standardize([0.5, 0.0], [0.25, 0.0])(torch.zeros(1, 2, 1, 1))
    assert out.flatten().tolist() == [-2, 0]


def test_statistics_of_the_data_must_be_given_where_they_are_used() -> None:
    config = ModelConfig(arch="resnet8", input_norm="dataset")
    with pytest.raises(ValueError, match="channel_statistics"):
        build_model(config, in_channels=1, num_classes=2, generator=torch.Generator())


def test_without_input_norm_the_network_stands_alone() -> None:
    assert not hasattr(build(), "input_norm")
    assert build()(torch.rand(2, 2, 8, 8)).shape == (2, 5)
