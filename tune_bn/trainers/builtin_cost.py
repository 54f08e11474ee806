"""How long a run of the built-in loop takes: as measured on this machine, or as estimated from its arithmetic."""

from __future__ import annotations

from dataclasses import replace

from tune_bn.data.dataset import DataSummary
from tune_bn.errors import own_fault
from tune_bn.protocols.trainer import Cost
from tune_bn.space.space import Space

# Sustained training rates, FLOP/s, for an estimate of the order of magnitude: a plain PyTorch loop reaches about these
# on a data-centre GPU and on a core of a server, whatever the peak on the data sheet says.
GPU_RATE = 30e12
CORE_RATE = 60e9
STEP_SECONDS = {"gpu": 0.004, "cpu": 0.001}
"""Least time of a step, however small the network: launching its kernels."""
ROUGH = 3.0
"""An estimate may be off by this factor, either way."""
BESIDE = 1.3
"""Runs that share a machine slow each other down by up to this factor."""
SOON = 10.0
"""Seconds that a measurement may take where nobody asked for it."""
STEPS_MEASURED = 12


def optimizer_steps(epochs: int, images: int, batch_size: int) -> int:
    """Steps of a whole run; an epoch's last batch may be smaller."""
    return epochs * -(-images // batch_size)


def estimated_cost(space: Space, data: DataSummary, measure: bool | None) -> Cost:
    """What a run of the space takes.

    Args:
        space: the space.
        data: its data.
        measure: whether to train a few steps here; None: where that is soon done.
    """
    estimate = run_seconds(space, data)
    steps = optimizer_steps(space.train.epochs, data.train_size, space.train.batch_size)
    soon = STEPS_MEASURED * estimate / steps < SOON
    found, problem = None, ""
    if measure or (measure is None and soon):
        found, problem = _measured(space, data)
    if found is not None:
        return found
    how = problem or ("" if measure is False else "--measure times a few steps here")
    source = "30 TFLOP/s per GPU" if space.resources.gpu else "60 GFLOP/s per core"
    return Cost(estimate / ROUGH, estimate * ROUGH, f"a guess from {source}" + (f"; {how}" if how else ""))


def run_seconds(space: Space, data: DataSummary) -> float:
    """Estimated seconds of one full run on the resources of one trial."""
    from tune_bn.training.cost import BACKWARD, forward_flops

    forward = forward_flops(space.model, data.image_shape, data.num_classes)
    train, config = data.train_size, space.train
    flops = config.epochs * forward * ((1 + BACKWARD) * train + data.val_size) + forward * data.test_size
    steps = optimizer_steps(config.epochs, train, config.batch_size)
    kind = "gpu" if space.resources.gpu else "cpu"
    rate = GPU_RATE * space.resources.gpu if kind == "gpu" else CORE_RATE * space.resources.cpu
    return max(flops / rate, steps * STEP_SECONDS[kind])


def _measured(space: Space, data: DataSummary) -> tuple[Cost | None, str]:
    """What a few steps took here, or why they could not be taken."""
    import torch

    from tune_bn.training.measure import measured

    gpu = space.resources.gpu > 0
    if gpu and not torch.cuda.is_available():
        return None, "not measured: this machine has no GPU that torch can use"
    # Any γ costs the same; one that the space only searches may have no value yet.
    config = space.run_config({})
    config = replace(config, model=replace(config.model, gamma=1.0, gamma_branch_end=None))
    device = torch.device("cuda" if gpu else "cpu")
    try:
        paces = measured(
            config, data.image_shape, data.num_classes, device, max(1, int(space.resources.cpu)), data.train_size
        )
    # A network of the user's may raise whatever it likes; that is for the door to say, not for a clock.
    except Exception as error:
        if own_fault(error) is not None:
            raise
        return None, f"not measured ({type(error).__name__})"
    share = space.resources.gpu if 0 < space.resources.gpu < 1 else 1.0
    sizes = (space.train.epochs, data.train_size, data.val_size, data.test_size)
    seconds = [pace.run(*sizes) / share for pace in paces]
    return Cost(min(seconds), BESIDE * max(seconds), "measured here"), ""


def decides_pace(space: Space) -> tuple[object, ...]:
    """What decides how long an epoch takes."""
    train = space.train
    searched = {key: space.search[key] for key in ("arch", "norm", "batch_size", "precision") if key in space.search}
    model = replace(space.model, gamma=1.0, gamma_branch_end=None)
    held = space.resources.cpu, space.resources.gpu
    return model, space.data, train.batch_size, train.precision, train.compile, str(searched), held
