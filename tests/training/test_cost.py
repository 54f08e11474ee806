"""Counted work against published numbers and a count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision import models

from tune_bn.method.config import ModelConfig
from tune_bn.training.cost import BACKWARD, forward_flops


# GFLOP to train one CIFAR image with the small-image stem: forward, and twice as much backward.
@pytest.mark.parametrize(
    ("arch", "gflop", "digits"),
    [("resnet18", 3.33, 2), ("resnet50", 7.79, 2), ("resnet101", 15.1, 1), ("resnet152", 22.3, 1)],
)
def test_what_training_an_image_costs(arch: str, gflop: float, digits: int) -> None:
    flops = (1 + BACKWARD) * forward_flops(ModelConfig(arch=arch), (3, 32, 32), 10)
    assert round(flops / 1e9, digits) == gflop


@pytest.mark.parametrize("input_norm", ["none", "bn"])
def test_a_small_network_counted_by_hand(input_norm: str) -> None:
    def conv(channels: int, out: int, side: int) -> int:
        return 2 * 9 * channels * out * side * side

    expected = conv(1, 16, 8) + 2 * conv(16, 16, 8)
    expected += conv(16, 32, 4) + conv(32, 32, 4)
    expected += conv(32, 64, 2) + conv(64, 64, 2)
    expected += 2 * 64 * 10
    assert forward_flops(ModelConfig(arch="resnet8", input_norm=input_norm), (1, 8, 8), 10) == expected


def test_a_large_image_costs_no_memory() -> None:
    small = forward_flops(ModelConfig(arch="resnet18"), (3, 64, 64), 1000)
    # Nearly all the work is convolutions, which grow with the area: 256 times here.
    assert forward_flops(ModelConfig(arch="resnet18"), (3, 1024, 1024), 1000) == pytest.approx(256 * small, rel=1e-3)


@pytest.mark.parametrize("name", ["resnet50", "vgg11_bn", "mobilenet_v2", "regnet_y_400mf", "googlenet", "densenet121"])
def test_the_work_of_torchvisions_networks_is_what_torchvision_says(name: str) -> None:
    meta = models.get_model_weights(name).DEFAULT.meta
    multiply_adds = forward_flops(ModelConfig(arch=f"torchvision/{name}"), (3, 224, 224), 1000) / 2
    assert multiply_adds / 1e9 == pytest.approx(meta["_ops"], rel=0.01, abs=6e-4)


def test_behind_the_large_stem_an_image_is_a_sixteenth_as_large() -> None:
    small, large = (
        forward_flops(ModelConfig(arch="resnet18", stem=s), (3, 128, 128), 10) for s in ("small", "imagenet")
    )
    small -= 2 * 3 * 64 * 3**2 * 128**2 + 2 * 512 * 10
    large -= 2 * 3 * 64 * 7**2 * 64**2 + 2 * 512 * 10
    assert 16 * large == small


@pytest.mark.parametrize("reads", ["", "\n    layers[0].weight.std().item()"])
def test_a_users_network_is_counted_also_where_it_reads_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    name = f"users_counted_{len(reads)}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\ndef net(in_channels, num_classes):\n"
        f"    layers = [nn.Flatten(), nn.Linear(in_channels * 64, num_classes)]\n    layers.reverse(){reads}\n"
        "    layers.reverse()\n    return nn.Sequential(*layers)\n"
    )
    assert forward_flops(ModelConfig(arch=f"{name}:net"), (3, 8, 8), 10) == 2 * 3 * 64 * 10


@pytest.mark.parametrize("given", ["self.query", "self.query.expand(len(x), -1)", "self.query + 0 * x.mean()"])
def test_a_parameter_may_be_given_to_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    # A learned query, a class token or a prompt: pooling by attention is written so.
    name = f"users_query_{len(given)}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self, in_channels, num_classes):\n        super().__init__()\n"
        "        self.query = nn.Parameter(torch.zeros(1, in_channels))\n"
        "        self.layer = nn.Linear(in_channels, in_channels)\n"
        "        self.head = nn.Linear(in_channels, num_classes)\n\n"
        "    def forward(self, x):\n"
        f"        return self.head(x.mean((2, 3)) + self.layer({given}))\n"
    )
    # Of two images; a query that is not expanded goes through its layer once.
    layer = 2 * 3 * 3 // (1 if "expand" in given else 2)
    assert forward_flops(ModelConfig(arch=f"{name}:Net"), (3, 8, 8), 10) == layer + 2 * 3 * 10
