"""The networks of the paper, and the small family of He et al. (2016) for CIFAR-sized images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.method.config import CIFAR_RESNETS, TORCHVISION_RESNETS


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with BN and a parameter-free shortcut (option A of He et al., 2016, section 3.3).

    Where the block halves the image, the shortcut takes every second pixel and fills the new channels with zeros.

    Shapes: (N, in_channels, H, W) → (N, out_channels, H/stride, W/stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.new_channels:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(y + x, inplace=True)


class CifarResNet(nn.Module):
    """ResNet of depth 6n+2 for small images: three stages of n blocks with 16, 32 and 64 channels.

    Source: He et al. (2016), section 4.2.

    Shapes: (N, in_channels, H, W) → (N, num_classes).
    """

    def __init__(self, depth: int, in_channels: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n+2 with n ≥ 1, but got {depth}")
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels, stages = width, []
        for index in range(3):
            out = width * 2**index
            stage = [BasicBlock(channels, out, 1 if index == 0 else 2)]
            stage += [BasicBlock(out, out, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            channels = out
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.stages(x)
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def torchvision_resnet(arch: str, in_channels: int, num_classes: int, stem: str) -> nn.Module:
    """torchvision's ResNet.

    With ``stem="small"`` it begins as in the paper's CIFAR code: 3×3 convolution, stride 1, no max-pooling. With
    ``"imagenet"`` it begins as torchvision has it: 7×7 convolution, stride 2, then max-pooling of stride 2.
    """
    # Importing torchvision takes longer than training a small network, which does not need it.
    from torchvision import models

    model: nn.Module = getattr(models, arch)(weights=None, num_classes=num_classes)
    if stem == "small":
        model.conv1 = nn.Conv2d(in_channels, 64, 3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif in_channels != 3:
        model.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    return model


def build_network(arch: str, in_channels: int, num_classes: int, stem: str = "small") -> nn.Module:
    """The built-in network of that name, with PyTorch's own initial values. ``stem`` is for torchvision's ResNets.

    Raises:
        ValueError: no such architecture.
    """
    if arch in CIFAR_RESNETS:
        return CifarResNet(int(arch.removeprefix("resnet")), in_channels, num_classes)
    if arch in TORCHVISION_RESNETS:
        return torchvision_resnet(arch, in_channels, num_classes, stem)
    raise ValueError(f"arch must be one of {', '.join(CIFAR_RESNETS + TORCHVISION_RESNETS)}, but got {arch!r}")


@torch.no_grad()
def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Initial values of the paper's code, drawn from ``generator`` in the order of ``modules``.

    Convolution weights: Kaiming normal, fan-in, ReLU gain. Linear weights: uniform within ±√(6 / fan_in). Biases 0.
    Batch norm: γ = 1, β = 0. Only convolutions and linear layers draw, so that two networks which differ in other
    layers start from the same convolution weights.

    Source: official code osu-cvl/revisiting-bn-init.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu", generator=generator)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
