"""The shell of cluster/slurm.sh and cluster/install.sh. tests/system/test_slurm_cluster.py runs the former on Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "cluster"


@pytest.mark.parametrize("name", ["slurm.sh", "install.sh"])
def test_shellcheck_finds_nothing(name: str) -> None:
    shellcheck = shutil.which("shellcheck")
    command = ["bash", "-n"] if shellcheck is None else [shellcheck]
    done = subprocess.run([*command, str(FOLDER / name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("does", ["exit 1", "echo 'ModuleNotFoundError: No module named tune_bn' >&2; exit 1", None])
def test_a_python_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, does: str | None) -> None:
    (tmp_path / "bin").mkdir()
    if does is not None:
        (tmp_path / "bin/python").write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin/python").chmod(0o755)
    variables = {"SLURM_SUBMIT_DIR": str(tmp_path), "TUNE_BN_VENV": str(tmp_path), "SLURMD_NODENAME": "n1"}
    done = subprocess.run(
        ["bash", str(FOLDER / "slurm.sh")],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/bin/python on n1: ")
    assert "; accepted: TUNE_BN_VENV=FOLDER" in line
