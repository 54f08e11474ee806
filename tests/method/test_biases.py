"""Whatever PyTorch and torchvision call a bias learns without weight decay; every class of both is looked at."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d
from torchvision.ops import DeformConv2d

from tune_bn.errors import MethodError
from tune_bn.method.groups import NORMALIZATION, TORCHVISION_BIASES, parameter_groups

MAKE: dict[str, Callable[[Any], nn.Module]] = {
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), lambda kind: kind(4, 4, 1)),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), lambda kind: kind(4, 4, 1)),
    **dict.fromkeys(("LazyConv1d", "LazyConv2d", "LazyConv3d"), lambda kind: kind(4, 1)),
    **dict.fromkeys(("LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d"), lambda kind: kind(4, 1)),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), lambda kind: kind(4, affine=True)),
    **dict.fromkeys(("LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d"), lambda kind: kind(affine=True)),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), lambda kind: kind(4)),
    **dict.fromkeys(("LayerNorm", "RMSNorm", "LazyLinear"), lambda kind: kind(4)),
    **dict.fromkeys(("Linear", "Embedding", "EmbeddingBag", "GroupNorm"), lambda kind: kind(4, 4)),
    **dict.fromkeys(("RNN", "GRU", "RNNCell", "GRUCell", "LSTMCell"), lambda kind: kind(4, 4)),
    "LSTM": lambda kind: kind(4, 4, num_layers=2, bidirectional=True, proj_size=2),
    "RNNBase": lambda kind: kind("GRU", 4, 4),
    "RNNCellBase": lambda kind: kind(4, 4, bias=True, num_chunks=2),
    "Bilinear": lambda kind: kind(4, 4, 4),
    "MultiheadAttention": lambda kind: kind(4, 2, add_bias_kv=True, kdim=3, vdim=3),
    "AdaptiveLogSoftmaxWithLoss": lambda kind: kind(4, 8, [2, 4], head_bias=True),
    "LinearCrossEntropyLoss": lambda kind: kind(4, 4, bias=True),
    "Transformer": lambda kind: kind(4, 2, 1, 1, 4),
    "TransformerEncoderLayer": lambda kind: kind(4, 2, 4),
    "TransformerDecoderLayer": lambda kind: kind(4, 2, 4),
    "TransformerEncoder": lambda kind: kind(nn.TransformerEncoderLayer(4, 2, 4), 2, enable_nested_tensor=False),
    "TransformerDecoder": lambda kind: kind(nn.TransformerDecoderLayer(4, 2, 4), 2),
    "PReLU": lambda kind: kind(4),
    "DataParallel": lambda kind: kind(nn.Linear(4, 4)),
}
"""How to make each layer of torch.nn that has parameters, with all of those that it can have."""

HOLDERS = {"Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container"}
"""They hold what a user puts there."""
REFUSED = {"LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d"}
KINDS = {name: kind for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}


def grouped(layer: nn.Module, **options: Any) -> dict[str, set[str]]:
    """Names of the layer's parameters by group, in a network with a BN layer of its own."""
    model = nn.ModuleDict({"layer": layer, "bn": nn.BatchNorm2d(2)})
    names = {id(parameter): name.removeprefix("layer.") for name, parameter in model.named_parameters()}
    return {
        group["name"]: {names[id(p)] for p in group["params"]} - {"bn.weight", "bn.bias"}
        for group in parameter_groups(model, **options)
    }


def owner_of(layer: nn.Module, name: str) -> nn.Module:
    return layer.get_submodule(name.rpartition(".")[0])


@pytest.mark.parametrize("name", sorted(KINDS.keys() - HOLDERS - REFUSED))
def test_every_layer_of_torch(name: str) -> None:
    kind = KINDS[name]
    if name not in MAKE:
        # A class that is new in torch is looked at, not passed over.
        bases = [one for one in kind.__mro__ if issubclass(one, nn.Module) and one is not nn.Module]
        source = "".join(inspect.getsource(one.__init__) for one in bases if "__init__" in vars(one))
        assert not re.search(r"Parameter\(|Linear\(|Conv\dd\(", source), f"{name} has parameters: add it to MAKE"
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy layers announce that they may change
        layer = MAKE[name](kind)
    parameters = [one for one, _ in layer.named_parameters()]
    shifts = {
        one
        for one in parameters
        if "bias" in one.rpartition(".")[2] or isinstance(owner_of(layer, one), (*NORMALIZATION,))
    }
    gammas = {"weight"} if isinstance(layer, nn.modules.batchnorm._BatchNorm) else set()
    groups = grouped(layer)
    assert groups["shifts"] == shifts
    assert groups["gamma"] == gammas
    assert groups.get("weights", set()) == set(parameters) - shifts - gammas
    assert parameters


TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "torchvision.ops.deform_conv.DeformConv2d": lambda: DeformConv2d(4, 4, 1),
    "torchvision.models.maxvit.RelativePositionalMultiHeadAttention": lambda: RelativePositionalMultiHeadAttention(
        4, 2, 4
    ),
    "torchvision.models.swin_transformer.ShiftedWindowAttention": lambda: ShiftedWindowAttention(
        4, [2, 2], [1, 1], 2, qkv_bias=True, proj_bias=True
    ),
    "torchvision.models.video.swin_transformer.ShiftedWindowAttention3d": lambda: ShiftedWindowAttention3d(
        4, [2, 2, 2], [1, 1, 1], 2
    ),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_layers_of_torchvision_with_a_bias_of_their_own(name: str) -> None:
    layer = TORCHVISION[name]()
    parameters = {one for one, _ in layer.named_parameters()}
    biases = {one for one in parameters if "bias" in one}
    assert biases & set(TORCHVISION_BIASES[name])
    groups = grouped(layer)
    assert groups["shifts"] == biases
    assert groups["weights"] == parameters - biases


def test_no_layer_of_torchvision_is_forgotten() -> None:
    with_parameters = set()
    for package in ("ops", "models", "models.detection", "models.segmentation", "models.video", "models.quantization"):
        module = importlib.import_module(f"torchvision.{package}")
        for info in pkgutil.iter_modules(module.__path__, f"torchvision.{package}."):
            for kind in vars(importlib.import_module(info.name)).values():
                own = inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == info.name
                if own and re.search(r"self\.\w*bias\w* = [\w.]*Parameter\(", inspect.getsource(kind)):
                    with_parameters.add(f"{kind.__module__}.{kind.__qualname__}")
    assert with_parameters == TORCHVISION_BIASES.keys() == TORCHVISION.keys()


def test_a_swin_layer_without_the_table() -> None:
    layer = ShiftedWindowAttentionV2(4, [2, 2], [1, 1], 2)
    biases = {name for name, _ in layer.named_parameters() if name.endswith("bias")}
    assert biases
    assert grouped(layer)["shifts"] == biases


def test_a_whole_network_with_batch_norm_and_attention() -> None:
    with torch.device("meta"):
        model = torchvision.models.maxvit_t(num_classes=3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {g["name"]: {names[id(p)] for p in g["params"]} for g in parameter_groups(model)}
    assert not [name for name in groups["weights"] if "bias" in name]
    assert any("relative_position_bias_table" in name for name in groups["shifts"])


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


@pytest.mark.parametrize(
    ("change", "shifts", "weights"),
    [
        (lambda m: nn.utils.weight_norm(m), {"bias"}, {"weight_g", "weight_v"}),
        (lambda m: nn.utils.weight_norm(m, "bias", dim=None), {"bias_g", "bias_v"}, {"weight"}),
        (lambda m: nn.utils.spectral_norm(m), {"bias"}, {"weight_orig"}),
        (
            lambda m: parametrizations.weight_norm(m),
            {"bias"},
            {"parametrizations.weight.original0", "parametrizations.weight.original1"},
        ),
        (lambda m: parametrizations.orthogonal(m), {"bias"}, {"parametrizations.weight.original"}),
        (
            lambda m: parametrize.register_parametrization(m, "bias", Doubled()),
            {"parametrizations.bias.original"},
            {"weight"},
        ),
        (lambda m: prune.random_unstructured(m, "bias", 0.5), {"bias_orig"}, {"weight"}),
        (lambda m: prune.random_unstructured(m, "weight", 0.5), {"bias"}, {"weight_orig"}),
    ],
)
def test_what_a_bias_is_computed_from_is_a_bias(
    change: Callable[[nn.Module], Any], shifts: set[str], weights: set[str]
) -> None:
    layer = nn.Linear(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older forms are deprecated
        change(layer)
    groups = grouped(layer)
    assert groups["shifts"] == shifts
    assert groups["weights"] == weights


def test_an_attention_and_a_normalization_that_are_parametrized() -> None:
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    parametrize.register_parametrization(attention, "bias_k", Doubled())
    assert "parametrizations.bias_k.original" in grouped(attention)["shifts"]
    norm = nn.LayerNorm(4)
    parametrize.register_parametrization(norm, "weight", Doubled())
    assert grouped(norm)["shifts"] == {"bias", "parametrizations.weight.original"}


def test_a_beta_that_is_computed_has_no_decay_and_no_divisor_of_its_own() -> None:
    layer = nn.BatchNorm1d(3)
    parametrize.register_parametrization(layer, "bias", Doubled())
    assert grouped(layer)["shifts"] == {"parametrizations.bias.original"}
    with pytest.raises(MethodError, match=r"whose β is computed from other tensors.*; accepted: .* or c_beta = 1"):
        grouped(layer, c_beta=2.0)


def test_a_name_that_only_ends_like_a_reparametrization_is_a_name() -> None:
    layer = nn.Linear(4, 4)
    layer.bias_g = nn.Parameter(torch.zeros(1))
    assert grouped(layer) == {"weights": {"weight", "bias_g"}, "shifts": {"bias"}, "gamma": set()}
