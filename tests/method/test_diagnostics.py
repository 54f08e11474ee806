"""What the diagnostics measure, that they leave no trace, and the theory of the first gradients."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.errors import MethodError
from tune_bn.method.batchnorm import SIGMA_ACT, InputBatchNorm2d, batchnorm_layers, scale_batchnorm
from tune_bn.method.convert import convert
from tune_bn.method.diagnostics import activation_tails, first_gradients, gradient_norms, inspect_layers
from tune_bn.method.resnet import CifarResNet, initialize
from tune_bn.records.diagnostics import Tails

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


class Network(nn.Module):
    """Registered in another order than it is used; one layer is used twice, one not at all; ReLU works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.BatchNorm2d(2)
        self.last = nn.BatchNorm2d(4)
        self.twice = nn.BatchNorm2d(4)
        self.first = nn.BatchNorm2d(4)
        self.without = nn.BatchNorm2d(4, affine=False)
        self.conv = nn.Conv2d(3, 4, 3)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        initialize(self, seeded())
        with torch.no_grad():
            for parameter in (self.last.bias, self.first.bias):
                parameter.copy_(normal(4, seed=7))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.conv(x)), inplace=True)
        x = self.twice(self.twice(self.without(x)))
        return self.head(self.dropout(F.relu(self.last(input=x), inplace=True).mean(dim=(2, 3))))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (50,)),
        (nn.BatchNorm1d, (10, 5)),
        (nn.BatchNorm2d, (5, 5, 2)),
        (nn.BatchNorm3d, (5, 5, 2, 1)),
    ],
)
@pytest.mark.parametrize("gammas", [(0.5, 4.0), (0.0, -4.0)])
def test_shares_and_largest_values_by_hand(
    kind: type[nn.BatchNorm1d], shape: tuple[int, ...], gammas: tuple[float, float]
) -> None:
    # One value of 50 stands out: x̂ = √49 = 7 there, and −1/7 elsewhere. The other channel is ±1 throughout.
    outlier, sign = torch.zeros(50), torch.tensor([1.0, -1.0] * 25)
    outlier[31] = 3.0
    x = torch.stack([channel.view(shape) for channel in (outlier, 8 * sign + 5)], dim=1)
    layer = kind(2, eps=1e-12)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gammas))
    ((name, (before, after)),) = activation_tails(layer, x).items()
    assert name == ""
    assert before == Tails(0.01, 0.01, pytest.approx(7, rel=1e-6))
    # y: 7·γ once, and ±γ 50 times.
    beyond_3 = (50 + (7 * gammas[0] > 3)) / 100
    assert after == Tails(beyond_3, 0.0, pytest.approx(4, rel=1e-6))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_normalized_values_have_at_least_single_precision(dtype: torch.dtype) -> None:
    layer = nn.BatchNorm1d(3).to(dtype)
    x = normal(400, 3, dtype=dtype)
    exact = x.double()
    exact = (exact - exact.mean(dim=0)) / (exact.var(dim=0, correction=0) + layer.eps).sqrt()
    largest = activation_tails(layer, x)[""][0].largest
    assert largest == pytest.approx(float(exact.abs().max()), rel=1e-12 if dtype == torch.float64 else 1e-5)


def test_layers_come_in_the_order_of_the_forward_pass_and_count_every_use() -> None:
    model, images = Network(), normal(8, 3, 6, 6)
    layers = inspect_layers(model, images)
    assert [layer.name for layer in layers] == ["first", "twice", "last", "unused"]
    assert (layers[3].normalized, layers[3].output) == (None, None)
    assert [layer.channels for layer in layers] == [4, 4, 4, 2]
    # The second use of `twice` is given what the first one made, which is normalized by then.
    with torch.no_grad():
        x = model.without.train()(F.relu(model.first.train()(model.conv(images))))
    normalized = [F.batch_norm(x, None, None, training=True)]
    normalized.append(F.batch_norm(normalized[0], None, None, training=True))
    values = torch.stack(normalized).abs()
    assert layers[1].normalized == Tails(
        pytest.approx(float((values > 3).float().mean())),
        pytest.approx(float((values > 6).float().mean())),
        pytest.approx(float(values.max()), rel=1e-5),
    )


def test_what_follows_a_layer_in_place_does_not_touch_what_it_gave() -> None:
    layer = nn.BatchNorm2d(2)
    x = -normal(8, 2, 4, 4).exp()
    model = nn.Sequential(layer, nn.ReLU(inplace=True))
    # Without the negative tail, the largest |y| would be that of the positive side.
    assert activation_tails(model, x)["0"][1].largest == pytest.approx(float(-layer.train()(x).detach().min()))


def snapshot(model: nn.Module) -> tuple[object, ...]:
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {name: p.grad.clone() if p.grad is not None else None for name, p in model.named_parameters()}
    flags = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    needs = [p.requires_grad for p in model.parameters()]
    return (
        tensors,
        grads,
        flags,
        needs,
        torch.get_rng_state(),
        [id(t) for t in model.state_dict(keep_vars=True).values()],
    )


def assert_same(before: tuple[object, ...], after: tuple[object, ...]) -> None:
    for old, new in zip(before, after, strict=True):
        if isinstance(old, dict) and isinstance(new, dict):
            assert old.keys() == new.keys()
            for name, value in old.items():
                assert (value is None) == (new[name] is None)
                assert value is None or torch.equal(value, new[name]), name
        elif isinstance(old, Tensor) and isinstance(new, Tensor):
            assert torch.equal(old, new)
        else:
            assert old == new


LOOKS: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "activations": activation_tails,
    "layers": inspect_layers,
    "gradients": lambda model, x: gradient_norms(model, x, torch.zeros(len(x), dtype=torch.int64)),
    "first gradients": lambda model, x: first_gradients(
        model,
        x,
        torch.zeros(len(x), dtype=torch.int64),
        {n: torch.ones_like(m.weight) for n, m in batchnorm_layers(model)},
    ),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("norm", ["scaled", "rbn", "iebn"])
def test_the_model_stays_as_it_was_and_nothing_is_drawn(look: str, norm: str) -> None:
    model, images = convert(Network(), norm), normal(8, 3, 6, 6)
    model(images).sum().backward()
    model.eval()
    model.first.train()
    model.last.weight.requires_grad_(False)
    before, pixels = snapshot(model), images.clone()
    first, second = LOOKS[look](model, images), LOOKS[look](model, images)
    assert_same(before, snapshot(model))
    assert torch.equal(images, pixels)
    assert not images.requires_grad
    assert first == second, "dropout was on"


@pytest.mark.parametrize("look", LOOKS)
def test_a_model_that_raises_stays_as_it_was(look: str) -> None:
    model = Network().eval()
    model.head = nn.Linear(3, 5)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        LOOKS[look](model, normal(8, 3, 6, 6))
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("look", LOOKS)
def test_a_network_without_batch_norm_is_refused(look: str) -> None:
    with pytest.raises(MethodError, match="without batch normalization"):
        LOOKS[look](nn.Linear(3, 3), normal(8, 3))


def test_gamma_and_beta_are_compared_with_their_start() -> None:
    start, model = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    scale_batchnorm(start, 0.5)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([0.5, 0.75, 0.25, 1.0]))
        model.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    (layer,) = inspect_layers(model, normal(8, 4), initial=start)
    gamma, beta = layer.gamma, layer.beta
    assert (gamma.initial, gamma.mean, gamma.low, gamma.high) == (0.5, 0.625, 0.25, 1.0)
    assert gamma.std == pytest.approx(math.sqrt((0.125**2 + 0.125**2 + 0.375**2 + 0.375**2) / 4))
    assert (gamma.drift, gamma.relative_drift) == (0.25, 0.5)
    assert beta is not None
    # Relative to 0 there is no drift.
    assert (beta.initial, beta.mean, beta.drift, beta.relative_drift) == (0.0, 0.5, 1.0, None)
    (unknown,) = inspect_layers(model, normal(8, 4))
    assert (unknown.gamma.initial, unknown.gamma.drift, unknown.gamma.mean) == (None, None, 0.625)


def test_a_layer_without_shift_has_no_beta() -> None:
    layer = nn.BatchNorm1d(4)
    layer.bias = None  # type: ignore[assignment]
    assert inspect_layers(layer, normal(8, 4), initial=layer)[0].beta is None


def test_values_that_are_not_finite_are_none_and_look_healthy_nowhere() -> None:
    layer = nn.BatchNorm1d(2)
    with torch.no_grad():
        layer.weight[0] = math.nan
    (found,) = inspect_layers(layer, normal(40, 2), initial=nn.BatchNorm1d(2))
    assert (found.gamma.mean, found.gamma.std, found.gamma.drift) == (None, None, None)
    assert found.output == Tails(None, None, None)
    assert found.normalized is not None
    assert found.normalized.largest is not None


@pytest.mark.parametrize("norm", ["rbn", "iebn"])
def test_of_gated_layers_the_value_they_normalize_and_their_whole_output_are_measured(norm: str) -> None:
    layer = convert(nn.Sequential(nn.BatchNorm2d(3)), norm)[0]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.5 * normal(*parameter.shape, seed=3))
    # Images with means of their own, so that RBN's shift matters.
    x = normal(16, 3, 4, 4) + 2 * normal(16, 3, 1, 1, seed=1)
    seen: list[Tensor] = []
    normalize, layer.normalize = layer.normalize, lambda x: seen.append(normalize(x)) or seen[-1]
    with torch.no_grad():
        y = layer.train()(x)
    ((before, after),) = activation_tails(layer, x).values()
    assert before.largest == pytest.approx(float(seen[0].abs().max()), rel=1e-5)
    assert after.largest == pytest.approx(float(y.abs().max()), rel=1e-5)


def test_gradient_norms_are_those_of_autograd() -> None:
    model = CifarResNet(8, 3, 5)
    images, labels = normal(8, 3, 8, 8), torch.arange(8) % 5
    inputs: dict[str, Tensor] = {}
    for name, layer in batchnorm_layers(model):
        layer.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
    gradients = torch.autograd.grad(F.cross_entropy(model.train()(images), labels), list(inputs.values()))
    expected = {name: float(g.norm()) for name, g in zip(inputs, gradients, strict=True)}
    assert gradient_norms(model, images, labels) == pytest.approx(expected, rel=1e-5)


def test_other_gammas_count_as_if_they_were_the_networks_own() -> None:
    model, images, labels = CifarResNet(8, 3, 5), normal(8, 3, 8, 8), torch.arange(8) % 5
    gammas = {name: torch.full_like(layer.weight, 0.3) for name, layer in batchnorm_layers(model)}
    instead = gradient_norms(model, images, labels, gammas=gammas)
    assert instead != gradient_norms(model, images, labels)
    assert instead == gradient_norms(scale_batchnorm(model, 0.3), images, labels)


def chain(depth: int, *, scaled_input: bool) -> nn.Module:
    """Convolution, BN, ReLU, and so on, with ε as good as 0, in double precision."""
    layers: list[tuple[str, nn.Module]] = [("input", InputBatchNorm2d(3))] if scaled_input else []
    for index, channels in enumerate([3, *[6] * (depth - 1)]):
        layers.append((f"conv{index}", nn.Conv2d(channels, 6, 3, padding=1, bias=False)))
        layers.append((f"bn{index}", nn.BatchNorm2d(6)))
        layers.append((f"relu{index}", nn.ReLU(inplace=True)))
    return exact(nn.Sequential(OrderedDict(layers)))


def exact(model: nn.Module) -> nn.Module:
    initialize(model, seeded())
    for _, layer in batchnorm_layers(model):
        layer.eps = 1e-30
    return model.double()


def units(model: nn.Module) -> dict[str, Tensor]:
    """γ = 1, and what stands for it in an input normalization."""
    return {
        name: torch.full_like(layer.weight, SIGMA_ACT if isinstance(layer, InputBatchNorm2d) else 1.0)
        for name, layer in batchnorm_layers(model)
    }


def linear(outputs: Tensor, weights: Tensor) -> Tensor:
    """A loss whose gradient with respect to the last activations is the same, whatever their size.

    ReLU passes it on where x̂ > 0 (β = 0), which γ > 0 does not change either: so ∂L/∂y of the last BN layer is the
    same for every γ. Cross-entropy would compare outputs of another size with the labels.
    """
    return (outputs * weights).sum()


@pytest.mark.parametrize("gamma", [0.5, 0.1, 0.01])
@pytest.mark.parametrize(
    ("make", "scaled_input"),
    [
        (lambda: chain(4, scaled_input=True), True),
        (lambda: chain(4, scaled_input=False), False),
        # Shortcuts add branches that are all scaled by γ.
        (lambda: exact(CifarResNet(14, 3, 5)), False),
    ],
    ids=["chain", "chain with a raw input", "residual network"],
)
def test_equal_gammas_cancel_in_the_first_backward_pass(
    gamma: float, make: Callable[[], nn.Module], scaled_input: bool
) -> None:
    model, images = make(), normal(8, 3, 8, 8, dtype=torch.float64)
    weights = normal(*model(images).shape, seed=5, dtype=torch.float64)
    own = gradient_norms(scale_batchnorm(model, gamma), images, weights, loss=linear)
    unit = gradient_norms(model, images, weights, loss=linear, gammas=units(model))
    first, *others = [name for name, _ in batchnorm_layers(model)]
    # The images themselves are not scaled: the first layer keeps the factor.
    assert own[first] / unit[first] == pytest.approx(gamma, rel=1e-6)
    assert len(others) >= 3
    for name in others:
        assert own[name] / unit[name] == pytest.approx(1.0, rel=1e-6), name


@pytest.mark.parametrize(("gamma", "stated"), [(0.1, 0.9993), (0.05, 0.997), (0.01, 0.934)])
def test_what_epsilon_takes_from_a_layer_of_a_chain(gamma: float, stated: float) -> None:
    """``1 / √(σ_act²·Σw² + ε/γ²)`` relative to ε = 0, for He's Σw² = 2; measured with 20,000 independent inputs."""
    inputs, images = 64, 20_000
    before, after, weights = nn.BatchNorm1d(inputs), nn.BatchNorm1d(16), nn.Linear(inputs, 16, bias=False)
    with torch.no_grad():
        weights.weight.copy_(normal(16, inputs))
        weights.weight.mul_(math.sqrt(2) / weights.weight.norm(dim=1, keepdim=True))
    model = nn.Sequential(before, nn.ReLU(), weights, after).double()
    x, upstream = normal(images, inputs, seed=1, dtype=torch.float64), normal(images, 16, seed=2, dtype=torch.float64)
    scale_batchnorm(model, gamma)
    measured = {}
    for eps in (1e-5, 1e-30):
        # Only in the layer at hand: what its own ε does.
        before.eps, after.eps = 1e-30, eps
        measured[eps] = gradient_norms(model, x, upstream, loss=linear)["3"]
    factor = measured[1e-5] / measured[1e-30]
    # Not rounded, as SIGMA_ACT is.
    variance = 2 * (1 / 2 - 1 / (2 * math.pi))
    assert factor == pytest.approx(math.sqrt(variance / (variance + 1e-5 / gamma**2)), abs=5e-4)
    assert factor == pytest.approx(stated, abs=5e-4)


def test_first_gradients_are_the_two_norms_and_their_ratio() -> None:
    model = scale_batchnorm(CifarResNet(8, 3, 5), 0.2)
    images, labels = normal(8, 3, 8, 8), torch.arange(8) % 5
    found = first_gradients(model, images, labels, units(model))
    own = gradient_norms(model, images, labels)
    unit = gradient_norms(model, images, labels, gammas=units(model))
    for name, gradient in found.items():
        assert (gradient.own, gradient.unit) == (own[name], unit[name])
        assert gradient.ratio == pytest.approx(own[name] / unit[name])
    scale_batchnorm(model, 1.0)
    assert {gradient.ratio for gradient in first_gradients(model, images, labels, units(model)).values()} == {1.0}


def test_behind_zero_gamma_no_gradient_arrives_and_nothing_is_divided_by_it() -> None:
    model, images, labels = CifarResNet(8, 3, 5), normal(8, 3, 8, 8), torch.arange(8) % 5
    nn.init.zeros_(model.stages[0][0].bn2.weight)
    gammas = {name: layer.weight.clone() for name, layer in batchnorm_layers(model)}
    found = first_gradients(model, images, labels, units(model))["stages.0.0.bn1"]
    assert (found.own, found.ratio) == (0.0, 0.0)
    reverse = first_gradients(scale_batchnorm(model, 1.0), images, labels, gammas)["stages.0.0.bn1"]
    assert (reverse.unit, reverse.ratio) == (0.0, None)
