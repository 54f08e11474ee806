"""One training run, epoch by epoch: deterministic, resumable, without a host synchronization inside an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tune_bn.data.device import DeviceSplit, RunImages
from tune_bn.method.build import build_model
from tune_bn.method.networks import load_weights
from tune_bn.protocols.trainer import COMPLETED, DIVERGED, RunResult
from tune_bn.records.curves import Point
from tune_bn.records.provenance import merged_environment
from tune_bn.records.times import utc_now
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.engine import EngineState
from tune_bn.training.environment import environment
from tune_bn.training.optimizer import learning_rates
from tune_bn.training.outcomes import PerImage
from tune_bn.training.points import FINAL_TEST_ACCURACY, TEST_ACCURACY, VAL_ACCURACY, epoch_point
from tune_bn.training.seeds import make_generators
from tune_bn.training.versions import library_versions


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
        self.images: RunImages = data.of_run(seed)
        model = initial_model(config, data, seed, self.generators.init)
        start = time.monotonic()
        self.engine = data.engine(config, model)
        self.setup_seconds = time.monotonic() - start
        # An engine that other runs have used has a network of its own.
        self.parked = None if self.engine.model is model else EngineState(model.state_dict(), None)
        self.rates = learning_rates(config.train, [group["name"] for group in self.optimizer.param_groups])
        self.curve: list[Point] = []
        self.diverged = False
        self.best_epoch = 0
        self.best_val_accuracy = -math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.seconds = 0.0
        self.began_in: Mapping[str, Any] | None = None
        self.started_at = utc_now()

    @property
    def environment(self) -> dict[str, Any]:
        """On what the run ran, in all processes that had a part in it."""
        here = environment(self.data.device, self.config.train.precision) | {"memory_format": self.engine.memory_format}
        if self.images.sha256 is not None:
            here |= {"split": self.images.sha256}
        return here if self.began_in is None else merged_environment(self.began_in, here)

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

    @property
    def model(self) -> nn.Module:
        """The network with this run's weights. Where runs share an engine: until another of them trains."""
        self.engine.hold(self)
        return self.engine.model

    @property
    def scored(self) -> nn.Module:
        """What is validated and tested: :attr:`model`, or the moving average of its weights; as :attr:`model`."""
        self.engine.hold(self)
        return self.engine.scored

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """As :attr:`model`."""
        self.engine.hold(self)
        return self.engine.optimizer

    def train_epoch(self) -> Point:
        """Train one epoch, evaluate on validation, and return the new point of the curve."""
        start = time.monotonic()
        self.engine.hold(self)
        train, val, rates = self.images.train, self.images.val, self.rates[self.epochs]
        order = torch.randperm(len(train), generator=self.generators.order)
        drawn = self.engine.augmentation.draw(len(train), self.generators.augment)
        if self.images.index is not None:
            order = self.images.index[order]
        totals = self.engine.train_epoch(order, drawn, rates, self.generators.noise)
        # The one place where an epoch waits for the device.
        scores = torch.stack((totals, self.engine.evaluate(val))).tolist()
        train_loss, train_accuracy = mean_scores(scores[0], len(train))
        val_loss, val_accuracy = mean_scores(scores[1], len(val))
        point = epoch_point(self.epochs + 1, train_loss, train_accuracy, val_loss, val_accuracy, rates[0])
        self.curve.append(point)
        if not (math.isfinite(train_loss) and math.isfinite(val_loss)):
            self.diverged = True
        elif val_accuracy > self.best_val_accuracy:
            self.best_val_accuracy, self.best_epoch = val_accuracy, self.epochs
            if self.test_metric == TEST_ACCURACY:
                self.best_weights = {name: value.detach().clone() for name, value in self.scored.state_dict().items()}
        self.seconds += time.monotonic() - start
        return point

    def evaluate(self, split: DeviceSplit) -> tuple[float, float]:
        """Mean cross-entropy and accuracy in percent on a split, with running statistics."""
        self.engine.hold(self)
        return mean_scores(self.engine.evaluate(split).tolist(), len(split))

    def result(self) -> RunResult:
        """What became of the run. Reads the test images, once, where a test metric was asked for."""
        if self.test_metric is None or self.data.test is None:
            return self.interim_result()
        if self.diverged:
            return self.interim_result({self.test_metric: self.chance})
        per_image = PerImage()
        accuracy = self._test_accuracy(self.data.test, per_image)
        test, bits = per_image.summary()
        return replace(self.interim_result({self.test_metric: accuracy}), test=test, right=bits)

    def interim_result(self, test_scores: Mapping[str, float] | None = None) -> RunResult:
        """What would be recorded if the run ended here, without reading the test images."""
        diverged = f"loss not finite in epoch {self.epochs}"
        return RunResult(
            seed=self.seed,
            status=DIVERGED if self.diverged else COMPLETED,
            reason=diverged if self.diverged else f"reached epoch {self.epochs}",
            epochs=self.epochs,
            scores={VAL_ACCURACY: self.val_accuracy, "best_epoch": float(self.best_epoch), **(test_scores or {})},
            curve=tuple(self.curve),
            attempts=1,
            started_at=self.started_at,
            duration_seconds=round(self.seconds, 3),
            device=self.data.words,
            versions=library_versions(self.config.model.arch),
            setup_seconds=round(self.setup_seconds, 3),
            environment=self.environment,
        )

    def _test_accuracy(self, test: DeviceSplit, per_image: PerImage) -> float:
        last = None
        if self.best_weights is not None:
            last = {name: value.detach().clone() for name, value in self.scored.state_dict().items()}
            load_weights(self.scored, self.best_weights)
        self.engine.hold(self)
        _, accuracy = mean_scores(self.engine.evaluate(test, per_image.add).tolist(), len(test))
        if last is not None:
            load_weights(self.scored, last)
        return accuracy

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that it loads with ``weights_only=True``; the tensors are the run's own."""
        self.engine.hold(self)
        state = self.engine.state()
        # For whoever wants the network that was scored; a resume has it among what the optimizer keeps.
        average = {} if self.scored is self.model else {"average": dict(self.scored.state_dict())}
        return {
            "seed": self.seed,
            "model": dict(state.model),
            **average,
            "momenta": state.momenta,
            "order": self.generators.order.get_state(),
            "augment": self.generators.augment.get_state(),
            "noise": [generator.get_state() for generator in self.generators.noise],
            "curve": [(point.step, dict(point.metrics)) for point in self.curve],
            "diverged": self.diverged,
            "best_epoch": self.best_epoch,
            "best_val_accuracy": self.best_val_accuracy,
            "best_weights": self.best_weights,
            "seconds": self.seconds,
            "started_at": self.started_at,
            "environment": self.environment,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken. Raises ``ValueError`` for the state of another seed."""
        if state["seed"] != self.seed:
            raise ValueError(f"the state must be of seed {self.seed}, but got seed {state['seed']}")
        self.engine.hold(self)
        self.engine.load_state(EngineState(state["model"], state["momenta"]))
        # Generator states live on the CPU, wherever the checkpoint was mapped to.
        self.generators.order.set_state(state["order"].cpu())
        self.generators.augment.set_state(state["augment"].cpu())
        for generator, noise in zip(self.generators.noise, state["noise"], strict=True):
            generator.set_state(noise.cpu())
        self.curve = [Point(step, metrics) for step, metrics in state["curve"]]
        self.diverged = state["diverged"]
        self.best_epoch = state["best_epoch"]
        self.best_val_accuracy = state["best_val_accuracy"]
        self.best_weights = state["best_weights"]
        self.seconds = state["seconds"]
        self.started_at = state["started_at"]
        self.began_in = state["environment"]


def train(
    config: RunConfig,
    data: DeviceData,
    seed: int,
    *,
    test_metric: str | None = None,
    on_epoch: Callable[[Point], None] | None = None,
) -> RunResult:
    """Train one run from start to end."""
    run = TrainingRun(config, data, seed, test_metric)
    while not run.done:
        point = run.train_epoch()
        if on_epoch is not None:
            on_epoch(point)
    return run.result()


def initial_model(config: RunConfig, data: DeviceData, seed: int, generator: torch.Generator) -> nn.Module:
    """The network of the run with this seed before its first step, on the CPU; ``generator`` is the run's own."""
    return build_model(
        config.model,
        in_channels=data.in_channels,
        num_classes=data.num_classes,
        generator=generator,
        image_size=data.image_shape(config.data)[1:],
        channel_statistics=data.of_run(seed).channel_statistics,
    )


def mean_scores(totals: Sequence[float], images: int) -> tuple[float, float]:
    """Mean loss and accuracy in percent from their sums."""
    loss, correct = totals
    return loss / images, 100.0 * correct / images
