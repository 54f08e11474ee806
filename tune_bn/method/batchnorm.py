"""The method of Davis & Frank (ECCV 2022), "Revisiting Batch Norm Initialization", on any network with batch norm.

Batch norm computes ``x̂ = (x − μ) / √(σ² + ε)`` and ``y = γ·x̂ + β`` per channel. The method starts γ at a constant in
(0, 1] instead of 1 and divides γ's learning rate by ``c`` (paper: γ ≈ 0.1, c = 100). β starts at 0 and keeps the full
learning rate. Neither BN parameters nor biases get weight decay.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _LazyNormBase

from tune_bn.errors import MethodError

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
    for layer in require_batchnorm(model):
        layer.weight.fill_(SIGMA_ACT * gamma if isinstance(layer, InputBatchNorm2d) else gamma)
    return model
