"""The stages of a network by the names of its modules."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from torch import nn

from tune_bn.method.batchnorm import InputBatchNorm2d, batchnorm_layers
from tune_bn.method.config import STAGES, ModelConfig
from tune_bn.method.networks import dry_run
from tune_bn.method.stages import batchnorm_stages


def stages(model: nn.Module) -> dict[str, list[str]]:
    found = batchnorm_stages(model, [name for name, _ in batchnorm_layers(model)])
    in_order = [name for members in found.values() for name in members]
    assert not found or sorted(in_order) == sorted(name for name, _ in batchnorm_layers(model))
    return found


def stages_of(arch: str) -> dict[str, list[str]]:
    return dry_run(ModelConfig(arch=arch), 3, 10, stages)


# The number of stages in the literature, where it speaks of stages; the blocks of the list for the others.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", [f"layer{n}" for n in (1, 2, 3, 4)]),
        ("wide_resnet50_2", [f"layer{n}" for n in (1, 2, 3, 4)]),
        ("regnet_y_400mf", [f"trunk_output.block{n}" for n in (1, 2, 3, 4)]),
        ("densenet121", [f"features.denseblock{n}" for n in (1, 2, 3, 4)]),
        ("shufflenet_v2_x0_5", [f"stage{n}" for n in (2, 3, 4)]),
        ("googlenet", [f"inception{n}" for n in (3, 4, 5)]),
        ("inception_v3", [f"Mixed_{n}" for n in (5, 6, 7)]),
        ("maxvit_t", [f"blocks.{n}" for n in range(4)]),
        ("mnasnet0_5", [f"layers.{n}" for n in range(8, 14)]),
        ("efficientnet_b0", [f"features.{n}" for n in range(9)]),
        ("mobilenet_v2", [f"features.{n}" for n in range(19)]),
        ("vgg11_bn", ["features.1", "features.5", "features.9-12", "features.16-19", "features.23-26"]),
    ],
)
def test_networks_of_torchvision(name: str, expected: list[str]) -> None:
    assert list(stages_of(f"torchvision/{name}")) == expected


@pytest.mark.parametrize("arch", ["resnet8", "resnet20", "resnet18", "resnet50"])
def test_the_table_of_known_networks_is_right(arch: str) -> None:
    assert len(stages_of(arch)) == STAGES[arch]


def test_what_stands_before_belongs_to_the_first_and_what_follows_to_the_one_before() -> None:
    resnet = stages_of("torchvision/resnet18")
    assert resnet["layer1"][0] == "bn1"
    assert all(name.startswith(f"{stage}.") for stage, names in resnet.items() for name in names if name != "bn1")
    dense = stages_of("torchvision/densenet121")
    assert dense["features.denseblock1"][0] == "features.norm0"
    assert dense["features.denseblock2"][-1] == "features.transition2.norm"
    assert dense["features.denseblock4"][-1] == "features.norm5"


def unit() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())


def named(**parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (named(stem=unit(), stages=nn.Sequential(unit(), unit())), {"stages.0": 2, "stages.1": 1}),
        (named(layer1=unit(), neck=unit(), layer2=unit(), head=unit()), {"layer1": 2, "layer2": 2}),
        (named(blocks=nn.ModuleList([unit(), unit(), unit()])), {"blocks.0": 1, "blocks.1": 1, "blocks.2": 1}),
        (named(body=named(stage_a=unit(), stage10=unit(), stage2=unit())), {"body.stage2": 2, "body.stage10": 1}),
        (
            # The series with most BN layers, however far down.
            named(conv1=unit(), conv2=unit(), trunk=nn.Sequential(*[nn.Sequential(unit(), unit())] * 2, unit())),
            {"trunk.0": 4, "trunk.2": 1},
        ),
        (named(down1=unit(), down2=unit(), up1=nn.Sequential(unit(), unit()), up2=unit()), {"up1": 4, "up2": 1}),
        (
            named(input_norm=InputBatchNorm2d(4), network=nn.Sequential(unit(), unit())),
            {"network.0": 2, "network.1": 1},
        ),
        (nn.Sequential(*unit(), *unit(), nn.MaxPool2d(2), *unit()), {"1-4": 2, "8": 1}),
        (nn.Sequential(*unit(), nn.Sequential(unit(), unit())), {"3.0": 2, "3.1": 1}),
    ],
)
def test_networks_of_users(model: nn.Module, expected: dict[str, int]) -> None:
    assert {stage: len(names) for stage, names in stages(model).items()} == expected


@pytest.mark.parametrize(
    "model",
    [
        nn.BatchNorm2d(3),
        nn.Sequential(*unit(), *unit()),
        named(conv1=nn.Conv2d(3, 3, 1), bn1=nn.BatchNorm2d(3), conv2=nn.Conv2d(3, 3, 1), bn2=nn.BatchNorm2d(3)),
        named(layer1=unit(), head=nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(2, 2)),
    ],
)
def test_networks_without_stages(model: nn.Module) -> None:
    assert stages(model) == {}
