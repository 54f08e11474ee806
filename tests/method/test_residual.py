"""Which BN layers end a residual branch or lie on a shortcut, on the networks of torchvision and on those of users."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import activation
from torchvision import models
from torchvision.ops import StochasticDepth

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import InputBatchNorm2d
from tune_bn.method.config import ModelConfig
from tune_bn.method.convert import convert
from tune_bn.method.networks import dry_run
from tune_bn.method.residual import PASSING, residual_batchnorms


def found(arch: str) -> tuple[frozenset[str], frozenset[str], nn.Module]:
    return dry_run(ModelConfig(arch=arch), 3, 10, lambda network: (*residual_batchnorms(network), network))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_branches_end_where_torchvision_itself_can_start_at_zero(name: str) -> None:
    zeroed = models.get_model(name, zero_init_residual=True)
    zeros = {key.removesuffix(".weight") for key, value in zeroed.state_dict().items() if not value.any()}
    gammas = {key for key, module in zeroed.named_modules() if isinstance(module, nn.BatchNorm2d)}
    ends, shortcuts, _ = found(f"torchvision/{name}")
    assert ends == zeros & gammas != set()
    assert shortcuts == {key for key in gammas if ".downsample." in key}


@pytest.mark.parametrize("arch", ["resnet8", "resnet20"])
def test_the_networks_for_cifar(arch: str) -> None:
    ends, shortcuts, network = found(arch)
    blocks = (int(arch.removeprefix("resnet")) - 2) // 6
    assert ends == {f"stages.{stage}.{block}.bn2" for stage in range(3) for block in range(blocks)}
    assert not shortcuts
    assert network.training


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s"])
def test_inverted_residuals_end_where_they_add(name: str) -> None:
    ends, shortcuts, network = found(f"torchvision/{name}")
    adding = [key for key, module in network.named_modules() if getattr(module, "use_res_connect", False)]
    gammas = [key for key, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    # Their last BN layer is the last that they define.
    assert ends == {[key for key in gammas if key.startswith(f"{block}.")][-1] for block in adding}
    assert len(ends) > 5
    assert not shortcuts


@pytest.mark.parametrize("name", ["regnet_x_400mf", "regnet_y_400mf"])
def test_a_projection_before_the_branch_is_a_shortcut(name: str) -> None:
    ends, shortcuts, network = found(f"torchvision/{name}")
    blocks = [key for key, module in network.named_modules() if type(module).__name__ == "ResBottleneckBlock"]
    assert ends == {f"{key}.f.c.1" for key in blocks}
    assert shortcuts == {f"{key}.proj.1" for key in blocks if network.get_submodule(key).proj is not None}
    assert len(shortcuts) == 4


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet121", "googlenet", "shufflenet_v2_x0_5"])
def test_networks_that_add_nothing_have_no_branches(name: str) -> None:
    assert found(f"torchvision/{name}")[:2] == (frozenset(), frozenset())


class Block(nn.Module):
    """A residual block of three BN layers whose parts can be exchanged."""

    def __init__(self, add: Callable[[Tensor, Tensor], Tensor], shortcut: bool = False, **parts: nn.Module) -> None:
        super().__init__()
        self.conv1, self.first = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.shortcut = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) if shortcut else nn.Identity()
        self.after = parts.get("after", nn.Identity())
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.conv2(F.relu(self.first(self.conv1(x)))))
        return self.add(self.after(y), self.shortcut(x))


ADDITIONS = {
    "+": lambda y, x: y + x,
    "reversed": lambda y, x: x + y,
    "in place": operator.iadd,
    "torch.add": torch.add,
    "torch.add with alpha": lambda y, x: torch.add(x, y, alpha=0.5),
    "method": lambda y, x: y.add(x),
    "method in place": lambda y, x: y.add_(x),
    "scaled": lambda y, x: x + 0.1 * y,
    "sum": lambda y, x: sum([y, x]),
    "activated": lambda y, x: torch.relu(y + x),
}


@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_every_way_of_adding_counts(add: Callable[[Tensor, Tensor], Tensor], shortcut: bool) -> None:
    two = nn.Sequential(Block(add, shortcut), Block(add, shortcut))
    ends, shortcuts = residual_batchnorms(two)
    assert ends == {"0.last", "1.last"}
    assert shortcuts == ({"0.shortcut.1", "1.shortcut.1"} if shortcut else set())


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class DropPath(nn.Module):
    """As users write it: its mask knows the batch, and it is there in training alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if torch.rand(x.shape[0]).mean() > 0.5:
            return x
        return x / 0.5


@pytest.mark.parametrize(
    "after",
    [nn.Dropout2d(0.1), StochasticDepth(0.2, "row"), DropPath(), LayerScale(), SqueezeExcite(), nn.AvgPool2d(1)],
    ids=lambda module: type(module).__name__,
)
def test_what_only_scales_the_branch_does_not_hide_its_end(after: nn.Module) -> None:
    assert residual_batchnorms(Block(ADDITIONS["+"], after=after)) == ({"last"}, set())


@pytest.mark.parametrize(
    "after",
    [nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Softmax(1), nn.Conv2d(4, 4, 1)],
    ids=lambda module: type(module).__name__,
)
def test_a_batchnorm_before_a_convolution_a_gate_or_a_relu_ends_no_branch(after: nn.Module) -> None:
    assert residual_batchnorms(Block(ADDITIONS["+"], after=after)) == (set(), set())


@pytest.mark.parametrize("name", sorted(PASSING))
def test_other_activations_do_not_hide_the_end(name: str) -> None:
    after = next(kind for key, kind in vars(activation).items() if key.lower() == name)()
    zero = torch.zeros(1, requires_grad=True)
    after(zero).backward()
    assert after(zero).item() == 0 != zero.grad.item()
    assert residual_batchnorms(Block(ADDITIONS["+"], after=after)) == ({"last"}, set())


def test_an_activation_may_be_a_function() -> None:
    assert residual_batchnorms(Block(lambda y, x: x + F.leaky_relu(y))) == ({"last"}, set())
    assert residual_batchnorms(Block(lambda y, x: x + F.relu(y, inplace=True))) == (set(), set())
    assert residual_batchnorms(Block(lambda y, x: x + y.relu_())) == (set(), set())
    assert residual_batchnorms(Block(lambda y, x: x + x * torch.sigmoid(y))) == (set(), set())


def of(forward: Callable[..., Any], **parts: nn.Module) -> nn.Module:
    """A module with these parts and this forward pass."""

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return forward(self, x)

    model = Own()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def unit(kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4))


def test_of_two_single_convolutions_the_smaller_is_the_shortcut() -> None:
    model = of(lambda m, x: m.b(x) + m.a(x), a=unit(3), b=unit(1))
    assert residual_batchnorms(model) == ({"a.1"}, {"b.1"})


def test_parallel_branches_are_no_residual_branches() -> None:
    alike = of(lambda m, x: m.a(x) + m.b(x), a=unit(), b=unit())
    assert residual_batchnorms(alike) == (set(), set())
    resolutions = of(
        lambda m, x: m.a(x) + m.b(x), a=nn.Sequential(unit(), unit()), b=nn.Sequential(*map(unit, [3] * 3))
    )
    assert residual_batchnorms(resolutions) == (set(), set())


def test_sums_that_are_no_residual_sums_are_passed_over() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x + 1)
        return (y + m.offset.weight) + (y + y)

    assert residual_batchnorms(of(forward, a=unit(), offset=nn.PReLU())) == (set(), set())


def test_weights_that_are_standardized_first_are_convolutions_all_the_same() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight - self.weight.mean(), None, self.stride, self.padding)

    block = Block(ADDITIONS["+"], shortcut=True)
    block.conv1 = Standardized(4, 4, 3, padding=1)
    assert residual_batchnorms(block) == ({"last"}, {"shortcut.1"})
    weight = nn.Conv2d(4, 4, 1)
    by_hand = of(lambda m, x: x + m.last(F.conv2d(x, m.w.weight)), w=weight, last=nn.BatchNorm2d(4))
    assert residual_batchnorms(by_hand) == ({"last"}, set())


@pytest.mark.parametrize("norm", ["rbn", "iebn"])
def test_converted_layers_are_seen_under_the_same_names(norm: str) -> None:
    with torch.device("meta"):
        plain = models.resnet18()
    before = residual_batchnorms(plain)
    assert residual_batchnorms(convert(plain, norm)) == before
    assert len(before[0]) == 8


@pytest.mark.parametrize(
    ("conv", "norm"), [(nn.Conv1d, nn.BatchNorm1d), (nn.Conv3d, nn.BatchNorm3d), (nn.Conv2d, nn.SyncBatchNorm)]
)
def test_other_kinds_of_batchnorm_count(conv: type[nn.Module], norm: type[nn.Module]) -> None:
    model = of(lambda m, x: x + m.branch(x), branch=nn.Sequential(conv(4, 4, 1), norm(4)))
    assert residual_batchnorms(model) == ({"branch.1"}, set())


def test_names_are_those_of_the_whole_model() -> None:
    model = nn.Sequential()
    model.add_module("input_norm", InputBatchNorm2d(4))
    model.add_module("network", Block(ADDITIONS["+"]))
    assert residual_batchnorms(model) == ({"network.last"}, set())


def test_optional_inputs_take_their_defaults() -> None:
    class Optional(Block):
        def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
            y = super().forward(x)
            return y if mask is None and scale == 1.0 else y * mask

    assert residual_batchnorms(Optional(ADDITIONS["+"])) == ({"last"}, set())


def test_a_network_that_cannot_be_traced_is_refused_and_comes_back_as_it_was() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.a(x) if x.sum() > 0 else x

    model = of(forward, a=unit(), frozen=nn.BatchNorm2d(4).eval())
    model.training = True
    with pytest.raises(MethodError, match=r"got Own, whose residual branches cannot be traced \(.*torch\.fx can trace"):
        residual_batchnorms(model)
    modes = {name: module.training for name, module in model.named_modules()}
    assert modes == {"": True, "a": True, "a.0": True, "a.1": True, "frozen": False}
