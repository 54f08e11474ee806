"""Decoded images on disk: decoded once, never half there, never stale, never more than the files say."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tune_bn.data import cache as module
from tune_bn.data.cache import Entry, load_decoded
from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import load_dataset
from tune_bn.data.decoding import Decoder
from tune_bn.errors import DataError
from tune_bn.training.device_data import DeviceData

IMAGES = 150


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """More images than a block holds, in a format in which all have the same number of bytes."""
    folder = tmp_path / "files"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(folder / f"{number:03d}.bmp")
    return [str(path) for path in sorted(folder.iterdir())]


def decoded(files: list[str], *, image_size: int | None = None, resize: str = "stretch") -> tuple[np.ndarray, int]:
    """The images, and how many of them were decoded for it."""
    done = [0]
    decoder = Decoder(files[0], image_size, resize)
    (images,) = load_decoded([files], decoder, lambda count, total: done.append(count))
    return images, done[-1]


def pixels(files: list[str]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path in files])


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_a_file_exchanged_for_one_of_the_same_size_and_date_is_decoded_anew(files: list[str], cache: Path) -> None:
    decoded(files)
    before = os.stat(files[3])
    Path(files[3]).write_bytes(Path(files[7]).read_bytes())
    os.utime(files[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(files[3]).st_size, os.stat(files[3]).st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    images, count = decoded(files)
    assert count == IMAGES
    assert np.array_equal(images, pixels(files))


def test_a_folder_exchanged_for_one_whose_files_have_the_same_sizes_and_dates_is_decoded_anew(
    files: list[str], cache: Path
) -> None:
    folder = Path(files[0]).parent
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    shutil.copy2(other / "007.bmp", other / "003.bmp")
    for path in (*folder.iterdir(), *other.iterdir()):
        os.utime(path, (1e9, 1e9))
    # The clock of a file system moves in steps of some milliseconds.
    while os.stat(other / "003.bmp").st_ctime_ns == os.stat(folder / "003.bmp").st_ctime_ns:
        os.utime(other / "003.bmp", (1e9, 1e9))
    decoded(files)
    folder.rename(folder.parent / "aside")
    other.rename(folder)
    images, count = decoded(files)
    assert count == IMAGES
    assert np.array_equal(images[3], images[7])


def test_the_second_time_nothing_is_decoded(files: list[str], cache: Path) -> None:
    first, decoded_first = decoded(files)
    second, decoded_second = decoded(files)
    assert (decoded_first, decoded_second) == (IMAGES, 0)
    for images in (first, second):
        np.testing.assert_array_equal(images, pixels(files))
        assert not images.flags.writeable
        assert isinstance(images.base, np.memmap)
    assert [entry.name for entry in entries(cache)] == [Entry(cache, files, Decoder(files[0], None)).key]


def test_the_data_sets_of_two_configurations_share_what_is_the_same(tmp_path: Path, cache: Path) -> None:
    for split, count in (("train", 30), ("test", 5)):
        for name in ("ant", "cat"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (4, 4), (number, count, 0)).save(tmp_path / "data" / split / name / f"{number}.png")
    seen: list[tuple[int, int]] = []
    for train_size, expected in ((20, 20 + 6 + 10), (22, 22), (20, 0)):
        config = DataConfig(source="folder", root=str(tmp_path / "data"), train_size=train_size)
        data = load_dataset(config, progress=lambda done, total: seen.append((done, total)))
        assert len(data.train) == train_size
        assert ([seen[0], seen[-1]] if seen else []) == ([(0, expected), (expected, expected)] if expected else [])
        seen.clear()
    assert len(entries(cache)) == 4


def test_runs_take_images_that_are_mapped_from_disk(files: list[str], tmp_path: Path) -> None:
    """Read-only arrays reach the device, and other processes get their pages, not a copy inside of a pickle."""
    import torch

    from tune_bn.data.dataset import Dataset, Split

    images, _ = decoded(files)
    split = Split(images, np.arange(IMAGES, dtype=np.int64) % 2)
    data = DeviceData(Dataset("made", ("a", "b"), split, split, None), torch.device("cpu"))
    assert torch.equal(data.train.images, torch.from_numpy(pixels(files)))
    buffers: list[pickle.PickleBuffer] = []
    assert len(pickle.dumps(images, protocol=5, buffer_callback=buffers.append)) < 1000
    assert sum(len(buffer.raw()) for buffer in buffers) == images.nbytes


def test_what_the_pixels_depend_on_is_part_of_the_key(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoded(files)[1] == IMAGES
    assert decoded(files, image_size=8)[1] == IMAGES
    assert decoded(files, image_size=8, resize="crop")[1] == IMAGES
    assert decoded(files[::-1])[1] == IMAGES
    assert decoded(files[:-1])[1] == IMAGES - 1
    assert decoded(files, image_size=8)[1] == 0
    monkeypatch.setattr(module.PIL, "__version__", "0.0")
    assert decoded(files)[1] == IMAGES
    monkeypatch.setattr(module, "FORMAT", -1)
    assert decoded(files)[1] == IMAGES


@pytest.mark.parametrize(("format", "later"), [("BMP", 1), ("PNG", 0)])
def test_a_changed_file_is_decoded_anew(files: list[str], format: str, later: int) -> None:
    """Of the same size at another time, or of another size at the same time."""
    before, _ = decoded(files)
    status = os.stat(files[7])
    Image.new("RGB", (6, 5), (1, 2, 3)).save(files[7], format)
    assert (os.stat(files[7]).st_size == status.st_size) == (later > 0)
    os.utime(files[7], ns=(status.st_atime_ns, status.st_mtime_ns + later))
    after, count = decoded(files)
    assert count == IMAGES
    np.testing.assert_array_equal(after, pixels(files))
    assert [i for i in range(IMAGES) if (after[i] != before[i]).any()] == [7]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.npy", flip_a_bit),
        ("images.npy", lambda path: os.truncate(path, 5000)),
        ("images.npy", lambda path: path.write_bytes(b"")),
        ("images.npy", lambda path: path.write_bytes(pickle.dumps([1, 2]))),
        ("images.npy", lambda path: np.save(path, np.zeros((IMAGES, 3, 5, 6), np.uint8).transpose(0, 1, 3, 2))),
        ("images.npy", lambda path: path.unlink()),
        ("entry.json", lambda path: path.unlink()),
        ("entry.json", lambda path: path.write_text("{")),
        ("entry.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_entry_is_decoded_again(
    files: list[str], cache: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    decoded(files)
    (entry,) = entries(cache)
    damage(entry / name)
    images, count = decoded(files)
    assert count == IMAGES
    np.testing.assert_array_equal(images, pixels(files))
    assert decoded(files)[1] == 0
    assert entries(cache) == [entry]


def test_a_file_that_does_not_decode_leaves_no_entry(files: list[str], cache: Path) -> None:
    whole = Path(files[100]).read_bytes()
    Path(files[100]).write_bytes(whole[:-30])
    with pytest.raises(DataError, match=rf"^{files[100]}: unreadable"):
        decoded(files)
    assert entries(cache) == []
    Path(files[100]).write_bytes(whole)
    np.testing.assert_array_equal(decoded(files)[0], pixels(files))


@pytest.mark.parametrize("place", ["", "tune_bn", "tune_bn/decoded"])
def test_a_cache_folder_that_cannot_be_made_is_named(files: list[str], cache: Path, place: str) -> None:
    obstacle = cache.parents[1] / place
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("a file")
    with pytest.raises(DataError) as caught:
        decoded(files)
    message = str(caught.value)
    assert message.startswith(f"{cache}: ")
    assert "accepted: a folder that can be written, with 1 MB free for the decoded images (XDG_CACHE_HOME" in message
    assert "\n" not in message


def test_a_disk_that_is_too_small_is_seen_before_decoding(
    files: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 13_499}))
    monkeypatch.setattr(Decoder, "decode", lambda *_: pytest.fail("must not decode"))
    with pytest.raises(DataError, match=rf"^{cache}: not enough space; accepted: .* 1 MB free"):
        decoded(files)
    assert entries(cache) == []


def script(body: str) -> list[str]:
    """A process that loads the files named on its command line; ``body`` comes before."""
    lines = [
        "import os, signal, sys, time, resource",
        "from tune_bn.errors import DataError",
        "from tune_bn.data.cache import load_decoded",
        "from tune_bn.data.decoding import Decoder",
        "progress = None",
        body,
        "try:",
        "    images, = load_decoded([sys.argv[1:]], Decoder(sys.argv[1], None), progress)",
        "    print(int(images.sum()))",
        "except DataError as error:",
        "    print(error)",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


def start(body: str, files: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([*script(body), *files], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_a_disk_that_fills_up_while_writing_is_an_error_not_a_crash(files: list[str], cache: Path) -> None:
    process = start("resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))", files)
    message, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert message.startswith(f"{cache}: File too large; accepted: a folder that can be written, with 1 MB free")
    assert entries(cache) == []


def test_two_processes_that_start_at_once_decode_once(files: list[str], tmp_path: Path, cache: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    body = f"""
original = Decoder._decode_one
def logged(self, path, out):
    with open({str(log)!r}, "a") as handle:
        handle.write(f"{{os.getpid()}} {{path}}\\n")
    time.sleep(0.01)
    original(self, path, out)
Decoder._decode_one = logged
print("ready", flush=True)
while not os.path.exists({str(go)!r}):
    time.sleep(0.001)
"""
    processes = [start(body, files) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    go.write_text("")
    sums = [process.communicate(timeout=60)[0] for process in processes]
    assert sums == [f"{int(pixels(files).sum())}\n"] * 2
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(path for _, path in lines) == files
    assert len({pid for pid, _ in lines}) == 1
    assert len(entries(cache)) == 1


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(files: list[str], cache: Path) -> None:
    body = "progress = lambda done, total: done and os.kill(os.getpid(), signal.SIGKILL)"
    process = start(body, files)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (left,) = entries(cache)
    assert left.suffix == ".part"
    images, count = decoded(files)
    assert count == IMAGES
    np.testing.assert_array_equal(images, pixels(files))
    assert [entry.suffix for entry in entries(cache)] == [""]


def test_the_next_writer_cleans_up_after_the_dead_but_not_the_living(files: list[str], cache: Path) -> None:
    from filelock import FileLock

    for key in ("dead", "alive"):
        (cache / f"{key}.x.part").mkdir(parents=True)
        (cache / f"{key}.x.part" / "images.npy").write_bytes(b"begun")
    with FileLock(cache / "alive.lock"):
        decoded(files)
    assert not (cache / "dead.x.part").exists()
    assert (cache / "alive.x.part" / "images.npy").exists()


def test_an_entry_serves_where_nothing_can_be_written(
    files: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded(files)
    monkeypatch.setattr(Entry, "read_or_decode", lambda *_: pytest.fail("must not take the lock"))
    np.testing.assert_array_equal(decoded(files)[0], pixels(files))


@pytest.mark.parametrize("name", ["", "elsewhere"])
def test_the_cache_is_where_the_user_says(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", name and str(tmp_path / name))
    decoded(files)
    assert len(entries(tmp_path / (name or ".cache") / "tune_bn" / "decoded")) == 1
