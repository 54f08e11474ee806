"""A look inside the BN layers of a network: where γ and β went, how far activations reach, what gradients arrive.

The two observations of Davis & Frank (2022) that a user wants to see on their own network: learned γ's stay near their
initial value, and normalized activations reach ±6σ. And their insight on gradients: equal γ's cancel between two
layers, so a small γ leaves the first backward pass as it was.

All functions take any network with BN layers that have a γ, leave its parameters, statistics, modes and hooks as they
were, and draw nothing at random. Only the BN layers are put in training mode: dropout and the like stay off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from tune_bn.method.batchnorm import batchnorm_layers, require_batchnorm
from tune_bn.method.gated import image_mean
from tune_bn.method.rbn import RepresentativeBatchNorm2d
from tune_bn.records.diagnostics import Gradient, Layer, Tails, Values, finite


def inspect_layers(
    model: nn.Module,
    images: Tensor,
    *,
    initial: nn.Module | None = None,
    gradients: Mapping[str, Gradient] | None = None,
) -> tuple[Layer, ...]:
    """Every BN layer that has a γ, in the order in which an image passes them; unused layers come last.

    Args:
        model: the network.
        images: a batch as the network takes it, (N, …).
        initial: the same network before training; None: initial values are not known.
        gradients: by layer, from :func:`first_gradients`.

    Raises:
        MethodError: no BN layer with a γ.
    """
    tails = activation_tails(model, images)
    layers = dict(batchnorm_layers(model))
    before = {} if initial is None else dict(batchnorm_layers(initial))
    order = [*tails, *(name for name in layers if name not in tails)]
    return tuple(
        Layer(
            name=name,
            kind=type(layer).__name__,
            channels=layer.weight.numel(),
            gamma=_values(layer.weight, before[name].weight if name in before else None),
            beta=None if layer.bias is None else _values(layer.bias, before[name].bias if name in before else None),
            normalized=tails[name][0] if name in tails else None,
            output=tails[name][1] if name in tails else None,
            gradient=(gradients or {}).get(name),
        )
        for name, layer in ((name, layers[name]) for name in order)
    )


def _values(now: Tensor, before: Tensor | None) -> Values:
    now = now.detach().double()
    drift = relative = initial = None
    if before is not None:
        before = before.detach().double().to(now.device)
        size = float(before.abs().mean())
        initial, drift = finite(float(before.mean())), finite(float((now - before).abs().mean()))
        relative = None if drift is None or size == 0 else finite(drift / size)
    mean, std, low, high = (finite(float(value)) for value in (now.mean(), now.std(correction=0), now.min(), now.max()))
    return Values(initial, mean, std, low, high, drift, relative)


@torch.no_grad()
def activation_tails(model: nn.Module, images: Tensor) -> dict[str, tuple[Tails, Tails]]:
    """How far x̂ and y of every BN layer reach on a batch, in the order in which an image passes the layers.

    ``x̂ = (x − μ) / √(σ² + ε)`` is what training sees: μ and σ are those of the batch. It is computed from the layer's
    input in float32 (float64 for a float64 network), not from y, so γ = 0 is no obstacle. ``y`` is the layer's output,
    after an activation that the layer applies itself, as timm's ``BatchNormAct2d`` does.
    A layer that is used several times counts all its uses.

    Gated layers: in RBN x̂ is that of the shifted input ``x' = x + w_m·GAP(x)``, as the layer computes it, in IEBN that
    of x. y is the whole output of both, gate included.

    Raises:
        MethodError: no BN layer with a γ.
    """
    counts: dict[str, tuple[_Counter, _Counter]] = {}

    def look(name: str, layer: _BatchNorm, x: Tensor, y: Tensor) -> None:
        before, after = counts.setdefault(name, (_Counter(), _Counter()))
        before.add(_normalized(layer, x))
        after.add(y)

    with _observed(model, after=look):
        _run(model, images)
    return {name: (before.tails(), after.tails()) for name, (before, after) in counts.items()}


def first_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, unit_gammas: Mapping[str, Tensor]
) -> dict[str, Gradient]:
    """``‖∂L/∂x‖`` of every BN layer of an untrained network: with γ = 1, with its own γ, and their ratio.

    Let every γ be equal and ε = 0. Then all that follows the first BN layer is γ times what it is for γ = 1, as
    convolution, ReLU, pooling and the addition of two scaled branches pass a factor on. So are x and σ of every later
    layer, and ``∂L/∂x`` = γ/σ · (…) does not change, given the same gradient ∂L/∂y of the last layer. The first layer
    keeps the factor γ, unless its input is scaled like a layer's output, as
    :class:`~tune_bn.method.batchnorm.InputBatchNorm2d` does.

    With ε, a layer of a plain chain multiplies by √(v/(v + ε/γ²)) relative to ε = 0, with v = σ_act²·Σw², which is σ²
    for γ = 1. And the classifier's outputs are γ times as large, which changes the gradient of cross-entropy.

    Args:
        model: the network before its first step.
        images: a batch as the network takes it.
        labels: what cross-entropy compares its outputs with.
        unit_gammas: by layer, the γ that stands for γ = 1: 0.58 in an input normalization.

    Source: Davis & Frank (2022), "Gradients and insights".
    """
    own = gradient_norms(model, images, labels)
    gammas = {name: layer.weight for name, layer in batchnorm_layers(model)}
    same = all(torch.equal(gammas[name], gamma) for name, gamma in unit_gammas.items())
    unit = own if same else gradient_norms(model, images, labels, gammas=unit_gammas)
    return {
        name: Gradient(finite(unit[name]), finite(own[name]), finite(own[name] / unit[name]) if unit[name] else None)
        for name in own
    }


def gradient_norms(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    gammas: Mapping[str, Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> dict[str, float]:
    """``‖∂L/∂x‖`` (Euclidean, over the batch) of the input x of every BN layer, with statistics of the batch.

    x is what the layer is given: in RBN it is not shifted yet. A layer that is used several times counts all its uses.

    Args:
        model: the network.
        images: a batch as the network takes it.
        labels: second argument of ``loss``.
        gammas: γ's by layer, to be used instead of the network's own.
        loss: of the network's output and ``labels``, a scalar.

    Raises:
        MethodError: no BN layer with a γ.
    """
    squares: dict[str, Tensor] = {}

    def look(name: str, x: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            square = torch.linalg.vector_norm(gradient, dtype=torch.float64).square()
            squares[name] = squares[name] + square if name in squares else square

        if x.requires_grad:
            x.register_hook(add)  # type: ignore[no-untyped-call]

    images = images.detach().requires_grad_()
    with torch.enable_grad(), _observed(model, before=look):
        value = loss(_run(model, images, gammas or {}), labels)
        # With respect to the images alone: the gradients of the parameters are not wanted, and theirs stay untouched.
        torch.autograd.grad(value, images)
    return {name: float(square.sqrt()) for name, square in squares.items()}


def _run(model: nn.Module, images: Tensor, gammas: Mapping[str, Tensor] | None = None) -> Any:
    """The network's output; running statistics are updated in copies, which are then forgotten."""
    state: dict[str, Tensor] = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state |= {f"{name}.weight".removeprefix("."): gamma.detach() for name, gamma in (gammas or {}).items()}
    return functional_call(model, state, (images,))


@contextmanager
def _observed(
    model: nn.Module,
    *,
    before: Callable[[str, Tensor], None] | None = None,
    after: Callable[[str, _BatchNorm, Tensor, Tensor], None] | None = None,
) -> Iterator[None]:
    """BN layers alone in training mode, and functions that look at their input, or at input and output."""
    require_batchnorm(model)
    modes = [(module, module.training) for module in model.modules()]
    handles = []

    def watch(name: str, layer: _BatchNorm) -> None:
        if before is not None:
            handles.append(
                layer.register_forward_pre_hook(lambda _, a, k: before(name, _input(a, k)), with_kwargs=True)
            )
        if after is not None:
            handles.append(
                layer.register_forward_hook(lambda _, a, k, y: after(name, layer, _input(a, k), y), with_kwargs=True)
            )

    try:
        for name, layer in batchnorm_layers(model):
            watch(name, layer)
        for module, _ in modes:
            module.training = isinstance(module, _BatchNorm)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for handle in handles:
            handle.remove()


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    tensor: Tensor = args[0] if args else next(iter(kwargs.values()))
    return tensor


def _normalized(layer: _BatchNorm, x: Tensor) -> Tensor:
    if isinstance(layer, RepresentativeBatchNorm2d):
        x = x + layer.center_weight * image_mean(x)
    x = x if x.dtype == torch.float64 else x.float()
    over = [dimension for dimension in range(x.dim()) if dimension != 1]
    variance, mean = torch.var_mean(x, dim=over, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + layer.eps)


class _Counter:
    """Counts what lies beyond 3 and 6, without waiting for the device before :meth:`tails`."""

    def __init__(self) -> None:
        self.count = 0
        self.beyond: list[Tensor] = []
        self.largest: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        sizes = values.abs()
        self.count += sizes.numel()
        self.beyond.append(torch.stack([(sizes > 3).sum(), (sizes > 6).sum()]))
        self.largest.append(sizes.max())

    def tails(self) -> Tails:
        largest = float(torch.stack(self.largest).max())
        if finite(largest) is None:
            # NaN is beyond nothing: a share of what is left would look healthy.
            return Tails(None, None, None)
        beyond_3, beyond_6 = torch.stack(self.beyond).sum(dim=0).tolist()
        return Tails(beyond_3 / self.count, beyond_6 / self.count, largest)
