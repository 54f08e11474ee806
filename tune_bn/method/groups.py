"""Which parameters learn at which rate, and which of them decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import require_batchnorm
from tune_bn.method.rates import DIVISOR, remember_rates
from tune_bn.script.notes import note

DECAYS = ("weights", "all")
NORMALIZATION = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)

BIASES: tuple[tuple[Any, tuple[str, ...]], ...] = (
    ((_ConvNd, nn.Linear, nn.Bilinear), ("bias",)),
    (nn.MultiheadAttention, ("in_proj_bias", "bias_k", "bias_v")),
    (nn.RNNCellBase, ("bias_ih", "bias_hh")),
)
"""Types of PyTorch with the names of their own parameters that are biases; ``nn.RNNBase`` has ``bias_*`` besides."""
TORCHVISION_BIASES = {
    "torchvision.ops.deform_conv.DeformConv2d": ("bias",),
    "torchvision.models.maxvit.RelativePositionalMultiHeadAttention": ("relative_position_bias_table",),
    "torchvision.models.swin_transformer.ShiftedWindowAttention": ("relative_position_bias_table",),
    "torchvision.models.video.swin_transformer.ShiftedWindowAttention3d": ("relative_position_bias_table",),
}
"""The same for torchvision's, by name, so that none is imported. Its training recipes let these tables not decay."""
_REPARAMETRIZED = ("_orig", "_g", "_v")
"""What ``torch.nn.utils.prune``, ``weight_norm`` and ``spectral_norm`` put behind the name of a parameter."""

M = TypeVar("M", bound=nn.Module)


def _own_parameters(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The parameters of a module itself by the name of the tensor that they are, or that is computed from them."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module._parameters.items():
        if parameter is None:
            continue
        stem = next((name.removesuffix(end) for end in _REPARAMETRIZED if name.endswith(end)), name)
        # The tensor itself is a plain attribute then.
        name = stem if stem in vars(module) else name
        found.setdefault(name, []).append(parameter)
    parametrizations = module._modules.get("parametrizations")
    if isinstance(parametrizations, nn.ModuleDict):
        for name, chain in parametrizations.items():
            if isinstance(chain, ParametrizationList):
                found.setdefault(name, []).extend(chain.parameters(recurse=False))
    return found


def _is_bias(module: nn.Module, name: str) -> bool:
    """Whether a parameter of a module of a known type is a bias."""
    if isinstance(module, nn.RNNBase):
        return name.startswith("bias_")
    if any(isinstance(module, kind) and name in names for kind, names in BIASES):
        return True
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    return any(name in TORCHVISION_BIASES.get(kind, ()) for kind in kinds)


def freeze_gamma(model: M) -> M:
    """Let no γ of a BN layer learn, in place, and return the model. β and everything else learn as before.

    Raises:
        MethodError: no BN layer with a γ.
    """
    for layer in require_batchnorm(model):
        layer.weight.requires_grad_(False)
    return model


def _betas(layers: Sequence[_BatchNorm]) -> set[int]:
    for layer in layers:
        if layer.bias is not None and not isinstance(layer.bias, nn.Parameter):
            raise MethodError(
                f"model: got a {type(layer).__name__} whose β is computed from other tensors (a parametrization); "
                "accepted: layers whose β is a parameter of their own, or c_beta = 1"
            )
    return {id(layer.bias) for layer in layers if layer.bias is not None}


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

    Every later step of a ``torch.optim.Optimizer`` with these groups is checked: where γ does not learn at 1/c of the
    other groups' rate, since a scheduler has written one number into all groups or the state of another optimizer was
    loaded, the step raises :class:`MethodError`. :func:`~tune_bn.method.rates.keep_rates` keeps the rate under any
    scheduler.

    ========== ===================================================== =============== ================
    name       parameters                                            lr              weight decay
    ========== ===================================================== =============== ================
    weights    all that the others do not hold                       ``lr``          ``weight_decay``
    shifts     β, biases of convolutional, linear, recurrent and     ``lr``          0
               attention layers (``bias_k`` and ``bias_v`` too) and
               torchvision's tables of relative position biases,
               the parameters of other normalization layers, and
               those that RBN and IEBN have besides γ and β
    beta       β of every BN layer, where ``c_beta`` is not 1        ``lr / c_beta`` 0
    gamma      γ of every BN layer                                   ``lr / c``      0
    ========== ===================================================== =============== ================

    The groups are chosen by the type of the module that owns a parameter and hold every parameter exactly once. A
    parametrization, ``weight_norm`` or pruning changes no group: what a bias is computed from is a bias. A parameter
    that a module of your own calls bias is a weight. An empty group is left out. With ``c=1`` this is plain SGD without
    decay on BN parameters and biases. ``lr_divisor`` in each group tells what its rate was divided by.

    Args:
        model: any module with at least one BN layer.
        lr: learning rate.
        c: divisor of γ's learning rate.
        weight_decay: L2 coefficient.
        c_beta: divisor of β's learning rate; the paper keeps it at 1.
        decay: ``weights``, or ``all``: every group has ``weight_decay``, as the authors of RBN and IEBN train.

    Raises:
        MethodError: no BN layer with a γ; ``lr``, ``c`` or ``c_beta`` not positive; ``weight_decay`` negative; no such
            ``decay``; a γ that another layer uses too; with ``c_beta`` other than 1, such a β or one that is a
            parametrization.

    Source: Davis & Frank (2022), section 3; official code osu-cvl/revisiting-bn-init.
    """
    groups = plain_groups(model, lr, c, weight_decay, c_beta=c_beta, decay=decay)
    divisors = {"gamma": float(c), "beta": float(c_beta)}
    for group in groups:
        group[DIVISOR] = divisors.get(group["name"], 1.0)
        if isinstance(group["lr"], Tensor):
            # A scheduler writes into the tensor: each group needs its own.
            group["lr"] = group["lr"].detach().clone()
    remember_rates(groups, lr)
    note("parameter_groups", c=float(c))
    return groups


def plain_groups(
    model: nn.Module,
    lr: float,
    c: float,
    weight_decay: float,
    *,
    c_beta: float = 1.0,
    decay: str = "weights",
) -> list[dict[str, Any]]:
    """As :func:`parameter_groups`, for a caller that sets the rates itself at every step: nothing looks at them."""
    limits = (("lr", lr, False), ("c", c, False), ("weight_decay", weight_decay, True), ("c_beta", c_beta, False))
    for key, value, low in limits:
        if not (value >= 0 if low else value > 0) or value == float("inf"):
            raise MethodError(f"{key}: got {value!r}; accepted: a finite number {'≥' if low else '>'} 0")
    if decay not in DECAYS:
        raise MethodError(f"decay: got {decay!r}; accepted: {', '.join(DECAYS)}")
    layers = require_batchnorm(model)
    gammas = {id(layer.weight) for layer in layers}
    betas = _betas(layers) if c_beta != 1 else set()
    shifts: set[int] = set()
    others: set[int] = set()
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            continue  # its parameters count as those of the module whose tensor it computes
        for name, parameters in _own_parameters(module).items():
            own = {id(parameter) for parameter in parameters}
            if isinstance(module, _BatchNorm):
                shifts |= own - gammas - betas
            elif isinstance(module, NORMALIZATION) or _is_bias(module, name):
                shifts |= own
            else:
                others |= own
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
