"""One training run, epoch by epoch: deterministic, resumable, without a host synchronization inside an epoch."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tune_bn.method.build import build_model
from tune_bn.method.groups import freeze_gamma, parameter_groups
from tune_bn.training.augment import Augmentation, centre_crop
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.data import Dataset, Split
from tune_bn.training.result import COMPLETED, DIVERGED, EpochPoint, RunResult
from tune_bn.training.seeds import as_default, make_generators
from tune_bn.training.versions import library_versions

EVALUATION_PIXELS = 2**20
"""Pixels of an evaluation batch: 1024 images of 32×32. It bounds the memory that large images take."""
EVALUATION_BATCH = 1024
COSINE_END = 1e-8
TEST_ACCURACY, FINAL_TEST_ACCURACY = "test_accuracy", "final_test_accuracy"


class DeviceSplit:
    """A split on the device: uint8 images (N, C, H, W) and int64 labels (N,)."""

    def __init__(self, split: Split, device: torch.device) -> None:
        # The arrays may be a read-only view of shared memory; nothing here writes to them.
        self.images = _from_shared(split.images).to(device)
        self.labels = _from_shared(split.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)


class DeviceData:
    """A data set on the device, made once per worker and used by all of its runs."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        self.train = DeviceSplit(dataset.train, device)
        self.val = DeviceSplit(dataset.val, device)
        self.test = DeviceSplit(dataset.test, device) if dataset.test is not None else None
        self.num_classes = dataset.num_classes
        self.in_channels = dataset.stored_shape[0]
        mean, std = dataset.channel_statistics()
        self.channel_statistics = ([float(v) for v in mean], [float(v) for v in std])

    def add_test(self, split: Split) -> None:
        """Bring the test images to the device, where they were withheld until now."""
        self.test = DeviceSplit(split, self.device)


def make_optimizer(model: nn.Module, config: RunConfig) -> torch.optim.SGD:
    """SGD with the method's parameter groups: momentum without Nesterov.

    Every parameter decays with ``norm`` ``rbn`` and ``iebn``, as their authors train them. With ``freeze_gamma`` the
    model's γ's require no gradient from here on.
    """
    train = config.train
    if train.freeze_gamma:
        freeze_gamma(model)
    groups = parameter_groups(
        model,
        lr=train.lr,
        c=train.c,
        weight_decay=train.weight_decay,
        c_beta=train.c_beta,
        decay="all" if config.model.norm in ("rbn", "iebn") else "weights",
    )
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rate per epoch: cosine from each group's own rate to 1e-8, or constant."""
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs, eta_min=COSINE_END)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


class TrainingRun:
    """One configuration with one seed.

    Call :meth:`train_epoch` until :attr:`done`, then :meth:`result`. :meth:`state_dict` between two epochs holds all
    that a later process needs to go on; on the CPU in fp32 the resumed run equals the uninterrupted one bit for bit.

    Args:
        config: everything but the seed.
        data: the images on the device.
        seed: the run's seed, before :func:`tune_bn.training.seeds.run_seed`.
        test_metric: ``test_accuracy`` (weights of the best validation epoch, the first on a tie),
            ``final_test_accuracy`` (weights of the last epoch), or None: the test images are not read.

    Raises:
        ValueError: no such test metric, or one is asked for and ``data`` has no test images.
    """

    def __init__(self, config: RunConfig, data: DeviceData, seed: int, test_metric: str | None = None) -> None:
        if test_metric not in (None, TEST_ACCURACY, FINAL_TEST_ACCURACY):
            accepted = f"{TEST_ACCURACY}, {FINAL_TEST_ACCURACY} or None"
            raise ValueError(f"test_metric must be {accepted}, but got {test_metric!r}")
        if test_metric is not None and data.test is None:
            raise ValueError(f"the test images must be on the device for {test_metric}, but this stage was given none")
        self.config = config
        self.data = data
        self.seed = seed
        self.test_metric = test_metric
        self.generators = make_generators(seed, data.device)
        model = build_model(
            config.model,
            in_channels=data.in_channels,
            num_classes=data.num_classes,
            generator=self.generators.init,
            channel_statistics=data.channel_statistics,
        )
        self.model = model.to(data.device).to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model, config)
        self.schedule = make_schedule(self.optimizer, config.train)
        self.curve: list[EpochPoint] = []
        self.diverged = False
        self.best_epoch = 0
        self.best_val_accuracy = -math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.seconds = 0.0
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.curve)

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or self.epochs >= self.config.train.epochs

    @property
    def chance(self) -> float:
        """Accuracy in percent of guessing: the score of a diverged run."""
        return 100.0 / self.data.num_classes

    @property
    def val_accuracy(self) -> float:
        """Best validation accuracy so far, in percent; chance for a diverged run and before the first epoch."""
        return self.chance if self.diverged or not self.curve else self.best_val_accuracy

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.data.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def train_epoch(self) -> EpochPoint:
        """Train one epoch, evaluate on validation, and return the new point of the curve."""
        start = time.monotonic()
        train, size = self.data.train, self.config.train.batch_size
        order = torch.randperm(len(train), generator=self.generators.order).to(self.data.device)
        augment = Augmentation(self.config.data, train.images.shape, self.generators.augment)
        totals = torch.zeros(2, dtype=torch.float64, device=self.data.device)
        lr = float(self.optimizer.param_groups[0]["lr"])
        self.model.train()
        with as_default(self.generators.noise):
            for first in range(0, len(train), size):
                index = order[first : first + size]
                images, labels = augment(train.images[index], first), train.labels[index]
                with self._autocast():
                    logits = self.model(to_input(images))
                    loss = F.cross_entropy(logits, labels)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                totals += count(loss.detach(), logits.detach(), labels)
        self.schedule.step()
        train_loss, train_accuracy = mean_scores(totals, len(train))
        val_loss, val_accuracy = self.evaluate(self.data.val)
        point = EpochPoint(self.epochs + 1, train_loss, train_accuracy, val_loss, val_accuracy, lr)
        self.curve.append(point)
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            self.diverged = True
        elif val_accuracy > self.best_val_accuracy:
            self.best_val_accuracy, self.best_epoch = val_accuracy, self.epochs
            if self.test_metric == TEST_ACCURACY:
                self.best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.seconds += time.monotonic() - start
        return point

    def evaluate(self, split: DeviceSplit) -> tuple[float, float]:
        """Mean cross-entropy and accuracy in percent on a split, with running statistics."""
        self.model.eval()
        images = centre_crop(split.images, self.config.data)
        size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // images[0, 0].numel()))
        totals = torch.zeros(2, dtype=torch.float64, device=self.data.device)
        with torch.inference_mode(), self._autocast():
            for first in range(0, len(split), size):
                labels = split.labels[first : first + size]
                logits = self.model(to_input(images[first : first + size]))
                totals += count(F.cross_entropy(logits.float(), labels), logits, labels)
        return mean_scores(totals, len(split))

    def result(self) -> RunResult:
        """What became of the run. Reads the test images, once, where a test metric was asked for."""
        scores = {}
        if self.test_metric is not None and self.data.test is not None:
            scores[self.test_metric] = self.chance if self.diverged else self._test_accuracy(self.data.test)
        return self.interim_result(scores)

    def interim_result(self, test_scores: Mapping[str, float] | None = None) -> RunResult:
        """What would be recorded if the run ended here, without reading the test images."""
        diverged = f"loss not finite in epoch {self.epochs}"
        return RunResult(
            seed=self.seed,
            status=DIVERGED if self.diverged else COMPLETED,
            reason=diverged if self.diverged else f"reached epoch {self.epochs}",
            epochs=self.epochs,
            scores={"val_accuracy": self.val_accuracy, "best_epoch": float(self.best_epoch), **(test_scores or {})},
            curve=tuple(self.curve),
            attempts=1,
            started_at=self.started_at,
            duration_seconds=round(self.seconds, 3),
            device=device_name(self.data.device),
            versions=library_versions(self.config.model.arch),
        )

    def _test_accuracy(self, test: DeviceSplit) -> float:
        last = None
        if self.best_weights is not None:
            last = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.model.load_state_dict(self.best_weights)
        _, accuracy = self.evaluate(test)
        if last is not None:
            self.model.load_state_dict(last)
        return accuracy

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads with ``weights_only=True``."""
        return {
            "seed": self.seed,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.generators.order.get_state(),
            "augment": self.generators.augment.get_state(),
            "noise": [generator.get_state() for generator in self.generators.noise],
            "curve": [asdict(point) for point in self.curve],
            "diverged": self.diverged,
            "best_epoch": self.best_epoch,
            "best_val_accuracy": self.best_val_accuracy,
            "best_weights": self.best_weights,
            "seconds": self.seconds,
            "started_at": self.started_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken. Raises ``ValueError`` for the state of another seed."""
        if state["seed"] != self.seed:
            raise ValueError(f"the state must be of seed {self.seed}, but got seed {state['seed']}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        # Generator states live on the CPU, wherever the checkpoint was mapped to.
        self.generators.order.set_state(state["order"].cpu())
        self.generators.augment.set_state(state["augment"].cpu())
        for generator, noise in zip(self.generators.noise, state["noise"], strict=True):
            generator.set_state(noise.cpu())
        self.curve = [EpochPoint(**point) for point in state["curve"]]
        self.diverged = state["diverged"]
        self.best_epoch = state["best_epoch"]
        self.best_val_accuracy = state["best_val_accuracy"]
        self.best_weights = state["best_weights"]
        self.seconds = state["seconds"]
        self.started_at = state["started_at"]


def train(
    config: RunConfig,
    data: DeviceData,
    seed: int,
    *,
    test_metric: str | None = None,
    on_epoch: Callable[[EpochPoint], None] | None = None,
) -> RunResult:
    """Train one run from start to end."""
    run = TrainingRun(config, data, seed, test_metric)
    while not run.done:
        point = run.train_epoch()
        if on_epoch is not None:
            on_epoch(point)
    return run.result()


def to_input(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) → float32 in [0, 1], channels last."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def count(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Summed loss and number of correct predictions of a batch, as float64 (2,), without leaving the device."""
    correct = (logits.argmax(dim=1) == labels).sum()
    return torch.stack((loss.double() * len(labels), correct.double()))


def mean_scores(totals: Tensor, images: int) -> tuple[float, float]:
    """Mean loss and accuracy in percent; the one place where an epoch waits for the device."""
    loss, correct = totals.tolist()
    return loss / images, 100.0 * correct / images


def device_name(device: torch.device) -> str:
    """``cpu``, or the name of the GPU."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def _from_shared(array: np.ndarray[Any, Any]) -> Tensor:
    # Views of Ray's object store are read-only, which torch warns of; nothing here writes to them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
