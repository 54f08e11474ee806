"""The folder of a Ray of this machine: short, its user's own, and gone at the end, whatever the environment names."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tune_bn.errors import RunnerError
from tune_bn.runners.ray.folder import LONGEST_SOCKET, RayFolder, tune_folder


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as short as /tmp."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))


def made(environment: dict[str, str], *fallbacks: Path) -> tuple[RayFolder, list[str]]:
    told: list[str] = []
    return RayFolder(environment, fallbacks=tuple(map(str, fallbacks)), tell=told.append), told


def check(folder: RayFolder, base: Path) -> None:
    assert folder.path.parent == base
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    socket = folder.ray / "session_2026-11-29_08-04-16_123456_4194304/sockets/plasma_store"
    assert len(os.fsencode(socket)) <= LONGEST_SOCKET
    (folder.path / "session").mkdir()
    folder.remove()
    folder.remove()
    assert list(base.iterdir()) == []


def test_a_folder_of_the_environment_is_taken_where_it_will_do(short: Path) -> None:
    folder, told = made({"TMPDIR": str(short)}, Path("/nowhere"))
    check(folder, short)
    assert told == []
    folder, told = made({"TMPDIR": "/nowhere", "RAY_TMPDIR": str(short)})
    check(folder, short)
    assert told == []


def test_of_a_longer_one_a_short_name_below_it(short: Path) -> None:
    base = short / ("x" * (31 - len(str(short)) - 1))
    base.mkdir()
    folder, told = made({"TMPDIR": str(base)}, Path("/nowhere"))
    assert len(folder.path.name) == 5
    check(folder, base)
    assert told == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 90, "is too long for a socket in it"),
        ("ü" * 20, "is too long for a socket in it"),
        ("absent", "where none can be made (No such file or directory)"),
        ("file", "where none can be made (Not a directory)"),
        ("a%20b", "whose name has '%', which Ray does not take"),
        ("a b", "whose name has ' '"),
        ("a\udcff", r"whose name has '\udcff'"),
    ],
)
def test_where_tmpdir_will_not_do_another_is_taken_and_said(name: str, reason: str, short: Path) -> None:
    bad, good = short / "bad" / name, short / "ok"
    good.mkdir()
    (short / "bad").mkdir()
    if name == "file":
        bad.write_text("")
    elif name != "absent":
        bad.mkdir()
    folder, (line,) = made({"TMPDIR": str(bad)}, Path("/nowhere"), good)
    assert line.startswith(f"Ray's files go to {good}, not to TMPDIR: {bad}, ")
    assert reason in line
    assert "RAY_TMPDIR" in line
    check(folder, good)


def test_a_relative_one_is_of_the_current_folder(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(short)
    (short / "t").mkdir()
    folder, _ = made({"TMPDIR": "t"})
    check(folder, short / "t")


def test_what_the_user_named_for_ray_is_used_or_refused(short: Path) -> None:
    with pytest.raises(RunnerError) as caught:
        made({"RAY_TMPDIR": str(short / ("x" * 90))}, short)
    assert str(caught.value).startswith(f"RAY_TMPDIR: Ray's files would go to {short}/xxx")
    assert "accepted: a folder that can be written to, with at least 64 MiB and a path of at most 33 bytes" in str(
        caught.value
    )
    folder, _ = made({"RAY_TMPDIR": str(short / "new")})
    check(folder, short / "new")


def test_where_none_will_do_every_reason_is_said(short: Path) -> None:
    with pytest.raises(RunnerError, match=r"RAY_TMPDIR: no folder for Ray's files \(/nowhere/a, .*; /nowhere/b, .*\)"):
        made({"TMPDIR": "/nowhere/a"}, Path("/nowhere/b"))


def test_what_a_killed_process_left_goes_with_the_next_one_and_nothing_else(short: Path) -> None:
    script = (
        "import os, signal, sys; from tune_bn.runners.ray.folder import RayFolder\n"
        "RayFolder({'TMPDIR': sys.argv[1]}, tell=print); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(short)], check=False)
    (left,) = short.iterdir()
    (short / "tune_bn-ray-abcd").mkdir()  # of somebody who is about to lock it
    (short / "tune_bn-ray-mine").mkdir()
    first, _ = made({"TMPDIR": str(short)})
    assert not left.exists()
    second, _ = made({"TMPDIR": str(short)})
    assert first.path.exists()
    assert {"tune_bn-ray-abcd", "tune_bn-ray-mine"} <= {path.name for path in short.iterdir()}
    first.remove()
    second.remove()


def test_so_does_what_tune_wrote_on_another_machine_s_cluster(short: Path) -> None:
    script = (
        "import os, pathlib, signal, sys; from tune_bn.runners.ray.folder import tune_folder\n"
        "made = tune_folder(pathlib.Path(sys.argv[1])); (made.path / 'state.json').touch()\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(short)], check=False)
    (left,) = short.iterdir()
    (short / "tune_bn-tune-of_somebody_else").mkdir()
    (short / "tune_bn-tune-unlocked").mkdir()
    first = tune_folder(short)
    assert not left.exists()
    second = tune_folder(short)
    assert first.path.exists()
    first.remove()
    second.remove()
    assert {path.name for path in short.iterdir()} == {"tune_bn-tune-of_somebody_else", "tune_bn-tune-unlocked"}
