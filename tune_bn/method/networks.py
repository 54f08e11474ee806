"""Every network that ``arch`` can name, with values or without."""

from __future__ import annotations

import difflib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tune_bn.errors import MethodError
from tune_bn.method.config import BUILT_IN, TORCHVISION_PREFIX, ModelConfig
from tune_bn.method.lazy import fill_lazy, has_lazy
from tune_bn.method.resnet import build_network, initialize
from tune_bn.method.user_network import call_user_network, is_user_network

T = TypeVar("T")

MOST_COMPUTED = 2**34
"""Parameters times pixels up to which a dry run computes: a bound on the multiply-adds of an image."""

_WITHOUT_AUXILIARY_HEADS = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}
"""They return tuples while training otherwise. ``init_weights`` is their default, stated against a warning."""


def make_network(
    config: ModelConfig,
    in_channels: int,
    num_classes: int,
    generator: torch.Generator,
    image_size: tuple[int, int] | None = None,
) -> nn.Module:
    """The network of ``config.arch`` with its initial values, as plain batch norm has them (γ = 1).

    The built-in ResNets get those of the paper's code (:func:`tune_bn.method.resnet.initialize`). All others keep their
    own, drawn from torch's CPU generator under a seed that is taken from ``generator``; a function that draws from
    NumPy or ``random`` is not seeded. So ``torchvision/resnet18`` is ``resnet18`` with ``stem: imagenet`` but for its
    initial values.

    Layers that take their shapes from their first input (``nn.LazyLinear`` and the like) get them, and their initial
    values, from a dry run on images of ``image_size`` (H, W); see :func:`tune_bn.method.lazy.fill_lazy`. Without it
    they stay as they are.

    Raises:
        MethodError: there is no such network.
    """
    if config.arch in BUILT_IN:
        network = _construct(config, in_channels, num_classes)
        initialize(network, generator)
        return network
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the GPUs.
        torch.default_generator.manual_seed(seed)
        return _construct(config, in_channels, num_classes, image_size)


def dry_run(
    config: ModelConfig,
    in_channels: int,
    num_classes: int,
    use: Callable[[nn.Module], T],
    image_size: tuple[int, int] | None = None,
) -> T:
    """``use(network)`` on the network without values, on the meta device: nothing is computed or allocated.

    A user's network that cannot be built or used there, or has lazy layers, is built on the CPU instead.

    Raises:
        MethodError: there is no such network.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with _Unfilled():
                network = _construct(config, in_channels, num_classes)
            if not has_lazy(network):
                return use(network.to("meta"))
        except Exception:
            if not is_user_network(config.arch):
                raise
        return use(_construct(config, in_channels, num_classes, image_size))


def computed_where_small(network: nn.Module, image_size: tuple[int, int]) -> nn.Module:
    """A network without values on the CPU, all of them zero, where passes of two images (H, W) take no time there.

    Otherwise it stays on the meta device, for whose shapes torch first loads its compiler: that takes seconds.
    """
    if sum(parameter.numel() for parameter in network.parameters()) * math.prod(image_size) > MOST_COMPUTED:
        return network
    network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    return network


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """``model.load_state_dict`` of any mapping, as if it came from this model.

    A copy of a state dict, and one from a file, lack the versions of the modules, without which some refuse it
    (torchvision's MNASNet, for one).
    """
    state = OrderedDict(weights)
    state._metadata = getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=strict)


class _Unfilled(TorchFunctionMode):
    """Parameters of torch's layers, which begin as ``torch.empty``, come on the meta device.

    Other tensors do not, unlike under ``torch.device("meta")``: some constructors compute with them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        return func(*args, **(kwargs | {"device": "meta"} if func is torch.empty else kwargs))


def _construct(
    config: ModelConfig, in_channels: int, num_classes: int, image_size: tuple[int, int] | None = None
) -> nn.Module:
    arch = config.arch
    if is_user_network(arch):
        network = call_user_network(arch, in_channels, num_classes)
        if image_size is not None and has_lazy(network):
            fill_lazy(network, arch, (in_channels, *image_size))
        return network
    if arch.startswith(TORCHVISION_PREFIX):
        return _torchvision_network(arch.removeprefix(TORCHVISION_PREFIX), in_channels, num_classes)
    return build_network(arch, in_channels, num_classes, config.stem)


def _torchvision_network(name: str, in_channels: int, num_classes: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"{TORCHVISION_PREFIX}{close[0]} (did you mean it?), or " if close else ""
        raise MethodError(
            f"model.arch: got {TORCHVISION_PREFIX + name!r}; accepted: {hint}{TORCHVISION_PREFIX}NAME with a NAME of "
            "torchvision.models.list_models(torchvision.models)"
        )
    options = _WITHOUT_AUXILIARY_HEADS.get(name, {})
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    if in_channels != 3:
        _take_channels(network, in_channels)
    return network


def _take_channels(network: nn.Module, in_channels: int) -> None:
    """Let the first convolution take other images than RGB: its initial filters of the three channels come in turn."""
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    turn = torch.arange(in_channels) % first.in_channels
    first.weight = nn.Parameter(first.weight.detach()[:, turn.to(first.weight.device)].clone())
    first.in_channels = in_channels
