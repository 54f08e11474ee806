"""What a worker writes aside: a resume from it is exact, and nothing is written once its task has ended."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.study.workers import loops, task_worker
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.errors import Interrupted
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import Point, RunResult, Task
from tune_bn.records.record import COMPLETED, FAILED
from tune_bn.runners.checkpoint import CheckpointStore, CheckpointWriter
from tune_bn.runners.local import LocalRunner
from tune_bn.runners.ray.trainable import TASK, TaskTrainable
from tune_bn.runners.worker import TaskWorker, WorkerOptions
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.device_data import DeviceData
from tune_bn.training.engine import Step
from tune_bn.training.loop import train

CPU = torch.device("cpu")
DATA = DataConfig(source="digits", train_size=60, val_size=40, test_size=40, flip=True, crop_padding=1)
CONFIG = RunConfig(ModelConfig(arch="resnet8", gamma=0.2), DATA, TrainConfig(epochs=6, batch_size=32, c=100))


def task(trial: int = 0, *seeds: int, metric: str | None = "test_accuracy") -> Task:
    return Task("search", "candidate", trial, {"gamma": 0.2}, CONFIG, seeds or (1,), metric)


def as_written(step: Step, warm_up: Step) -> Step:
    """A recorder that changes nothing, so that the runs of a worker share an engine, as on a GPU."""
    warm_up()
    return step


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(DATA)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every epoch in which none is written, however long copying takes."""
    monkeypatch.setattr(CheckpointWriter, "due", property(lambda writer: not writer.writing))


class Gate:
    """Holds up every write until it is opened, and knows whether one goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.begun, self.written = threading.Event(), threading.Event(), list[int]()
        self.now = self.most = 0
        write = CheckpointStore.write

        def held_up(store: CheckpointStore, state: Mapping[str, Any]) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            self.begun.set()
            try:
                assert self.opened.wait(60)
                write(store, state)
                self.written.append(len(state["runs"][0]["curve"]))
            finally:
                self.now -= 1

        monkeypatch.setattr(CheckpointStore, "write", held_up)

    def open_when(self, waits: Callable[[], bool]) -> None:
        """Open it from another thread, once somebody waits."""

        def watch() -> None:
            while not waits():
                threading.Event().wait(0.001)
            self.opened.set()

        threading.Thread(target=watch, daemon=True).start()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, always_due: None) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody begins to wait for a write."""
    event, flush = threading.Event(), CheckpointWriter.flush

    def told(writer: CheckpointWriter) -> None:
        if writer.writing:
            event.set()
        flush(writer)

    monkeypatch.setattr(CheckpointWriter, "flush", told)
    return event


def writing() -> bool:
    """Whether any thread writes a checkpoint."""
    return any(thread.name == "checkpoint" for thread in threading.enumerate())


def options(folder: Path) -> WorkerOptions:
    return WorkerOptions(folder, checkpoint_seconds=1e-9, report_seconds=1e-9)


@pytest.mark.parametrize("shared", [False, True], ids=["an engine each", "one engine"])
def test_a_checkpoint_written_while_the_training_went_on_resumes_exactly(
    dataset: Dataset, tmp_path: Path, gate: Gate, shared: bool
) -> None:
    data = DeviceData(dataset, CPU, recorder=(lambda: as_written) if shared else None)
    a_task = task(0, 1, 2)
    first = task_worker(a_task, dataset, options(tmp_path), data=data)
    one, other = loops(first)
    assert (one.engine is other.engine) == shared
    for _ in range(4):
        first.step()
    assert gate.begun.is_set()
    assert gate.written == []
    gate.opened.set()
    first.close()
    # The state of the first epoch, though weights, momenta and generators have moved on since.
    assert gate.written == [1]
    resumed = task_worker(a_task, dataset, options(tmp_path), data=data)
    assert resumed.epoch == 1
    while not (report := resumed.step()).done:
        pass
    for run, result in zip(resumed.runs, report.results, strict=True):
        whole = train(CONFIG, data, run.seed, test_metric=a_task.test_metric)
        assert tuple(run.curve) == whole.curve
        assert result.scores == whole.scores


def test_a_worker_writes_one_checkpoint_at_a_time_and_trains_meanwhile(
    dataset: Dataset, tmp_path: Path, gate: Gate
) -> None:
    worker = task_worker(task(), dataset, options(tmp_path))
    for number in range(1, 4):
        assert worker.step().epoch == number
    gate.opened.set()
    assert worker.writer is not None
    worker.writer.flush()
    worker.step()
    worker.close()
    # Those of the epochs 2 and 3 were put off, not queued.
    assert gate.written == [1, 4]
    assert gate.most == 1


def test_a_task_is_not_reported_as_done_while_it_is_written(
    dataset: Dataset, tmp_path: Path, gate: Gate, joined: threading.Event
) -> None:
    worker = task_worker(task(), dataset, options(tmp_path))
    gate.open_when(joined.is_set)
    while not worker.step().done:
        pass
    assert joined.is_set()
    assert gate.written == [1]
    assert not writing()


def test_a_write_that_failed_is_reported_and_the_next_one_is_tried(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always_due: None
) -> None:
    write, tried = CheckpointStore.write, list[int]()

    def fail_twice(store: CheckpointStore, state: Mapping[str, Any]) -> None:
        tried.append(len(state["runs"][0]["curve"]))
        if len(tried) <= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(store, state)

    monkeypatch.setattr(CheckpointStore, "write", fail_twice)
    worker = task_worker(task(), dataset, options(tmp_path))
    assert worker.writer is not None
    problems = []
    for _ in range(4):
        worker.step()
        worker.writer.flush()
        problems.append(worker.writer.problem)
    assert tried == [1, 2, 3, 4]
    assert problems == ["No space left on device", "No space left on device", None, None]
    assert worker.step().problem is None
    worker.close()


def test_a_checkpoint_on_demand_waits_for_the_one_before_and_is_written_when_it_returns(
    dataset: Dataset, tmp_path: Path, gate: Gate, joined: threading.Event
) -> None:
    worker = task_worker(task(), dataset, options(tmp_path))
    worker.step()
    worker.step()
    gate.open_when(joined.is_set)
    worker.checkpoint()
    assert gate.written == [1, 2]
    assert not writing()


class Tasks:
    """A feed that looks whether anything is written into the folder of a task that it is given back."""

    def __init__(self, *tasks: Task) -> None:
        self.left = list(tasks)
        self.results: list[tuple[str, bool]] = []

    @property
    def exhausted(self) -> bool:
        return not self.left

    def next(self) -> Task | None:
        return self.left.pop(0)

    def spares(self, task: Task) -> bool:
        return False

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        self.results.append((results[0].status, writing()))


class Listener:
    """Raises an error in the given task as soon as a write goes on."""

    def __init__(self, gate: Gate, error: BaseException, trial: int = 0) -> None:
        self.gate, self.error, self.trial = gate, error, trial

    def task_started(self, task: Task) -> None:
        pass

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        if task.trial == self.trial:
            assert self.gate.begun.wait(60)
            raise self.error

    def task_killed(self, task: Task) -> None:
        pass


def local(dataset: Dataset, folder: Path) -> LocalRunner:
    runner = LocalRunner(BuiltinTrainer(dataset), checkpoints=folder)
    runner.options = options(folder)
    return runner


def test_a_task_that_failed_here_comes_back_when_nothing_is_written(
    dataset: Dataset, tmp_path: Path, gate: Gate, joined: threading.Event
) -> None:
    gate.open_when(joined.is_set)
    feed = Tasks(task(0), task(1))
    local(dataset, tmp_path).run(feed, Listener(gate, OSError("a hiccup")))
    assert joined.is_set()
    assert feed.results == [(FAILED, False), (COMPLETED, False)]


def test_an_interrupted_study_has_its_last_checkpoint(
    dataset: Dataset, tmp_path: Path, gate: Gate, joined: threading.Event
) -> None:
    gate.open_when(joined.is_set)
    with pytest.raises(Interrupted):
        local(dataset, tmp_path).run(Tasks(task()), Listener(gate, KeyboardInterrupt()))
    assert not writing()
    found = CheckpointStore(tmp_path / task().key).load(CPU)
    assert found is not None
    assert len(found["runs"][0]["curve"]) == 1


def trainable(dataset: Dataset, folder: Path, a_task: Task) -> TaskTrainable:
    """What an actor of Ray holds, in this process."""
    made = TaskTrainable.__new__(TaskTrainable)
    made.config = {TASK: a_task}
    made.setup(made.config, BuiltinTrainer(dataset).without_test(), options(folder), threads=1)
    return made


@pytest.mark.parametrize("end", ["reset_config", "cleanup"])
def test_an_actor_leaves_a_stopped_task_when_nothing_is_written(
    dataset: Dataset, tmp_path: Path, gate: Gate, joined: threading.Event, end: str
) -> None:
    a_task = task(metric=None)
    actor = trainable(dataset, tmp_path, a_task)
    assert not actor.step()["done"]
    assert writing()
    # As the driver does with a task that a scheduler has stopped.
    store = CheckpointStore(tmp_path / a_task.key)
    store.discard()
    gate.open_when(joined.is_set)
    if end == "reset_config":
        assert actor.reset_config({TASK: task(1, metric=None)})
    else:
        actor.cleanup()
    assert joined.is_set()
    assert not writing()
    assert actor.worker is None
    assert list(tmp_path.iterdir()) == []


def test_an_actor_tells_of_an_error_when_nothing_is_written(
    dataset: Dataset, tmp_path: Path, gate: Gate, joined: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = trainable(dataset, tmp_path, task(metric=None))
    actor.step()
    assert writing()

    def fail(worker: TaskWorker) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(TaskWorker, "step", fail)
    gate.open_when(joined.is_set)
    with pytest.raises(RuntimeError, match="out of memory"):
        actor.step()
    assert joined.is_set()
    assert not writing()
