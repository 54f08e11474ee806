"""A disk that is full, torn or pulled away under each file of a study: one line, and nothing is lost."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.harness import FOLDER, FaultTable, Outcome, References, Workplace, run_in_process
from tests.study.local_studies import CONTENT, Follower
from tune_bn.data.dataset import load_dataset
from tune_bn.errors import RecordError, StudyError
from tune_bn.protocols.runner import RunResult, Task
from tune_bn.records.log import RecordLog
from tune_bn.runners.local import LocalRunner
from tune_bn.runners.ray.runner import RayTuneRunner
from tune_bn.runners.ray.start import RayOptions, connect
from tune_bn.space.loading import parse_space
from tune_bn.trainers.builtin import BuiltinTrainer

STEPS_OF_A_RUN = 50


class FullDisk:
    """Lets the first writes to a file of some name pass, and then breaks each one in the middle, until it is healed."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, after: int) -> None:
        self.name, self.left = name, after
        self.hits = 0
        real_sync, real_open = os.fsync, open

        def sync(descriptor: int) -> None:
            if self.strikes(os.readlink(f"/proc/self/fd/{descriptor}")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real_sync(descriptor)

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            handle = real_open(file, mode, *rest, **options)
            # What is not synced is broken where it is written.
            return self._breaking(handle) if self.name == "curves.jsonl" and "a" in mode else handle

        patch.setattr(os, "fsync", sync)
        patch.setattr("builtins.open", opened)

    def strikes(self, path: str) -> bool:
        # A file that is written aside first has more to its name.
        if self.name not in Path(path).name:
            return False
        self.left -= 1
        self.hits += self.left < 0
        return self.left < 0

    def _breaking(self, handle: Any) -> Any:
        if not self.strikes(handle.name if isinstance(handle.name, str) else str(handle.name)):
            return handle
        write = handle.write

        class Half(io.BufferedRandom):
            def write(self, data: Any) -> int:
                write(data[: len(data) // 2])
                handle.flush()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Half(handle.raw)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    made = Workplace(tmp_path / "place", pace=0)
    monkeypatch.setenv(FOLDER, str(made.counting))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield made
    torch.set_num_threads(threads)


def run(place: Workplace) -> Outcome:
    run_in_process(
        place, lambda trainer, folder: LocalRunner(trainer, checkpoints=folder.checkpoints, runs=folder.runs)
    )
    return place.outcome()


@pytest.mark.parametrize(
    ("name", "after", "most_runs_again"),
    [
        ("records.jsonl", 0, 1),
        ("records.jsonl", 7, 1),
        ("curves.jsonl", 1, 1),
        ("optuna.journal", 0, 0),
        ("optuna.journal", 9, 1),
        ("plan.json", 0, 0),
    ],
)
def test_a_full_disk_ends_in_one_line_and_a_resume_in_the_same_records(
    place: Workplace,
    undisturbed: References,
    fault_table: FaultTable,
    name: str,
    after: int,
    most_runs_again: int,
) -> None:
    reference = undisturbed()
    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(patch, name, after)
        problem = rf"{name}: cannot be written \(No space left on device\); what finished is kept; accepted: a disk"
        for _ in range(2):  # the second time it is still full
            with pytest.raises(StudyError, match=problem):
                run(place)
        assert disk.hits >= 2
    row = fault_table.add(f"disk full under {name}", disk.hits, reference, run(place))
    assert (row.lost, row.duplicates) == (0, 0)
    assert place.steps <= reference.steps + 2 * most_runs_again * STEPS_OF_A_RUN


def torn(path: Path, keep: int) -> None:
    """Cut the last line of a file after some of its bytes."""
    data = path.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(data[: start + keep])


@pytest.mark.parametrize("keep", [1, 100])
@pytest.mark.parametrize(("name", "runs_again"), [("records.jsonl", 1), ("curves.jsonl", 0), ("optuna.journal", 0)])
def test_a_torn_last_line_is_cut_off(
    place: Workplace, undisturbed: References, fault_table: FaultTable, name: str, runs_again: int, keep: int
) -> None:
    reference = undisturbed()
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, "records.jsonl", 2)
        with pytest.raises(StudyError):
            run(place)
    steps = place.steps
    torn(place.study / name, keep)
    row = fault_table.add(f"torn {name}", 1, reference, run(place))
    assert (row.lost, row.duplicates) == (0, 0)
    # The run whose record found no room was lost by the full disk already.
    assert place.steps - steps <= reference.steps - (2 - runs_again) * STEPS_OF_A_RUN


def test_records_that_end_within_a_character_are_read(place: Workplace, undisturbed: References) -> None:
    reference = undisturbed()
    run(place)
    with (place.study / "records.jsonl").open("ab") as handle:
        handle.write('{"arm":"γ'.encode()[:-1])
    assert RecordLog(place.study / "records.jsonl").read() == list(place.records())
    assert FaultTable().add("", 1, reference, run(place)).lost == 0
    assert (place.study / "records.jsonl").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("name", ["records.jsonl", "curves.jsonl", "optuna.journal"])
def test_a_link_in_a_study_is_not_written_through(place: Workplace, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, "optuna.journal", 0)
        with pytest.raises(StudyError):
            run(place)
    (place.study / name).unlink(missing_ok=True)
    (place.study / name).symlink_to(victim)
    with pytest.raises(StudyError, match=rf"{name}: (cannot be written \(Too many levels|is no regular file)"):
        run(place)
    assert victim.read_bytes() == b""


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
@pytest.mark.parametrize("name", ["records.jsonl", "curves.jsonl", "optuna.journal"])
def test_what_is_no_file_is_refused_and_not_waited_for(
    place: Workplace, name: str, make: Callable[[Path], None]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, "optuna.journal", 0)
        with pytest.raises(StudyError):
            run(place)
    (place.study / name).unlink(missing_ok=True)
    make(place.study / name)
    with pytest.raises((StudyError, RecordError), match=rf"{name}: (cannot be (read|written) \(|is no regular file)"):
        run(place)


class Refusing:
    """A feed of one task that can be trained and not recorded."""

    def __init__(self, task: Task) -> None:
        self.tasks = [task]
        self.returned = 0

    @property
    def exhausted(self) -> bool:
        return not self.tasks

    def next(self) -> Task | None:
        return self.tasks.pop() if self.tasks else None

    def spares(self, task: Task) -> bool:
        return False

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        self.returned += 1
        raise StudyError("records.jsonl: cannot be written")


def test_ray_does_not_train_again_what_could_not_be_recorded() -> None:
    """Tune takes an error of a callback for a failure of the trial."""
    space = parse_space(CONTENT, "tiny")
    config = space.run_config({"gamma": 0.1, "c": 1.0})
    feed = Refusing(Task("search", "candidate", 0, {"gamma": 0.1}, config, (1,), may_stop=True))
    options = RayOptions(max_failures=3, init={"num_cpus": 1})
    connect(options)
    runner = RayTuneRunner(BuiltinTrainer(load_dataset(space.data)), options)
    try:
        with pytest.raises(StudyError, match="cannot be written"):
            runner.run(feed, Follower())
    finally:
        runner.close()
    assert feed.returned == 1
