"""The method of Davis & Frank (ECCV 2022), "Revisiting Batch Norm Initialization", on any network with batch norm.

Batch norm computes ``x̂ = (x − μ) / √(σ² + ε)`` and ``y = γ·x̂ + β`` per channel. The method starts γ at a constant in
(0, 1] instead of 1 and divides γ's learning rate by ``c`` (paper: γ ≈ 0.1, c = 100). β starts at 0 and keeps the full
learning rate. Neither BN parameters nor biases get weight decay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase
from torch.nn.modules.conv import _ConvNd

from tune_bn.errors import MethodError

SIGMA_ACT = 0.58
"""Standard deviation of ReLU(z) for z ~ N(0, 1), √(1/2 − 1/(2π)) = 0.5838, rounded as in the paper (section 4.1)."""

NORMALIZATION = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)

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


def _require_batchnorm(model: nn.Module) -> list[_BatchNorm]:
    layers = [module for _, module in batchnorm_layers(model)]
    if not layers:
        kinds = sorted({type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__})
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


@torch.no_grad()
def scale_batchnorm(model: M, gamma: float = 0.1) -> M:
    """Set γ of every BN layer to ``gamma``, in place, and return the model.

    Call it after construction: torchvision's constructors reset γ to 1. β and running statistics stay as they are. An
    :class:`InputBatchNorm2d` gets ``0.58 · gamma``. With ``gamma=1`` a newly built network does not change at all.

    Args:
        model: any module with at least one BN layer.
        gamma: initial scale in (0, 1].

    Raises:
        MethodError: no BN layer with a γ, or ``gamma`` outside (0, 1].

    Source: Davis & Frank (2022), section 3.
    """
    if isinstance(gamma, bool) or not isinstance(gamma, Real) or not 0 < gamma <= 1:
        raise MethodError(f"gamma: got {gamma!r}; accepted: a number in (0, 1]")
    for layer in _require_batchnorm(model):
        layer.weight.fill_(SIGMA_ACT * gamma if isinstance(layer, InputBatchNorm2d) else gamma)
    return model


def _biases(module: nn.Module) -> Sequence[Tensor | None]:
    """The biases that a module of a known type owns itself."""
    if isinstance(module, _ConvNd | nn.Linear | nn.Bilinear):
        return [module.bias]
    if isinstance(module, nn.MultiheadAttention):
        return [module.in_proj_bias]
    if isinstance(module, nn.RNNCellBase):
        return [module.bias_ih, module.bias_hh]
    if isinstance(module, nn.RNNBase) and module.bias:
        return [bias for layer in module.all_weights for bias in layer[2:4]]
    return []


def parameter_groups(
    model: nn.Module, lr: float = 0.1, c: float = 100.0, weight_decay: float = 1e-4
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer: γ learns at ``lr / c``, and only weights decay.

    ========== ===================================================== ========== ================
    name       parameters                                            lr         weight decay
    ========== ===================================================== ========== ================
    weights    all that the other two do not hold                    ``lr``     ``weight_decay``
    shifts     β, biases of convolutional, linear, recurrent and     ``lr``     0
               attention layers, and the parameters of other
               normalization layers
    gamma      γ of every BN layer                                   ``lr / c`` 0
    ========== ===================================================== ========== ================

    The groups are chosen by the type of the module that owns a parameter and hold every parameter exactly once. An
    empty group is left out. With ``c=1`` this is plain SGD without decay on BN parameters and biases.

    Raises:
        MethodError: no BN layer with a γ; ``lr`` or ``c`` not positive; ``weight_decay`` negative; a γ that another
            layer uses too.

    Source: Davis & Frank (2022), section 3; official code osu-cvl/revisiting-bn-init.
    """
    for key, value, low in (("lr", lr, False), ("c", c, False), ("weight_decay", weight_decay, True)):
        if not (value >= 0 if low else value > 0) or value == float("inf"):
            raise MethodError(f"{key}: got {value!r}; accepted: a finite number {'≥' if low else '>'} 0")
    gammas = {id(layer.weight) for layer in _require_batchnorm(model)}
    shifts: set[int] = set()
    others: set[int] = set()
    for module in model.modules():
        own = {id(p) for p in module.parameters(recurse=False)}
        if isinstance(module, _BatchNorm):
            shifts |= own - gammas
        elif isinstance(module, NORMALIZATION):
            shifts |= own
        else:
            biases = {id(bias) for bias in _biases(module)} & own
            shifts |= biases
            others |= own - biases
    if gammas & (shifts | others):
        raise MethodError("model: a BN layer shares its γ with another layer; accepted: a γ that only BN layers use")
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "shifts": [], "gamma": []}
    for parameter in model.parameters():
        key = "gamma" if id(parameter) in gammas else "shifts" if id(parameter) in shifts else "weights"
        groups[key].append(parameter)
    settings = {
        "weights": {"lr": lr, "weight_decay": weight_decay},
        "shifts": {"lr": lr, "weight_decay": 0.0},
        "gamma": {"lr": lr / c, "weight_decay": 0.0},
    }
    return [{"name": name, "params": members, **settings[name]} for name, members in groups.items() if members]
