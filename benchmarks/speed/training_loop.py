"""Images per second of the training engine beside the loop of the paper's public code, knob by knob.

    python -m benchmarks.speed.training_loop [--rounds 5] [--workloads resnet8 resnet18] [--train N] [--compile]

Every contender trains the same network on the same images, in this process, in turns; a ratio is taken within a round.
*steps* is the training part of an epoch, *epoch* adds what each evaluates after it: validation and test images in the
peer, as in the code that it restates, validation images in ours, which reads the test images once at the end of a run.
Before anything is timed, both train from the same weights on the same batches in fp32, and their losses are compared
step by step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import (
    Timing,
    hardware,
    hardware_words,
    rates,
    ratios,
    rows,
    take_turns,
    this_device,
    timings_of,
    wait,
)
from benchmarks.results import markdown, save, speed_parser, stamp
from benchmarks.speed.official_loop import OfficialLoop, loader
from tune_bn.data.augment import Augmentation
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.data.device import DeviceSplit
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.engine import to_device, to_input
from tune_bn.training.loop import TrainingRun, initial_model
from tune_bn.training.optimizer import make_optimizer
from tune_bn.training.precision import arithmetic, bf16_is_emulated
from tune_bn.training.seeds import make_generators

OFFICIAL, MEMORY, CHANNELS_LAST, OURS = "official loop", "+ images in memory", "+ channels last", "ours, fp32"
PARITY_STEPS, PARITY_LR = 6, 0.003
"""At the paper's learning rate of 0.1 each of the first steps of a deep network multiplies a rounding error by ten."""


@dataclass(frozen=True)
class Workload:
    """A network and images of a size; validation and test are to training as 5 and 10 to 45, as on CIFAR-10."""

    arch: str
    side: int
    train: int
    """Images of an epoch on a CPU."""
    threads: int | None
    """Of torch, on a CPU; None: all cores."""
    batch_size: int = 128

    @property
    def words(self) -> str:
        """Of the network and the images."""
        return f"{self.arch}, {self.side}×{self.side}"


WORKLOADS = {
    "resnet8": Workload("resnet8", 16, 2048, None),
    "resnet8-thread": Workload("resnet8", 16, 1024, 1),
    "resnet18": Workload("resnet18", 32, 128, None),
}
GPU_TRAIN = 45_000


def noise(workload: Workload, train: int) -> Dataset:
    """Images of noise in ten classes: what is in them does not change how long they take."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        images = rng.integers(0, 256, (count, 3, workload.side, workload.side), dtype=np.uint8)
        return Split(images, rng.integers(0, 10, count))

    names = tuple("abcdefghij")
    return Dataset("noise", names, split(train), split(max(1, train // 9)), split(max(1, 2 * train // 9)))


def config_of(workload: Workload, *, flip: bool = True, **train: Any) -> RunConfig:
    """The paper's recipe with its method: γ = 0.1, c = 100."""
    return RunConfig(
        ModelConfig(arch=workload.arch, norm="scaled", gamma=0.1, input_norm="dataset"),
        DataConfig(source="folder", flip=flip),
        TrainConfig(batch_size=workload.batch_size, c=100.0, **train),
    )


class Resident:
    """Batches of images that lie on the device, shuffled anew in each pass: the peer's loader taken away."""

    def __init__(self, split: DeviceSplit, config: RunConfig, *, channels_last: bool) -> None:
        self.split = split
        self.size = config.train.batch_size
        self.augmentation = Augmentation(config.data, split.images.shape)
        self.channels_last = channels_last
        self.generator = torch.Generator(split.device).manual_seed(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.split.device
        order = torch.randperm(len(self.split), generator=self.generator, device=device)
        drawn = self.augmentation.draw(len(self.split), self.generator)
        for first in range(0, len(order), self.size):
            index, rows = order[first : first + self.size], slice(first, first + self.size)
            images = self.augmentation.apply(self.split.images[index], {k: v[rows] for k, v in drawn.items()})
            yield to_input(images) if self.channels_last else images.float() / 255, self.split.labels[index]


def official(dataset: Dataset, data: DeviceData, config: RunConfig, workers: int) -> OfficialLoop:
    """The peer, with its own copy of the network."""
    model = initial_model(config, data, 1, make_generators(1, data.device).init).to(data.device)
    size, flip = config.train.batch_size, config.data.flip
    train = loader(dataset.train, size, flip=flip, workers=workers, shuffle=True)
    splits = [split for split in (dataset.val, dataset.test) if split is not None]
    evaluated = [loader(split, size, flip=False, workers=workers) for split in splits]
    return OfficialLoop(model, make_optimizer(model, config), train, evaluated)


def in_memory(data: DeviceData, config: RunConfig, *, channels_last: bool) -> OfficialLoop:
    """The peer without its loader."""
    model = initial_model(config, data, 1, make_generators(1, data.device).init).to(data.device)
    if channels_last:
        model = to_device(model, data.device)
    batches = Resident(data.train, config, channels_last=channels_last)
    return OfficialLoop(model, make_optimizer(model, config), batches)  # type: ignore[arg-type]


class Ours:
    """A run of the engine that goes on for as many epochs as it is asked for."""

    def __init__(self, data: DeviceData, config: RunConfig) -> None:
        self.run = TrainingRun(
            replace(config, train=replace(config.train, epochs=10_000, schedule="constant")), data, 1
        )

    def steps(self) -> None:
        """The training part of an epoch."""
        run, train = self.run, self.run.data.train
        order = torch.randperm(len(train), generator=run.generators.order)
        drawn = run.engine.augmentation.draw(len(train), run.generators.augment)
        run.engine.train_epoch(order, drawn, run.rates[0], run.generators.noise).tolist()

    def epoch(self) -> None:
        """Train one epoch and evaluate."""
        self.run.train_epoch()


def step_losses(workload: Workload, device: torch.device, lr: float = PARITY_LR) -> tuple[list[float], list[float]]:
    """The losses of the first steps in fp32, by the engine and by the official loop, from the same weights and batches.

    Flips are off, since the two draw them from different generators; the last batch is short.
    """
    small = replace(workload, batch_size=max(2, workload.batch_size // 8))
    count = small.batch_size * (PARITY_STEPS - 1) + small.batch_size // 2
    dataset = noise(small, count)
    # A replayed step calls no hook; that it does what the plain one does is checked where it is recorded.
    data, config = DeviceData(dataset, device, recorder=None), config_of(small, flip=False, lr=lr)
    run = TrainingRun(config, data, 1)
    order = torch.randperm(count, generator=make_generators(1, device).order)
    ours: list[float] = []

    def note(_module: Any, _inputs: Any, outputs: Tensor) -> None:
        batch = order[len(ours) * small.batch_size :][: len(outputs)]
        ours.append(float(F.cross_entropy(outputs.detach(), data.train.labels[batch.to(device)])))

    handle = run.model.register_forward_hook(note)
    peer_model = initial_model(config, data, 1, make_generators(1, device).init).to(device)
    run.engine.train_epoch(order, {}, run.rates[0], run.generators.noise)
    handle.remove()
    theirs: list[float] = []
    batches = loader(dataset.train, small.batch_size, flip=False, workers=0, order=order.tolist())  # type: ignore[arg-type]
    peer = OfficialLoop(peer_model, make_optimizer(peer_model, config), batches, after_step=theirs.append)
    with arithmetic("fp32", device):
        peer.train_epoch()
    return ours, theirs


def parity(workload: Workload, device: torch.device) -> float:
    """The largest relative difference of a step's loss."""
    ours, theirs = step_losses(workload, device)
    return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))


def contenders(
    dataset: Dataset, device: torch.device, workload: Workload, *, compiled: bool
) -> tuple[dict[str, Callable[[], None]], dict[str, Callable[[], None]], dict[str, float]]:
    """What trains for *steps*, what trains for *epoch*, and the seconds that ours took to set up."""
    plain, config = DeviceData(dataset, device, recorder=None), config_of(workload)
    peers = {OFFICIAL: official(dataset, plain, config, 0)}
    workers = min(8, max(4, os.cpu_count() or 1))
    peers[f"official loop, {workers} workers"] = official(dataset, plain, config, workers)
    without_loader = {
        MEMORY: in_memory(plain, config, channels_last=False),
        CHANNELS_LAST: in_memory(plain, config, channels_last=True),
    }
    ours = {OURS: Ours(plain, config)}
    if compiled:
        ours["ours, fp32, compiled"] = Ours(plain, config_of(workload, compile=True))
    if device.type == "cuda":
        captured = DeviceData(dataset, device)
        ours["ours, fp32, CUDA graph"] = Ours(captured, config)
        for precision in ("tf32", "bf16"):
            ours[f"ours, {precision}, CUDA graph"] = Ours(captured, config_of(workload, precision=precision))
        ours["ours, bf16"] = Ours(plain, config_of(workload, precision="bf16"))
        if compiled:
            both = config_of(workload, precision="bf16", compile=True)
            ours["ours, bf16, compiled"] = Ours(plain, both)
            ours["ours, bf16, compiled, CUDA graph"] = Ours(captured, both)
    elif not bf16_is_emulated():
        ours["ours, bf16"] = Ours(plain, config_of(workload, precision="bf16"))
    steps: dict[str, Callable[[], Any]] = {name: loop.train_epoch for name, loop in (peers | without_loader).items()}
    steps |= {name: mine.steps for name, mine in ours.items()}
    epochs: dict[str, Callable[[], Any]] = {name: loop.epoch for name, loop in peers.items()}
    epochs |= {name: mine.epoch for name, mine in ours.items()}
    return steps, epochs, {name: mine.run.setup_seconds for name, mine in ours.items()}


def measure(workload: Workload, train: int | None, rounds: int, *, compiled: bool) -> list[dict[str, Any]]:
    """The raw rows of a workload."""
    device = this_device()
    before = torch.get_num_threads()
    if device.type == "cpu" and workload.threads is not None:
        torch.set_num_threads(workload.threads)
    dataset = noise(workload, train or (GPU_TRAIN if device.type == "cuda" else workload.train))
    difference = parity(workload, device)
    print(f"{workload.words}: largest relative difference of a loss over {PARITY_STEPS} steps: {difference:.2g}")
    steps, epochs, setup = contenders(dataset, device, workload, compiled=compiled)
    found = []
    for part, workers in (("steps", steps), ("epoch", epochs)):

        def finished(work: Callable[[], None]) -> Callable[[], float]:
            def turn() -> float:
                work()
                wait(device)
                return float(len(dataset.train))

            return turn

        timings = take_turns({name: finished(work) for name, work in workers.items()}, rounds)
        columns = {"workload": workload.words, "threads": torch.get_num_threads(), "part": part}
        for row in rows(timings, **columns):
            setup_seconds = round(setup[row["contender"]], 3) if row["contender"] in setup else ""
            found.append(row | {"setup_seconds": setup_seconds, "loss_difference": float(f"{difference:.3g}")})
    torch.set_num_threads(before)
    return found


def part_of(found: Sequence[dict[str, Any]], part: str) -> list[Timing]:
    """The timings of ``steps`` or ``epoch``."""
    return timings_of([row for row in found if row["part"] == part])


def table(found: Sequence[dict[str, Any]]) -> str:
    """Images per second and the ratio to the official loop, of one workload."""
    lines = [("", "steps, images/s", "× official", "epoch, images/s", "× official", "set up once")]
    for name in dict.fromkeys(row["contender"] for row in found):
        cells = []
        for part in ("steps", "epoch"):
            timings = part_of(found, part)
            if any(timing.contender == name for timing in timings):
                cells += [rates(timings, name).words(0), ratios(timings, name, OFFICIAL).words()]
            else:
                cells += ["", ""]
        setup = next((row["setup_seconds"] for row in found if row["contender"] == name), "")
        lines.append((name, *cells, "" if setup == "" else f"{setup:.1f} s"))
    return markdown(lines)


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--train", type=int, help="images of an epoch")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes a minute or more")
    given = parser.parse_args()
    started = time.monotonic()
    found, tables = [], {}
    for name in given.workloads:
        mine = measure(WORKLOADS[name], given.train, given.rounds, compiled=given.compile)
        found += mine
        difference = mine[0]["loss_difference"]
        title = (
            f"**{WORKLOADS[name].words}**, batches of {WORKLOADS[name].batch_size}, {int(mine[0]['amount'])} images, "
            f"{mine[0]['threads']} threads; median (smallest to largest) of {given.rounds} rounds; losses equal step "
            f"by step to {difference:.1g}"
        )
        tables[title] = table(mine)
    made = stamp(started) | {"hardware": hardware()}
    save("training_loop", found, made, {hardware_words(made["hardware"]): "", **tables}, given.results)


if __name__ == "__main__":
    main()
