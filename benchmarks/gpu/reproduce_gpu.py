"""Cells of the paper's Table 1.a at full length on one GPU: arms with the same seeds, one JSON line per run.

It needs torch, torchvision, NumPy and SciPy alone. A call goes on where the last one stopped, and ends by itself before
its time limit; all arms of a seed come before the next seed, so that pairs are complete as early as possible.

    python -m benchmarks.gpu.reproduce_gpu --data data/cifar10 --pairs 3 --minutes 25
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.gpu.gpu_records import (
    DEFAULT_CELLS,
    append_run,
    arm_name,
    arms_of,
    asked_cell,
    expected_seconds,
    identity,
    is_torn,
    paper_config,
    plain_config,
    read_runs,
    report,
)
from benchmarks.results import COMMIT, RESULTS
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.errors import ConfigError, DataError, TuneBNError
from tune_bn.paper.tables import Cell
from tune_bn.records.files import sha256_of
from tune_bn.records.log import RecordLog
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.training.config import RunConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.loop import TrainingRun
from tune_bn.training.points import FINAL_TEST_ACCURACY, TEST_ACCURACY
from tune_bn.training.versions import library_versions

CIFAR = "cifar-10-batches-py"
CHECKPOINT_SECONDS = 120.0
Made = TypeVar("Made")
now = time.monotonic


@dataclass(frozen=True)
class Job:
    """One run that is due, with all that its worker needs."""

    cell: Cell
    seed: int
    config: RunConfig
    key: str
    checkpoints: Path
    facts: dict[str, Any]
    """What its record says of it beforehand."""

    @property
    def words(self) -> str:
        """``γ = 0.10, lr 0.1, seed 3``."""
        return f"{arm_name(self.cell)}, seed {self.seed}"

    @property
    def store(self) -> CheckpointStore:
        """Where its checkpoints are."""
        return CheckpointStore(self.checkpoints / self.key)

    def checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The state of an earlier part of this run by the same code and libraries, or None."""
        state = self.store.load(device)
        return None if state is None or state.get("identity") != self.identity else dict(state["run"])

    @property
    def identity(self) -> str:
        """Hash of the run and of the code and libraries that may go on with it."""
        return sha256_of([self.key, library_versions(self.config.model.arch)])


class Worker:
    """Trains jobs one after the other; runs of one architecture share a captured step."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.data = DeviceData(dataset, device)

    def train(self, job: Job, deadline: float) -> dict[str, Any] | int:
        """The record of a finished run, or the epochs reached where another one would pass the deadline."""
        run = TrainingRun(job.config, self.data, job.seed, TEST_ACCURACY)
        state = job.checkpoint(self.data.device)
        if state is not None:
            run.load_state_dict(state)
        saved, longest = now(), 0.0
        while not run.done:
            start = now()
            late = start + longest > deadline
            if late or start - saved > CHECKPOINT_SECONDS:
                _make_hidden(job.checkpoints)
                job.store.save({"identity": job.identity, "run": run.state_dict()})
                saved = now()
            if late:
                return run.epochs
            run.train_epoch()
            longest = max(longest, now() - start)
        return self.record(job, run)

    def record(self, job: Job, run: TrainingRun) -> dict[str, Any]:
        """What is written of a run that ended. Reads the test images."""
        assert self.data.test is not None
        result = run.result()
        final = run.chance if run.diverged else run.evaluate(self.data.test)[1]
        curve = {
            key: [_rounded(point[key]) for point in result.curve]
            for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        }
        seen = result.epochs * len(self.data.train)
        return job.facts | {
            "status": result.status,
            "reason": result.reason,
            "epochs": result.epochs,
            "scores": {**result.scores, FINAL_TEST_ACCURACY: final},
            "curve": curve,
            "started_at": result.started_at,
            "duration_seconds": result.duration_seconds,
            "setup_seconds": round(run.setup_seconds, 3),
            "images_per_second": round(seen / max(result.duration_seconds, 1e-3), 1),
            "device": result.device,
            "versions": dict(result.versions),
        }


def _rounded(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


_worker: Worker


def _start_worker(config: DataConfig, device: torch.device) -> None:
    global _worker
    _worker = Worker(load_dataset(config), device)


def _train(job: Job, deadline: float) -> dict[str, Any] | int:
    return _worker.train(job, deadline)


class _Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Made], /, *args: Any, **kwargs: Any) -> Future[Made]:
        future: Future[Made] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def data_config(folder: Path, config: DataConfig) -> DataConfig:
    """``config`` with its source: torchvision's CIFAR-10, or class folders. Raises :class:`DataError` for neither."""
    if (folder / CIFAR).is_dir():
        return replace(config, source="cifar10", root=str(folder))
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return replace(config, source="folder", root=str(folder))
    accepted = f"a folder with {CIFAR}, or with train/<class>/… and test/<class>/…"
    raise DataError(f"--data: got {str(folder)!r}; accepted: {accepted}")


class Bench:
    """The runs that are asked for, those that are done, and the clock."""

    def __init__(self, args: argparse.Namespace, asked: Sequence[Cell]) -> None:
        started = now()
        minutes = args.minutes if args.hours is None else 60 * args.hours
        self.deadline = math.inf if minutes is None else started + 60 * minutes
        self.args = args
        self.runs = read_runs(args.results)
        self.device = _device(args.device)
        config = replace(paper_config(asked[0]).data, train_size=args.train_size, val_size=args.val_size)
        self.data = data_config(args.data, config)
        self.dataset = load_dataset(self.data)
        self.images = {
            "sha256": self.dataset.sha256,
            "shape": list(self.dataset.stored_shape),
            **{name: len(getattr(self.dataset, name)) for name in ("train", "val", "test")},
        }
        # The number of a seed goes round last: pairs are complete as early as possible.
        self.jobs = [self._job(cell, seed) for seed in range(1, args.pairs + 1) for cell in arms_of(asked)]

    def _job(self, cell: Cell, seed: int) -> Job:
        paper = paper_config(cell)
        train = replace(paper.train, epochs=self.args.epochs, precision=self.args.precision)
        config = replace(paper, data=self.data, train=train)
        name = "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        facts = {
            "arm": arm_name(cell),
            "gamma": config.model.gamma,
            "c": train.c,
            "lr": train.lr,
            "seed": seed,
            "epochs_planned": train.epochs,
            "precision": train.precision,
            "config": plain_config(config),
            "images": self.images,
            "parallel": self.args.parallel,
            "device": name,
            "commit": COMMIT,
            "command": shlex.join(["python", "-m", "benchmarks.gpu.reproduce_gpu", *self.args.command]),
        }
        key = identity(facts["config"], self.images, seed)
        checkpoints = self.args.checkpoints or self.args.results.parent / ".reproduce_gpu"
        return Job(cell, seed, config, key, checkpoints, facts)

    def train(self) -> None:
        """Train what is due while there is time, and append each run as it ends."""
        done = {identity(run["config"], run["images"], run["seed"]) for run in self.runs}
        due = deque(job for job in self.jobs if job.key not in done)
        say(f"{len(self.jobs) - len(due)} of {len(self.jobs)} runs are in {self.args.results}; {len(due)} to train")
        if not due:
            return
        running: dict[Future[dict[str, Any] | int], Job] = {}
        with self._executor() as pool:
            while due or running:
                while due and len(running) < self.args.parallel:
                    why_not = self.why_not(due[0])
                    if why_not is not None:
                        say(f"{why_not}; runs left: {len(due)}")
                        due.clear()
                        break
                    job = due.popleft()
                    say(f"{job.words}: starts")
                    running[pool.submit(_train, job, self.deadline)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self.ended(running.pop(future), future.result())

    def _executor(self) -> Executor:
        """This process for one run at a time, else so many processes on the device."""
        if self.args.parallel > 1:
            spawn = multiprocessing.get_context("spawn")
            return ProcessPoolExecutor(self.args.parallel, spawn, _start_worker, (self.data, self.device))
        global _worker
        _worker = Worker(self.dataset, self.device)
        return _Here()

    def why_not(self, job: Job) -> str | None:
        """Why a run must not start now, in words; None: it may."""
        left = self.deadline - now()
        if left <= 0:
            return f"{job.words}: not started, the time limit is reached"
        needed = expected_seconds(self.runs, job.facts)
        if needed is None or needed <= left:
            return None
        state = job.checkpoint(torch.device("cpu"))
        needed *= 1 - (0 if state is None else len(state["curve"]) / job.config.train.epochs)
        return (
            None if needed <= left else f"{job.words}: not started, it takes {needed:.0f} s and {left:.0f} s are left"
        )

    def ended(self, job: Job, outcome: dict[str, Any] | int) -> None:
        """Write what became of a run."""
        if isinstance(outcome, int):
            say(f"{job.words}: given up at the time limit in epoch {outcome}; a later call goes on from there")
            # What is left of the time may be less than the first epoch of another run.
            self.deadline = -math.inf
            return
        append_run(self.args.results, outcome)
        self.runs.append(outcome)
        job.store.discard()
        test, val = outcome["scores"][TEST_ACCURACY], outcome["scores"]["val_accuracy"]
        say(
            f"{job.words}: {outcome['status']}, test {test:.2f} %, val {val:.2f} %, "
            f"{outcome['duration_seconds']:.0f} s, {outcome['images_per_second']:.0f} images/s"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, then print the table; the exit status is 2 where something was not acceptable."""
    command = sys.argv[1:] if arguments is None else list(arguments)
    args = parser().parse_args(command, argparse.Namespace(command=command))
    try:
        asked = [asked_cell(text) for text in args.cells]
        if args.data is None and not args.verdict:
            raise ConfigError("--data", None, f"the folder with {CIFAR}, or with train/ and test/")
        if is_torn(args.results):
            say(f"{args.results}: the last line is torn and does not count")
        if not args.verdict:
            args.results.parent.mkdir(parents=True, exist_ok=True)
            RecordLog(args.results).recover()
            Bench(args, asked).train()
        print(report(read_runs(args.results), args.results.name))
    except TuneBNError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}; accepted: a place that can be written", file=sys.stderr)
        return 2
    return 0


def say(words: str) -> None:
    """One line, at once."""
    print(words, flush=True)


def _device(name: str) -> torch.device:
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("--device", name, "auto or cpu: torch finds no GPU")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _make_hidden(folder: Path) -> None:
    """Make a folder that git passes over."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def parser() -> argparse.ArgumentParser:
    """The options."""

    def positive(text: str) -> int:
        if int(text) < 1:
            raise ValueError
        return int(text)

    found = argparse.ArgumentParser(prog="python -m benchmarks.gpu.reproduce_gpu", description=__doc__)
    add = found.add_argument
    add("--data", type=Path, help=f"folder with {CIFAR}, or with train/<class>/… and test/<class>/…")
    add("--cells", nargs="+", default=DEFAULT_CELLS, metavar="gamma=G,lr=L", help="cells; BASE is run with each")
    add("--pairs", type=positive, default=3, help="seeds of each arm, from 1 on (default: 3)")
    limit = found.add_mutually_exclusive_group()
    limit.add_argument("--hours", type=float, help="time limit of this call (default: none)")
    limit.add_argument("--minutes", type=float, help="the same in minutes")
    add("--precision", choices=("fp32", "tf32", "bf16"), default="bf16", help="default: bf16; the paper's is fp32")
    add("--epochs", type=positive, default=180, help="default: the paper's 180")
    add("--train-size", type=positive, help="fewer training images, stratified")
    add("--val-size", type=positive, default=5000, help="default: the paper's 5000")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--parallel", type=positive, default=1, help="runs side by side, each in a process of its own")
    add("--results", type=Path, default=RESULTS / "reproduce_gpu.jsonl", help="where each run becomes one line")
    add("--checkpoints", type=Path, help="folder of runs in progress (default: .reproduce_gpu beside the results)")
    add("--verdict", action="store_true", help="train nothing, only print the table of what is there")
    return found


if __name__ == "__main__":
    sys.exit(main())
