"""Several runs on one device at the same time: images per second of all of them together.

    python -m benchmarks.speed.packing [--rounds 5] [--together 1 2 4 8] [--arch resnet18] [--seconds 5]

Each run has a process of its own, as trials with ``resources: {gpu: 0.25}`` have, or a thread and a CUDA stream of
its own in one process. All begin together and train for the same time. Where NVIDIA's MPS runs (started beforehand:
``nvidia-cuda-mps-control -d``) processes share the device without taking turns; the result says whether it did. On a
CPU every run has one thread of torch.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from typing import Any

import torch

from benchmarks.measure import Timing, hardware, hardware_words, rates, ratios, rows, this_device, wait
from benchmarks.results import markdown, save, speed_parser, stamp
from benchmarks.speed.training_loop import Ours, Workload, config_of, noise
from tune_bn.training.device_data import DeviceData

PROCESSES, THREADS = "processes", "threads"


def _train(workload: Workload, train: int, precision: str, seconds: float, ready: Any, found: Any) -> None:
    """One run, which puts how many images it trained on and how long it took into ``found``."""
    device = this_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        run = Ours(DeviceData(noise(workload, train), device), config_of(workload, precision=precision))
        run.steps()
        wait(device)
        # No run is timed while another still warms up.
        ready.wait()
        started, epochs = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            run.steps()
            epochs += 1
        found.put((epochs * train, time.perf_counter() - started))


def together(kind: str, count: int, workload: Workload, train: int, precision: str, seconds: float) -> Timing:
    """So many runs at once: the images of all of them, in the time of the slowest."""
    arguments = (workload, train, precision, seconds)
    context = multiprocessing.get_context("spawn")
    if kind == PROCESSES:
        ready: Any = context.Barrier(count)
        found = context.Queue()
        workers: list[Any] = [context.Process(target=_train, args=(*arguments, ready, found)) for _ in range(count)]
    else:
        ready, found = threading.Barrier(count), context.Queue()
        workers = [threading.Thread(target=_train, args=(*arguments, ready, found)) for _ in range(count)]
    for worker in workers:
        worker.start()
    results = [found.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    images, longest = sum(images for images, _ in results), max(taken for _, taken in results)
    return Timing(0, f"{count} {kind}", longest, 0.0, float(images))


def main() -> None:
    """Run it all and write the results."""
    device = this_device()
    on_gpu = device.type == "cuda"
    parser = speed_parser(__doc__)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 2, 4, 8] if on_gpu else [1, 2])
    parser.add_argument("--kinds", nargs="+", choices=(PROCESSES, THREADS), default=[PROCESSES, THREADS])
    parser.add_argument("--arch", default="resnet18" if on_gpu else "resnet8")
    parser.add_argument("--side", type=int, default=32 if on_gpu else 16)
    parser.add_argument("--train", type=int, default=12_800 if on_gpu else 1024, help="images of an epoch")
    parser.add_argument("--precision", default="bf16" if on_gpu else "fp32")
    parser.add_argument("--seconds", type=float, default=5.0, help="that all runs train together")
    given = parser.parse_args()
    started = time.monotonic()
    workload = Workload(given.arch, given.side, given.train, None)
    timings = []
    for number in range(given.rounds):
        for count in given.together if number % 2 == 0 else given.together[::-1]:
            for kind in given.kinds:
                one = together(kind, count, workload, given.train, given.precision, given.seconds)
                timings.append(replace(one, round=number))
                print(timings[-1], flush=True)
    alone = f"{given.together[0]} {given.kinds[0]}"
    lines: list[Any] = [("runs at once", "images/s together", f"× {alone}")]
    for name in dict.fromkeys(timing.contender for timing in timings):
        lines.append((name, rates(timings, name).words(0), ratios(timings, name, alone).words()))
    mps = "CUDA_MPS_PIPE_DIRECTORY" in os.environ
    made = stamp(started) | {"hardware": hardware(), "mps": mps}
    title = (
        f"{hardware_words(made['hardware'])}{', MPS' if mps else ''}. {workload.words}, {given.precision}; median "
        f"(smallest to largest) of {given.rounds} rounds of {given.seconds:g} s"
    )
    save("packing", rows(timings, precision=given.precision), made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
