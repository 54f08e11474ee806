"""What the method needs to know. A plain dataclass: this module loads neither torch nor pydantic."""

from __future__ import annotations

from dataclasses import dataclass

from tune_bn.config import Options, choice, option

CIFAR_RESNETS = ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
TORCHVISION_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
ARCHITECTURES = CIFAR_RESNETS + TORCHVISION_RESNETS


@dataclass(frozen=True)
class ModelConfig(Options):
    """The network and the initial value of its BN scale."""

    arch: str = choice("resnet18", *ARCHITECTURES, doc="network; both families with the small-image stem")
    norm: str = choice("scaled", "scaled", doc="normalization layer; `scaled` is batch norm with γ set to `gamma`")
    input_norm: str = choice(
        "none",
        "none",
        "dataset",
        "bn",
        doc="`dataset`: mean and std of the training images; `bn`: a BN layer before the network, γ = 0.58·gamma, "
        "β frozen",
    )
    gamma: float = option(
        1.0, doc="initial γ of every BN layer", accepted="a number in (0, 1]", check=lambda v: 0 < v <= 1
    )
