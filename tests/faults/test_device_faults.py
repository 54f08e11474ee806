"""Devices without room under a run on Ray: it is tried once more alone, or says that it does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.harness import (
    BUILTIN,
    ONE_STAGE,
    SPACE,
    TRAINERS,
    FaultTable,
    References,
    Workplace,
    named,
    trained_by,
)
from tests.faults.on_ray import Watcher, check, connected, disturbed
from tune_bn.protocols.runner import RunResult, Task
from tune_bn.records.record import FAILED
from tune_bn.runners.ray.runner import RayTuneRunner

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_device_out_of_memory_is_tried_once_more_with_the_run_alone(
    tmp_path: Path, counting: Path, one_machine: None, undisturbed: References, fault_table: FaultTable, trainer: str
) -> None:
    content = trained_by(trainer, ONE_STAGE)
    place = Workplace(tmp_path, content, pace=0.02, counting=counting)
    options = connected(place, gpu=0.5, max_failures=0, init={"num_cpus": 2, "num_gpus": 1})

    def fill(watcher: Watcher, task: Task) -> None:
        if not watcher.times and len(watcher.running) == 2:
            watcher.times += 1
            place.plant("out_of_memory")

    watcher = Watcher(fill)
    disturbed(place, options, watcher)
    assert place.planted() == 0
    name = named("out of memory on the device", trainer)
    row = fault_table.add(name, watcher.times, undisturbed(content), place.outcome())
    check(place, row, watcher, most_extra=100 / 8)
    (key,) = watcher.killed
    assert [record.attempts for record in place.records() if record.key == key] == [2]
    (_, beside), (_, then) = (start for start in watcher.started if start[0] == key)
    assert then == {key}
    later = watcher.started[watcher.started.index((key, then)) + 1 :]
    assert len(beside) == 2 or any(len(running) == 2 for _, running in later)


class OneTask:
    """A feed of one run that keeps its result."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.begun = False
        self.results: list[RunResult] = []

    @property
    def exhausted(self) -> bool:
        return self.begun

    def next(self) -> Task | None:
        if self.begun:
            return None
        self.begun = True
        return self.task

    def spares(self, task: Task) -> bool:
        return False

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        self.results.extend(results)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize(("gpu", "attempts"), [(1, 2), (0, 4)], ids=["a GPU", "no GPU"])
def test_a_run_that_does_not_fit_a_device_fails_and_says_so(
    tmp_path: Path, counting: Path, one_machine: None, gpu: int, attempts: int, trainer: str
) -> None:
    from tune_bn.space.loading import parse_space
    from tune_bn.trainers.choose import trainer_of

    place = Workplace(tmp_path, trained_by(trainer, SPACE), counting=counting, pace=0)
    options = connected(place, gpu=gpu, max_failures=3, init={"num_cpus": 1, "num_gpus": 1})
    place.plant("out_of_memory", 9)
    space = parse_space(dict(place.content), "space.yaml")
    config = space.run_config({"gamma": 0.5, "c": 1.0})
    feed, watcher = OneTask(Task("search", "candidate", 0, {}, config, (1,), may_stop=True)), Watcher()
    try:
        RayTuneRunner(trainer_of(space), options).run(feed, watcher)
    finally:
        for path in counting.glob("out_of_memory-*"):
            path.unlink()
    (result,) = feed.results
    assert (result.status, result.attempts) == (FAILED, attempts)
    assert len(watcher.started) == attempts
    if gpu:
        assert result.reason.startswith("out of memory, with the GPU to itself, on GPU 0 of ")
        assert ": CUDA out of memory. Tried to allocate 20.00 GiB." in result.reason
    else:
        assert ("OutOfMemoryError" if trainer == BUILTIN else "RunError") in result.reason
