"""Which parameters learn at which rate, and which of them decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import require_batchnorm

DECAYS = ("weights", "all")
NORMALIZATION = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)

M = TypeVar("M", bound=nn.Module)


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


def freeze_gamma(model: M) -> M:
    """Let no γ of a BN layer learn, in place, and return the model. β and everything else learn as before.

    Raises:
        MethodError: no BN layer with a γ.
    """
    for layer in require_batchnorm(model):
        layer.weight.requires_grad_(False)
    return model


def group_rates(lr: float, c: float, c_beta: float = 1.0) -> dict[str, float]:
    """Learning rate by the name of the group; see :func:`parameter_groups`."""
    return {"weights": lr, "shifts": lr, "beta": lr / c_beta, "gamma": lr / c}


def parameter_groups(
    model: nn.Module,
    lr: float = 0.1,
    c: float = 100.0,
    weight_decay: float = 1e-4,
    *,
    c_beta: float = 1.0,
    decay: str = "weights",
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer: γ learns at ``lr / c``, and only weights decay.

    ========== ===================================================== =============== ================
    name       parameters                                            lr              weight decay
    ========== ===================================================== =============== ================
    weights    all that the others do not hold                       ``lr``          ``weight_decay``
    shifts     β, biases of convolutional, linear, recurrent and     ``lr``          0
               attention layers, the parameters of other
               normalization layers, and those that RBN and IEBN
               have besides γ and β
    beta       β of every BN layer, where ``c_beta`` is not 1        ``lr / c_beta`` 0
    gamma      γ of every BN layer                                   ``lr / c``      0
    ========== ===================================================== =============== ================

    The groups are chosen by the type of the module that owns a parameter and hold every parameter exactly once. An
    empty group is left out. With ``c=1`` this is plain SGD without decay on BN parameters and biases.

    Args:
        model: any module with at least one BN layer.
        lr: learning rate.
        c: divisor of γ's learning rate.
        weight_decay: L2 coefficient.
        c_beta: divisor of β's learning rate; the paper keeps it at 1.
        decay: ``weights``, or ``all``: every group has ``weight_decay``, as the authors of RBN and IEBN train.

    Raises:
        MethodError: no BN layer with a γ; ``lr``, ``c`` or ``c_beta`` not positive; ``weight_decay`` negative; no such
            ``decay``; a γ that another layer uses too; with ``c_beta`` other than 1, such a β.

    Source: Davis & Frank (2022), section 3; official code osu-cvl/revisiting-bn-init.
    """
    limits = (("lr", lr, False), ("c", c, False), ("weight_decay", weight_decay, True), ("c_beta", c_beta, False))
    for key, value, low in limits:
        if not (value >= 0 if low else value > 0) or value == float("inf"):
            raise MethodError(f"{key}: got {value!r}; accepted: a finite number {'≥' if low else '>'} 0")
    if decay not in DECAYS:
        raise MethodError(f"decay: got {decay!r}; accepted: {', '.join(DECAYS)}")
    layers = require_batchnorm(model)
    gammas = {id(layer.weight) for layer in layers}
    betas = {id(layer.bias) for layer in layers if layer.bias is not None} if c_beta != 1 else set()
    shifts: set[int] = set()
    others: set[int] = set()
    for module in model.modules():
        own = {id(p) for p in module.parameters(recurse=False)}
        if isinstance(module, _BatchNorm):
            shifts |= own - gammas - betas
        elif isinstance(module, NORMALIZATION):
            shifts |= own
        else:
            biases = {id(bias) for bias in _biases(module)} & own
            shifts |= biases
            others |= own - biases
    for symbol, members in (("γ", gammas), ("β", betas - gammas)):
        if members & (shifts | others):
            accepted = f"a {symbol} that only BN layers use"
            raise MethodError(f"model: a BN layer shares its {symbol} with another layer; accepted: {accepted}")
    homes = {"gamma": gammas, "shifts": shifts, "beta": betas}
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "shifts": [], "beta": [], "gamma": []}
    for parameter in model.parameters():
        key = next((name for name, home in homes.items() if id(parameter) in home), "weights")
        groups[key].append(parameter)
    rates = group_rates(lr, c, c_beta)
    decays = {name: weight_decay if decay == "all" or name == "weights" else 0.0 for name in groups}
    return [
        {"name": name, "params": members, "lr": rates[name], "weight_decay": decays[name]}
        for name, members in groups.items()
        if members
    ]
