"""What a checkpoint costs the training: written before it goes on, and written aside.

    python -m benchmarks.speed.checkpoints [--rounds 5] [--results DIR]

A network trains on random images shaped as those of CIFAR-10. In each round it trains the same epochs three times, in
an order that turns: without checkpoints, with ``CheckpointStore.save`` before each epoch, and with
``CheckpointWriter.save`` before each epoch that begins while nothing is written. The training stands still for as long
as a save takes. While a write goes on aside it may also be slower: than without checkpoints, in the same round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Spread, hardware, hardware_words, take_turns, this_device
from benchmarks.results import Row, markdown, save, speed_parser, stamp
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, Split
from tune_bn.method.config import ModelConfig
from tune_bn.runners.checkpoint import CHECKPOINT_SHARE, LATEST, CheckpointStore, CheckpointWriter
from tune_bn.runners.worker import WorkerOptions
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun

NONE, SYNCHRONOUS, ASYNCHRONOUS = "none", "synchronous", "asynchronous"
INTERVAL = WorkerOptions(None).checkpoint_seconds
TURN_SECONDS = 0.6
"""Training of one contender in one round, roughly, and two epochs at least."""
IMAGES = 8
"""So few that an epoch takes no longer than a write."""


class TimedStore(CheckpointStore):
    """Adds up how long its writes take."""

    seconds = 0.0

    def write(self, state: Mapping[str, Any]) -> None:
        """See :meth:`CheckpointStore.write`."""
        start = time.perf_counter()
        super().write(state)
        self.seconds += time.perf_counter() - start


def random_images() -> Dataset:
    """Noise, as few images to validate as to train on."""
    rng = np.random.default_rng(0)
    splits = [
        Split(rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8), np.arange(IMAGES, dtype=np.int64))
        for _ in range(2)
    ]
    return Dataset("noise", tuple("0123456789"), splits[0], splits[1], None)


def measure(arch: str, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """One row per round and contender."""
    data = DeviceData(random_images(), this_device())
    train = TrainConfig(epochs=10_000, batch_size=IMAGES, schedule="constant", lr=1e-3)
    run = TrainingRun(RunConfig(ModelConfig(arch=arch), DataConfig(), train), data, seed=1)
    run.train_epoch()
    epochs = max(2, round(TURN_SECONDS / timed(run.train_epoch)))
    store = TimedStore(folder / arch)
    writer = CheckpointWriter(store, 0)
    taken: list[dict[str, Any]] = []

    def synchronous() -> bool:
        store.save(run.state_dict())
        return True

    saves: dict[str, Callable[[], bool]] = {
        NONE: lambda: False,
        SYNCHRONOUS: synchronous,
        ASYNCHRONOUS: lambda: writer.save(run.state_dict()),
    }

    def turn(contender: str) -> Callable[[], float]:
        def work() -> float:
            held_up, training, store.seconds = [], 0.0, 0.0
            for _ in range(epochs):
                start, saved = time.perf_counter(), saves[contender]()
                if saved:
                    held_up.append(time.perf_counter() - start)
                training += timed(run.train_epoch)
            writer.flush()
            checkpoints = len(held_up)
            taken.append(
                {
                    "contender": contender,
                    "epochs": epochs,
                    "checkpoints": checkpoints,
                    "held_up": sum(held_up) / max(1, checkpoints),
                    "training": training,
                    "write": store.seconds / max(1, checkpoints),
                }
            )
            return float(epochs)

        return work

    timings = take_turns({name: turn(name) for name in saves}, rounds)
    megabytes = round((store.folder / LATEST).stat().st_size / 1e6, 2)
    # The round that only warmed up comes first.
    return [
        {"arch": arch, "megabytes": megabytes, "round": timing.round} | row
        for timing, row in zip(timings, taken[-len(timings) :], strict=True)
    ]


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def of(rows: Sequence[Row], contender: str, column: str) -> list[float]:
    """A column by round; ``rows`` of one network, as measured or as read from the results."""
    found = {int(row["round"]): float(row[column]) for row in rows if row["contender"] == contender}
    return [found[number] for number in sorted(found)]


def slow_downs(rows: Sequence[Row]) -> list[float]:
    """By round: seconds of training that are lost in a second in which a write goes on; ``rows`` of one network."""
    alone, training = of(rows, NONE, "training"), of(rows, ASYNCHRONOUS, "training")
    writes, checkpoints = of(rows, ASYNCHRONOUS, "write"), of(rows, ASYNCHRONOUS, "checkpoints")
    # The last write may outlast the training, at most by its own length.
    return [
        (with_writes - without) / min(write * count, with_writes)
        for with_writes, without, write, count in zip(training, alone, writes, checkpoints, strict=True)
    ]


def by_network(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each network."""
    return {arch: [row for row in rows if row["arch"] == arch] for arch in dict.fromkeys(row["arch"] for row in rows)}


def costs(rows: Sequence[Row]) -> list[float]:
    """By round: seconds that an asynchronous checkpoint costs, held up and slowed down; ``rows`` of one network."""
    held_up, writes = of(rows, ASYNCHRONOUS, "held_up"), of(rows, ASYNCHRONOUS, "write")
    return [held + lost * write for held, lost, write in zip(held_up, slow_downs(rows), writes, strict=True)]


def shares(rows: Sequence[Row]) -> dict[str, Spread]:
    """By network: percent of the run time that asynchronous checkpoints cost in all, at the default interval."""
    return {arch: Spread.of([100 / INTERVAL * cost for cost in costs(own)]) for arch, own in by_network(rows).items()}


def table(rows: Sequence[Row]) -> str:
    """One line per network: medians and ranges over rounds."""
    lines = [
        (
            *("network", "MB", "held up, synchronous (ms)", "held up, asynchronous (ms)", "ratio"),
            *("write aside (ms)", "training lost meanwhile (%)"),
            *(f"of {INTERVAL:g} s: synchronous (%)", "asynchronous (%)", "with what is lost meanwhile (%)"),
        )
    ]
    for arch, own in by_network(rows).items():
        sync, aside = of(own, SYNCHRONOUS, "held_up"), of(own, ASYNCHRONOUS, "held_up")
        lines.append(
            (
                *(arch, f"{float(own[0]['megabytes']):.1f}", spread(sync, 1000, 1), spread(aside, 1000, 1)),
                spread([a / b for a, b in zip(sync, aside, strict=True)], 1, 1),
                *(spread(of(own, ASYNCHRONOUS, "write"), 1000, 1), spread(slow_downs(own), 100, 0)),
                *(spread(sync, 100 / INTERVAL, 3), spread(aside, 100 / INTERVAL, 3), shares(own)[arch].words(3)),
            )
        )
    return markdown(lines)


def spread(values: Sequence[float], scale: float, digits: int) -> str:
    """Median and range, in another unit."""
    return Spread.of([value * scale for value in values]).words(digits)


def main() -> None:
    """Measure and write the results."""
    given = speed_parser(__doc__).parse_args()
    started, machine = time.monotonic(), hardware()
    rows: list[dict[str, Any]] = []
    # Here and not in the system's temporary folder, which may be memory, where a write costs nothing.
    with tempfile.TemporaryDirectory(prefix=".checkpoints-", dir=Path.cwd()) as folder:
        for arch in ("resnet8", "resnet18"):
            rows += measure(arch, given.rounds, Path(folder))
    title = (
        f"**What a checkpoint costs** (median and range over {given.rounds} rounds, {hardware_words(machine)}; at most "
        f"{100 * CHECKPOINT_SHARE:g} % of the run time may be held up)"
    )
    save("checkpoints", rows, stamp(started) | {"hardware": machine}, {title: table(rows)}, given.results)


if __name__ == "__main__":
    main()
