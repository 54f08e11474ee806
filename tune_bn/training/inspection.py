"""Diagnostics of a run: its BN layers after training, and at the first step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from tune_bn.data.augment import centre_crop
from tune_bn.data.config import DataConfig
from tune_bn.errors import described, own_fault
from tune_bn.method.batchnorm import batchnorm_layers
from tune_bn.method.diagnostics import first_gradients, inspect_layers
from tune_bn.records.diagnostics import Diagnostics
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.engine import to_device, to_input
from tune_bn.training.layout import CHANNELS_LAST
from tune_bn.training.loop import TrainingRun, initial_model
from tune_bn.training.seeds import make_generators

IMAGES = 256


def inspect_run(run: TrainingRun) -> Diagnostics:
    """The BN layers of a run with its present weights; after training, those of the last epoch.

    γ and β are compared with those of the run's own start. Activations are those of :func:`images_of` for 256 images.
    Gradients are those of the run's own start too, on as many images as a step has, at most 256, which fit the memory
    where training did. Everything is fp32. The run and the global generators stay as they were.

    Raises:
        ValueError: the run diverged, so its weights say nothing.
    """
    if run.diverged:
        raise ValueError(f"the run diverged in epoch {run.epochs}")
    start = first_weights(run.config, run.data, run.seed)
    return inspect_model(run.scored, start, run.config, run.data, run.seed, epoch=run.epochs)


def inspect_model(
    model: nn.Module, start: nn.Module, config: RunConfig, data: DeviceData, seed: int, *, epoch: int | None
) -> Diagnostics:
    """As :func:`inspect_run`, of any weights; ``start`` is the network before training and may be ``model`` itself."""
    unit_model = replace(config.model, gamma=1.0, gamma_branch_end=None)
    unit = first_weights(replace(config, model=unit_model), data, seed)
    unit_gammas = {name: layer.weight for name, layer in batchnorm_layers(unit)}
    del unit
    layout = data.layout(config).name
    step, _ = images = images_of(data, config.data, min(IMAGES, config.train.batch_size), layout, seed=seed)
    gradients = first_gradients(start, *images, unit_gammas)
    pixels, _ = images_of(data, config.data, IMAGES, layout, seed=seed)
    layers = inspect_layers(model, pixels, initial=start, gradients=gradients)
    return Diagnostics(seed, epoch=epoch, images=len(pixels), gradient_images=len(step), layers=layers)


def try_to_inspect(run: TrainingRun) -> Diagnostics:
    """As :func:`inspect_run`; whatever goes wrong becomes its ``problem``, since a run is worth more than this."""
    try:
        return inspect_run(run)
    except Exception as error:
        # A network of the user's own may object to anything, and a device may be full.
        place = own_fault(error)
        words = described(error, limit=400) + (f" (a fault of tune_bn itself, {place})" if place else "")
        return Diagnostics(run.seed, epoch=run.epochs, problem=words)


def first_weights(config: RunConfig, data: DeviceData, seed: int) -> nn.Module:
    """The network of a run before its first step. The global generators stay as they were."""
    devices = [data.device] if data.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        model = initial_model(config, data, seed, make_generators(seed, data.device).init)
        return to_device(model, data.device, data.layout(config).name)


def images_of(
    data: DeviceData, config: DataConfig, count: int, memory_format: str = CHANNELS_LAST, *, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The same training images of the run with this seed each time, at most ``count``, with their labels.

    Spread evenly over the stored order, which may be by class; as in evaluation, without augmentation.

    Returns:
        Images (B, C, H, W) as the network takes them, and labels (B,).
    """
    train = data.of_run(seed).train
    count = min(count, len(train))
    index = torch.arange(count) * len(train) // count
    (images,) = train.batches([index])
    return to_input(centre_crop(images, config), memory_format), train.labels[index.to(data.device)]
