"""Threads that wait for each other by spinning, by sleeping, or by both, on an idle machine and on a busy one.

    python -m benchmarks.speed.thread_waiting [--rounds 5] [--threads 2]

A step of a network is hundreds of parallel regions, and between two of them the threads of OpenMP spin, until told
otherwise by ``OMP_WAIT_POLICY``, which is read once, when torch is loaded. So each contender is a process of its own;
they take turns at the same epochs. *ours* is what ``tune_bn`` states where the user states nothing: spin for some
microseconds, then sleep. *busy*: beside as many processes as there are cores that compute without end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.measure import Timing, hardware, hardware_words, ratios, rows, take_turns
from benchmarks.results import markdown, save, speed_parser, stamp
from tune_bn.host.process import WAITING

NETWORKS: Mapping[str, tuple[int, int]] = {"resnet8": (300, 16), "resnet18": (256, 1)}
"""Images, and epochs of a turn."""
SPINNING, OURS, SLEEPING, ALONE = "as OpenMP has it", "ours", "OMP_WAIT_POLICY=passive", "1 thread"
BURN = "while True: sum(range(10**6))"


def child(network: str, threads: int) -> None:
    """Train the epochs of a turn for every line of the standard input."""
    import torch

    from tune_bn.data.config import DataConfig
    from tune_bn.data.dataset import load_dataset
    from tune_bn.method.config import ModelConfig
    from tune_bn.training.config import RunConfig, TrainConfig
    from tune_bn.training.device_data import DeviceData
    from tune_bn.training.loop import TrainingRun

    torch.set_num_threads(threads)
    images, epochs = NETWORKS[network]
    data = DataConfig(source="digits", train_size=images, val_size=10)
    config = RunConfig(ModelConfig(arch=network, gamma=0.1), data, TrainConfig(epochs=10**6, batch_size=64))
    run = TrainingRun(config, DeviceData(load_dataset(data).without_test(), torch.device("cpu")), 1)
    for _ in sys.stdin:
        for _ in range(epochs):
            run.train_epoch()
        print("done", flush=True)


@contextmanager
def contender(network: str, threads: int, **environment: str) -> Iterator[Callable[[], float]]:
    """A process that trains the epochs of a turn at each call, and waits in between."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    code = f"from benchmarks.speed.thread_waiting import child; child({network!r}, {threads})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def turn() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print("go", file=process.stdin, flush=True)
        if process.stdout.readline() != "done\n":
            raise RuntimeError(f"the process of {network} ended with {process.wait()}")
        return float(NETWORKS[network][1])

    try:
        yield turn
    finally:
        process.kill()
        process.communicate()


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """So many processes that compute without end."""
    started = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measured(network: str, threads: int, rounds: int) -> list[Timing]:
    """The timings of all contenders."""
    with ExitStack() as stack:
        contenders = {
            SPINNING: stack.enter_context(contender(network, threads)),
            OURS: stack.enter_context(contender(network, threads, **WAITING)),
            SLEEPING: stack.enter_context(contender(network, threads, OMP_WAIT_POLICY="passive")),
            ALONE: stack.enter_context(contender(network, 1)),
        }
        return take_turns(contenders, rounds)


def main() -> None:
    """Run it all and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    started, cores = time.monotonic(), len(os.sched_getaffinity(0))
    found: list[dict[str, Any]] = []
    others = (OURS, SLEEPING, ALONE)
    lines: list[Sequence[str]] = [("network", "machine", "ms an epoch", *(f"× {name}" for name in others))]
    for network in NETWORKS:
        for machine, beside in (("idle", 0), ("busy", cores)):
            with burning(beside):
                timings = measured(network, given.threads, given.rounds)
            found += rows(timings, network=network, machine=machine, threads=given.threads)
            epoch = sorted(1000 / timing.rate for timing in timings if timing.contender == SPINNING)
            words = f"{epoch[len(epoch) // 2]:.0f} ({epoch[0]:.0f} to {epoch[-1]:.0f})"
            lines.append((network, machine, words, *(ratios(timings, name, SPINNING).words() for name in others)))
            print(lines[-1], flush=True)
    made = stamp(started) | {"hardware": hardware()}
    title = (
        f"{hardware_words(made['hardware'])}. {given.threads} threads, batches of 64 digits; milliseconds of an epoch "
        f"with {given.threads} threads {SPINNING}, and how many times as fast the others are; median (smallest to "
        f"largest) of {given.rounds} rounds"
    )
    save("thread_waiting", found, made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
