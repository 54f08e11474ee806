"""The built-in loop as a trainer: SGD on images, scored by accuracy."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tune_bn.data.cache import Progress
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split, load_dataset
from tune_bn.method.user_network import is_user_network, source_trees
from tune_bn.protocols.trainer import Place, RunResult
from tune_bn.records.curves import Point
from tune_bn.records.diagnostics import Diagnostics
from tune_bn.records.score import Score
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.environment import precision_in_effect
from tune_bn.training.inspection import try_to_inspect
from tune_bn.training.loop import TrainingRun
from tune_bn.training.points import TEST_ACCURACY, accuracy_score
from tune_bn.training.versions import library_versions

NAME = "builtin"


@dataclass(frozen=True, eq=False)
class BuiltinTrainer:
    """A :class:`tune_bn.protocols.trainer.Trainer` on one data set. Its configurations are ``RunConfig``.

    Args:
        dataset: the images.
        metric: ``test_accuracy`` or ``final_test_accuracy``, which the confirmation compares.
        archs: networks that its runs may train.
        data_words: where the space says which data it is.
        fingerprint: hash of all images, the test's included; empty: it is found where it is needed.
    """

    dataset: Dataset
    metric: str = TEST_ACCURACY
    archs: tuple[str, ...] = ()
    data_words: str = "data"
    fingerprint: str = ""
    name: str = NAME

    @property
    def score(self) -> Score:
        """Accuracy in percent; a diverged run scores chance."""
        return accuracy_score(self.metric, self.dataset.num_classes)

    @property
    def data(self) -> Mapping[str, Any]:
        """Counts and hashes of the images and labels of each split, and of the names of the classes."""
        return self.dataset.identity

    @property
    def data_names(self) -> Mapping[str, Sequence[str]]:
        """The names of the classes."""
        return {"classes": self.dataset.classes}

    @property
    def data_remarks(self) -> Sequence[str]:
        """Images that the network may have learnt by heart before it is tested on them, or chosen by them."""
        return [
            f"{line}; `tune_bn validate --data` says which, and a study without them is a new one"
            for line in self.dataset.repeated
        ]

    @property
    def code(self) -> Sequence[Path]:
        """The modules of the user's networks, and what they import."""
        return sorted({path for arch in self.archs if is_user_network(arch) for path in source_trees(arch)})

    def steps(self, config: RunConfig) -> int:
        """Its epochs."""
        return config.train.epochs

    def versions(self, *configs: RunConfig) -> Mapping[str, str]:
        """See :func:`tune_bn.training.versions.library_versions`."""
        return library_versions(*(config.model.arch for config in configs) if configs else self.archs)

    def without_test(self) -> BuiltinTrainer:
        """See :meth:`tune_bn.protocols.trainer.Trainer.without_test`."""
        # Many workers need the hash, and it takes long on many images.
        fingerprint = self.fingerprint or self.dataset.sha256
        return replace(self, dataset=self.dataset.without_test(), fingerprint=fingerprint)

    @property
    def test_part(self) -> Split | None:
        """The test images."""
        return self.dataset.test

    def open(self, place: Place) -> BuiltinSession:
        """See :meth:`tune_bn.protocols.trainer.Trainer.open`."""
        if place.threads is not None:
            torch.set_num_threads(place.threads)
        return BuiltinSession(self, torch.device(place.device))


class BuiltinSession:
    """The images on a device, and the engines that train on them. They come there with the first run."""

    def __init__(self, trainer: BuiltinTrainer, device: torch.device, data: DeviceData | None = None) -> None:
        self.trainer = trainer
        self._device = device
        # The test images are not even on the device before a run that may read them.
        self._test: Split | None = trainer.dataset.test
        self._dataset = trainer.dataset.without_test()
        self._data = data

    @cached_property
    def _fingerprint(self) -> str:
        return self.trainer.fingerprint or self.trainer.dataset.sha256

    @property
    def device(self) -> str:
        """See :class:`tune_bn.protocols.trainer.Session`."""
        return str(self._device)

    def identity(self, config: RunConfig) -> Mapping[str, Any]:
        """See :meth:`tune_bn.protocols.trainer.Session.identity`."""
        return {
            "config": asdict(config),
            "images": self._fingerprint,
            "versions": library_versions(config.model.arch),
            # Half a run on a CPU and half on a GPU would be neither.
            "device_kind": self._device.type,
            "precision": precision_in_effect(config.train.precision, self._device.type),
        }

    @property
    def has_test(self) -> bool:
        """See :attr:`tune_bn.protocols.trainer.Session.has_test`."""
        return self._test is not None

    def add_test(self, part: Split) -> None:
        """See :meth:`tune_bn.protocols.trainer.Session.add_test`."""
        self._test = part

    def data(self, *, test: bool = False) -> DeviceData:
        """The images on the device."""
        if self._data is None:
            self._data = DeviceData(self._dataset, self._device)
        if test and self._data.test is None and self._test is not None:
            self._data.add_test(self._test)
        return self._data

    def start(
        self,
        config: RunConfig,
        seed: int,
        *,
        test: str | None = None,
        name: str = "run",
        folder: Path | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> BuiltinRun:
        """See :meth:`tune_bn.protocols.trainer.Session.start`."""
        run = TrainingRun(config, self.data(test=test is not None), seed, test)
        if state is not None:
            run.load_state_dict(state)
        return BuiltinRun(run)

    def is_full(self, error: BaseException) -> bool:
        """See :meth:`tune_bn.protocols.trainer.Session.is_full`."""
        return isinstance(error, torch.OutOfMemoryError)

    def free(self) -> None:
        """See :meth:`tune_bn.protocols.trainer.Session.free`."""
        self._data = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """See :meth:`tune_bn.protocols.trainer.Session.close`."""
        self._data = None


class BuiltinRun:
    """A :class:`tune_bn.protocols.trainer.Run` of the built-in loop; its steps are epochs."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run

    @property
    def seed(self) -> int:
        """See :class:`tune_bn.protocols.trainer.Run`, as for everything here."""
        return self.run.seed

    @property
    def curve(self) -> Sequence[Point]:
        """Losses, accuracies in percent, and the learning rate of the weights, by epoch."""
        return self.run.curve

    @property
    def steps(self) -> int:
        """Epochs so far."""
        return self.run.epochs

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or it diverged."""
        return self.run.done

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return self.run.diverged

    def advance(self) -> Point:
        """Train an epoch."""
        return self.run.train_epoch()

    def state(self) -> Mapping[str, Any]:
        """See :meth:`tune_bn.training.loop.TrainingRun.state_dict`."""
        return self.run.state_dict()

    def interim(self) -> RunResult:
        """See :meth:`tune_bn.training.loop.TrainingRun.interim_result`."""
        return self.run.interim_result()

    def result(self) -> RunResult:
        """See :meth:`tune_bn.training.loop.TrainingRun.result`."""
        return self.run.result()

    def inspect(self) -> Diagnostics:
        """See :func:`tune_bn.training.inspection.try_to_inspect`."""
        return try_to_inspect(self.run)

    def close(self) -> None:
        """Nothing runs on, and what it holds is its session's."""


def builtin_trainer(
    data: DataConfig, *, metric: str = TEST_ACCURACY, archs: Sequence[str] = (), progress: Progress | None = None
) -> BuiltinTrainer:
    """The built-in trainer of a space.

    Raises:
        DataError: the images cannot be read.
    """
    return BuiltinTrainer(load_dataset(data, progress=progress), metric, tuple(archs), words_of(data))


def words_of(data: DataConfig) -> str:
    """Where a space says which data it is."""
    return f"data.root: {data.root}" if data.root is not None else f"data.source: {data.source}"
