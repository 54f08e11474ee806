"""From one worker to two: runs per second of the real runner on this machine, on the embedded digits.

    python -m benchmarks.speed.scaling [--rounds 5] [--workers 1 2] [--runs 8] [--epochs 10]

Each worker has a core and trains one run after the other. The clock starts when every worker has ended its first run,
so that what is compared is not the start of the workers.
"""

from __future__ import annotations

import time
from typing import Any

import ray

from benchmarks.measure import Timing, hardware, hardware_words, rates, ratios, rows
from benchmarks.results import markdown, save, speed_parser, stamp
from benchmarks.speed.driver_limits import Queue
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Task
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig

DATA = DataConfig(source="digits", train_size=300)


class Runs(Queue):
    """A feed of equal runs, one seed after the other."""

    def __init__(self, runs: int, epochs: int) -> None:
        super().__init__(runs)
        self.config = RunConfig(
            ModelConfig(arch="resnet8", gamma=0.1), DATA, TrainConfig(epochs=epochs, batch_size=64, c=100.0)
        )

    def next(self) -> Task | None:
        """See :class:`tune_bn.protocols.runner.Feed`."""
        if self.exhausted:
            return None
        self.handed_out += 1
        return Task("confirm", "gamma-0.1", None, {}, self.config, (self.handed_out,))


def words(workers: int) -> str:
    """A contender's name."""
    return f"{workers} worker{'s' if workers > 1 else ''}"


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=8, help="of each worker")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    started = time.monotonic()
    connect(RayOptions(init={"num_cpus": max(given.workers)}))
    dataset = load_dataset(DATA)
    timings = []
    for number in range(given.rounds):
        order = given.workers if number % 2 == 0 else given.workers[::-1]
        for workers in order:
            runs = Runs(given.runs * workers, given.epochs)
            cpu = time.process_time()
            RayTuneRunner(BuiltinTrainer(dataset), RayOptions(max_concurrent=workers)).run(runs, runs)
            seconds = runs.ended[-1] - runs.ended[workers - 1]
            cpu = time.process_time() - cpu
            timings.append(Timing(number, words(workers), seconds, cpu, float(len(runs.ended) - workers)))
            print(timings[-1], flush=True)
    ray.shutdown()
    lines: list[Any] = [("", "runs/s", f"× {words(given.workers[0])}")]
    for workers in given.workers:
        name = words(workers)
        lines.append((name, rates(timings, name).words(), ratios(timings, name, words(given.workers[0])).words()))
    made = stamp(started) | {"hardware": hardware()}
    title = (
        f"{hardware_words(made['hardware'])}. ResNet-8 on 300 scans, {given.epochs} epochs; a thread and {given.runs} "
        f"runs for each worker; median (smallest to largest) of {given.rounds} rounds"
    )
    save("scaling", rows(timings), made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
