"""Images on the device of a worker: all of them where they fit, else streamed from the host batch by batch."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split, statistics_of

RESIDENT_SHARE = 0.5
"""Share of the device's free memory that a split may take; the rest is for the network and its activations."""


class DeviceSplit:
    """A split for a device: uint8 images (N, C, H, W), and int64 labels (N,) on it.

    Args:
        split: the arrays, which may be read-only views of shared memory or of a mapped file.
        device: where they are trained on.
        resident: whether the images lie on the device too; None: where they fit.
    """

    def __init__(self, split: Split, device: torch.device, resident: bool | None = None) -> None:
        self.device = device
        self.resident = _fits(split.images.nbytes, device) if resident is None else resident
        images = _from_shared(split.images)
        self.images = images.to(device) if self.resident else images
        self.labels = _from_shared(split.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, parts: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        """The images of each part on the device, one part after the other.

        Where they are streamed, a part is read and copied while the device still works on the one before; it may be
        overwritten once the next but one is asked for.

        Args:
            parts: indices on the host, or slices.
        """
        if self.resident:
            for part in parts:
                yield self.images[part if isinstance(part, slice) else part.to(self.device)]
            return
        slots = (_Slot(self.device), _Slot(self.device))
        on_its_way: _Slot | None = None
        for number, part in enumerate(parts):
            slot = slots[number % 2]
            slot.send(self.images, part)
            if on_its_way is not None:
                yield on_its_way.receive()
            on_its_way = slot
        if on_its_way is not None:
            yield on_its_way.receive()


class DevicePart(DeviceSplit):
    """Some images of a split, in the order of their indices, which share its memory.

    Args:
        whole: the split.
        index: (M,) int64 on the host.
    """

    def __init__(self, whole: DeviceSplit, index: Tensor) -> None:
        self.device, self.resident, self.images = whole.device, whole.resident, whole.images
        self.whole, self.index = whole, index
        self.labels = whole.labels[index.to(whole.device)]

    def batches(self, parts: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        """As those of a split."""
        return self.whole.batches(self.index[part] for part in parts)


@dataclass(frozen=True)
class RunImages:
    """The images of one run."""

    train: DeviceSplit
    val: DeviceSplit
    channel_statistics: tuple[list[float], list[float]]
    """Mean and standard deviation of each channel of the training images."""
    index: Tensor | None = None
    """Which images of the device's training split train, sorted; None: all."""
    sha256: str | None = None
    """Of its split, 32 hex digits; None where all runs have the same."""


class _Slot:
    """Room for one batch on the host, where it is page-locked so that its copy overlaps, and on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.asynchronous = device.type == "cuda"
        self.host = torch.empty(0, dtype=torch.uint8)
        self.room = self.arrived = torch.empty(0, dtype=torch.uint8, device=device)
        if self.asynchronous:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def send(self, images: Tensor, part: Tensor | slice) -> None:
        """Read a part of the images, and begin to copy it to the device."""
        count = len(range(*part.indices(len(images)))) if isinstance(part, slice) else len(part)
        if len(self.host) < count:
            shape = (count, *images.shape[1:])
            self.host = torch.empty(shape, dtype=torch.uint8, pin_memory=self.asynchronous)
            self.room = torch.empty(shape, dtype=torch.uint8, device=self.device)
        elif self.asynchronous:
            # The last copy from here must have left before it is overwritten.
            self.copied.synchronize()
        host = self.host[:count]
        if isinstance(part, slice):
            host.copy_(images[part])
        else:
            torch.index_select(images, 0, part, out=host)
        self.arrived = self.room[:count]
        if not self.asynchronous:
            self.arrived.copy_(host)
            return
        # Nor may it arrive before the device is done with what was here.
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            self.arrived.copy_(host, non_blocking=True)
            self.copied.record()

    def receive(self) -> Tensor:
        """What was sent last; the device waits for it, the host does not."""
        if self.asynchronous:
            torch.cuda.current_stream(self.device).wait_event(self.copied)
        return self.arrived


class DeviceImages:
    """A data set on the device, made once per worker and used by all of its runs.

    Args:
        dataset: the images.
        device: where they are trained on.
        resident: see :class:`DeviceSplit`.
    """

    def __init__(self, dataset: Dataset, device: torch.device, *, resident: bool | None = None) -> None:
        self.device = device
        self._resident = resident
        self.train = DeviceSplit(dataset.train, device, resident)
        self.val = DeviceSplit(dataset.val, device, resident)
        self.test: DeviceSplit | None = None
        if dataset.test is not None:
            self.add_test(dataset.test)
        self.num_classes = dataset.num_classes
        self.in_channels = dataset.stored_shape[0]
        self._redraw, self._labels = dataset.redraw, dataset.train.labels
        self.train_count = len(self.train) if dataset.redraw is None else dataset.redraw.train_size
        if dataset.redraw is None:
            self._sums: np.ndarray[Any, Any] | None = None
            self._same = RunImages(self.train, self.val, _floats(*dataset.channel_statistics()))
        else:
            self._sums = dataset.channel_sums()

    def of_run(self, seed: int) -> RunImages:
        """The images of the run with this seed: those of every run, unless each draws its own split."""
        if self._redraw is None or self._sums is None:
            return self._same
        train, val = self._redraw.parts(self._labels, seed)
        pixels = len(train) * int(np.prod(self.train.images.shape[2:]))
        index = torch.from_numpy(train)
        return RunImages(
            DevicePart(self.train, index),
            DevicePart(self.train, torch.from_numpy(val)),
            _floats(*statistics_of(pixels, *self._sums[:, train].sum(axis=1))),
            index,
            hashlib.sha256(train.astype("<i8").tobytes() + b"/" + val.astype("<i8").tobytes()).hexdigest()[:32],
        )

    def add_test(self, split: Split) -> None:
        """Bring the test images to the device, where they were withheld until now."""
        self.test = DeviceSplit(split, self.device, self._resident)

    def image_shape(self, config: DataConfig) -> tuple[int, int, int]:
        """(C, H, W) as the network sees them."""
        channels, height, width = self.train.images.shape[1:]
        return config.seen_shape((channels, height, width))

    @property
    def words(self) -> str:
        """``cpu`` or the name of the GPU, and whether images are streamed to it."""
        name = "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        streamed = not all(split.resident for split in (self.train, self.val, self.test) if split is not None)
        return f"{name}, images streamed from the host" if streamed else name


def _floats(*rows: np.ndarray[Any, Any]) -> tuple[list[float], list[float]]:
    mean, std = ([float(value) for value in row] for row in rows)
    return mean, std


def _fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes may lie on the device; on a CPU the arrays are used where they are, mapped or not."""
    return device.type != "cuda" or size <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _from_shared(array: np.ndarray[Any, Any]) -> Tensor:
    # Views of Ray's object store are read-only, which torch warns of; nothing here writes to them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
