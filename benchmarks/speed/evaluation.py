"""An evaluation on a CPU in pieces that fit its caches, beside whole batches of up to 1,024 images.

    python -m benchmarks.speed.evaluation [--rounds 5] [--threads 1]

Both take turns at the same images and weights; that they give the same loss and the same number of correct predictions,
to the last bit, is checked first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from benchmarks.measure import hardware, hardware_words, rates, ratios, rows, take_turns, timings_of
from benchmarks.results import markdown, save, speed_parser, stamp
from benchmarks.speed.training_loop import Workload, config_of, noise
from tune_bn.training import engine
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun

PIECES, WHOLE = "in pieces", "at once"
WORKLOADS = (
    Workload("resnet8", 8, 4096, 1),
    Workload("resnet8", 16, 2048, 1),
    Workload("resnet8", 32, 1024, 1),
    Workload("resnet18", 32, 128, 1),
)


@contextmanager
def whole_batches() -> Iterator[None]:
    """Within it a CPU takes an evaluation batch at once."""
    before = engine.CPU_PIXELS, engine.CPU_BATCH
    engine.CPU_PIXELS, engine.CPU_BATCH = engine.EVALUATION_PIXELS, engine.EVALUATION_BATCH
    try:
        yield
    finally:
        engine.CPU_PIXELS, engine.CPU_BATCH = before


def contenders(workload: Workload) -> Mapping[str, Callable[[], float]]:
    """Each evaluates the images of the workload and returns how many they are.

    Raises:
        AssertionError: they differ.
    """
    run = TrainingRun(config_of(workload), DeviceData(noise(workload, workload.train), torch.device("cpu")), 1)
    split = run.data.train

    def evaluate(whole: bool) -> float:
        if whole:
            with whole_batches():
                totals.append(run.engine.evaluate(split))
        else:
            totals.append(run.engine.evaluate(split))
        return float(len(split))

    totals: list[torch.Tensor] = []
    evaluate(True)
    evaluate(False)
    assert torch.equal(totals[0], totals[1]), f"{workload.words}: {totals}"
    return {WHOLE: partial(evaluate, True), PIECES: partial(evaluate, False)}


def main() -> None:
    """Measure, and write the results."""
    parser = speed_parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    started = time.monotonic()
    torch.set_num_threads(given.threads)
    found: list[dict[str, Any]] = []
    lines: list[Sequence[str]] = [("workload", "images/s at once", "images/s in pieces", "× at once")]
    for workload in WORKLOADS:
        mine = rows(take_turns(contenders(workload), given.rounds), workload=workload.words, threads=given.threads)
        timings = timings_of(mine)
        shown = (
            rates(timings, WHOLE).words(0),
            rates(timings, PIECES).words(0),
            ratios(timings, PIECES, WHOLE).words(),
        )
        lines.append((workload.words, *shown))
        found += mine
        print(lines[-1], flush=True)
    made = stamp(started) | {"hardware": hardware()}
    threads = f"{given.threads} thread{'s' * (given.threads > 1)}"
    title = (
        f"An evaluation in fp32, {threads}; {hardware_words(made['hardware'])}; median (smallest to largest) of "
        f"{given.rounds} rounds in turns"
    )
    save("evaluation", found, made, {title: markdown(lines)}, given.results)


if __name__ == "__main__":
    main()
