"""RBN and IEBN against their formulas, restated in float64 with plain sums."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tune_bn.errors import MethodError
from tune_bn.method.gated import GatedBatchNorm2d
from tune_bn.method.iebn import InstanceEnhancementBatchNorm2d
from tune_bn.method.rbn import RepresentativeBatchNorm2d

LAYERS: list[type[GatedBatchNorm2d]] = [RepresentativeBatchNorm2d, InstanceEnhancementBatchNorm2d]
SHAPE = (3, 4, 5, 6)
Statistics = tuple[Tensor, Tensor]

pytestmark = pytest.mark.parametrize("kind", LAYERS)


def of_image(x: Tensor) -> Tensor:
    return x.sum(3, keepdim=True).sum(2, keepdim=True) / (x.shape[2] * x.shape[3])


def of_channel(x: Tensor) -> Tensor:
    return x.sum((0, 2, 3), keepdim=True)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def centred(layer: nn.Module, x: Tensor) -> Tensor:
    """What the statistics are taken of."""
    return x + layer.center_weight * of_image(x) if isinstance(layer, RepresentativeBatchNorm2d) else x


def batch_statistics(layer: nn.Module, x: Tensor) -> Statistics:
    """Mean and biased variance of the batch."""
    x = centred(layer, x)
    count = x.numel() // x.shape[1]
    mean = of_channel(x) / count
    return mean, of_channel((x - mean) ** 2) / count


def restated(layer: nn.Module, x: Tensor, statistics: Statistics) -> Tensor:
    mean, var = (part.reshape(1, -1, 1, 1) for part in statistics)
    normal = (centred(layer, x) - mean) / (var + layer.eps) ** 0.5
    if isinstance(layer, RepresentativeBatchNorm2d):
        gate = sigmoid(layer.scale_weight * of_image(normal) + layer.scale_bias)
    else:
        gate = sigmoid(layer.weight_readjust * of_image(x) + layer.bias_readjust)
    shift = 0 if layer.bias is None else layer.bias[None, :, None, None]
    return layer.weight[None, :, None, None] * gate * normal + shift


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Images whose means differ much from one to the next."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return 2 * noise + 3 * torch.randn((*shape[:2], 1, 1), generator=generator, dtype=torch.float64) + 1


def make(kind: type[GatedBatchNorm2d], seed: int = 1, **options: object) -> GatedBatchNorm2d:
    """A layer in float64 whose every value is random."""
    layer = kind(SHAPE[1], dtype=torch.float64, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        if layer.track_running_stats:
            layer.running_mean.copy_(torch.randn(SHAPE[1], generator=generator))
            layer.running_var.copy_(torch.rand(SHAPE[1], generator=generator) + 0.5)
    return layer


def gradients(layer: nn.Module, y: Tensor, x: Tensor) -> list[Tensor]:
    target = draw(*y.shape, seed=9).to(y.dtype)
    return list(torch.autograd.grad((y * target).sum(), [x, *layer.parameters()]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"eps": 0.5}, {"track_running_stats": False}, {"bias": False}])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_output_and_every_gradient_are_those_of_the_formula(
    kind: type[GatedBatchNorm2d], training: bool, options: dict[str, object], dtype: torch.dtype, tolerance: float
) -> None:
    oracle = make(kind, **options).train(training)
    layer = copy.deepcopy(oracle).to(dtype)
    x = draw(*SHAPE).requires_grad_()
    given = x.detach().to(dtype).requires_grad_()
    stored = not training and oracle.track_running_stats
    statistics = (oracle.running_mean, oracle.running_var) if stored else batch_statistics(oracle, x)
    expected = restated(oracle, x, statistics)
    found = layer(given)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    pairs = zip(gradients(layer, found, given), gradients(oracle, expected, x), strict=True)
    for ours, theirs in pairs:
        assert theirs.abs().min() > 0
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_finite_differences(kind: type[GatedBatchNorm2d], training: bool) -> None:
    layer = make(kind).train(training)
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = [draw(2, SHAPE[1], 2, 3).requires_grad_(), *layer.parameters()]
    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
def test_running_statistics_follow_the_unbiased_batches(kind: type[GatedBatchNorm2d], momentum: float | None) -> None:
    layer = make(kind, momentum=momentum)
    layer.reset_running_stats()
    mean, var = torch.zeros(SHAPE[1], dtype=torch.float64), torch.ones(SHAPE[1], dtype=torch.float64)
    for step in range(1, 6):
        x = draw(*SHAPE, seed=step)
        layer(x)
        new_mean, new_var = (part.detach().flatten() for part in batch_statistics(layer, x))
        count = x.numel() // SHAPE[1]
        share = 1 / step if momentum is None else momentum
        mean = (1 - share) * mean + share * new_mean
        var = (1 - share) * var + share * new_var * count / (count - 1)
    torch.testing.assert_close(layer.running_mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, var, rtol=1e-12, atol=1e-12)
    assert layer.num_batches_tracked == 5
    before = copy.deepcopy(layer.state_dict())
    layer.eval()(draw(*SHAPE, seed=99))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_tracking_that_is_switched_off_later_acts_as_in_batchnorm(kind: type[GatedBatchNorm2d], training: bool) -> None:
    layers = [kind(4), nn.BatchNorm2d(4)]
    for layer in layers:
        layer(draw(*SHAPE, seed=1).float())
        layer.track_running_stats = False
    before = copy.deepcopy(layers[0].state_dict())
    ours, plain = (layer.train(training)(draw(*SHAPE).float()) for layer in layers)
    torch.testing.assert_close(ours, layers[0].initial_gate * plain)
    assert all(torch.equal(value, before[name]) for name, value in layers[0].state_dict().items())


def test_a_new_layer_is_batchnorm_times_the_initial_gate(kind: type[GatedBatchNorm2d]) -> None:
    gate = {RepresentativeBatchNorm2d: 1, InstanceEnhancementBatchNorm2d: -1}[kind]  # type: ignore[index]
    layer, plain, x = kind(4), nn.BatchNorm2d(4), draw(*SHAPE).float()
    assert layer.initial_gate == pytest.approx(1 / (1 + math.exp(-gate)), rel=1e-12)
    torch.testing.assert_close(layer(x), layer.initial_gate * plain(x))
    nn.init.constant_(layer.weight, 1 / layer.initial_gate)
    torch.testing.assert_close(layer(x), plain(x))
    torch.testing.assert_close(layer.eval()(x), plain.eval()(x))


def test_shapes_are_those_of_batchnorm_and_of_the_public_codes(kind: type[GatedBatchNorm2d]) -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in kind(4).named_parameters()}
    assert (shapes.pop("weight"), shapes.pop("bias")) == ((4,), (4,))
    assert set(shapes.values()) == {(1, 4, 1, 1)}
    assert (
        set(shapes)
        == {
            RepresentativeBatchNorm2d: {"center_weight", "scale_weight", "scale_bias"},
            InstanceEnhancementBatchNorm2d: {"weight_readjust", "bias_readjust"},
        }[kind]
    )  # type: ignore[index]


def test_reset_brings_back_a_new_layer(kind: type[GatedBatchNorm2d]) -> None:
    layer, new = make(kind), kind(SHAPE[1], dtype=torch.float64)
    layer(draw(*SHAPE))
    assert not any(torch.equal(value, new.state_dict()[name]) for name, value in layer.state_dict().items())
    layer.reset_parameters()
    assert all(torch.equal(value, new.state_dict()[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_the_input_is_not_written_to(kind: type[GatedBatchNorm2d], training: bool) -> None:
    layer, x = make(kind).train(training), draw(*SHAPE)
    before, version = x.clone(), x._version
    layer(x)
    assert torch.equal(x, before)
    assert x._version == version


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}])
def test_the_memory_format_is_kept(kind: type[GatedBatchNorm2d], training: bool, options: dict[str, bool]) -> None:
    layer = make(kind, **options).train(training)
    outputs, slopes = [], []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = draw(*SHAPE).contiguous(memory_format=memory_format).requires_grad_()
        y = copy.deepcopy(layer)(x)
        assert y.is_contiguous(memory_format=memory_format)
        assert y.stride() == x.stride()
        outputs.append(y)
        slopes.append(torch.autograd.grad((y * draw(*SHAPE, seed=9)).sum(), x)[0])
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_autocast_keeps_the_dtype_of_the_input_and_statistics_in_fp32(
    kind: type[GatedBatchNorm2d], training: bool
) -> None:
    oracle = make(kind).train(training)
    layer = copy.deepcopy(oracle).float()
    x = draw(16, 4, 8, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert copy.deepcopy(layer)(x.float()).dtype == torch.float32
    expected = oracle(x.double()).detach()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.detach().double(), expected, rtol=0.02, atol=0.02 * float(expected.std()))
    for name, value in layer.named_buffers():
        exact = oracle.get_buffer(name)
        assert value.dtype == (torch.float32 if exact.is_floating_point() else exact.dtype)
        torch.testing.assert_close(value.to(exact.dtype), exact, rtol=1e-3, atol=1e-3)
    y.float().square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("options", [{}, {"track_running_stats": False}, {"momentum": None}, {"bias": False}])
def test_a_scripted_layer_is_the_layer(kind: type[GatedBatchNorm2d], options: dict[str, object]) -> None:
    layer = make(kind, **options)
    scripted = torch.jit.script(copy.deepcopy(layer))
    for step, training in enumerate((True, True, False)):
        x = draw(*SHAPE, seed=step)
        assert torch.equal(scripted.train(training)(x), layer.train(training)(x))
    other = make(kind, seed=2, **options)
    assert str(other.load_state_dict(scripted.state_dict(), strict=True)) == "<All keys matched successfully>"
    x = draw(*SHAPE, seed=7)
    assert torch.equal(other.eval()(x), layer(x))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_is_a_layer_of_its_own(kind: type[GatedBatchNorm2d], clone: Callable[[nn.Module], nn.Module]) -> None:
    layer, x = make(kind).eval(), draw(*SHAPE)
    copied = clone(layer)
    assert torch.equal(copied(x), layer(x))
    assert not {id(p) for p in copied.parameters()} & {id(p) for p in layer.parameters()}


def test_the_checkpoint_of_a_plain_layer_lacks_the_gate(kind: type[GatedBatchNorm2d]) -> None:
    with pytest.raises(RuntimeError, match="Missing key") as caught:
        kind(4).load_state_dict(nn.BatchNorm2d(4).state_dict())
    assert all(name in str(caught.value) for name in kind.gate_values)
    missing, unexpected = kind(4).load_state_dict(nn.BatchNorm2d(4).state_dict(), strict=False)
    assert (set(missing), unexpected) == (set(kind.gate_values), [])


def test_a_layer_without_gamma_is_refused(kind: type[GatedBatchNorm2d]) -> None:
    with pytest.raises(MethodError, match="affine: got False; accepted: True"):
        kind(4, affine=False)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (1, 4, 1, 1)])
def test_what_batchnorm_refuses_is_refused(kind: type[GatedBatchNorm2d], shape: tuple[int, ...]) -> None:
    for layer in (nn.BatchNorm2d(4), kind(4)):
        with pytest.raises(ValueError, match=r"expected 4D input|more than 1 value per channel"):
            layer(torch.zeros(shape))
