"""The two families of networks: their sizes in the literature, their shapes and their initial values."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from scipy import stats
from torch import nn

from tune_bn.method.config import BUILT_IN, CIFAR_RESNETS
from tune_bn.method.resnet import BasicBlock, CifarResNet, build_network, initialize


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Millions of parameters as printed in He et al. (2016), table 6.
@pytest.mark.parametrize(("depth", "millions"), [(20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7")])
def test_the_size_is_that_of_the_literature(depth: int, millions: str) -> None:
    digits = len(millions.partition(".")[2])
    assert f"{parameters(build_network(f'resnet{depth}', 3, 10)) / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize("arch", CIFAR_RESNETS)
def test_the_depth_counts_convolutions_and_the_linear_layer(arch: str) -> None:
    layers = [m for m in build_network(arch, 3, 10).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(arch.removeprefix("resnet"))


@pytest.mark.parametrize("depth", [2, 7, 9, 21, -4])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"6n\+2 with n ≥ 1, but got {depth}"):
        CifarResNet(depth, 3, 10)


def test_an_unknown_architecture_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"resnet8, .*resnet152, but got 'vgg16'"):
        build_network("vgg16", 3, 10)


@pytest.mark.parametrize("arch", ["resnet8", "resnet20", "resnet18", "resnet50"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 9, 13)])
def test_one_logit_per_class_at_any_size(arch: str, shape: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        model = build_network(arch, shape[0], 7)
        assert model(torch.empty(2, *shape)).shape == (2, 7)


def test_the_small_image_stem_keeps_the_resolution() -> None:
    model = build_network("resnet18", 3, 10)
    shapes: dict[str, torch.Size] = {}
    for name, stage in model.named_children():
        stage.register_forward_hook(lambda _m, _x, y, name=name: shapes.update({name: y.shape}))
    model.eval()(torch.zeros(1, 3, 32, 32))
    assert shapes["conv1"] == shapes["layer1"] == (1, 64, 32, 32)
    assert shapes["layer4"] == (1, 512, 4, 4)


def test_beyond_its_stem_the_small_image_network_is_torchvisions() -> None:
    ours = {name: tuple(value.shape) for name, value in build_network("resnet50", 3, 10).state_dict().items()}
    theirs = {
        name: tuple(value.shape) for name, value in torchvision.models.resnet50(num_classes=10).state_dict().items()
    }
    assert {name for name in ours if ours[name] != theirs[name]} == {"conv1.weight"}
    assert ours.keys() == theirs.keys()
    assert ours["conv1.weight"] == (64, 3, 3, 3)


def test_the_shortcut_takes_every_second_pixel_and_fills_with_zeros() -> None:
    block = BasicBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(3, 2, 7, 6, generator=seeded())
    y = block(x)
    assert y.shape == (3, 4, 4, 3)
    assert torch.equal(y[:, :2], x[:, :, [0, 2, 4, 6]][..., [0, 2, 4]])
    assert not y[:, 2:].any()


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet20", "resnet8"])
def test_initial_values(arch: str) -> None:
    model = build_network(arch, 3, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    initialize(model, seeded())
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            weight, fan_in = module.weight.double(), module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            std, n = math.sqrt(2 / fan_in), weight.numel()
            # Six standard errors on either side.
            assert abs(weight.std() / std - 1) < 6 / math.sqrt(2 * n), name
            assert abs(weight.mean() / std) < 6 / math.sqrt(n), name
            low, high = stats.binom.interval(1 - 1e-9, n, 2 * stats.norm.sf(2))
            assert low <= (weight.abs() > 2 * std).sum() <= high, f"{name} is not normal"
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(6 / module.in_features)
            assert 0.97 * bound < module.weight.abs().max() <= bound
            assert abs(module.weight.std() / (bound / math.sqrt(3)) - 1) < 6 / math.sqrt(module.weight.numel())
            assert not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def test_initial_values_come_from_the_generator_alone() -> None:
    def state(seed: int, elsewhere: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(elsewhere)
        model = build_network("resnet8", 3, 10)
        initialize(model, seeded(seed))
        return model.state_dict()

    one, two, other = state(1, 0), state(1, 99), state(2, 0)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if "conv" in name or name == "fc.weight")


def test_layers_that_draw_nothing_do_not_shift_the_others() -> None:
    plain, extra = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    initialize(plain, seeded())
    initialize(nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3), extra, nn.BatchNorm2d(4)), seeded())
    assert torch.equal(plain.weight, extra.weight)


def test_every_architecture_of_the_table_can_be_built() -> None:
    with torch.device("meta"):
        sizes = [parameters(build_network(arch, 3, 10)) for arch in BUILT_IN]
    assert sizes == sorted(sizes)
