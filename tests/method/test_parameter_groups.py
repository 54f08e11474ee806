"""Who learns at which rate and who decays: chosen by the type of a parameter's owner, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import InputBatchNorm2d
from tune_bn.method.convert import convert
from tune_bn.method.groups import freeze_gamma, parameter_groups
from tune_bn.method.resnet import build_network

LR, C, DECAY = 0.2, 50.0, 0.01


class Misleading(nn.Module):
    """Every parameter is one-dimensional or of one shape, and its name says the wrong thing."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_weight = nn.Linear(1, 8, bias=False)
        self.conv = nn.BatchNorm1d(8)
        self.batchnorm = nn.Conv1d(8, 8, 1)
        self.fc_bias = nn.BatchNorm2d(8)
        self.gamma = nn.Parameter(torch.ones(8))
        self.bias = nn.Parameter(torch.ones(8))
        self.layer_norm_bn = nn.Embedding(8, 1)


class Every(nn.Module):
    """One of each kind of layer that has a bias or a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn3 = nn.BatchNorm1d(4), nn.BatchNorm3d(4)
        self.sync = nn.SyncBatchNorm(4)
        self.plain = nn.BatchNorm2d(4, affine=False)
        self.front = InputBatchNorm2d(3)
        self.ln, self.gn, self.rms = nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.transposed = nn.ConvTranspose2d(4, 4, 3)
        self.bilinear = nn.Bilinear(2, 2, 3)
        self.attention = nn.MultiheadAttention(4, 2)
        self.lstm = nn.LSTM(4, 4, num_layers=2, proj_size=2, bidirectional=True)
        self.gru = nn.GRU(4, 4, bias=False)
        self.cell = nn.GRUCell(4, 4)
        self.prelu = nn.PReLU(4)


def named_groups(model: nn.Module, **options: Any) -> dict[str, set[str]]:
    """Names of the parameters in each group, as the model names them."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, **options)
    return {group["name"]: {names[id(parameter)] for parameter in group["params"]} for group in groups}


def assert_partition(model: nn.Module) -> None:
    held = [id(parameter) for group in parameter_groups(model) for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.resnet18(num_classes=7),
        lambda: torchvision.models.mobilenet_v3_small(),
        lambda: torchvision.models.shufflenet_v2_x0_5(),
        lambda: build_network("resnet8", 1, 10),
        Misleading,
        Every,
    ],
)
def test_every_parameter_is_in_exactly_one_group(make: Callable[[], nn.Module]) -> None:
    assert_partition(make())


def test_names_and_shapes_are_not_looked_at() -> None:
    assert named_groups(Misleading()) == {
        "weights": {"bn_weight.weight", "batchnorm.weight", "gamma", "bias", "layer_norm_bn.weight"},
        "shifts": {"conv.bias", "batchnorm.bias", "fc_bias.bias"},
        "gamma": {"conv.weight", "fc_bias.weight"},
    }


def test_each_kind_of_layer() -> None:
    groups = named_groups(Every())
    assert groups["gamma"] == {"bn1.weight", "bn3.weight", "sync.weight", "front.weight"}
    normalization = {f"{name}.{kind}" for name in ("ln", "gn", "instance") for kind in ("weight", "bias")}
    others = {name for name, _ in Every().named_parameters() if "bias" in name}
    assert groups["shifts"] == normalization | others | {"rms.weight"}
    assert "prelu.weight" in groups["weights"]
    assert "lstm.weight_hr_l1_reverse" in groups["weights"]
    assert "attention.in_proj_weight" in groups["weights"]


def test_a_resnet_is_grouped_as_the_paper_does() -> None:
    model = torchvision.models.resnet50(num_classes=10)
    groups = named_groups(model)
    layers = {
        kind: {n for n, m in model.named_modules() if isinstance(m, kind)} for kind in (nn.Conv2d, nn.BatchNorm2d)
    }
    assert groups["weights"] == {f"{name}.weight" for name in layers[nn.Conv2d]} | {"fc.weight"}
    assert groups["shifts"] == {f"{name}.bias" for name in layers[nn.BatchNorm2d]} | {"fc.bias"}
    assert groups["gamma"] == {f"{name}.weight" for name in layers[nn.BatchNorm2d]}


def test_the_settings_of_each_group() -> None:
    groups = {g["name"]: g for g in parameter_groups(Every(), lr=LR, c=C, weight_decay=DECAY)}
    assert {name: (g["lr"], g["weight_decay"]) for name, g in groups.items()} == {
        "weights": (LR, DECAY),
        "shifts": (LR, 0.0),
        "gamma": (LR / C, 0.0),
    }
    optimizer = torch.optim.SGD(groups.values(), lr=123.0)
    assert [group["lr"] for group in optimizer.param_groups] == [LR, LR, LR / C]


def test_the_defaults_are_those_of_the_paper() -> None:
    groups = {g["name"]: g for g in parameter_groups(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)))}
    assert groups["weights"]["lr"] == groups["shifts"]["lr"] == 0.1
    assert groups["gamma"]["lr"] == pytest.approx(0.001)
    assert groups["weights"]["weight_decay"] == 1e-4


def test_a_step_without_gradients_shrinks_the_weights_alone() -> None:
    torch.manual_seed(0)
    model = Every()
    optimizer = torch.optim.SGD(parameter_groups(model, lr=LR, c=C, weight_decay=DECAY), momentum=0.9)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    weights = named_groups(model)["weights"]
    for name, parameter in model.named_parameters():
        if name in weights:
            assert torch.allclose(parameter, before[name] * (1 - LR * DECAY), rtol=1e-6)
            assert not torch.equal(parameter, before[name])
        else:
            assert torch.equal(parameter, before[name])


def test_gamma_moves_by_a_cth_of_the_step_of_beta() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(parameter_groups(model, lr=LR, c=C, weight_decay=DECAY), momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert model[1].bias.tolist() == pytest.approx([-LR] * 4)
    assert model[1].weight.tolist() == pytest.approx([1 - LR / C] * 4)


def test_beta_has_a_group_of_its_own_where_its_rate_is_another() -> None:
    model, lasting = Every(), named_groups(Every())
    groups = named_groups(model, c_beta=7.0)
    betas = {"bn1.bias", "bn3.bias", "sync.bias", "front.bias"}
    assert groups == {
        "weights": lasting["weights"],
        "shifts": lasting["shifts"] - betas,
        "beta": betas,
        "gamma": lasting["gamma"],
    }
    settings = parameter_groups(model, lr=LR, c=C, c_beta=7.0, weight_decay=DECAY)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in settings] == [
        ("weights", LR, DECAY),
        ("shifts", LR, 0.0),
        ("beta", LR / 7, 0.0),
        ("gamma", LR / C, 0.0),
    ]


@pytest.mark.parametrize("c_beta", [1.0, 7.0])
def test_all_decay_on_demand_at_the_same_rates(c_beta: float) -> None:
    options = {"lr": LR, "c": C, "c_beta": c_beta, "weight_decay": DECAY}
    groups = parameter_groups(Every(), **options, decay="all")
    assert [g["weight_decay"] for g in groups] == [DECAY] * (3 if c_beta == 1 else 4)
    assert [(g["name"], g["lr"], len(g["params"])) for g in groups] == [
        (g["name"], g["lr"], len(g["params"])) for g in parameter_groups(Every(), **options)
    ]


@pytest.mark.parametrize("norm", ["rbn", "iebn"])
@pytest.mark.parametrize("c_beta", [1.0, 7.0])
def test_what_the_rivals_add_learns_as_shifts_do(norm: str, c_beta: float) -> None:
    plain, model = named_groups(build_network("resnet8", 3, 10), c_beta=c_beta), build_network("resnet8", 3, 10)
    before = {name for name, _ in model.named_parameters()}
    added = {name for name, _ in convert(model, norm).named_parameters()} - before
    assert len(added) == 7 * (3 if norm == "rbn" else 2)
    assert named_groups(model, c_beta=c_beta) == plain | {"shifts": plain["shifts"] | added}


def test_every_gamma_is_frozen_and_nothing_else() -> None:
    model = Every()
    model.ln.weight.requires_grad_(False)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert freeze_gamma(model) is model
    frozen = {"bn1.weight", "bn3.weight", "sync.weight", "front.weight"}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == learning - frozen
    with pytest.raises(MethodError, match="without batch normalization"):
        freeze_gamma(nn.Linear(2, 2))


def test_a_frozen_gamma_does_not_decay() -> None:
    model = freeze_gamma(convert(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)), "rbn"))
    optimizer = torch.optim.SGD(parameter_groups(model, lr=LR, weight_decay=DECAY, decay="all"), momentum=0.9)
    model(torch.rand(4, 1, 2, 2)).square().sum().backward()
    optimizer.step()
    assert model[1].weight.tolist() == [1, 1]
    assert (model[1].scale_bias != 1).all()


def test_the_frozen_shift_of_the_input_layer_never_moves() -> None:
    model = nn.Sequential(InputBatchNorm2d(3), nn.Conv2d(3, 2, 1))
    optimizer = torch.optim.SGD(parameter_groups(model, lr=LR, c=C), momentum=0.9)
    for _ in range(3):
        model(torch.rand(4, 3, 2, 2)).square().sum().backward()
        optimizer.step()
    assert not model[0].bias.any()
    assert (model[0].weight != 1).all()


def test_frozen_parameters_are_grouped_and_stay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
    model[0].requires_grad_(False)
    model[1].weight.requires_grad_(False)
    assert_partition(model)
    before = [model[0].weight.clone(), model[1].weight.clone()]
    optimizer = torch.optim.SGD(parameter_groups(model, lr=LR, weight_decay=DECAY), momentum=0.9)
    model(torch.rand(4, 1, 2, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(model[0].weight, before[0])
    assert torch.equal(model[1].weight, before[1])


def test_tied_weights_are_held_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[2].weight = model[0].weight
    model[3].weight = model[1].weight
    assert_partition(model)
    assert named_groups(model)["gamma"] == {"1.weight"}


@pytest.mark.parametrize("other", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.PReLU(4)])
@pytest.mark.parametrize("first", [True, False])
def test_a_gamma_that_another_kind_of_layer_uses_is_refused(other: nn.Module, first: bool) -> None:
    bn = nn.BatchNorm1d(4)
    other.weight = bn.weight
    with pytest.raises(MethodError, match="shares its γ"):
        parameter_groups(nn.Sequential(bn, other) if first else nn.Sequential(other, bn))


@pytest.mark.parametrize("other", [nn.LayerNorm(4), nn.Linear(4, 4), nn.PReLU(4)])
def test_a_beta_with_a_rate_of_its_own_that_another_kind_of_layer_uses_is_refused(other: nn.Module) -> None:
    bn = nn.BatchNorm1d(4)
    setattr(other, "weight" if isinstance(other, nn.PReLU) else "bias", bn.bias)
    model = nn.Sequential(bn, other)
    assert_partition(model)
    with pytest.raises(MethodError, match="shares its β"):
        parameter_groups(model, c_beta=2)


def test_an_empty_group_is_left_out() -> None:
    assert [group["name"] for group in parameter_groups(nn.BatchNorm2d(3))] == ["shifts", "gamma"]
    assert [group["name"] for group in parameter_groups(nn.BatchNorm2d(3, bias=False))] == ["gamma"]


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(2, 2),
        nn.Sequential(nn.BatchNorm2d(3, affine=False)),
        nn.Sequential(nn.LazyBatchNorm1d(), nn.Linear(2, 2)),
    ],
)
def test_a_network_that_has_no_gamma_is_refused(model: nn.Module) -> None:
    with pytest.raises(MethodError, match="accepted"):
        parameter_groups(model)


@pytest.mark.parametrize("key", ["lr", "c", "c_beta", "weight_decay"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(MethodError, match=f"{key}: got {value}; accepted: a finite number"):
        parameter_groups(nn.BatchNorm2d(3), **{key: value})


@pytest.mark.parametrize("decay", ["none", True, None])
def test_a_decay_that_is_not_known_is_refused(decay: object) -> None:
    with pytest.raises(MethodError, match=r"decay: got .*; accepted: weights, all"):
        parameter_groups(nn.BatchNorm2d(3), decay=decay)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["lr", "c", "c_beta"])
def test_rates_of_zero_are_refused_and_no_decay_is_not(key: str) -> None:
    with pytest.raises(MethodError, match=f"{key}: got 0; accepted: a finite number > 0"):
        parameter_groups(nn.BatchNorm2d(3), **{key: 0})
    assert parameter_groups(nn.BatchNorm2d(3), weight_decay=0)
