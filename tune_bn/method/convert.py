"""From plain batch norm to the layers of the rivals, on a network of any make."""

from __future__ import annotations

from typing import TypeGuard

from torch import Tensor, nn

from tune_bn.errors import MethodError
from tune_bn.host.extensions import load
from tune_bn.method.batchnorm import InputBatchNorm2d
from tune_bn.method.gated import GatedBatchNorm2d
from tune_bn.method.iebn import InstanceEnhancementBatchNorm2d
from tune_bn.method.norms import NORMS, Norm
from tune_bn.method.probing import is_followed, keeps_forward
from tune_bn.method.rbn import RepresentativeBatchNorm2d
from tune_bn.method.residual import residual_batchnorms


class _Followed(GatedBatchNorm2d):
    """A gated layer followed by its own submodules in their order, as drop and act of timm's BatchNormAct2d."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = super().forward(input)
        for module in self.children():
            output = module(output)
        return output


class FollowedRepresentativeBatchNorm2d(_Followed, RepresentativeBatchNorm2d):
    """:class:`RepresentativeBatchNorm2d` and what followed the BN layer within it."""


class FollowedInstanceEnhancementBatchNorm2d(_Followed, InstanceEnhancementBatchNorm2d):
    """:class:`InstanceEnhancementBatchNorm2d` and what followed the BN layer within it."""


def convert(model: nn.Module, norm: str = "rbn", *, plain_shortcuts: bool = False) -> nn.Module:
    """Replace every ``nn.BatchNorm2d`` by the layer of ``norm``, in place, and return the model.

    A new layer takes over γ, β and the running statistics themselves (the same tensors, so an optimizer or a tied γ
    goes on), ε, momentum, mode, device and dtype; its own parameters start at their initial values and learn, also
    where γ is frozen. A layer that is used twice is replaced by one layer. Hooks are not carried over. Nothing is drawn
    at random. All other parameters stay bit for bit.

    Replaced are ``nn.BatchNorm2d``, subclasses that keep its ``forward``, and subclasses that are ``nn.BatchNorm2d``
    followed by their own submodules, as timm's ``BatchNormAct2d`` with its ``drop`` and ``act``: these submodules go on
    to follow the new layer, under their names. Left alone are
    :class:`~tune_bn.method.batchnorm.InputBatchNorm2d`, layers with ``affine=False`` (a gate multiplies γ),
    ``BatchNorm1d``, ``BatchNorm3d`` and ``SyncBatchNorm``, for which the rivals are not defined, and layers that were
    converted before. ``SyncBatchNorm.convert_sync_batchnorm`` would turn the new layers back into plain ones.

    Args:
        model: a network with ``nn.BatchNorm2d`` layers.
        norm: ``rbn`` and ``rbn_star`` (:class:`~tune_bn.method.rbn.RepresentativeBatchNorm2d`), ``iebn`` and
            ``iebn_star`` (:class:`~tune_bn.method.iebn.InstanceEnhancementBatchNorm2d`), or another row of
            :data:`tune_bn.method.norms.NORMS`. The star is a matter of weight decay and changes no layer. ``base`` and
            ``scaled`` return the model as it is.
        plain_shortcuts: leave the BN of downsampling shortcuts plain, as IEBN's public code does.

    Returns:
        The model; the new layer where the model itself is a BN layer.

    Raises:
        MethodError: no such ``norm``; no layer to replace; a subclass of ``nn.BatchNorm2d`` whose own ``forward``
            would be lost; a layer that has not seen its first input, or whose γ or β is a parametrization; a layer that
            was converted to the other rival; ``plain_shortcuts`` for a network that cannot be traced. The model is then
            as before.
    """
    if norm not in NORMS:
        raise MethodError(f"norm: got {norm!r}; accepted: {', '.join(NORMS)}")
    row = NORMS[norm]
    if not row.layer:
        return model
    kind: type[GatedBatchNorm2d] = load(row.layer)
    modules = list(model.modules())
    for module in modules:
        if isinstance(module, GatedBatchNorm2d) and not isinstance(module, kind):
            raise MethodError(
                f"model: got {type(module).__name__} layers; accepted: a network that was not converted, or to "
                f"{kind.__name__}"
            )
    plain = [m for m in modules if _is_plain(m)]
    if not plain and not any(isinstance(m, kind) for m in modules):
        norms = sorted({type(m).__name__ for m in modules if "Norm" in type(m).__name__})
        found = f" (it has {', '.join(norms)})" if norms else ""
        raise MethodError(
            f"model: got {type(model).__name__} without a BatchNorm2d to replace{found}; "
            "accepted: a network with at least one BatchNorm2d that has affine=True"
        )
    kept = {model.get_submodule(name) for name in residual_batchnorms(model)[1]} if plain_shortcuts else set()
    replaced: dict[nn.Module, nn.Module] = {
        layer: _replacement(layer, kind, row) for layer in plain if layer not in kept
    }
    for parent in [*modules, *replaced.values()]:
        for name, child in parent._modules.items():
            if child in replaced:
                parent._modules[name] = replaced[child]
    return replaced.get(model, model)


def _is_plain(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a layer is to be replaced. Raises :class:`MethodError` for one that cannot be."""
    name = type(module).__name__
    if isinstance(module, nn.LazyBatchNorm2d):
        raise MethodError(f"model: got an uninitialized {name}; accepted: a network after its first forward pass")
    if not isinstance(module, nn.BatchNorm2d) or isinstance(module, InputBatchNorm2d | GatedBatchNorm2d):
        return False
    if module.weight is None:
        return False
    for symbol, value in (("γ", module.weight), ("β", module.bias)):
        if value is not None and not isinstance(value, nn.Parameter):
            raise MethodError(
                f"model: got a {name} whose {symbol} is computed from other tensors (a parametrization); "
                f"accepted: layers whose {symbol} is a parameter of their own"
            )
    if not keeps_forward(module) and not is_followed(module):
        raise MethodError(
            f"model: got a {name}, whose own forward a conversion would drop; accepted: nn.BatchNorm2d, subclasses "
            "that keep its forward or only apply their submodules to its output (as timm's BatchNormAct2d); else an "
            f"nn.BatchNorm2d in place of {name}, and what it does besides in a module of its own"
        )
    return True


def _replacement(layer: nn.BatchNorm2d, kind: type[GatedBatchNorm2d], row: Norm) -> GatedBatchNorm2d:
    followers = {} if keeps_forward(layer) else dict(layer.named_children())
    if followers and not row.followed:
        name = type(layer).__name__
        raise MethodError(f"model: got a {name}, which {row.name} cannot replace; accepted: nn.BatchNorm2d")
    new = (load(row.followed) if followers else kind)(
        layer.num_features,
        layer.eps,
        layer.momentum,
        track_running_stats=layer.track_running_stats,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    new.weight, new.bias = layer.weight, layer.bias
    new.running_mean, new.running_var = layer.running_mean, layer.running_var
    new.num_batches_tracked = layer.num_batches_tracked
    new.train(layer.training)
    for name, follower in followers.items():
        new.add_module(name, follower)
    return new
