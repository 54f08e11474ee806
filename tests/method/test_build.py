"""The whole model: what stands before the network, and what two arms share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import InputBatchNorm2d, batchnorm_layers
from tune_bn.method.build import Standardize, build_model
from tune_bn.method.config import ModelConfig
from tune_bn.method.gated import GatedBatchNorm2d
from tune_bn.method.norms import NORMS
from tune_bn.method.resnet import build_network, initialize

STATISTICS = ([0.5, 0.25], [0.25, 0.5])


def build(seed: int = 0, **options: object) -> nn.Module:
    config = ModelConfig(**({"arch": "resnet8"} | options))  # type: ignore[arg-type]
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


@pytest.mark.parametrize("norm", ["base", "scaled"])
def test_with_gamma_one_the_network_is_the_plain_one_bit_for_bit(norm: str) -> None:
    plain = build_network("resnet8", 2, 5)
    initialize(plain, torch.Generator().manual_seed(3))
    built = build(3, norm=norm).state_dict()
    assert built.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, built[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("arch", ["resnet8", "torchvision/shufflenet_v2_x0_5"])
def test_arms_with_other_layers_start_from_the_same_weights(arch: str) -> None:
    reference = weights(build(arch=arch))
    for options in ({"norm": "rbn"}, {"norm": "iebn_star", "unit_gate": True}, {"gamma": {"linear": [1, 0.1]}}):
        arm = weights(build(arch=arch, **options))
        assert len(arm) == len(reference)
        assert all(map(torch.equal, arm, reference)), options


@pytest.mark.parametrize("norm", [name for name in NORMS if NORMS[name].layer])
def test_the_layers_of_the_rivals_get_their_gamma_too(norm: str) -> None:
    model = build(norm=norm, gamma={"per_stage": [0.1, 0.2, 0.3]}, unit_gate=True, input_norm="bn")
    layers = dict(batchnorm_layers(model))
    gated = {name: layer for name, layer in layers.items() if isinstance(layer, GatedBatchNorm2d)}
    assert layers.keys() - gated.keys() == {"input_norm"}
    effective = {name: layer.weight[0].item() * layer.initial_gate for name, layer in gated.items()}
    expected = {"bn1": 0.1} | {f"stages.{s}.0.bn{n}": g for s, g in enumerate((0.1, 0.2, 0.3)) for n in (1, 2)}
    assert effective == pytest.approx({f"network.{name}": value for name, value in expected.items()})
    assert layers["input_norm"].weight[0].item() == pytest.approx(0.058)


def test_shortcuts_may_stay_plain_and_branches_may_begin_at_zero() -> None:
    model = build(arch="resnet18", norm="iebn", plain_shortcuts=True, gamma=0.5, gamma_branch_end=0.0)
    layers = dict(batchnorm_layers(model))
    plain = {name for name, layer in layers.items() if not isinstance(layer, GatedBatchNorm2d)}
    assert plain == {f"layer{stage}.0.downsample.1" for stage in (2, 3, 4)}
    zero = {name for name, layer in layers.items() if not layer.weight.any()}
    assert zero == {f"layer{stage}.{block}.bn2" for stage in (1, 2, 3, 4) for block in (0, 1)}
    assert all((layer.weight == 0.5).all() for name, layer in layers.items() if name not in zero)


def test_a_network_that_cannot_be_treated_is_refused_where_it_is_built_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_own_built.py").write_text("from torch import nn\nnone = lambda **_: nn.LayerNorm(2)\n")
    with pytest.raises(MethodError, match=r"model\.arch: got 'users_own_built:none': LayerNorm without batch"):
        build(arch="users_own_built:none")
    with pytest.raises(MethodError, match=r"model\.gamma\.per_stage: got \[0\.1\]"):
        build(gamma={"per_stage": [0.1]})
