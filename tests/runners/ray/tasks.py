"""Tasks that are never trained."""

from __future__ import annotations

from tune_bn.data.config import DataConfig
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Task
from tune_bn.training.config import RunConfig, TrainConfig

DATA = DataConfig(source="digits", train_size=20, val_size=20, test_size=20)
CONFIG = RunConfig(ModelConfig(arch="resnet8"), DATA, TrainConfig(epochs=1, batch_size=20))


def a_task(trial: int) -> Task:
    """One of a search."""
    return Task("search", "candidate", trial, {}, CONFIG, (1,))
