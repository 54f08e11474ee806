"""Checkpoints that are whole, torn, flipped, hostile or missing."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runners.stored_states import CPU, epoch, same, state
from tune_bn.runners.checkpoint import LATEST, PREVIOUS, CheckpointStore


class Trap:
    """Leaves a file where unpickling runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


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
