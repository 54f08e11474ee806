"""A user's training that counts, paces and breaks itself as ``counting_network`` does: as a script, and as a function.

It needs no torch, and a step of it has two forwards, as an epoch of that network has.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import tune_bn
from tune_bn.script.run import Run

FOLDER = "COUNTING_SCRIPT"
FORWARDS = 2


def leave_a_rank() -> None:
    """A process in a session of its own that ends for nobody, as a rank of a torchrun that was killed."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)


FAULTS: dict[str, Callable[[], Exception | None]] = {
    "out_of_memory": lambda: RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "error": lambda: RuntimeError("a script of bad temper"),
    "rank": leave_a_rank,
}


def forward(folder: Path) -> None:
    """A training forward."""
    with suppress(FileNotFoundError):
        time.sleep(float((folder / "pace").read_text()))
    for path in folder.glob("*-*"):
        name = path.name.rpartition("-")[0]
        if name in FAULTS:
            with suppress(FileNotFoundError):
                path.unlink()
                if (error := FAULTS[name]()) is not None:
                    raise error
    with (folder / "steps").open("ab", buffering=0) as handle:
        handle.write(b".")


def train(run: Run) -> None:
    """A random walk."""
    folder = Path(os.environ[FOLDER])
    rng, value = random.Random(run.seed), 0.0
    if run.checkpoint:
        state = json.loads(run.checkpoint.read_text())
        value = state["value"]
        rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))

    def save(path: Path) -> None:
        if (folder / "blocked").exists():
            raise OSError("no room for a checkpoint")
        path.write_text(json.dumps({"value": value, "rng": rng.getstate()}))

    for step in range(run.start, run.steps):
        for _ in range(FORWARDS):
            forward(folder)
        value += rng.random() * run.gamma + run.c / 1000
        if not run.report(step, save=save, val=value, train_loss=1 / (1 + value)):
            return
    if run.wants_test:
        run.finish(test=2 * value)


if __name__ == "__main__":
    train(tune_bn.current_run(gamma=1.0, c=1.0))
