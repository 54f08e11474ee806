"""Checkpoints that are written aside, while the training goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runners.stored_states import CPU, epoch, same, state
from tune_bn.runners.checkpoint import CHECKPOINT_SHARE, LATEST, PREVIOUS, CheckpointStore, CheckpointWriter, snapshot


class SlowStore(CheckpointStore):
    """Writes no checkpoint before it is let go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.now = self.most = 0

    def write(self, state: Any) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        assert self.go_on.wait(60)
        super().write(state)
        self.now -= 1


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> int:
        self.now += seconds
        return 0


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowStore]:
    store = SlowStore(tmp_path / "slow")
    yield store
    store.go_on.set()


def test_what_was_saved_aside_is_loaded_once_it_is_flushed(store: CheckpointStore) -> None:
    writer = CheckpointWriter(store, 60)
    for number in (3, 4):
        assert writer.save(state(number))
        writer.flush()
    assert not writer.writing
    found = store.load(CPU)
    assert found is not None
    assert same(found, state(4))
    assert {path.name for path in store.folder.iterdir()} == {LATEST, PREVIOUS}


def test_a_snapshot_does_not_follow_the_training(slow: SlowStore) -> None:
    weights, momentum, generator = torch.ones(3, 4), torch.full((5,), 2.0), torch.Generator().manual_seed(7)
    drawn = generator.get_state()
    live = {
        "model": {"weight": weights.requires_grad_(), "strided": weights.t()},
        "momenta": [momentum],
        "noise": (drawn,),
        "curve": [{"loss": 0.5}],
        "none": None,
    }
    writer = CheckpointWriter(slow, 60)
    writer.save(live)
    assert slow.begun.wait(60)
    with torch.no_grad():
        weights.zero_()
        momentum.mul_(3)
    drawn.zero_()
    live["curve"][0]["loss"] = 9.0  # type: ignore[index]
    live["curve"].append({})  # type: ignore[union-attr]
    slow.go_on.set()
    writer.flush()
    found = slow.load(CPU)
    assert found is not None
    assert found["model"]["weight"].tolist() == torch.ones(3, 4).tolist()
    assert found["model"]["strided"].tolist() == torch.ones(4, 3).tolist()
    assert found["momenta"][0].tolist() == [2.0] * 5
    assert torch.equal(found["noise"][0], torch.Generator().manual_seed(7).get_state())
    assert (found["curve"], found["none"]) == ([{"loss": 0.5}], None)


def test_states_in_the_same_tensors_are_copied_in_turn() -> None:
    shared = torch.zeros(2)

    def states() -> Iterator[dict[str, torch.Tensor]]:
        for number in (1, 2, 3):
            shared.fill_(number)
            yield {"weights": shared}

    assert [found["weights"].tolist() for found in snapshot({"runs": states()})["runs"]] == [[1, 1], [2, 2], [3, 3]]


def test_a_snapshot_keeps_how_its_tensors_lie_in_memory() -> None:
    weights = torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last)
    assert snapshot({"weights": weights})["weights"].stride() == weights.stride()


def test_one_write_is_in_flight_at_most_and_none_waits_for_it(slow: SlowStore) -> None:
    writer = CheckpointWriter(slow, 0, Clock())
    assert writer.due
    assert writer.save(state(1))
    assert slow.begun.wait(60)
    assert not any(writer.due or writer.save(state(number)) for number in range(2, 20))
    slow.go_on.set()
    writer.flush()
    assert epoch(slow) == 1
    assert writer.save(state(20))
    writer.flush()
    assert epoch(slow) == 20
    assert slow.most == 1
    (slow.folder / LATEST).unlink()
    assert epoch(slow) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "a/file"), "No space left on device"),
        (RuntimeError("file write failed\nbacktrace"), "file write failed"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_write_that_failed_is_told_and_costs_no_checkpoint(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(descriptor: int) -> None:
        raise error

    writer = CheckpointWriter(store, 0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        assert writer.save(state(3))
        writer.flush()
    assert writer.problem == words
    assert {path.name for path in store.folder.iterdir()} == {LATEST, PREVIOUS}
    assert epoch(store) == 2
    assert writer.save(state(5))
    writer.flush()
    assert writer.problem is None
    assert epoch(store) == 5


def test_what_cannot_be_saved_leaves_nothing_behind(slow: SlowStore) -> None:
    writer = CheckpointWriter(slow, 0)
    writer.save({"epoch": 1, "weights": lambda: None})
    slow.go_on.set()
    writer.flush()
    assert writer.problem is not None
    assert list(slow.folder.iterdir()) == []
    # No disk is to blame for it: a trainer that is told of a problem alone would train on without checkpoints.
    with pytest.raises(AttributeError, match="pickle"):
        writer.save(state(2))


def test_a_folder_that_cannot_be_made_is_told_and_tried_again_when_due(tmp_path: Path) -> None:
    (tmp_path / "task").touch()
    clock = Clock()
    writer = CheckpointWriter(CheckpointStore(tmp_path / "task"), 60, clock)
    clock.pass_by(60)
    assert not writer.save(state(1))
    assert writer.problem == "File exists"
    assert not writer.due
    (tmp_path / "task").unlink()
    clock.pass_by(60)
    assert writer.due
    assert writer.save(state(2))
    writer.flush()
    assert writer.problem is None


def test_a_late_write_does_not_bring_a_discarded_folder_back(slow: SlowStore) -> None:
    writer = CheckpointWriter(slow, 0)
    writer.save(state(1))
    assert slow.begun.wait(60)
    slow.discard()
    slow.go_on.set()
    writer.flush()
    assert writer.problem == "No such file or directory"
    assert list(slow.folder.parent.iterdir()) == []


def test_a_write_that_begins_after_its_folder_was_discarded_does_not_make_it_again(slow: SlowStore) -> None:
    slow.go_on.set()
    writer = CheckpointWriter(slow, 0)
    # Copying comes after the folder was made, and before the write.
    writer.save({"epoch": (slow.discard() for _ in range(1))})
    writer.flush()
    assert writer.problem == "No such file or directory"
    assert list(slow.folder.parent.iterdir()) == []


def test_a_write_that_ends_while_its_folder_is_emptied_does_not_keep_it(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, rmdir = list[bool](), os.rmdir

    def late(path: Any, **options: Any) -> None:
        try:
            store.write(state(3))
        except FileNotFoundError:
            ended.append(False)
        rmdir(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", late)
        store.discard()
    assert ended == [False]
    assert list(store.folder.parent.iterdir()) == []


def test_a_folder_that_is_discarded_within_a_write_stays_away(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: store.discard())
    writer = CheckpointWriter(store, 0)
    writer.save(state(3))
    writer.flush()
    assert writer.problem == "No such file or directory"
    assert list(store.folder.parent.iterdir()) == []


def test_what_a_crash_left_of_discarding_does_not_keep_the_next_folder(store: CheckpointStore) -> None:
    left = store.folder.with_name(f".{store.folder.name}.discarded")
    left.mkdir()
    (left / LATEST).touch()
    store.discard()
    assert list(store.folder.parent.iterdir()) == []


def test_the_first_checkpoint_is_due_after_the_least_time(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(CheckpointStore(tmp_path), 60, clock)
    assert not writer.due
    clock.pass_by(59)
    assert not writer.due
    clock.pass_by(1)
    assert writer.due


@pytest.mark.parametrize(("copying", "interval"), [(0.5, 60.0), (1.2, 60.0), (3.0, 150.0), (60.0, 3000.0)])
def test_slow_copies_are_taken_less_often(tmp_path: Path, copying: float, interval: float) -> None:
    clock = Clock()
    writer = CheckpointWriter(CheckpointStore(tmp_path), 60, clock)
    held_up = 0.0
    for _ in range(3):
        # Copying is the only time that passes within a save.
        writer.save({"epoch": (clock.pass_by(copying) for _ in range(1))})
        held_up += copying
        writer.flush()
        assert writer.interval == pytest.approx(interval)
        clock.pass_by(interval - 0.01)
        assert not writer.due
        clock.pass_by(0.02)
        assert writer.due
    assert held_up / clock.now <= CHECKPOINT_SHARE


def test_the_interval_shrinks_again_where_copying_was_slow_once(tmp_path: Path) -> None:
    clock = Clock()
    writer = CheckpointWriter(CheckpointStore(tmp_path), 60, clock)
    intervals = []
    for copying in (6.0, 0.1):
        writer.save({"epoch": (clock.pass_by(copying) for _ in range(1))})
        writer.flush()
        intervals.append(writer.interval)
    assert intervals == pytest.approx([300, 60])


KILLED = """
import os, sys, time
from pathlib import Path
import torch
from tune_bn.runners.checkpoint import CheckpointStore, CheckpointWriter

def state(epoch):
    return {"epoch": epoch, "weights": torch.randn(200_000)}

def stop(*ignored):
    os.write(1, b"writing\\n")
    time.sleep(600)

writer = CheckpointWriter(CheckpointStore(Path(sys.argv[1])), 0)
for epoch in (1, 2):
    writer.save(state(epoch))
    writer.flush()
place, replace = sys.argv[2], os.replace
if place == "before the bytes":
    torch.save = stop
elif place == "within the bytes":
    def half(state, handle):
        handle.write(bytes(100_000))
        handle.flush()
        stop()
    torch.save = half
elif place == "before the disk has them":
    os.fsync = stop
elif place == "between the renames":
    os.replace = lambda old, new: stop() if str(new).endswith("latest.pt") else replace(old, new)
writer.save(state(3))
os.write(1, b"training goes on\\n")
time.sleep(600)
"""


@pytest.mark.parametrize(
    "place", ["before the bytes", "within the bytes", "before the disk has them", "between the renames"]
)
def test_a_process_killed_while_it_writes_leaves_a_checkpoint_that_loads(tmp_path: Path, place: str) -> None:
    store = CheckpointStore(tmp_path / "task")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.folder), place], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = {process.stdout.readline().strip() for _ in range(2)}
        process.kill()
    assert said == {"writing", "training goes on"}
    assert any(path.suffix == ".tmp" for path in store.folder.iterdir()), "it was not killed within a write"
    assert epoch(store) == 2
    store.save(state(4))
    assert epoch(store) == 4
