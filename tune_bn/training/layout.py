"""How images, weights and activations lie in memory: channels last where the network takes it, else contiguous.

Channels last is what convolutions are fast in. But ``x.view(len(x), -1)`` on a feature map raises in it, and code that
reads memory past torch's back (``as_strided``, ``data_ptr``) computes something else. So the networks that ship with
this package are trained channels last, and one of the user's is tried in both formats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tune_bn.errors import described
from tune_bn.method.config import ModelConfig
from tune_bn.method.networks import load_weights, make_network
from tune_bn.method.undisturbed import uncompiled, undisturbed
from tune_bn.method.user_network import is_user_network
from tune_bn.training.cost import forward_flops

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
FORMATS = {CHANNELS_LAST: torch.channels_last, CONTIGUOUS: torch.contiguous_format}

IMAGES = 2
"""Images of a step that is tried: as many as batch norm needs where a feature map has one pixel."""
TOLERANCE, COARSE_TOLERANCE = 1e-6, 1e-3
"""Largest relative difference of outputs that rounding makes in float64 and in float32."""
MOST_FLOPS = 5e9
"""Floating-point operations of a forward pass in float64: about a second."""


@dataclass(frozen=True)
class Layout:
    """A memory format, and why it is not channels last."""

    name: str
    """``channels_last`` or ``contiguous``."""
    reason: str | None = None
    """None for channels last, and where the network raises in either format."""

    @property
    def format(self) -> torch.memory_format:
        """As torch has it."""
        return FORMATS[self.name]


def layout_of(model: ModelConfig, image_shape: tuple[int, int, int], num_classes: int) -> Layout:
    """The memory format in which a network is trained.

    It depends on the network as its author wrote it (``arch``), the images and the classes alone, so every arm, seed,
    worker and resume has the same: norm, γ and device do not count, and weights and images of the trial are drawn from
    fixed seeds, on the CPU. Channels last is taken where a training step and an evaluation of two images raise nothing
    in it and give the same outputs in both formats up to rounding: that of float64 where the network takes it and is no
    large one. A network that raises in either format is contiguous; who trains it will hear the error.

    Not seen: what a network does on other numbers of images, on a GPU alone, or with other weights.

    Args:
        model: the network.
        image_shape: (C, H, W) as the network gets them.
        num_classes: outputs.

    Raises:
        MethodError: a user's network cannot be built.
    """
    if not is_user_network(model.arch):
        return Layout(CHANNELS_LAST)
    return _tried(model.arch, image_shape, num_classes)


@lru_cache(maxsize=64)
def _tried(arch: str, image_shape: tuple[int, int, int], num_classes: int) -> Layout:
    with undisturbed():
        images = torch.rand(IMAGES, *image_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        networks: dict[str, nn.Module] = {}
        errors: dict[str, BaseException] = {}
        start: dict[str, Tensor] = {}
        for name in FORMATS:
            network = networks[name] = make_network(
                ModelConfig(arch=arch), image_shape[0], num_classes, torch.Generator().manual_seed(0), image_shape[1:]
            )
            with suppress(Exception):
                # Of a constructor that draws elsewhere, two calls give two networks.
                start = start or {key: value.detach().clone() for key, value in network.state_dict().items()}
                load_weights(network, start)
            try:
                network.to(memory_format=FORMATS[name])
                with uncompiled():
                    _try_step(network, images.to(memory_format=FORMATS[name]))
            except (Exception, SystemExit) as error:
                errors[name] = error
        if CONTIGUOUS in errors:
            return Layout(CONTIGUOUS if CHANNELS_LAST in errors else CHANNELS_LAST)
        if CHANNELS_LAST in errors:
            return Layout(CONTIGUOUS, f"channels last it raises {described(errors[CHANNELS_LAST])}")
        with uncompiled():
            same = _same_outputs(networks, start, images, exactly=_is_small(arch, image_shape, num_classes))
        return Layout(CHANNELS_LAST) if same else Layout(CONTIGUOUS, "channels last it computes other numbers")


def _is_small(arch: str, image_shape: tuple[int, int, int], num_classes: int) -> bool:
    try:
        return forward_flops(ModelConfig(arch=arch), image_shape, num_classes) * IMAGES <= MOST_FLOPS
    except Exception:
        # What cannot be counted may be anything, and most are small.
        return True


def _try_step(network: nn.Module, images: Tensor) -> None:
    """Forward and backward while training, and forward in evaluation, whatever the network returns."""
    network.train()
    learning = [value for value in _tensors(network(images.clone())) if value.requires_grad]
    if learning:
        torch.stack([value.square().sum() for value in learning]).sum().backward()  # type: ignore[no-untyped-call]
    network.eval()
    with torch.inference_mode():
        network(images.clone())


def _same_outputs(
    networks: Mapping[str, nn.Module], start: Mapping[str, Tensor], images: Tensor, *, exactly: bool
) -> bool:
    """Whether a network returns the same in both formats, while training and in evaluation, up to rounding."""
    double, single = (torch.float64, TOLERANCE), (torch.float32, COARSE_TOLERANCE)
    for dtype, tolerance in (double, single) if exactly else (single,):
        found = []
        try:
            for name, network in networks.items():
                network.to(dtype)
                load_weights(network, start)
                found.append(_outputs(network, images.to(dtype, memory_format=FORMATS[name])))
        except (Exception, SystemExit):
            continue
        (trained, evaluated, drawn), (trained_too, evaluated_too, _) = found
        # What is drawn for each place in memory falls on other pixels in another format.
        return _equal(evaluated, evaluated_too, tolerance) and (drawn or _equal(trained, trained_too, tolerance))
    return False


@torch.no_grad()
def _outputs(network: nn.Module, images: Tensor) -> tuple[list[Tensor], list[Tensor], bool]:
    """What a network returns while training, without dropout, and in evaluation; whether it drew while training.

    BN layers use their running statistics throughout: behind those of two values, rounding errors grow beyond measure.
    """
    default = torch.default_generator
    default.manual_seed(0)
    before = default.get_state()
    with _WithoutDropout():
        network.train()
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        trained = _tensors(network(images.clone()))
        drawn = not torch.equal(default.get_state(), before)
        network.eval()
        return trained, _tensors(network(images.clone())), drawn


class _WithoutDropout(TorchFunctionMode):
    """Dropout draws a number for each place in memory, so that its masks are others in another format."""

    _FUNCTIONS = frozenset((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._FUNCTIONS:
            return args[0] if args else kwargs["input"]
        return func(*args, **(kwargs or {}))


def _tensors(returned: object) -> list[Tensor]:
    return [value for value in tree_leaves(returned) if isinstance(value, Tensor)]


def _equal(first: Sequence[Tensor], second: Sequence[Tensor], tolerance: float) -> bool:
    """Whether two lists of outputs are equal up to rounding; what is not finite must be so in both."""
    if [value.shape for value in first] != [value.shape for value in second]:
        return False
    for pair in zip(first, second, strict=True):
        one, other = (value.double().nan_to_num(0.0, 0.0, 0.0) for value in pair)
        if not torch.equal(pair[0].isfinite(), pair[1].isfinite()):
            return False
        if float((one - other).norm()) > tolerance * max(float(one.norm()), float(other.norm())):
            return False
    return True
