"""Files of a study that are pickles in disguise: whoever reads them runs nothing of them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tune_bn.cli import main
from tune_bn.data.cache import IMAGES, Entry, load_decoded
from tune_bn.data.decoding import Decoder
from tune_bn.errors import StudyError
from tune_bn.runners.checkpoint import LATEST, CheckpointStore
from tune_bn.samplers.optuna.sampler import OptunaSampler


class Trap:
    """Makes a folder where unpickling runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def plain(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps({"epoch": 1, "weights": trap}))


def as_torch_writes(path: Path, trap: Trap) -> None:
    torch.save({"epoch": 1, "weights": trap}, path)


def as_numpy_writes(path: Path, trap: Trap) -> None:
    with path.open("wb") as handle:
        np.save(handle, np.array([trap], dtype=object), allow_pickle=True)


def zipped(path: Path, trap: Trap) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(trap))


MAKERS = [plain, as_torch_writes, as_numpy_writes, zipped]


def read_checkpoint(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / LATEST)
    assert CheckpointStore(folder).load(torch.device("cpu")) is None


def read_journal(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "optuna.journal")
    # What has no end of a line is a torn write, and is cut off.
    with suppress(StudyError):
        OptunaSampler(folder / "optuna.journal", "x/candidate", {})


def read_decoded(folder: Path, make: Callable[[Path], None]) -> None:
    image = folder / "0.bmp"
    Image.new("RGB", (4, 4), (1, 2, 3)).save(image)
    decoder = Decoder(str(image), None, "stretch")
    load_decoded([[str(image)]], decoder)
    (entry,) = (path.parent for path in folder.rglob(IMAGES))
    make(entry / IMAGES)
    assert Entry(entry.parent, [str(image)], decoder).read() is None
    (again,) = load_decoded([[str(image)]], decoder)
    assert again[0, :, 0, 0].tolist() == [1, 2, 3]


def read_given_weights(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "mine.pt")
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "--checkpoint", str(folder / "mine.pt")])
    assert ended.value.code == 2


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("read", [read_checkpoint, read_journal, read_decoded, read_given_weights])
def test_nothing_of_a_pickle_is_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path, Callable[[Path], None]], None],
    make: Callable[[Path, Trap], None],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    read(tmp_path, lambda path: make(path, Trap(mark)))
    assert not mark.exists()


def test_the_trap_would_have_caught_something(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    plain(tmp_path / "x", Trap(mark))
    pickle.loads((tmp_path / "x").read_bytes())
    assert mark.exists()
