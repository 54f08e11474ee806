"""The training step of an architecture, and the network that it trains: for one run, or for many in turn.

On a GPU a step of a small network is hundreds of kernels that take less time to run than to launch, so the step is
captured once into a CUDA graph and replayed. γ is only an initial value, learning rates are tensors on the device, and
so are the place in the epoch, the order of the images and their augmentation: what is captured serves every run of the
architecture.
"""

from __future__ import annotations

import random
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.data.augment import Augmentation, centre_crop
from tune_bn.errors import first_line
from tune_bn.method.networks import load_weights
from tune_bn.training.average import MovingAverage
from tune_bn.training.config import RunConfig
from tune_bn.training.layout import CHANNELS_LAST, FORMATS, layout_of
from tune_bn.training.optimizer import allocate_state, make_optimizer, set_rates
from tune_bn.training.precision import arithmetic, autocast
from tune_bn.training.seeds import as_default, make_generators

if TYPE_CHECKING:
    from tune_bn.data.device import DeviceImages, DeviceSplit

EVALUATION_PIXELS = 2**20
"""Pixels of an evaluation batch: 1024 images of 32×32. It bounds the memory that large images take."""
EVALUATION_BATCH = 1024
CPU_PIXELS, CPU_BATCH = 2**17, 256
"""Pixels and images that a network takes at once of an evaluation batch on a CPU, whose caches then hold what one layer
leaves for the next. The logits are the same, bit for bit."""

RECORDED_TOLERANCE = 0.02
"""Relative difference of loss and correct predictions that kernels may make that add in another order."""

Step = Callable[[], None]
"""Trains one batch; what it reads and writes lies in tensors that stay where they are."""
Recorder = Callable[[Step, Step], Step]
"""Given a step, and the same step made fit to be run any number of times to warm up: a step that does the same to the
same tensors, only faster."""


@dataclass
class EngineState:
    """What a run owns of an engine: tensors only."""

    model: Mapping[str, Tensor]
    """As of ``nn.Module.state_dict``."""
    momenta: Sequence[Tensor] | None
    """State of the optimizer in the order of the parameter groups, then that of a moving average; None before the first
    step."""

    def copy(self) -> EngineState:
        """The same numbers in tensors of their own."""
        momenta = None if self.momenta is None else [momentum.clone() for momentum in self.momenta]
        return EngineState({name: value.detach().clone() for name, value in self.model.items()}, momenta)


class Holder(Protocol):
    """A run, as far as an engine knows it."""

    parked: EngineState | None
    """Its state while another run holds the engine."""


class Engine:
    """A network, its optimizer and its step.

    A run holds the engine while it trains (:meth:`hold`); the state of the run that held it before is handed to it.

    Args:
        config: the configuration. Another one of the same :func:`architecture` may use the engine too.
        data: the images.
        model: the network as built, which becomes the engine's.
        record: makes the step faster; None: the step runs as it is written.

    Attributes:
        model: the network, on the device.
        scored: what is validated and tested: the network, or the moving average of its weights.
        optimizer: its optimizer.
        memory_format: how images and weights lie in memory, ``channels_last`` or ``contiguous``; see
            :func:`tune_bn.training.layout.layout_of`.
        recorded: whether the step is replayed rather than run.
        setup_seconds: what warming up and recording took.
    """

    def __init__(self, config: RunConfig, data: DeviceImages, model: nn.Module, record: Recorder | None = None) -> None:
        self.config = config
        self.data = data
        self.memory_format = layout_of(config.model, data.image_shape(config.data), data.num_classes).name
        self.model = to_device(model, data.device, self.memory_format)
        # A recorded step must find its learning rates on the device.
        fused = data.device.type == "cuda" or record is not None
        self.optimizer = make_optimizer(self.model, config, fused=fused)
        decay = config.train.ema
        self._average = None if decay is None else MovingAverage(self.model, decay)
        self.momenta = allocate_state(self.optimizer) + ([] if self._average is None else self._average.state)
        self.augmentation = Augmentation(config.data, data.train.images.shape)
        self.recorded = False
        self.setup_seconds = 0.0
        self._holder: weakref.ref[Holder] | None = None
        self._network = torch.compile(self.model, dynamic=False) if config.train.compile else self.model
        self._keep_gradients = False
        images, size, device, count = data.train.images, config.train.batch_size, data.device, data.train_count
        self._sizes = [min(size, count - first) for first in range(0, count, size)]
        self._position = torch.zeros((), dtype=torch.int64, device=device)
        self._offsets = torch.arange(size, device=device)
        self._order = torch.arange(count, device=device)
        self._drawn = self.augmentation.draw(count, torch.Generator(device).manual_seed(0))
        self._totals = torch.zeros(2, dtype=torch.float64, device=device)
        # Where images are streamed, the step finds those of a batch here.
        staged = 0 if data.train.resident else min(size, count)
        self._staged = torch.zeros((staged, *images.shape[1:]), dtype=torch.uint8, device=device)
        self._steps: dict[int, Step] = {size: self._plain_step(size) for size in set(self._sizes)}
        if fused or config.train.compile:
            self._set_up(record)

    @property
    def scored(self) -> nn.Module:
        """See the class."""
        return self.model if self._average is None else self._average.model

    def hold(self, run: Holder) -> None:
        """Give the engine to a run, which takes up its state."""
        holder = None if self._holder is None else self._holder()
        if holder is run:
            return
        if holder is not None:
            holder.parked = self.state().copy()
        if run.parked is not None:
            self.load_state(run.parked)
            run.parked = None
        self._holder = weakref.ref(run)

    def state(self) -> EngineState:
        """The state of the run that holds the engine: the tensors themselves, not copies."""
        return EngineState(self.model.state_dict(), self.momenta)

    def load_state(self, state: EngineState) -> None:
        """Take over a state, in place: a recorded step knows the tensors by where they are."""
        load_weights(self.model, state.model)
        for number, momentum in enumerate(self.momenta):
            if state.momenta is None:
                momentum.zero_()
            else:
                momentum.copy_(state.momenta[number])

    def train_epoch(
        self, order: Tensor, drawn: Mapping[str, Tensor], rates: Sequence[float], noise: Sequence[torch.Generator]
    ) -> Tensor:
        """Train on every image once, without waiting for the device.

        Args:
            order: (N,) int64 on the host: the run's training images, of those on the device, in the order in which
                they are seen.
            drawn: their augmentation in that order, from :meth:`Augmentation.draw`.
            rates: learning rate of each parameter group.
            noise: what the network itself draws from.

        Returns:
            Summed loss and number of correct predictions, float64 (2,) on the device, valid until the next epoch.
        """
        self._order.copy_(order)
        for name, values in drawn.items():
            self._drawn[name].copy_(values)
        set_rates(self.optimizer, rates)
        with as_default(noise):
            return self._train(order, self._sizes, self._steps)

    def evaluate(self, split: DeviceSplit, each: Callable[[Tensor, Tensor], None] | None = None) -> Tensor:
        """Evaluate what is scored with running statistics, without waiting for the device.

        Args:
            split: the images.
            each: told the logits and labels of each batch.

        Returns:
            Summed loss and number of correct predictions, float64 (2,) on the device.
        """
        self.scored.eval()
        channels, height, width = split.images.shape[1:]
        size = evaluation_batch(self.config.data.seen_shape((channels, height, width)))
        parts = [slice(first, min(first + size, len(split))) for first in range(0, len(split), size)]
        totals = torch.zeros(2, dtype=torch.float64, device=self.data.device)
        precision, device = self.config.train.precision, self.data.device
        with torch.inference_mode(), arithmetic(precision, device), autocast(precision, device):
            for part, images in zip(parts, split.batches(parts), strict=True):
                labels = split.labels[part]
                logits = self._logits(centre_crop(images, self.config.data))
                totals += count(F.cross_entropy(logits.float(), labels), logits, labels)
                if each is not None:
                    each(logits, labels)
        return totals

    def _logits(self, images: Tensor) -> Tensor:
        """What is scored, on an evaluation batch (B, C, H, W) uint8."""
        if images.device.type != "cpu":
            return cast(Tensor, self.scored(to_input(images, self.memory_format)))
        pieces = torch.split(images, pass_size((images.shape[1], images.shape[2], images.shape[3])))
        return torch.cat([self.scored(to_input(piece, self.memory_format)) for piece in pieces])

    def _train(self, order: Tensor, sizes: Sequence[int], steps: Mapping[int, Step]) -> Tensor:
        """One step for each batch size, from the start of the epoch."""
        self._position.zero_()
        self._totals.zero_()
        self.model.train()
        with arithmetic(self.config.train.precision, self.data.device):
            if self.data.train.resident:
                for size in sizes:
                    steps[size]()
            else:
                streamed = self.data.train.batches(torch.split(order[: sum(sizes)], list(sizes)))
                for size, images in zip(sizes, streamed, strict=True):
                    self._staged[:size].copy_(images)
                    steps[size]()
        return self._totals

    def _plain_step(self, size: int) -> Step:
        """The step of a batch of this size, as it is written."""

        def step() -> None:
            loss, logits, labels = self._gradients(size)
            self.optimizer.step()
            if self._average is not None:
                self._average.update()
            self._totals += count(loss, logits, labels)
            self._position += size

        return step

    def _gradients(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, logits and labels of the next batch, with the gradients in place."""
        train, places = self.data.train, self._position + self._offsets[:size]
        index = self._order[places]
        images, labels = train.images[index] if train.resident else self._staged[:size], train.labels[index]
        drawn = {name: values[places] for name, values in self._drawn.items()}
        inputs = to_input(self.augmentation.apply(images, drawn), self.memory_format)
        with autocast(self.config.train.precision, self.data.device):
            logits = self._network(inputs)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.config.train.label_smoothing)
        self.optimizer.zero_grad(set_to_none=not self._keep_gradients)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), logits.detach(), labels

    def _set_up(self, record: Recorder | None) -> None:
        """Warm up, and replace the plain steps by recorded ones if those do the same. The state is as before."""
        started = time.monotonic()
        start = self.state().copy()
        order = torch.arange(self.data.train_count)
        # The sizes of the first two batches and of the last.
        sizes = self._sizes if len(self._sizes) <= 3 else [*self._sizes[:2], self._sizes[-1]]

        def attempt(steps: Mapping[int, Step]) -> tuple[list[float], bool]:
            self.load_state(start)
            noise = make_generators(0, self.data.device).noise
            before = _host_randomness(noise)
            with as_default(noise):
                totals = self._train(order, sizes, steps).tolist()
            return totals, _host_randomness(noise) != before

        with as_default(make_generators(0, self.data.device).noise):
            self.model.train()
            with arithmetic(self.config.train.precision, self.data.device):
                self._gradients(self._sizes[0])
        self._keep_gradients = _keep_gradients_if_laid_out_otherwise(self.model)
        if record is None:
            attempt(self._steps)
        else:
            problem = self._try_to_record(record, attempt)
            if problem is not None:
                warnings.warn(f"{self.config.model.arch}: each step is launched anew, since {problem}", stacklevel=2)
        self.load_state(start)
        self.optimizer.zero_grad(set_to_none=not self._keep_gradients)
        self.setup_seconds = time.monotonic() - started

    def _try_to_record(
        self, record: Recorder, attempt: Callable[[Mapping[int, Step]], tuple[list[float], bool]]
    ) -> str | None:
        """Use recorded steps if they do what the plain ones do; the reason if they do not."""
        expected, draws_on_host = attempt(self._steps)
        if draws_on_host:
            return "the network draws random numbers on the host, which a recorded step would not draw again"

        def warm_up(step: Step) -> Step:
            def again() -> None:
                self._position.zero_()
                step()

            return again

        with as_default(make_generators(0, self.data.device).noise):
            self._position.zero_()
            with arithmetic(self.config.train.precision, self.data.device):
                try:
                    steps = {size: record(step, warm_up(step)) for size, step in self._steps.items()}
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    return f"it cannot be recorded ({first_line(error)})"
        found, _ = attempt(steps)
        if not np.allclose(found, expected, rtol=RECORDED_TOLERANCE, equal_nan=True):
            return f"recorded it gives another loss and accuracy ({found} in place of {expected})"
        self._steps, self.recorded = steps, True
        return None


def evaluation_batch(image_shape: tuple[int, int, int]) -> int:
    """Images of an evaluation batch, of (C, H, W) as the network sees them."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (image_shape[1] * image_shape[2])))


def pass_size(image_shape: tuple[int, int, int]) -> int:
    """Images of one forward pass of an evaluation on a CPU, of (C, H, W) as the network sees them."""
    return max(1, min(CPU_BATCH, CPU_PIXELS // (image_shape[1] * image_shape[2])))


def to_device(model: nn.Module, device: torch.device, memory_format: str = CHANNELS_LAST) -> nn.Module:
    """The network on the device, in a memory format."""
    return model.to(device).to(memory_format=FORMATS[memory_format])


def to_input(images: Tensor, memory_format: str = CHANNELS_LAST) -> Tensor:
    """uint8 (B, C, H, W) → float32 in [0, 1], in a memory format."""
    return images.to(torch.float32, memory_format=FORMATS[memory_format]).div_(255)


def count(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Summed loss and number of correct predictions of a batch, as float64 (2,), without leaving the device."""
    correct = (logits.argmax(dim=1) == labels).sum()
    return torch.stack((loss.double() * len(labels), correct.double()))


def _keep_gradients_if_laid_out_otherwise(model: nn.Module) -> bool:
    """Whether a gradient lies in memory otherwise than its parameter; then all get a place of their own to stay in.

    The fused optimizer takes only gradients that lie like their parameters. Gradients that are kept are set to zero and
    added to instead, which costs a pass over them.
    """
    gradients = [parameter for parameter in model.parameters() if parameter.grad is not None]
    if all(p.grad is not None and p.grad.stride() == p.stride() for p in gradients):
        return False
    for parameter in gradients:
        parameter.grad = torch.zeros_like(parameter)
    return True


def _host_randomness(noise: Sequence[torch.Generator]) -> tuple[Any, ...]:
    """The state of everything that a network could draw from on the host."""
    states = [generator.get_state().numpy().tobytes() for generator in noise if generator.device.type == "cpu"]
    # The old interface: whoever draws without a generator of his own draws from here.
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return (*states, random.getstate(), repr(numpy))
