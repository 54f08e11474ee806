"""What ``pytest --quick`` leaves out is found while the tests run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import importlib
import multiprocessing
import socket
import subprocess

import pytest


def test_that_computes():
    assert 1 + 1 == 2


def test_that_fails():
    assert 1 + 1 == 3


def test_that_loads_torch():
    import torch


def test_that_loads_a_part_of_ray_in_a_handler():
    try:
        importlib.import_module("ray.tune")
    except Exception:
        pass


def test_that_starts_a_process():
    subprocess.run(["true"])


def test_that_starts_a_process_of_python():
    multiprocessing.get_context("spawn").Process(target=print).start()


def test_that_opens_a_server():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()


@pytest.mark.long
def test_that_computes_for_long():
    pass
"""


def outcomes(folder: Path, *options: str) -> str:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    long: long\n    system: system\n")
    (folder / "test_it.py").write_text(TESTS)
    (folder / "test_module.py").write_text("import mlflow\n\n\ndef test_it():\n    pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.quick",
        "-p",
        "no:cacheprovider",
        "-q",
        *options,
        str(folder),
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()[-1].partition(" in ")[0]


def test_what_loads_or_starts_something_is_skipped(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "--quick") == "1 failed, 1 passed, 6 skipped, 1 deselected"


def test_without_the_option_everything_runs(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    words = "computes and not long or opens"
    assert outcomes(tmp_path / "one", "-k", words, "--ignore", str(tmp_path / "one/test_module.py")).startswith(
        "2 passed"
    )
