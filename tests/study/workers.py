"""A worker of the built-in trainer in this process."""

from __future__ import annotations

import torch

from tune_bn.data.dataset import Dataset
from tune_bn.protocols.runner import Task
from tune_bn.runners.worker import TaskWorker, WorkerOptions
from tune_bn.trainers.builtin import BuiltinSession, BuiltinTrainer
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun


def task_worker(
    task: Task, dataset: Dataset, options: WorkerOptions, *, data: DeviceData | None = None, fingerprint: str = ""
) -> TaskWorker:
    """Over the images, or over what is on the device already."""
    trainer = BuiltinTrainer(dataset, fingerprint=fingerprint)
    return TaskWorker(task, BuiltinSession(trainer, torch.device("cpu"), data), trainer.score, options)


def loops(worker: TaskWorker) -> list[TrainingRun]:
    """The built-in runs of a worker."""
    return [run.run for run in worker.runs]  # type: ignore[attr-defined]
