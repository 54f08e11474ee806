"""What the method needs to know. Plain dataclasses: this module loads neither torch nor pydantic."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_bn.errors import ConfigError
from tune_bn.method.norms import NORMS
from tune_bn.options import Options, choice, option

CIFAR_RESNETS = ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
TORCHVISION_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STAGES = dict.fromkeys(CIFAR_RESNETS, 3) | dict.fromkeys(TORCHVISION_RESNETS, 4)
"""Number of stages of the networks that are known without building them."""
BUILT_IN = CIFAR_RESNETS + TORCHVISION_RESNETS

TORCHVISION_PREFIX = "torchvision/"
PER_STAGE, LINEAR = "per_stage", "linear"

Gamma = float | dict[str, list[float]]
"""One γ for every BN layer, ``{"per_stage": [γ₁, …, γ_S]}`` or ``{"linear": [first, last]}``."""


def is_arch(value: Any) -> bool:
    """Whether ``value`` has the form of a network's name; whether there is such a network shows when it is built."""
    if value in BUILT_IN:
        return True
    return re.fullmatch(r"torchvision/\w+|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", str(value)) is not None


def gamma_parts(gamma: Gamma) -> dict[str, float]:
    """The numbers of a γ by name: ``gamma``; ``gamma.1`` … ``gamma.S`` by stage; ``gamma.start`` and ``gamma.end``."""
    if not isinstance(gamma, Mapping):
        return {"gamma": gamma}
    ((kind, values),) = gamma.items()
    names = ("start", "end") if kind == LINEAR else tuple(str(stage) for stage in range(1, len(values) + 1))
    return {f"gamma.{name}": value for name, value in zip(names, values, strict=True)}


def gamma_of(parts: Mapping[str, float]) -> Gamma:
    """The γ with these numbers; the inverse of :func:`gamma_parts`.

    Raises:
        ConfigError: the names do not belong to one γ.
    """
    if set(parts) == {"gamma"}:
        return parts["gamma"]
    if set(parts) == {"gamma.start", "gamma.end"}:
        return {LINEAR: [parts["gamma.start"], parts["gamma.end"]]}
    stages = [f"gamma.{stage}" for stage in range(1, len(parts) + 1)]
    if parts and set(parts) == set(stages):
        return {PER_STAGE: [parts[name] for name in stages]}
    accepted = "gamma alone, gamma.start with gamma.end, or gamma.1, gamma.2, … for every stage"
    raise ConfigError("gamma", sorted(parts), accepted)


def _is_scale(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 1


def is_gamma(value: Any) -> bool:
    """Whether ``value`` is a γ as the space file states it."""
    if not isinstance(value, Mapping):
        return _is_scale(value)
    if len(value) != 1:
        return False
    ((kind, values),) = value.items()
    fits = isinstance(values, list | tuple) and bool(values) and all(map(_is_scale, values))
    return fits and (kind == PER_STAGE or (kind == LINEAR and len(values) == 2))


@dataclass(frozen=True)
class ModelConfig(Options):
    """The network, its normalization layers, and the initial value of their scale."""

    arch: str = option(
        "resnet18",
        doc="network: a ResNet (18 to 152 from torchvision, 8 to 110 of He et al. for CIFAR), any classification "
        "network of torchvision with batch norm, or a function of yours that takes `in_channels` and `num_classes` "
        "and returns the module",
        accepted=f"{' | '.join(BUILT_IN)} | torchvision/NAME | package.module:function",
        check=is_arch,
    )
    stem: str = choice(
        "small",
        "small",
        "imagenet",
        doc="first layers of resnet18 to resnet152: `small` is a 3×3 convolution of stride 1 without max-pooling, "
        "`imagenet` torchvision's 7×7 of stride 2 with max-pooling",
    )
    norm: str = choice(
        "scaled",
        *NORMS,
        doc="normalization layer: `base` is plain batch norm (γ = 1, c = 1); `scaled` batch norm with `gamma` and `c`; "
        "`rbn` representative and `iebn` instance-enhancement batch norm with weight decay on every parameter, as "
        "their authors train them; with `_star` no decay on BN parameters and biases (our reading of the paper's "
        "star); or a row that an installed package adds",
    )
    unit_gate: bool = option(
        False,
        doc="rbn and iebn: divide the initial γ by the initial gate, so that γ·gate = `gamma` at the start",
        accepted="true or false",
    )
    plain_shortcuts: bool = option(
        False,
        doc="rbn and iebn: leave the BN of downsampling shortcuts plain, as IEBN's public code does; its paper "
        "replaces all",
        accepted="true or false",
    )
    input_norm: str = choice(
        "none",
        "none",
        "dataset",
        "bn",
        doc="`dataset`: mean and std of the training images; `bn`: a BN layer before the network, γ = 0.58·gamma, "
        "β frozen",
    )
    gamma: Gamma = option(
        1.0,
        doc="initial γ of the BN layers: one for all; one per stage of the network; or on a line by depth, from the "
        "first layer to the last",
        accepted="a number in (0, 1], {per_stage: [γ, …]} or {linear: [first, last]}",
        check=is_gamma,
    )
    gamma_branch_end: float | None = option(
        None,
        doc="initial γ of the last BN of each residual branch; null: as the others. 0 is zero-γ (Goyal et al., 2017)",
        accepted="null or a number in [0, 1]",
        check=lambda v: v is None or 0 <= v <= 1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "base" and (self.gamma != 1 or self.gamma_branch_end is not None):
            key = "gamma" if self.gamma != 1 else "gamma_branch_end"
            raise ConfigError(key, getattr(self, key), "no γ but 1 with norm: base; norm: scaled takes others")
        if self.stem != "small" and self.arch not in TORCHVISION_RESNETS:
            raise ConfigError("stem", self.stem, f"small with arch: {self.arch}, whose first layers are its own")
        for key in ("unit_gate", "plain_shortcuts"):
            if getattr(self, key) and not NORMS[self.norm].layer:
                gated = ", ".join(name for name in NORMS if NORMS[name].layer)
                raise ConfigError(key, True, f"false with norm: {self.norm}; norm: {gated} take true")
