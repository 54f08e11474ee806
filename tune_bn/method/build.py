"""From a :class:`ModelConfig` to a network that is ready to train."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tune_bn.method.batchnorm import InputBatchNorm2d, scale_batchnorm
from tune_bn.method.config import ModelConfig
from tune_bn.method.resnet import build_network, initialize


class Standardize(nn.Module):
    """``(x − mean) / std`` per channel with fixed statistics of the data set; a constant channel is only centred.

    Shapes: (N, C, H, W) → (N, C, H, W).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        scale = torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)
        self.register_buffer("std", scale.where(scale > 0, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return (x - self.mean) / self.std


def build_model(
    config: ModelConfig,
    *,
    in_channels: int,
    num_classes: int,
    generator: torch.Generator,
    channel_statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> nn.Module:
    """The whole model: input normalization if any, then the network with scaled batch norm.

    Args:
        config: architecture, normalization and γ.
        in_channels: channels C of the images (N, C, H, W), pixels in [0, 1].
        num_classes: outputs.
        generator: source of the initial weights.
        channel_statistics: mean and std per channel; needed for ``input_norm="dataset"``.
    """
    network = build_network(config.arch, in_channels, num_classes)
    initialize(network, generator)
    if config.input_norm == "none":
        return scale_batchnorm(network, config.gamma)  # type: ignore[arg-type]
    if config.input_norm == "bn":
        front: nn.Module = InputBatchNorm2d(in_channels)
    else:
        if channel_statistics is None:
            raise ValueError("channel_statistics must be given for input_norm='dataset', but got None")
        front = Standardize(*channel_statistics)
    return scale_batchnorm(nn.Sequential(OrderedDict(input_norm=front, network=network)), config.gamma)  # type: ignore[arg-type]
