"""Conversion of whole networks: what is replaced, what is kept, and what is refused."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import InputBatchNorm2d, batchnorm_layers
from tune_bn.method.convert import convert
from tune_bn.method.iebn import InstanceEnhancementBatchNorm2d
from tune_bn.method.norms import NORMS
from tune_bn.method.rbn import RepresentativeBatchNorm2d
from tune_bn.method.resnet import build_network

KINDS = {
    "rbn": RepresentativeBatchNorm2d,
    "rbn_star": RepresentativeBatchNorm2d,
    "iebn": InstanceEnhancementBatchNorm2d,
    "iebn_star": InstanceEnhancementBatchNorm2d,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def vision(arch: str) -> nn.Module:
    model: nn.Module = getattr(torchvision.models, arch)(num_classes=4)
    return model


def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def names(model: nn.Module, kind: type[nn.Module]) -> set[str]:
    return {name for name, module in model.named_modules() if type(module) is kind}


@pytest.mark.parametrize("norm", ["rbn", "iebn"])
@pytest.mark.parametrize(
    # One BN per convolution.
    ("arch", "layers"),
    [("resnet18", 20), ("resnet50", 53), ("mobilenet_v2", 52)],
)
def test_every_layer_of_a_network_is_replaced_and_it_trains(arch: str, layers: int, norm: str) -> None:
    model = vision(arch)
    before = values(model)
    places = names(model, nn.BatchNorm2d)
    assert convert(model, norm) is model
    assert names(model, KINDS[norm]) == places
    assert len(places) == layers == len(list(batchnorm_layers(model)))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    added = {f"{place}.{parameter}" for place in places for parameter in KINDS[norm].gate_values}
    assert after.keys() - before.keys() == added
    model(images()).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    gates = [parameter.grad for name, parameter in model.named_parameters() if name in added]
    assert sum(bool(slope.any()) for slope in gates) > 0.9 * len(gates)


@pytest.mark.parametrize("norm", [name for name in NORMS if NORMS[name].layer])
def test_the_star_changes_no_layer(norm: str) -> None:
    assert type(convert(nn.BatchNorm2d(3), norm)) is KINDS[norm]


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "mobilenet_v2"])
def test_shortcuts_stay_plain_on_demand(arch: str) -> None:
    model = vision(arch)
    shortcuts = {name for name in names(model, nn.BatchNorm2d) if "downsample" in name}
    assert bool(shortcuts) == arch.startswith("resnet")
    convert(model, "iebn", plain_shortcuts=True)
    assert names(model, nn.BatchNorm2d) == shortcuts
    convert(model, "iebn")
    assert names(model, nn.BatchNorm2d) == set()


@pytest.mark.parametrize("norm", ["rbn", "iebn"])
def test_with_gamma_over_the_gate_the_network_computes_what_it_did(norm: str) -> None:
    model = vision("resnet18")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                    tensor.uniform_(0.5, 1.5)
    expected = model.eval()(images())
    convert(model, norm)
    assert not torch.allclose(model(images()), expected, rtol=0.1)
    for _, layer in batchnorm_layers(model):
        layer.weight.data /= layer.initial_gate
    torch.testing.assert_close(model(images()), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["rbn", "iebn"])
def test_a_new_layer_takes_over_all_of_the_old_one(norm: str) -> None:
    old = nn.BatchNorm2d(3, eps=0.5, momentum=None, dtype=torch.float64).eval()
    old.bias.requires_grad_(False)
    kept = {name: getattr(old, name) for name in ("weight", "bias", "eps", "momentum", "training", *values(old))}
    new = convert(old, norm)
    assert type(new) is KINDS[norm]
    assert [name for name, value in kept.items() if getattr(new, name) is not value] == []
    assert {value.dtype for value in new.parameters()} == {torch.float64}
    assert {name for name, value in new.named_parameters() if not value.requires_grad} == {"bias"}
    assert {value.device.type for value in convert(nn.BatchNorm2d(3, device="meta"), norm).state_dict().values()} == {
        "meta"
    }


@pytest.mark.parametrize("options", [{"track_running_stats": False}, {"bias": False}])
def test_what_a_layer_does_not_have_it_does_not_get(options: dict[str, bool]) -> None:
    old = nn.BatchNorm2d(3, **options)
    before = set(old.state_dict())
    assert set(convert(copy.deepcopy(old), "rbn").state_dict()) == before | set(RepresentativeBatchNorm2d.gate_values)


def test_a_shared_layer_stays_shared() -> None:
    bn = nn.BatchNorm2d(3)
    model = nn.ModuleDict({"a": nn.Sequential(OrderedDict(first=bn, again=bn)), "b": bn, "c": nn.BatchNorm2d(3)})
    model["c"].weight = bn.weight
    convert(model, "iebn")
    new = model["b"]
    assert isinstance(new, InstanceEnhancementBatchNorm2d)
    assert model["a"].first is model["a"].again is new
    assert model["c"] is not new
    assert model["c"].weight is new.weight


def test_layers_of_another_kind_stay() -> None:
    others = [
        InputBatchNorm2d(3),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm1d(3),
        nn.BatchNorm3d(3),
        nn.SyncBatchNorm(3),
        nn.GroupNorm(1, 3),
    ]
    model = convert(nn.Sequential(*others, nn.BatchNorm2d(3)), "rbn")
    assert all(found is module for found, module in zip(model, others, strict=False))
    assert isinstance(model[-1], RepresentativeBatchNorm2d)


class Renamed(nn.BatchNorm2d):
    """Computes what its parent does."""


class WithActivation(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def test_a_subclass_that_computes_the_same_is_replaced() -> None:
    assert type(convert(nn.Sequential(Renamed(3)), "rbn")[0]) is RepresentativeBatchNorm2d


def test_converting_twice_changes_nothing_more() -> None:
    model = convert(build_network("resnet8", 3, 10), "rbn")
    layers = list(model.modules())
    assert all(a is b for a, b in zip(convert(model, "rbn_star").modules(), layers, strict=True))


@pytest.mark.parametrize("norm", ["base", "scaled"])
def test_plain_batchnorm_is_left_as_it_is(norm: str) -> None:
    model = build_network("resnet8", 3, 10)
    layers = list(model.modules())
    assert all(a is b for a, b in zip(convert(model, norm).modules(), layers, strict=True))


def test_arms_of_one_seed_draw_the_same_numbers_afterwards() -> None:
    torch.manual_seed(0)
    convert(nn.Sequential(nn.BatchNorm2d(3)), "rbn")
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn)


def parametrized(name: str) -> nn.Module:
    class Double(nn.Module):
        def forward(self, value: Tensor) -> Tensor:
            return 2 * value

    layer = nn.BatchNorm2d(3)
    nn.utils.parametrize.register_parametrization(layer, name, Double())
    return layer


class Branching(nn.Module):
    """A network that torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x) if x.sum() > 0 else x


def with_plain(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), layer)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (nn.BatchNorm2d(3), {"norm": "gn"}, "norm: got 'gn'; accepted: base, scaled, rbn, rbn_star, iebn, iebn_star"),
        (nn.Linear(2, 2), {}, "got Linear without a BatchNorm2d to replace;"),
        (nn.Sequential(nn.GroupNorm(1, 3)), {}, r"to replace \(it has GroupNorm\)"),
        (nn.Sequential(InputBatchNorm2d(3)), {}, r"to replace \(it has InputBatchNorm2d\)"),
        (nn.BatchNorm2d(3, affine=False), {}, "affine=True"),
        (with_plain(nn.LazyBatchNorm2d()), {}, "after its first forward pass"),
        (with_plain(WithActivation(3)), {}, "got a WithActivation, whose own forward"),
        (with_plain(parametrized("weight")), {}, "whose γ is computed from other tensors"),
        (with_plain(parametrized("bias")), {}, "whose β is computed from other tensors"),
        (with_plain(InstanceEnhancementBatchNorm2d(3)), {}, "got InstanceEnhancementBatchNorm2d layers; accepted"),
        (Branching(), {"plain_shortcuts": True}, "cannot be traced"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_nothing_changes(
    model: nn.Module, options: dict[str, object], words: str
) -> None:
    layers = list(model.modules())
    with pytest.raises(MethodError, match=words) as caught:
        convert(model, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert all(a is b for a, b in zip(model.modules(), layers, strict=True))


def test_a_lazy_layer_is_replaced_after_its_first_pass() -> None:
    model = nn.Sequential(nn.LazyBatchNorm2d())
    model(torch.rand(2, 3, 4, 4))
    assert type(convert(model, "iebn")[0]) is InstanceEnhancementBatchNorm2d
