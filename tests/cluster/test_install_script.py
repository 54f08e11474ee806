"""cluster/install.sh in a real virtual environment, without a network, with small wheels for the large ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "install.sh"


def _wheel(folder: Path, name: str, version: str, content: str = "", *metadata: str) -> Path:
    """A pure wheel of one module."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    information = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", content)
        archive.writestr(f"{information}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What Ray copies to a node."""
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / "constraints.txt").write_text("needed==1.0\nserver==1.0\n", encoding="utf-8")
    return tmp_path


def _install(folder: Path, *packages: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "PYTHON": sys.executable}
    (folder / "home").mkdir(exist_ok=True)
    return subprocess.run(
        ["bash", str(folder / "install.sh"), *packages],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_node_without_a_network_installs_the_wheels_at_hand_and_new_code_of_an_old_version(folder: Path) -> None:
    needs = ("Requires-Dist: needed", "Provides-Extra: cluster", "Requires-Dist: server; extra == 'cluster'")
    for name, version in [("needed", "1.0"), ("needed", "2.0"), ("server", "1.0"), ("cloud", "1.0")]:
        _wheel(folder / "dist", name, version)
    _wheel(folder / "dist", "tune_bn", "0.1.0", "CODE = 'old'", *needs)
    os.utime(_wheel(folder / "dist", "tune_bn", "0.9.0", "CODE = 'withdrawn'", *needs), (0, 0))
    first = _install(folder, "cloud")
    assert first.returncode == 0, first.stderr

    _wheel(folder / "dist", "tune_bn", "0.1.0", "CODE = 'new'", *needs)
    second = _install(folder, "cloud")
    assert second.returncode == 0, second.stderr
    program = (
        "import cloud, importlib.metadata, server, tune_bn; print(tune_bn.CODE, importlib.metadata.version('needed'))"
    )
    shell = subprocess.run(
        ["bash", "-c", f'. "$HOME/.bashrc"; python -c "{program}"; echo $RAY_AUTH_MODE'],
        env={"PATH": os.environ["PATH"], "HOME": str(folder / "home")},
        cwd=folder / "home",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shell.stdout.split() == ["new", "1.0", "token"], shell.stderr
    lines = (folder / "home" / ".bashrc").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == 3, "a second installation adds nothing"


def test_a_node_without_the_wheel_is_told_so(folder: Path) -> None:
    _wheel(folder / "dist", "needed", "1.0")
    done = _install(folder)
    assert done.returncode == 2
    assert "/dist: got no wheel of tune_bn; accepted: one" in done.stderr
    assert not (folder / "home" / ".tune_bn").exists()
