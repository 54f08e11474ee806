"""Checkpoints that are whole, torn, flipped, hostile or missing, and those that are written aside."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tune_bn.runners.checkpoint import CHECKPOINT_SHARE, LATEST, PREVIOUS, CheckpointStore, CheckpointWriter, snapshot

CPU = torch.device("cpu")


class Trap:
    """Leaves a file where unpickling runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def state(epoch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(epoch)
    weights = torch.randn(2000, generator=generator)
    return {"epoch": epoch, "weights": weights, "generator": generator.get_state(), "curve": [{"loss": 0.5}, None]}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    tensors = all(torch.equal(left[key], right[key]) for key in ("weights", "generator"))
    return tensors and (left["epoch"], left["curve"]) == (right["epoch"], right["curve"])


def epoch(store: CheckpointStore) -> int | None:
    found = store.load(CPU)
    return None if found is None else found["epoch"]


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    """Two checkpoints: of epoch 2, and of epoch 1 before it."""
    store = CheckpointStore(tmp_path / "deep" / "task")
    store.save(state(1))
    store.save(state(2))
    return store


def test_what_was_saved_is_loaded(store: CheckpointStore) -> None:
    found = store.load(CPU)
    assert found is not None
    assert same(found, state(2))


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "absent").load(CPU) is None


def test_the_last_two_are_kept_and_nothing_else(store: CheckpointStore) -> None:
    store.save(state(3))
    assert {path.name for path in store.folder.iterdir()} == {LATEST, PREVIOUS}
    assert epoch(store) == 3
    (store.folder / LATEST).unlink()
    assert epoch(store) == 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_torn_checkpoint_falls_back_to_the_one_before(store: CheckpointStore, share: float) -> None:
    path = store.folder / LATEST
    os.truncate(path, int(path.stat().st_size * share))
    assert epoch(store) == 1


def test_one_flipped_bit_of_a_weight_is_noticed(store: CheckpointStore) -> None:
    path = store.folder / LATEST
    data = bytearray(path.read_bytes())
    place = data.find(state(2)["weights"].numpy().tobytes())
    assert place > 0
    data[place + 4001] ^= 1
    path.write_bytes(data)
    assert epoch(store) == 1


def test_damage_anywhere_never_raises_and_never_gives_another_state(store: CheckpointStore) -> None:
    path = store.folder / LATEST
    whole, draw = path.read_bytes(), random.Random(0)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 5, 30])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        found = store.load(CPU)
        assert found is not None
        assert same(found, state(found["epoch"]))
        outcomes.add(found["epoch"])
    assert 1 in outcomes


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04N.", b"PK\x03\x04" + bytes(100), bytes(4096)])
def test_garbage_falls_back(store: CheckpointStore, content: bytes) -> None:
    (store.folder / LATEST).write_bytes(content)
    assert epoch(store) == 1
    (store.folder / PREVIOUS).write_bytes(content)
    assert epoch(store) is None


@pytest.mark.parametrize("wrapped", [False, True])
def test_code_in_a_checkpoint_is_never_run(store: CheckpointStore, tmp_path: Path, wrapped: bool) -> None:
    mark, path = tmp_path / "mark", store.folder / LATEST
    content = {"epoch": 9, "weights": Trap(mark)}
    if wrapped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    assert epoch(store) == 1
    assert not mark.exists()
    if wrapped:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert mark.exists(), "the trap would not have caught anything"


def test_a_zip_of_something_else_falls_back(store: CheckpointStore) -> None:
    with zipfile.ZipFile(store.folder / LATEST, "w") as archive:
        archive.writestr("notes.txt", "words")
    assert epoch(store) == 1


@pytest.mark.parametrize("value", [[1, 2], torch.zeros(2), None])
def test_a_value_that_is_no_state_falls_back(store: CheckpointStore, value: object) -> None:
    torch.save(value, store.folder / LATEST)
    assert epoch(store) == 1


def test_a_crash_between_the_two_renames_loses_nothing(store: CheckpointStore) -> None:
    os.replace(store.folder / LATEST, store.folder / PREVIOUS)
    assert epoch(store) == 2
    store.save(state(3))
    assert epoch(store) == 3


def test_a_save_that_fails_leaves_the_checkpoints_before(store: CheckpointStore) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        store.save({"epoch": 3, "weights": lambda: None})
    assert {path.name for path in store.folder.iterdir()} == {LATEST, PREVIOUS}
    assert epoch(store) == 2


def test_a_file_left_by_a_crash_while_writing_is_not_read(store: CheckpointStore) -> None:
    (store.folder / "left.tmp").write_bytes((store.folder / PREVIOUS).read_bytes())
    assert epoch(store) == 2


def test_discarding_removes_the_folder_and_may_be_repeated(store: CheckpointStore) -> None:
    store.discard()
    store.discard()
    assert not store.folder.exists()
    assert epoch(store) is None


# --- written aside


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
