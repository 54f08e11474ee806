"""Which parameters learn at which rate, and which of them decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import require_batchnorm

NORMALIZATION = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


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
    gammas = {id(layer.weight) for layer in require_batchnorm(model)}
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
