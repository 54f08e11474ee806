"""``tune_bn train``: one run in this process, for debugging."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tune_bn.analysis.wording import config_words
from tune_bn.errors import ConfigError, SpecError
from tune_bn.front.surroundings import check_surroundings
from tune_bn.host.machine import usable_cores
from tune_bn.space.space import Space


def train_once(
    space: Space, given: Mapping[str, Any], seed: int, decoding: Callable[[int, int], None] | None = None
) -> Iterator[str]:
    """Train one configuration with one seed; yields a line per epoch and one with the outcome.

    ``decoding`` is told how many images of how many are decoded, where image files are.

    Raises:
        SpecError: a given value is not acceptable.
        DataError, MethodError, TrackingError: the space is not; see
            :func:`tune_bn.front.surroundings.check_surroundings`.
    """
    try:
        config = space.run_config(given)
    except ConfigError as error:
        raise SpecError(f"--{error}") from None

    import torch

    from tune_bn.data.dataset import load_dataset
    from tune_bn.training.device_data import DeviceData
    from tune_bn.training.loop import TrainingRun

    remarks: list[str] = []
    check_surroundings(space, remarks.append, single=config)
    yield from (f"note: {line}" for line in remarks)
    # Under a quota torch would start a thread for every core of the machine.
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    device = torch.device("cuda" if space.resources.gpu and torch.cuda.is_available() else "cpu")
    dataset = load_dataset(space.data, progress=decoding).without_test()
    run = TrainingRun(config, DeviceData(dataset, device), seed)
    method = config_words(space.normalized({"gamma": config.model.gamma, "c": config.train.c}))
    yield f"{config.model.arch}  norm {config.model.norm}, {method}, seed {seed} on {device}"
    while not run.done:
        point = run.train_epoch()
        yield (
            f"epoch {point.step:>3}/{config.train.epochs}  lr {point['lr']:.3g}  train loss {point['train_loss']:.4f}  "
            f"train {point['train_accuracy']:.2f} %  val loss {point['val_loss']:.4f}  "
            f"val {point['val_accuracy']:.2f} %"
        )
    result = run.result()
    setup = f", after {result.setup_seconds:.1f} s for setting up" if result.setup_seconds >= 0.05 else ""
    yield (
        f"{result.status}: {result.reason}; best validation accuracy {result.scores['val_accuracy']:.2f} % in epoch "
        f"{result.scores['best_epoch']:g}; {result.duration_seconds:.1f} s{setup}"
    )
