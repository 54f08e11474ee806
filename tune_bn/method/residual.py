"""Which BN layers end a residual branch, and which lie on a shortcut: read off the network's own forward pass."""

from __future__ import annotations

import inspect
import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules import activation
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from tune_bn.errors import MethodError, first_line, own_fault
from tune_bn.method.probing import keeps_forward, zero_learns

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_FUNCTIONAL_WEIGHTS = {F.conv1d, F.conv2d, F.conv3d, F.linear}
PASSING = {
    "celu",
    "elu",
    "gelu",
    "hardswish",
    "hardtanh",
    "leakyrelu",
    "mish",
    "prelu",
    "rrelu",
    "selu",
    "silu",
    "tanh",
}
"""Activations that are 0 at 0 and have a gradient there."""
_BLOCKING = {name.lower() for name in activation.__all__} - PASSING


def residual_batchnorms(model: nn.Module) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the BN layers that end a residual branch, and of those on a shortcut.

    The forward pass is traced with ``torch.fx``; nothing is computed, so a network on the meta device will do. A
    residual block is an addition of two tensors that come from a common one: the operand with fewer convolutions and
    linear layers since then, at most one, is the shortcut, the other the branch; of as many, the one with larger
    kernels. A BN ends its branch where a γ of 0 makes the branch 0 and can still learn: no convolution or linear layer
    lies between it and the addition, nor an activation but those of ``PASSING``. So a branch that ends in a convolution
    (pre-activation) or a ReLU has none: behind a γ of 0 a ReLU would pass no gradient for ever. A layer with a forward
    of its own, which may have an activation inside, is tried with γ = 0.

    Args:
        model: any network that ``torch.fx`` can trace; it comes back as it was.

    Returns:
        Names as in ``named_modules``; two empty sets for a network without residual branches.

    Raises:
        MethodError: the network cannot be traced.
    """
    graph = _trace(model)
    ancestors: dict[fx.Node, set[fx.Node]] = {}
    ends: set[str] = set()
    shortcuts: set[str] = set()
    for node in graph.nodes:
        ancestors[node] = {node}.union(*(ancestors[parent] for parent in node.all_input_nodes))
        operands = node.all_input_nodes
        if node.target not in _ADDITIONS or len(operands) != 2:
            continue
        common = ancestors[operands[0]] & ancestors[operands[1]]
        if not common:
            continue
        sides = sorted((_work(ancestors[operand] - common, model), place) for place, operand in enumerate(operands))
        (small, shortcut), (large, branch) = sides
        if small == large or small[0] > 1:
            continue
        shortcuts |= {str(n.target) for n in ancestors[operands[shortcut]] - common if _is(n, model, _BatchNorm)}
        ends |= _last_batchnorms(operands[branch], common, model)
    return frozenset(ends), frozenset(shortcuts)


class _Tracer(fx.Tracer):
    """Sees BN, convolutions and linear layers as units, subclasses of other packages included."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        whole = isinstance(module, _BatchNorm | _ConvNd | nn.Linear)
        return whole or super().is_leaf_module(module, qualified_name)


def _trace(model: nn.Module) -> fx.Graph:
    optional = {
        name: parameter.default
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.default is not parameter.empty
    }
    modes = [(module, module.training) for module in model.modules()]
    try:
        # Stochastic depth and auxiliary heads exist in training alone, and are the least traceable part of a network.
        model.eval()
        return _Tracer(param_shapes_constant=True).trace(model, concrete_args=optional or None)
    except Exception as error:
        # Tracing runs the network's own code on stand-ins, and any error may come of that.
        if own_fault(error) is not None:
            raise
        reason = first_line(error)
        raise MethodError(
            f"model: got {type(model).__name__}, whose residual branches cannot be traced ({reason}); "
            "accepted: a network that torch.fx can trace"
        ) from None
    finally:
        for module, mode in modes:
            module.training = mode


def _is(node: fx.Node, model: nn.Module, kind: Any) -> bool:
    return node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), kind)


def _has_weights(node: fx.Node, model: nn.Module) -> bool:
    return node.target in _FUNCTIONAL_WEIGHTS or _is(node, model, _ConvNd | nn.Linear)


def _work(nodes: set[fx.Node], model: nn.Module) -> tuple[int, int]:
    """Number of convolutions and linear layers, and the sum of their kernels' areas."""
    weighty = [node for node in nodes if _has_weights(node, model)]
    modules = [model.get_submodule(str(node.target)) for node in weighty if node.op == "call_module"]
    return len(weighty), sum(math.prod(m.kernel_size) for m in modules if isinstance(m, _ConvNd))


def _blocks(node: fx.Node, model: nn.Module) -> bool:
    """Whether a node is an activation that makes something else of 0 or has no gradient there."""
    if node.op == "call_module":
        name = type(model.get_submodule(str(node.target))).__name__
    else:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.replace("_", "").lower() in _BLOCKING


def _can_end(layer: Any) -> bool:
    if keeps_forward(layer):
        return True
    try:
        return zero_learns(layer)
    except ValueError as error:
        raise MethodError(
            f"model: got a layer whose forward is its own and cannot be tried with γ = 0 ({error}); accepted: "
            "PyTorch's batch norm, and subclasses that run alone"
        ) from None


def _last_batchnorms(operand: fx.Node, common: set[fx.Node], model: nn.Module) -> set[str]:
    """The BN layers from which an operand comes with nothing in between that has weights or blocks."""
    found, waiting, seen = set[str](), [operand], set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node in seen or node in common:
            continue
        seen.add(node)
        if _is(node, model, _BatchNorm):
            if _can_end(model.get_submodule(str(node.target))):
                found.add(str(node.target))
        elif not _has_weights(node, model) and not _blocks(node, model):
            waiting += node.all_input_nodes
    return found
