"""From a :class:`ModelConfig` to a network that is ready to train."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import InputBatchNorm2d, scale_batchnorm
from tune_bn.method.config import ModelConfig
from tune_bn.method.convert import convert
from tune_bn.method.networks import make_network


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
    image_size: tuple[int, int] | None = None,
) -> nn.Module:
    """The whole model: input normalization if any, then the network with its normalization layers and initial γ.

    Args:
        config: architecture, normalization and γ.
        in_channels: channels C of the images (N, C, H, W), pixels in [0, 1].
        num_classes: outputs.
        generator: source of the initial weights; they depend on nothing but it and the architecture.
        channel_statistics: mean and std per channel; needed for ``input_norm="dataset"``.
        image_size: (H, W) as the network gets them; needed for lazy layers, which no other network has.

    Raises:
        MethodError: there is no such network, or it cannot be treated as asked; the message names the key of ``model``.
    """
    model = make_network(config, in_channels, num_classes, generator, image_size)
    with naming_keys(config):
        model = convert(model, config.norm, plain_shortcuts=config.plain_shortcuts)
        if config.input_norm != "none":
            front: nn.Module = InputBatchNorm2d(in_channels)
            if config.input_norm == "dataset":
                if channel_statistics is None:
                    raise ValueError("channel_statistics must be given for input_norm='dataset', but got None")
                front = Standardize(*channel_statistics)
            model = nn.Sequential(OrderedDict(input_norm=front, network=model))
        return _scaled(model, config)


def prepared(network: nn.Module, config: ModelConfig) -> nn.Module:
    """A network as built, with the normalization layers and the initial γ of ``config``, in place.

    Raises:
        MethodError: it cannot be treated as asked; the message names the key of ``model``.
    """
    with naming_keys(config):
        return _scaled(convert(network, config.norm, plain_shortcuts=config.plain_shortcuts), config)


def _scaled(model: nn.Module, config: ModelConfig) -> nn.Module:
    return scale_batchnorm(model, config.gamma, branch_end=config.gamma_branch_end, unit_gate=config.unit_gate)


@contextmanager
def naming_keys(config: ModelConfig) -> Iterator[None]:
    """Name the keys of ``model`` in errors of functions that know their own arguments alone."""
    try:
        yield
    except MethodError as error:
        argument, _, problem = str(error).partition(": ")
        if argument == "model":
            raise MethodError(f"model.arch: got {config.arch!r}: {problem.removeprefix('got ')}") from error
        raise MethodError(f"model.{'gamma_' * (argument == 'branch_end')}{argument}: {problem}") from error
