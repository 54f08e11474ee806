"""The network of a confirmed run of the built-in loop, from the weights that its study kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tune_bn.errors import MethodError
from tune_bn.method.networks import load_weights
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.inspection import first_weights, images_of
from tune_bn.training.weight_files import read_weight_file, require_tensors, weights_for

EXAMPLES = 2
"""Images of an example: of a single one, the number of images in a batch would be fixed."""


def trained_network(
    trainer: BuiltinTrainer, config: RunConfig, seed: int, file: Path
) -> tuple[nn.Module, Any, Any, int]:
    """The network after its last epoch, in evaluation mode on the CPU.

    Args:
        trainer: of the study.
        config: of the run.
        seed: of the run.
        file: its weights, as ``resources.keep_weights`` keeps them.

    Returns:
        The network; images of its training data, (2, C, H, W) in [0, 1], and its logits of them, (2, classes), as
        arrays; and the epochs that it was trained.

    Raises:
        MethodError: the file holds no weights of this network and seed.
    """
    data = DeviceData(trainer.dataset.without_test(), torch.device("cpu"))
    stored = read_weight_file(file)
    run = next((run for run in stored["runs"] if run["seed"] == seed), None) if "runs" in stored else None
    if run is None:
        raise MethodError(f"{file}: holds no run of seed {seed}; accepted: the file as the study wrote it")
    # What was validated and tested: the weights, or their moving average.
    trained = run.get("average", run["model"])
    require_tensors(trained, file)
    network = first_weights(config, data, seed)
    found = weights_for(network.state_dict(), trained, file, f"{file} does not fit {config.model.arch}")
    load_weights(network, found.weights, strict=False)
    network.eval()
    images, _ = images_of(data, config.data, EXAMPLES)
    images = images.contiguous()
    with torch.no_grad():
        logits = network(images)
    return network, images.numpy(), logits.numpy(), len(run["curve"])
