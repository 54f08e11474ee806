"""The training loop of the paper's public code, stated again from its description: the peer of the speed benchmarks.

One image after the other is turned from PIL into a tensor, in this process or in worker processes; a step moves its
batch to the device, trains on it and reads loss and correct predictions back; validation and test images are evaluated
after every epoch. The network, its initial weights and the parameter groups are the caller's, so that only the loop
differs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from tune_bn.data.dataset import Split


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images that are kept as arrays and transformed one by one, as torchvision's own data sets do.

    Args:
        split: the images.
        transform: from a PIL image to a tensor.
    """

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        images = np.ascontiguousarray(split.images.transpose(0, 2, 3, 1))
        self.images = images[..., 0] if images.shape[-1] == 1 else images
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def loader(
    split: Split, batch_size: int, *, flip: bool, workers: int, order: Sampler[int] | None = None, shuffle: bool = False
) -> DataLoader[Any]:
    """A loader over a split; its workers stay alive between epochs, which the peer is the faster for."""
    # Four workers are the least that the peer is given, also where there are fewer cores.
    warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
    steps: list[Callable[[Any], Any]] = [transforms.RandomHorizontalFlip()] if flip else []
    return DataLoader(
        Pictures(split, transforms.Compose([*steps, transforms.ToTensor()])),
        batch_size=batch_size,
        shuffle=shuffle,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class OfficialLoop:
    """Trains a network epoch by epoch.

    Args:
        model: the network, on its device.
        optimizer: its optimizer.
        train: batches of the training images.
        evaluated: batches of the splits that are evaluated after each epoch.
        after_step: is told each step's loss.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        train: DataLoader[Any],
        evaluated: Sequence[DataLoader[Any]] = (),
        after_step: Callable[[float], None] | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.train = train
        self.evaluated = evaluated
        self.after_step = after_step
        self.device = next(model.parameters()).device

    def train_epoch(self) -> tuple[float, float]:
        """Train on every image once. Returns summed loss and number of correct predictions."""
        self.model.train()
        total, correct = 0.0, 0
        for images, labels in self._batches(self.train):
            self.optimizer.zero_grad()
            outputs = self.model(images)
            loss = F.cross_entropy(outputs, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            # Each of the two waits for the device.
            mean = loss.item()
            total += mean * len(labels)
            correct += int((outputs.argmax(dim=1) == labels).sum().item())
            if self.after_step is not None:
                self.after_step(mean)
        return total, correct

    @torch.no_grad()
    def evaluate(self, batches: DataLoader[Any]) -> tuple[float, float]:
        """Summed loss and number of correct predictions of a split."""
        self.model.eval()
        total, correct = 0.0, 0
        for images, labels in self._batches(batches):
            outputs = self.model(images)
            total += F.cross_entropy(outputs, labels).item() * len(labels)
            correct += int((outputs.argmax(dim=1) == labels).sum().item())
        return total, correct

    def epoch(self) -> None:
        """Train one epoch and evaluate."""
        self.train_epoch()
        for batches in self.evaluated:
            self.evaluate(batches)

    def _batches(self, batches: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches:
            yield images.to(self.device), labels.to(self.device)
