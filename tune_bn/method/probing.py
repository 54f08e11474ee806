"""What a BN layer of someone else's make computes, found by trying a copy of it on a few numbers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def keeps_forward(layer: _BatchNorm) -> bool:
    """Whether a layer computes what PyTorch's own layer does, and nothing else."""
    return type(layer).forward in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward)


def is_followed(layer: nn.BatchNorm2d) -> bool:
    """Whether a layer is ``nn.BatchNorm2d`` followed by its own submodules in their order, as timm's BatchNormAct2d.

    A copy in double precision with random parameters and statistics is compared with just that, in both modes of the
    normalization; what draws at random in training, such as dropout, is off.
    """
    if not any(layer.children()):
        return False
    try:
        for training in (True, False):
            copies = [_stand_in(layer, training) for _ in range(2)]
            x = _values((4, layer.num_features, 2, 2), 1)
            with torch.no_grad():
                found = copies[0].forward(x.clone())
                expected = nn.BatchNorm2d.forward(copies[1], x.clone())
                for module in copies[1].children():
                    expected = module(expected)
            if not torch.allclose(found, expected, rtol=1e-6, atol=1e-9):
                return False
    except Exception:
        # Whatever a layer of someone else's make raises on a copy of itself: it is not known to be followed.
        return False
    return True


def zero_learns(layer: _BatchNorm) -> bool:
    """Whether γ = 0 with β = 0 makes the layer's output 0 and still has a gradient.

    Neither is so where the layer ends in a ReLU of its own, which passes no gradient at 0.

    Raises:
        ValueError: the layer cannot be tried.
    """
    dimensions = 2 if isinstance(layer, nn.BatchNorm1d) else 5 if isinstance(layer, nn.BatchNorm3d) else 4
    try:
        probe = _stand_in(layer, False)
        with torch.enable_grad():
            gamma = probe.weight.detach_().zero_().requires_grad_()
            if probe.bias is not None:
                probe.bias.detach_().zero_()
            x = _values((4, layer.num_features, *(2,) * (dimensions - 2)), 1)
            output = probe.forward(x)
            (gradient,) = torch.autograd.grad((output * _values(output.shape, 2)).sum(), gamma, allow_unused=True)
        return not output.any() and gradient is not None and bool(gradient.any())
    except Exception as error:
        raise ValueError(f"{type(layer).__name__}: {error}") from error


def _stand_in(layer: _BatchNorm, training: bool) -> _BatchNorm:
    """A copy on the CPU whose values are the same each time, also where the layer has none (on the meta device)."""
    probe = copy.deepcopy(layer).to_empty(device="cpu").double().eval()
    with torch.no_grad():
        for number, (name, tensor) in enumerate([*probe.named_parameters(), *probe.named_buffers()], start=10):
            if tensor.is_floating_point():
                tensor.copy_(_values(tensor.shape, number))
            else:
                tensor.zero_()
            if name == "running_var":
                tensor.abs_().add_(0.5)
    # The normalization alone: its submodules stay in evaluation mode.
    probe.training = training
    return probe


def _values(shape: tuple[int, ...] | torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
