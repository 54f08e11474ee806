"""Whether a network can be trained and evaluated as a run would: tried before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.errors import MethodError, described
from tune_bn.method.batchnorm import batchnorm_layers
from tune_bn.method.build import build_model, naming_keys, prepared
from tune_bn.method.networks import computed_where_small, dry_run, load_weights
from tune_bn.method.undisturbed import host_randomness, uncompiled, undisturbed
from tune_bn.method.user_network import is_user_network
from tune_bn.training.config import RunConfig
from tune_bn.training.cost import forward_flops
from tune_bn.training.engine import evaluation_batch, pass_size
from tune_bn.training.layout import FORMATS, IMAGES, MOST_FLOPS, layout_of
from tune_bn.training.optimizer import make_optimizer
from tune_bn.training.precision import autocast

MOST_PIXELS = 2**22
"""Numbers in the images of a pass that is made for its number of images alone."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Batches:
    """Sizes of batches that a run may have, besides two images, which are always tried."""

    training: tuple[int, ...] = ()
    evaluation: tuple[int, ...] = ()


def evaluation_batches(image_shape: Shape, *sizes: int, gpu: bool = False) -> tuple[int, ...]:
    """Sizes of the batches that a network sees where splits of so many images of (C, H, W) are evaluated."""
    batches = _parts(sizes, evaluation_batch(image_shape))
    return batches if gpu else _parts(batches, pass_size(image_shape))


def _parts(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """Sizes of what is made of so many images in parts of at most ``most``."""
    found = {min(size, most): None for size in sizes} | {size % most: None for size in sizes if size % most}
    return tuple(found)


class OneImageError(MethodError):
    """A network that cannot be trained on a batch of one image.

    Attributes:
        words: what it raised.
    """

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words


def check_network(
    config: RunConfig,
    image_shape: Shape,
    num_classes: int,
    batches: Batches | None = None,
    *,
    gpu: bool = False,
) -> list[str]:
    """Check that a network can be trained on such images, and evaluated.

    A network that ships with this package, or with torchvision, is known to learn and to take any number of images, so
    its forward passes are made without values: on the meta device, where nothing is computed, or with zeros where it is
    small. One of the user's makes a whole training step of two images (forward, backward, update) and an evaluation, on
    the CPU, in the precision and memory format of its runs, with noise for images. Then it makes a forward pass for
    each size of ``batches``, where that takes no more than :data:`MOST_FLOPS` and :data:`MOST_PIXELS`; larger ones are
    made on the meta device, if it works there.

    Not seen: what happens on a GPU alone (memory, most tensors that stay on the CPU), under torch.compile, with other
    weights or images, and in large batches of a network that reads its values.

    Args:
        config: of a run. γ and rates matter little: any number does.
        image_shape: (C, H, W) as the network gets them.
        num_classes: outputs.
        batches: sizes of batches that runs of this network may have.
        gpu: whether the runs will be on a GPU; tensors that would stay on the CPU are remarked on, as far as they show.

    Returns:
        Remarks, each a sentence without its full stop, on what is accepted but should be known.

    Raises:
        MethodError: there is no such network, it cannot be treated as asked, a pass raises, its output is not one
            tensor (N, ``num_classes``) of floating-point numbers in either mode, or nothing in it learns; the message
            names the key of ``model``.
    """
    batches = batches or Batches()
    if is_user_network(config.model.arch):
        with undisturbed():
            return _Trial(config, image_shape, num_classes).remarks(batches, gpu=gpu)

    def check(network: nn.Module) -> None:
        device = torch.device("meta")
        # A CPU does not compute every layer in half precision; the meta device knows the shapes of all.
        if config.train.precision != "bf16":
            network = computed_where_small(network, image_shape[1:])
            device = next(network.parameters()).device
        passes = _Passes(config, prepared(network, config.model), image_shape, num_classes, device)
        passes.forward(IMAGES, training=True)
        if 1 in batches.training:
            passes.forward(1, training=True)

    dry_run(config.model, image_shape[0], num_classes, check)
    return []


class _Passes:
    """Forward passes of a network, with errors in the words of a space file."""

    def __init__(
        self, config: RunConfig, network: nn.Module, image_shape: Shape, num_classes: int, device: torch.device
    ) -> None:
        self.config = config
        self.network = network
        self.shape = image_shape
        self.num_classes = num_classes
        self.device = device
        self.format = FORMATS[layout_of(config.model, image_shape, num_classes).name]
        try:
            network.to(device).to(memory_format=self.format)
        except Exception as error:
            raise MethodError(
                f"model.arch: got {config.model.arch!r}, which raised {described(error)} when it was moved to the "
                f"{'CPU' if device.type == 'cpu' else 'meta device'}; accepted: a network whose parameters have values"
            ) from error

    def images(self, count: int) -> Tensor:
        """Noise (N, C, H, W), the same each time."""
        if self.device.type == "meta":
            return torch.empty(count, *self.shape, device=self.device).to(memory_format=self.format)
        noise = torch.rand(count, *self.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        return noise.to(memory_format=self.format)

    def forward(self, count: int, *, training: bool, gradients: bool = False) -> Tensor:
        """The output for so many images. Raises :class:`MethodError` where it is none that a run could use."""
        with self.naming_errors(count, training=training):
            # As the training loop calls them, which a network may override.
            if training:
                self.network.train()
            else:
                self.network.eval()
            mode = torch.set_grad_enabled(gradients) if training else torch.inference_mode()
            with mode, uncompiled(), autocast(self.config.train.precision, torch.device("cpu")):
                output = self.network(self.images(count))
        self._check(output, count, training=training)
        tensor: Tensor = output
        return tensor

    def _check(self, output: object, count: int, *, training: bool) -> None:
        expected = (count, self.num_classes)
        if isinstance(output, Tensor) and output.shape == expected and output.is_floating_point():
            return
        if not isinstance(output, Tensor):
            found = f"of {type(output).__name__}"
        elif output.shape != expected:
            found = f"of shape {tuple(output.shape)}"
        else:
            found = f"of type {str(output.dtype).removeprefix('torch.')}"
        where = "" if training else " in evaluation mode"
        raise MethodError(
            f"model.arch: got {self.config.model.arch!r}, whose output{where} for {count} "
            f"image{'s' * (count != 1)} is {found}; accepted: a network that returns one tensor of shape {expected}, "
            "the logits, in training and in evaluation mode"
        )

    @contextmanager
    def naming_errors(self, count: int, *, training: bool) -> Iterator[None]:
        """Whatever a network raises, as a :class:`MethodError`."""
        try:
            yield
        except (Exception, SystemExit) as error:
            shape = "×".join(str(side) for side in self.shape)
            where = "" if training else " in evaluation mode"
            batch = "images" if count == IMAGES else f"a batch of {count} image{'s' * (count != 1)}"
            accepted = "a network for such images, or images for this network (data.image_size, data.crop_size)"
            if count != IMAGES:
                accepted = "a network that takes any number of images"
            words = described(error)
            message = (
                f"model.arch: got {self.config.model.arch!r}, which raised {words}{where} on {batch} of {shape}; "
                f"accepted: {accepted}"
            )
            if training and count == 1:
                raise OneImageError(message, words) from error
            raise MethodError(message) from error


class _Trial:
    """A user's network, built as a run builds it, on the CPU."""

    def __init__(self, config: RunConfig, image_shape: Shape, num_classes: int) -> None:
        self.config = config
        self.arch = config.model.arch
        self.layout = layout_of(config.model, image_shape, num_classes)
        self.shape = image_shape
        self.num_classes = num_classes
        self.network = self._built(0)
        self.start = _copy(self.network)
        self.passes = _Passes(config, self.network, image_shape, num_classes, torch.device("cpu"))

    def _built(self, seed: int) -> nn.Module:
        return build_model(
            self.config.model,
            in_channels=self.shape[0],
            num_classes=self.num_classes,
            generator=torch.Generator().manual_seed(seed),
            channel_statistics=([0.5] * self.shape[0], [0.25] * self.shape[0]),
            image_size=self.shape[1:],
        )

    def remarks(self, batches: Batches, *, gpu: bool) -> list[str]:
        """Try everything; what is to be remarked."""
        found = []
        if self.layout.reason is not None:
            found.append(f"trained with contiguous memory, since {self.layout.reason}")
        found += self._step()
        found += self._evaluation()
        fresh = self._built(0)
        initial = self._initial_weights(fresh)
        found += self._restored(fresh)
        strays = self._sizes(batches, gpu=gpu)
        if gpu and strays:
            found.append("a tensor of its own stays on the CPU, which a GPU will not take; a buffer would go with it")
        return [f"{self.arch}: {words}" for words in (*found, *initial)]

    def _step(self) -> list[str]:
        """A training step of two images."""
        with naming_keys(self.config.model):
            optimizer = make_optimizer(self.network, self.config)
        # The layer that `input_norm` puts before the network is none of the network's own.
        own = self.network if self.config.model.input_norm == "none" else self.network.get_submodule("network")
        learning = [parameter for parameter in own.parameters() if parameter.requires_grad]
        if not learning:
            raise MethodError(
                f"model.arch: got {self.arch!r}, in which nothing learns (no parameter has requires_grad=True); "
                "accepted: a network with parameters that learn"
            )
        before = host_randomness()
        output = self.passes.forward(IMAGES, training=True, gradients=True)
        with self.passes.naming_errors(IMAGES, training=True):
            loss = F.cross_entropy(output, torch.arange(IMAGES) % self.num_classes)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        if all(parameter.grad is None for parameter in learning):
            raise MethodError(
                f"model.arch: got {self.arch!r}, in which nothing learns: no parameter gets a gradient from its output "
                "(it is detached, or computed under torch.no_grad); accepted: an output through which parameters learn"
            )
        found = []
        if not loss.isfinite():
            found.append("its loss on noise is not finite at the first step")
        if _are_shares(output.detach().float()):
            found.append(
                "its outputs are all at least 0 and sum to 1, like those of a softmax, but the loss takes them as "
                "logits: it would learn slowly, and hardly ever be sure"
            )
        gammas = [layer.weight for _, layer in batchnorm_layers(own)]
        if not self.config.train.freeze_gamma and all(gamma.grad is None for gamma in gammas):
            found.append("no γ of a BN layer gets a gradient, so γ keeps its initial value and c changes nothing")
        if host_randomness() != before:
            found.append(
                "while training it draws from NumPy or Python's random, which no seed reaches: a run cannot be repeated"
            )
        return found

    def _evaluation(self) -> list[str]:
        """An evaluation of two images, twice."""
        state = _copy(self.network)
        first, second = (self.passes.forward(IMAGES, training=False) for _ in range(2))
        found = []
        if not _equal(first, second):
            found.append("evaluated twice it gives two answers: its scores depend on more than its weights")
        after = self.network.state_dict()
        if changed := [name for name, value in state.items() if not torch.equal(value, after[name])]:
            found.append(f"evaluation changes {changed[0]}: what it learns depends on the validation images")
        return found

    def _restored(self, fresh: nn.Module) -> list[str]:
        """Whether the weights are kept and loaded again, as for a resume and for the test of the best epoch."""
        try:
            load_weights(fresh, {name: value.detach().clone() for name, value in self.network.state_dict().items()})
        except Exception as error:
            raise MethodError(
                f"model.arch: got {self.arch!r}, whose state_dict after a step a new one cannot load (it raised "
                f"{described(type(error)(' '.join(str(error).split())))}); accepted: a state_dict of tensors, with the "
                "same entries before and after a step"
            ) from error
        again = _Passes(self.config, fresh, self.shape, self.num_classes, torch.device("cpu"))
        here, there = (passes.forward(IMAGES, training=False) for passes in (self.passes, again))
        if _equal(here, self.passes.forward(IMAGES, training=False)) and not _equal(here, there):
            return ["its state_dict does not hold all that it learns: a resumed run goes on from something else"]
        return []

    def _sizes(self, batches: Batches, *, gpu: bool) -> bool:
        """Other numbers of images; whether a tensor stays behind where the network goes to another device."""
        try:
            flops: float = forward_flops(self.config.model, self.shape, self.num_classes)
        except Exception:
            # What cannot be counted may be anything.
            flops = MOST_FLOPS / 8
        most = min(MOST_FLOPS / max(1.0, flops), MOST_PIXELS / math.prod(self.shape))
        wanted = [(size, training) for training in (True, False) for size in self._of(batches, training)]
        for size, training in wanted:
            if size <= most:
                self.passes.forward(size, training=training)
        if not gpu and all(size <= most for size, _ in wanted):
            return False
        try:
            meta = _Passes(self.config, self.network, self.shape, self.num_classes, torch.device("meta"))
            for training in (True, False):
                meta.forward(IMAGES, training=training)
        except MethodError as error:
            # It reads its values, or has tensors that no device moves.
            return "is not on the expected device" in str(error)
        for size, training in wanted:
            if size > most:
                meta.forward(size, training=training)
        return False

    @staticmethod
    def _of(batches: Batches, training: bool) -> Sequence[int]:
        return [size for size in (batches.training if training else batches.evaluation) if size != IMAGES]

    def _initial_weights(self, again: nn.Module) -> list[str]:
        """Whether the seed decides the initial weights, and nothing else."""
        same, other = again.state_dict(), self._built(1).state_dict()
        start = {name: value for name, value in self.start.items() if value.is_floating_point()}
        if any(not torch.equal(value, same[name]) for name, value in start.items()):
            return ["its initial weights do not depend on torch's seed alone: two arms of a seed start apart"]
        if all(torch.equal(value, other[name]) for name, value in start.items()):
            return ["its initial weights are the same for every seed"]
        return []


def _copy(network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a state dict, which may hold other things."""
    return {name: value.detach().clone() for name, value in network.state_dict().items() if isinstance(value, Tensor)}


def _are_shares(output: Tensor) -> bool:
    """Whether each row (N, K) is a distribution over its entries."""
    return bool((output >= 0).all() and torch.allclose(output.sum(1), torch.ones(len(output)), atol=1e-3))


def _equal(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs are equal but for the rounding of another number of threads."""
    one, other = (value.double().nan_to_num() for value in (first, second))
    return float((one - other).norm()) <= 1e-6 * float(one.norm())
