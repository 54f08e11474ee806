"""Layers that learn their shapes from their first input: ``nn.LazyLinear``, ``nn.LazyConv2d`` and the like."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from tune_bn.errors import MethodError, described


def has_lazy(network: nn.Module) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return any(is_lazy(tensor) for tensor in itertools.chain(network.parameters(), network.buffers()))


@torch.no_grad()
def fill_lazy(network: nn.Module, arch: str, image_shape: tuple[int, int, int]) -> None:
    """Give lazy layers their shapes by a dry run on two black images, in place.

    Their initial values are drawn from torch's CPU generator in the order in which the forward pass comes to them. The
    run is in evaluation mode; a layer that this leaves out is reached in training mode, with BN layers in evaluation.
    Mode and buffers are as before.

    Args:
        network: a network with lazy layers, on the CPU.
        arch: what an error calls it.
        image_shape: (C, H, W) of the images that it will get.

    Raises:
        MethodError: the run raises, or leaves a layer without a shape.
    """
    modes = {module: module.training for module in network.modules()}
    buffers = {name: value.clone() for name, value in network.named_buffers() if not is_lazy(value)}
    shape = "×".join(str(side) for side in image_shape)
    for training in (False, True):
        network.train(training)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        if has_lazy(network):
            try:
                network(torch.zeros(2, *image_shape))
            except (Exception, SystemExit) as error:
                raise MethodError(
                    f"model.arch: got {arch!r}, whose lazy layers get no shape, since it raised {described(error)} on "
                    f"images of {shape}; accepted: a network for such images, or layers of a stated size"
                ) from error
    if has_lazy(network):
        names = [name for name, tensor in network.named_parameters() if is_lazy(tensor)]
        names += [name for name, tensor in network.named_buffers() if is_lazy(tensor)]
        raise MethodError(
            f"model.arch: got {arch!r}, whose {names[0]} has no shape after a forward pass; accepted: lazy layers that "
            "the forward pass uses, or layers of a stated size"
        )
    for module, training in modes.items():
        module.training = training
    for name, value in network.named_buffers():
        if name in buffers:
            value.copy_(buffers[name])
