"""What the two rivals share: batch norm whose scale is multiplied by a gate of each image and channel."""

# Without `from __future__ import annotations`: TorchScript reads the annotations of attributes, and reads no strings.

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.errors import MethodError


class GatedBatchNorm2d(nn.BatchNorm2d):
    """Base of the gated layers: ``y = γ·gate·x̂ + β`` with a gate in (0, 1) for each image and channel.

    γ is ``weight`` and β ``bias``, of shape (C,) as in ``nn.BatchNorm2d``, so that code for γ takes every layer. The
    public codes of both rivals shape them (1, C, 1, 1). The other parameters have the names and the shape (1, C, 1, 1)
    of those codes. Arguments, statistics and modes are those of ``nn.BatchNorm2d``.

    Precision: statistics are those of ``F.batch_norm``, float32 for half-precision inputs. An image's mean has the
    input's dtype, the gate the parameters' (float32 under autocast); γ·gate and β are cast to the input's dtype, which
    is the output's. The output has the input's memory format, and the input is not written to.

    Raises:
        MethodError: ``affine=False``: the gate would have no γ to multiply.
    """

    initial_gate: ClassVar[float]
    """Factor by which a new layer multiplies ``γ·x̂``."""
    gate_values: ClassVar[dict[str, float]]
    """Names of the parameters besides γ and β, with their initial values."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if not affine:
            raise MethodError(f"affine: got {affine!r}; accepted: True, because a gate multiplies γ")
        super().__init__(num_features, eps, momentum, True, track_running_stats, device, dtype)
        if not bias:
            self.register_parameter("bias", None)
        for name, value in self.gate_values.items():
            initial = torch.full((1, num_features, 1, 1), value, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(initial))

    def reset_parameters(self) -> None:
        """Running statistics, γ = 1, β = 0, and the gate's own initial values."""
        super().reset_parameters()
        for name, value in self.gate_values.items():
            # The constructor of nn.BatchNorm2d resets before the gate has parameters.
            if name in self._parameters:
                nn.init.constant_(self.get_parameter(name), value)

    def normalize(self, x: Tensor) -> Tensor:
        """``x̂ = (x − μ) / √(σ² + ε)`` with the statistics, and their update, of ``nn.BatchNorm2d``."""
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        tracked = self.track_running_stats or not self.training
        mean = self.running_mean if tracked else None
        var = self.running_var if tracked else None
        return F.batch_norm(x, mean, var, None, None, by_batch, momentum, self.eps)

    def scale(self, normalized: Tensor, logit: Tensor) -> Tensor:
        """``γ·sigmoid(logit)·x̂ + β`` in one pass over ``x̂`` (N, C, H, W); ``logit`` is (N, C, 1, 1)."""
        factor = (self.weight.view(1, -1, 1, 1) * torch.sigmoid(logit)).to(normalized.dtype)
        if self.bias is None:
            return normalized * factor
        return torch.addcmul(self.bias.view(1, -1, 1, 1).to(normalized.dtype), normalized, factor)


def image_mean(x: Tensor) -> Tensor:
    """Mean of every image and channel, "global average pooling": (N, C, H, W) → (N, C, 1, 1)."""
    return x.mean(dim=(2, 3), keepdim=True)
