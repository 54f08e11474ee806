"""The method of Davis & Frank (ECCV 2022), "Revisiting Batch Norm Initialization", on any network with batch norm.

Batch norm computes ``x̂ = (x − μ) / √(σ² + ε)`` and ``y = γ·x̂ + β`` per channel. The method starts γ at a constant in
(0, 1] instead of 1 and divides γ's learning rate by ``c`` (paper: γ ≈ 0.1, c = 100). β starts at 0 and keeps the full
learning rate. Neither BN parameters nor biases get weight decay.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase

from tune_bn.errors import MethodError, listed
from tune_bn.method.config import LINEAR, PER_STAGE, Gamma
from tune_bn.method.residual import residual_batchnorms
from tune_bn.method.stages import batchnorm_stages
from tune_bn.script.notes import note

SIGMA_ACT = 0.58
"""Standard deviation of ReLU(z) for z ~ N(0, 1), √(1/2 − 1/(2π)) = 0.5838, rounded as in the paper (section 4.1)."""

M = TypeVar("M", bound=nn.Module)


class InputBatchNorm2d(nn.BatchNorm2d):
    """Batch norm before the network, on pixels in [0, 1]: makes the input look like a scaled layer's output.

    γ starts at ``SIGMA_ACT · gamma`` and learns like every γ; β is frozen at 0 (paper, "input normalization").

    Shapes: (N, C, H, W) → (N, C, H, W).
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.bias.requires_grad_(False)


def batchnorm_layers(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """Name and module of every BN layer that has a γ, in the order of ``named_modules``.

    ``BatchNorm1d/2d/3d``, ``SyncBatchNorm`` and their subclasses count; layers with ``affine=False`` have no γ.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.weight is not None:
            yield name, module


def require_batchnorm(model: nn.Module) -> list[_BatchNorm]:
    """Every BN layer that has a γ. Raises :class:`MethodError` where there is none, or one cannot be scaled."""
    layers = [module for _, module in batchnorm_layers(model)]
    if not layers:
        leaves = [type(m).__name__ for m in model.modules() if not any(m.children())]
        kinds = sorted({name for name in leaves if "Norm" in name})
        found = f" (it has {', '.join(kinds)})" if kinds else ""
        raise MethodError(
            f"model: got {type(model).__name__} without batch normalization{found}; "
            "accepted: a network with at least one BatchNorm layer that has affine=True"
        )
    for layer in layers:
        if isinstance(layer, _LazyNormBase) and layer.has_uninitialized_params():
            raise MethodError(
                f"model: got an uninitialized {type(layer).__name__}; accepted: a network after its first forward pass"
            )
        if not isinstance(layer.weight, nn.Parameter):
            raise MethodError(
                f"model: got a {type(layer).__name__} whose γ is computed from other tensors (a parametrization); "
                "accepted: layers whose γ is a parameter of their own"
            )
    return layers


def initial_gammas(
    model: nn.Module, gamma: Gamma = 0.1, *, branch_end: float | None = None, unit_gate: bool = False
) -> dict[str, float]:
    """The initial γ of every BN layer by name, in the order of ``named_modules``; changes nothing.

    Arguments and errors are those of :func:`scale_batchnorm`.
    """
    require_batchnorm(model)
    layers = dict(batchnorm_layers(model))
    names = [name for name, layer in layers.items() if not isinstance(layer, InputBatchNorm2d)]
    by_place = _by_place(model, names or list(layers), gamma)
    values = dict(zip(names, by_place, strict=False))
    if branch_end is not None:
        if not _is_scale(branch_end, zero=True):
            raise MethodError(f"branch_end: got {branch_end!r}; accepted: None or a number in [0, 1]")
        ends = residual_batchnorms(model)[0] & values.keys()
        if not ends:
            raise MethodError(
                f"branch_end: got {branch_end!r}; accepted: None for a network where no residual branch ends in a BN "
                "layer"
            )
        values |= dict.fromkeys(ends, float(branch_end))
    if unit_gate:
        values = {name: value / getattr(layers[name], "initial_gate", 1.0) for name, value in values.items()}
    return {name: values.get(name, SIGMA_ACT * by_place[0]) for name in layers}


def _by_place(model: nn.Module, names: Sequence[str], gamma: Any) -> list[float]:
    """γ of each of the layers with these names, in their order."""
    if _is_scale(gamma):
        return [float(gamma)] * len(names)
    kind: Any
    given: Any
    kind, given = next(iter(gamma.items())) if isinstance(gamma, Mapping) and len(gamma) == 1 else ("", ())
    fits = isinstance(given, list | tuple) and bool(given) and all(map(_is_scale, given))
    if fits and kind == LINEAR and len(given) == 2:
        first, last = map(float, given)
        return [first + (last - first) * place / max(1, len(names) - 1) for place in range(len(names))]
    if fits and kind == PER_STAGE:
        stages = batchnorm_stages(model, names)
        if len(given) != len(stages):
            accepted = f"{len(stages)} values, one for each of the stages {', '.join(stages)}"
            if not stages:
                accepted = f"a number or {{{LINEAR}: [first, last]}} for a network without stages"
            raise MethodError(f"gamma.{PER_STAGE}: got {list(given)}; accepted: {accepted}")
        stage_of = {name: stage for stage, members in enumerate(stages.values()) for name in members}
        return [float(given[stage_of[name]]) for name in names]
    raise MethodError(
        f"gamma: got {gamma!r}; accepted: a number in (0, 1], {{{PER_STAGE}: [γ, …]}} or {{{LINEAR}: [first, last]}}"
    )


def _is_scale(value: Any, *, zero: bool = False) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and (0 < value <= 1 or (zero and value == 0))


def _is_trained(weight: Any) -> bool:
    """Whether γ is no constant: no constructor starts the channels of a layer at different values."""
    return not weight.is_meta and weight.numel() > 1 and bool(weight.min() != weight.max())


@torch.no_grad()
def scale_batchnorm(model: M, gamma: Gamma = 0.1, *, branch_end: float | None = None, unit_gate: bool = False) -> M:
    """Set the initial γ of every BN layer, in place, and return the model.

    Call it after construction: torchvision's constructors reset γ to 1. It overwrites γ, that of a pretrained network
    too, and warns where it does. β and running statistics stay as they are. With
    ``gamma=1`` a newly built network does not change at all.

    ``gamma``, in (0, 1], is one of

    - a number: the same for every layer (the method of the paper);
    - ``{"per_stage": [γ₁, …, γ_S]}``: one for each stage of the network, as
      :func:`tune_bn.method.stages.batchnorm_stages` tells them;
    - ``{"linear": [first, last]}``: on a line by depth. The i-th of L layers, from 0 and in the order of
      ``named_modules``, starts at ``first + (last − first) · i / (L − 1)``: the order in which a network defines
      its layers, which nearly every network also keeps in its forward pass; a single layer starts at ``first``.

    An :class:`InputBatchNorm2d` gets 0.58 times the ``gamma`` of the first layer behind it, and is not counted in L.

    Args:
        model: any module with at least one BN layer.
        gamma: initial scale.
        branch_end: γ in [0, 1] of the BN layers that end a residual branch, as
            :func:`tune_bn.method.residual.residual_batchnorms` finds them; None: as the others. 0 is zero-γ: every
            residual block starts as its shortcut (Goyal et al., 2017, section 5.1).
        unit_gate: divide γ by the layer's ``initial_gate``, where it has one as RBN and IEBN have, so that
            γ·gate is what the arguments above say. Such a γ may exceed 1.

    Raises:
        MethodError: no BN layer with a γ; an argument that is not accepted; not as many γ's as the network has
            stages; ``branch_end`` for a network that cannot be traced or has no such layer. The model is then as
            before.

    Source: Davis & Frank (2022), section 3, for the number; γ by place is an extension.
    """
    layers = dict(batchnorm_layers(model))
    values = initial_gammas(model, gamma, branch_end=branch_end, unit_gate=unit_gate)
    if trained := [name for name in values if _is_trained(layers[name].weight)]:
        warnings.warn(
            f"scale_batchnorm overwrites the γ of {len(trained)} BN layers ({listed(trained, limit=2)}), which differ "
            "from channel to channel as those of a trained network do; the method is for training from scratch",
            stacklevel=3,
        )
    for name, value in values.items():
        layers[name].weight.fill_(value)
    note("scale_batchnorm", gamma=gamma if isinstance(gamma, dict) else float(gamma), layers=len(layers))
    return model
