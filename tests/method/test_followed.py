"""Batch norm of other packages' make, with an activation inside: what it computes is kept, or it is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import scale_batchnorm
from tune_bn.method.convert import convert
from tune_bn.method.groups import parameter_groups
from tune_bn.method.iebn import InstanceEnhancementBatchNorm2d
from tune_bn.method.probing import is_followed, zero_learns
from tune_bn.method.rbn import RepresentativeBatchNorm2d
from tune_bn.method.residual import residual_batchnorms

RIVALS = {"rbn": RepresentativeBatchNorm2d, "iebn": InstanceEnhancementBatchNorm2d}


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm's: the normalization is written out, then come drop and act."""

    def __init__(self, features: int, act: nn.Module | None = None, drop: nn.Module | None = None) -> None:
        super().__init__(features)
        self.drop = nn.Identity() if drop is None else drop
        self.act = nn.ReLU(inplace=True) if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        mean, var = self.running_mean, self.running_var
        x = F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum or 0.0, self.eps)
        return self.act(self.drop(x))


class Calling(nn.BatchNorm2d):
    """The same by way of super()."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.activation = nn.PReLU(features)

    def forward(self, input: Tensor) -> Tensor:
        return self.activation(super().forward(input))


class Hidden(nn.BatchNorm2d):
    """An activation that no submodule tells."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(super().forward(input))


class Doubling(Calling):
    """Something else than its submodules."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class InTrainingAlone(Calling):
    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        return output + 1 if self.training else output


class Before(Calling):
    def forward(self, input: Tensor) -> Tensor:
        return nn.BatchNorm2d.forward(self, self.activation(input))


class Synced(nn.BatchNorm2d):
    """As detectron2's NaiveSyncBatchNorm: alone it computes what plain batch norm does."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


LAYERS = {
    "relu": lambda: BatchNormAct2d(3),
    "silu": lambda: BatchNormAct2d(3, nn.SiLU()),
    "identity": lambda: BatchNormAct2d(3, nn.Identity()),
    "prelu": lambda: BatchNormAct2d(3, nn.PReLU(3)),
    "drop": lambda: BatchNormAct2d(3, drop=nn.Dropout(0.5)),
    "by super()": lambda: Calling(3),
}


@pytest.mark.parametrize("norm", RIVALS)
@pytest.mark.parametrize("name", LAYERS)
def test_what_follows_the_normalization_follows_the_rival(norm: str, name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    nn.init.uniform_(layer.weight)
    before = dict(layer.named_parameters())
    model = convert(nn.Sequential(layer), norm)
    new = model[0]
    assert isinstance(new, RIVALS[norm])
    assert all(parameter is dict(new.named_parameters())[key] for key, parameter in before.items())
    assert set(new.state_dict()) - {*RIVALS[norm].gate_values} == set(layer.state_dict())
    alone = RIVALS[norm](3)
    alone.load_state_dict({key: value for key, value in new.state_dict().items() if key in alone.state_dict()})
    for training in (True, False):
        x = torch.randn(4, 3, 5, 5)
        new.train(training)
        alone.train(training)
        torch.manual_seed(1)
        expected = alone(x)
        for child in layer.children():
            expected = child(expected)
        torch.manual_seed(1)
        assert torch.equal(new(x), expected)
    assert convert(model, norm)[0] is new
    assert pickle.loads(pickle.dumps(new)).state_dict().keys() == new.state_dict().keys()
    assert scale_batchnorm(copy.deepcopy(model), 0.1)[0].weight.tolist() == pytest.approx([0.1] * 3)
    assert [group["name"] for group in parameter_groups(model)][-1] == "gamma"


def test_modes_and_hooks_and_randomness_stay_as_they_are() -> None:
    layer = BatchNormAct2d(3, drop=nn.Dropout(0.5)).eval()
    layer.drop.train()
    calls: list[int] = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    state, random = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    new = convert(layer)
    assert not calls
    assert torch.equal(torch.get_rng_state(), random)
    assert (new.training, new.drop.training, new.act.training) == (False, True, False)
    assert all(torch.equal(new.state_dict()[key], value) for key, value in state.items())


def test_on_the_meta_device_too() -> None:
    model = convert(nn.Sequential(BatchNormAct2d(3, nn.PReLU(3))).to("meta"))
    assert isinstance(model[0], RepresentativeBatchNorm2d)
    assert model[0].act.weight.is_meta


@pytest.mark.parametrize("kind", [Hidden, Doubling, InTrainingAlone, Before, Synced])
def test_a_forward_that_does_something_else_is_refused_with_a_way_out(kind: type[nn.BatchNorm2d]) -> None:
    assert not is_followed(kind(3))
    with pytest.raises(MethodError, match=f"got a {kind.__name__}, whose own forward a conversion would drop; .* else"):
        convert(nn.Sequential(kind(3)))


class Block(nn.Module):
    """A residual block whose branch ends in a given layer."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1), last

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.conv(x))


@pytest.mark.parametrize(
    ("layer", "ends"),
    [
        (BatchNormAct2d(3, nn.Identity()), True),
        (BatchNormAct2d(3, nn.SiLU()), True),
        (BatchNormAct2d(3, nn.Hardswish()), True),
        (BatchNormAct2d(3), False),
        (BatchNormAct2d(3, nn.Sigmoid()), False),
        (Hidden(3), False),
        (Synced(3), True),
        (convert(BatchNormAct2d(3), "rbn"), False),
        (convert(BatchNormAct2d(3, nn.SiLU()), "iebn"), True),
        (convert(nn.BatchNorm2d(3), "rbn"), True),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_branch_does_not_end_in_a_layer_whose_own_relu_would_block_a_gamma_of_0(
    layer: nn.Module, ends: bool, device: Any
) -> None:
    model = nn.Sequential(Block(copy.deepcopy(layer))).to(device)
    assert residual_batchnorms(model)[0] == ({"0.last"} if ends else frozenset())


def test_a_layer_of_another_dimension_is_tried_in_its_own() -> None:
    class Flat(nn.BatchNorm1d):
        def forward(self, input: Tensor) -> Tensor:
            return F.relu(super().forward(input))

    class Deep(nn.BatchNorm3d):
        def forward(self, input: Tensor) -> Tensor:
            return F.silu(super().forward(input))

    assert not zero_learns(Flat(3))
    assert zero_learns(Deep(3))
