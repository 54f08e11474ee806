"""Initial values of γ, on networks of any make."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from scipy import integrate, stats
from torch import nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import SIGMA_ACT, InputBatchNorm2d, batchnorm_layers, initial_gammas, scale_batchnorm
from tune_bn.method.convert import convert
from tune_bn.method.resnet import build_network


def filled(module: nn.Module) -> float:
    """The one value that all of a layer's γ hold."""
    (value,) = set(module.weight.tolist())
    return float(value)


@pytest.mark.parametrize(
    ("arch", "layers"),
    # ResNets: one BN per convolution, the downsample convolutions of torchvision's included.
    [("resnet18", 20), ("resnet50", 53), ("resnet8", 7), ("resnet20", 19)],
)
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_every_layer_starts_at_gamma(arch: str, layers: int, gamma: float) -> None:
    model = build_network(arch, 3, 10)
    assert scale_batchnorm(model, gamma) is model
    found = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(found) == layers == len(list(batchnorm_layers(model)))
    for module in found:
        assert filled(module) == pytest.approx(gamma, rel=1e-7)
        assert not module.bias.any()
        assert not module.running_mean.any()
        assert (module.running_var == 1).all()


def test_gamma_one_leaves_a_new_network_bit_for_bit() -> None:
    model = torchvision.models.resnet18(num_classes=10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scale_batchnorm(model, gamma=1)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_only_gamma_changes() -> None:
    model = build_network("resnet20", 3, 10)
    scales = {f"{name}.weight" for name, _ in batchnorm_layers(model)}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scale_batchnorm(model, gamma=0.1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == scales


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4), nn.BatchNorm2d(4, bias=False)],
)
def test_all_kinds_of_batchnorm_count(layer: nn.Module) -> None:
    scale_batchnorm(nn.Sequential(nn.Linear(4, 4), layer), 0.2)
    assert filled(layer) == pytest.approx(0.2)


def test_a_frozen_gamma_is_set_and_stays_frozen() -> None:
    layer = nn.BatchNorm2d(3).requires_grad_(False)
    scale_batchnorm(layer, 0.3)
    assert filled(layer) == pytest.approx(0.3)
    assert not layer.weight.requires_grad


def test_other_normalization_layers_keep_their_scale() -> None:
    others = [nn.LayerNorm(4), nn.RMSNorm(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.Linear(4, 4)]
    before = [layer.weight.clone() for layer in others]
    scale_batchnorm(nn.Sequential(*others, nn.BatchNorm1d(4)), 0.1)
    assert all(torch.equal(layer.weight, old) for layer, old in zip(others, before, strict=True))


def test_layers_without_gamma_are_passed_over() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3))
    scale_batchnorm(model, 0.5)
    assert [name for name, _ in batchnorm_layers(model)] == ["1"]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), "it has GroupNorm"),
        (nn.Linear(2, 2), "got Linear without batch normalization;"),
        (nn.Sequential(nn.BatchNorm2d(3, affine=False)), "affine=True"),
        (nn.Sequential(nn.LazyBatchNorm2d()), "after its first forward pass"),
    ],
)
def test_a_network_that_has_no_gamma_is_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(MethodError, match=words) as caught:
        scale_batchnorm(model)
    assert "\n" not in str(caught.value)


def test_a_lazy_layer_is_taken_after_its_first_pass() -> None:
    model = nn.Sequential(nn.LazyBatchNorm2d())
    model(torch.randn(2, 3, 4, 4))
    scale_batchnorm(model, 0.1)
    assert model[0].weight.tolist() == pytest.approx([0.1] * 3)


def test_a_gamma_that_is_computed_is_refused_instead_of_silently_kept() -> None:
    class Double(nn.Module):
        def forward(self, scale: torch.Tensor) -> torch.Tensor:
            return 2 * scale

    layer = nn.BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Double())
    with pytest.raises(MethodError, match="computed from other tensors"):
        scale_batchnorm(nn.Sequential(layer))


@pytest.mark.parametrize("gamma", [0, -0.1, 1.0000001, math.nan, math.inf, True, "0.1", None])
def test_a_gamma_outside_its_range_is_refused_and_nothing_changes(gamma: object) -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    with pytest.raises(MethodError, match=r"gamma: got .*; accepted: a number in \(0, 1\]"):
        scale_batchnorm(model, gamma)  # type: ignore[arg-type]
    assert filled(model[0]) == 1


@pytest.mark.parametrize("gamma", [1, np.float32(0.5), np.float64(0.25)])
def test_any_real_number_is_a_gamma(gamma: float) -> None:
    model = scale_batchnorm(nn.Sequential(nn.BatchNorm2d(2)), gamma)
    assert filled(model[0]) == float(gamma)


def test_sigma_act_is_the_spread_of_a_rectified_normal_variable() -> None:
    mean, square = (integrate.quad(lambda z, k=k: z**k * stats.norm.pdf(z), 0, np.inf)[0] for k in (1, 2))
    spread = math.sqrt(square - mean**2)
    assert spread == pytest.approx(math.sqrt(1 / 2 - 1 / (2 * math.pi)), rel=1e-9)
    assert round(spread, 2) == SIGMA_ACT


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_the_input_layer_starts_at_a_fraction_of_gamma(gamma: float) -> None:
    model = nn.Sequential(InputBatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    scale_batchnorm(model, gamma)
    assert filled(model[0]) == pytest.approx(0.58 * gamma, rel=1e-6)
    assert filled(model[2]) == pytest.approx(gamma, rel=1e-6)
    assert not model[0].bias.requires_grad


def test_the_input_layer_gives_pixels_the_spread_of_an_activation() -> None:
    model = scale_batchnorm(nn.Sequential(InputBatchNorm2d(3)), 0.1)
    pixels = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    out = model(pixels)
    assert out.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    assert out.std(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([0.058] * 3, rel=1e-3)


# --- γ by place


def gammas(model: nn.Module) -> dict[str, float]:
    return {name: filled(layer) for name, layer in batchnorm_layers(model)}


def test_gamma_by_stage() -> None:
    model = scale_batchnorm(build_network("resnet8", 3, 10), {"per_stage": [0.1, 0.2, 0.4]})
    expected = {"bn1": 0.1} | {f"stages.{s}.0.bn{n}": g for s, g in enumerate((0.1, 0.2, 0.4)) for n in (1, 2)}
    assert gammas(model) == pytest.approx(expected)
    assert initial_gammas(model, {"per_stage": (0.1, 0.2, 0.4)}) == expected


def test_gamma_by_depth_is_a_line_from_the_first_layer_to_the_last() -> None:
    layers = [layer for width in (2, 3, 4, 5, 6) for layer in (nn.Identity(), nn.BatchNorm1d(width))]
    model = scale_batchnorm(nn.Sequential(*layers), {"linear": [1, 0.2]})
    assert list(gammas(model).values()) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert initial_gammas(nn.BatchNorm2d(3), {"linear": [0.3, 0.7]}) == {"": 0.3}


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4)],
    ids=lambda m: type(m).__name__,
)
def test_all_kinds_of_batchnorm_have_a_place(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(layer))
    assert gammas(scale_batchnorm(model, {"per_stage": [0.2, 0.5]}))["1.0"] == pytest.approx(0.5)
    assert gammas(scale_batchnorm(model, {"linear": [0.2, 0.9]}))["1.0"] == pytest.approx(0.9)


@pytest.mark.parametrize("end", [0, 0.0, 0.5, 1])
def test_the_ends_of_residual_branches_may_start_apart(end: float) -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    values = initial_gammas(model, 0.1, branch_end=end)
    ends = {name for name, module in model.named_modules() if name.startswith("layer") and name.endswith("bn2")}
    assert values == {name: float(end) if name in ends else 0.1 for name in values}
    assert len(ends) == 8


def test_with_zero_at_the_ends_the_blocks_begin_as_their_shortcuts() -> None:
    model = scale_batchnorm(build_network("resnet8", 3, 10), 0.5, branch_end=0).train()
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(model.stages[0](x), x)
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    # γ is there to learn: it must get a gradient where it is 0.
    assert all(layer.weight.grad.abs().sum() > 0 for name, layer in batchnorm_layers(model) if name.endswith("bn2"))


@pytest.mark.parametrize(("norm", "gate"), [("rbn", 1 / (1 + math.exp(-1))), ("iebn", 1 / (1 + math.exp(1)))])
def test_the_gate_is_made_up_for(norm: str, gate: float) -> None:
    model = convert(nn.Sequential(InputBatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm3d(3)), norm)
    plain = {"0": 0.058, "1": 0.1, "2": 0.1}
    assert gammas(scale_batchnorm(model, 0.1)) == pytest.approx(plain)
    assert gammas(scale_batchnorm(model, 0.1, unit_gate=True)) == pytest.approx(plain | {"1": 0.1 / gate})
    assert filled(scale_batchnorm(model, 1, unit_gate=True)[1]) > 1


@pytest.mark.parametrize(
    ("gamma", "first"), [(0.2, 0.2), ({"linear": [0.5, 0.1]}, 0.5), ({"per_stage": [0.3, 0.1]}, 0.3)]
)
def test_the_input_layer_goes_with_the_first_layer(gamma: object, first: float) -> None:
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3)))
    alone = initial_gammas(network, gamma)  # type: ignore[arg-type]
    behind = initial_gammas(nn.Sequential(InputBatchNorm2d(3), network), gamma, branch_end=None)  # type: ignore[arg-type]
    assert behind == {"0": pytest.approx(0.58 * first)} | {f"1.{name}": value for name, value in alone.items()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"gamma": {"per_stage": [0.1, 0.2]}},
            "gamma.per_stage: got [0.1, 0.2]; accepted: 3 values, one for each of the stages stages.0, stages.1, sta",
        ),
        ({"gamma": {"per_stage": []}}, "accepted: a number in (0, 1], {per_stage: [γ, …]} or {linear: [first, last]}"),
        ({"gamma": {"per_stage": [0.1, 0.2, 0]}}, "gamma: got {'per_stage': [0.1, 0.2, 0]}; accepted: a number"),
        ({"gamma": {"linear": [0.1]}}, "gamma: got {'linear': [0.1]}; accepted: a number"),
        ({"gamma": {"linear": 0.1}}, "gamma: got {'linear': 0.1}; accepted: a number"),
        ({"gamma": {"lines": [0.1, 0.2]}}, "gamma: got {'lines': [0.1, 0.2]}; accepted: a number"),
        ({"gamma": {}}, "gamma: got {}; accepted: a number"),
        ({"branch_end": 1.5}, "branch_end: got 1.5; accepted: None or a number in [0, 1]"),
        ({"branch_end": True}, "branch_end: got True; accepted: None or a number in [0, 1]"),
    ],
)
def test_a_place_that_is_not_accepted_changes_nothing(options: dict[str, object], words: str) -> None:
    model = build_network("resnet8", 3, 10)
    with pytest.raises(MethodError) as caught:
        scale_batchnorm(model, **options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert set(gammas(model).values()) == {1}


def test_networks_without_stages_or_branches_are_told_so() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(
        MethodError, match=r"got \[0\.1\]; accepted: a number or {linear: .*} for a network without stages"
    ):
        scale_batchnorm(model, {"per_stage": [0.1]})
    with pytest.raises(
        MethodError, match="branch_end: got 0; accepted: None for a network where no residual branch ends"
    ):
        scale_batchnorm(model, 0.1, branch_end=0)
