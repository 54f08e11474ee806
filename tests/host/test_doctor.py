"""tune_bn doctor: what works is said, what is broken is a finding, and nothing ends the look."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tune_bn.cli import app
from tune_bn.host import doctor
from tune_bn.host.doctor import BROKEN, MISSING, OK, WARNING, Finding


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    """Libraries that are not loaded: each is found as told."""
    found: dict[str, Finding] = {}

    def library(name: str, *_: Any) -> Finding:
        return found.get(name, Finding(name, OK, "1.0", facts={"version": "1.0", "gpus": []}))

    monkeypatch.setattr(doctor, "_library", library)
    return found


def test_a_library_is_loaded_in_a_process_of_its_own() -> None:
    found = doctor._library("numpy", "", doctor._VERSION.format("numpy"), doctor._version, 120)
    import numpy

    assert (found.state, found.words) == (OK, numpy.__version__)


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "OSError: libcudart.so.12: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import sys; sys.exit(3)", "status 3"),
        ("print('hello')", "answers nothing"),
        ("", "answers nothing"),
        ("import time; time.sleep(60)", "was not loaded within 0.5 s"),
    ],
)
def test_a_broken_library_is_a_finding(code: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    found = doctor._library("numpy", "train", code, doctor._version, 0.5 if "sleep" in code else 120)
    assert found.state == BROKEN
    assert words in found.words
    assert found.advice
    assert found.stops_a_search


def test_a_library_that_waits_for_a_processor_is_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (1e6, 0.0, 0.0))
    found = doctor._library("numpy", "train", "import time; time.sleep(60)", doctor._version, 0.5)
    assert (found.state, found.stops_a_search) == (WARNING, False)
    assert "was not loaded within 0.5 s, while 1000000.0 processes wanted" in found.words


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor._library("torch", "train", "", doctor._version, 5)
    assert (found.state, found.advice) == (MISSING, "pip install 'tune_bn[train]'")


@pytest.mark.parametrize("part", ["_python", "_cores", "_shared_memory", "_open_files", "_disk", "_library"])
def test_a_check_that_raises_hides_no_other(light: Any, tmp_path: Path, monkeypatch: Any, part: str) -> None:
    def broken(*_: Any) -> Finding:
        raise RuntimeError("out of order\nin two lines")

    monkeypatch.setattr(doctor, part, broken)
    findings = doctor.examine(tmp_path)
    assert len(findings) == 11
    wrong = [finding for finding in findings if finding.state == BROKEN]
    assert wrong
    assert all(finding.words == "RuntimeError: out of order" for finding in wrong)
    assert not doctor.works(findings)


def test_the_verb_says_what_a_search_would_use(light: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_BN_CORES", "3")
    light["torch"] = Finding("torch", OK, "2.15; H", facts={"gpus": ["H", "H"]})
    done = CliRunner().invoke(app, ["doctor", "--output", str(tmp_path)])
    assert done.exit_code == 0
    assert "a search would use 3 CPU cores and 2 GPUs (for spaces with resources.gpu) of this machine" in done.stdout
    assert f"free in {tmp_path}" in done.stdout


def test_the_verb_in_json_where_a_search_would_not_run(light: Any, tmp_path: Path) -> None:
    light["ray"] = Finding("ray", MISSING, "not installed", "pip install 'tune_bn[ray]'")
    done = CliRunner().invoke(app, ["doctor", "--output", str(tmp_path), "--json"])
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert answer["search"] is False
    assert {part["part"]: part["state"] for part in answer["parts"]}["ray"] == "missing"
    assert "a search would not run here: ray" in doctor.text([light["ray"]])


def test_bad_surroundings_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_BN_CORES", "many")
    assert doctor._cores().state == BROKEN
    assert "got 'many'" in doctor._cores().words
    assert doctor._shared_memory(tmp_path / "none").state == WARNING
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid():
        assert doctor._disk("studies", closed / "new").state == BROKEN
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert doctor._disk("studies", closed / "new").stops_a_search
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (256, 1024))
    assert (doctor._open_files().state, doctor._open_files().words) == (WARNING, "256 at once, at most 1,024")


def test_a_gpu_that_does_not_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"version": "2.15", "cuda": "13.0", "gpus": ["H200"], "trouble": "RuntimeError: no kernel image"}
    words, advice = doctor._torch_words(facts)
    assert "does not work: RuntimeError: no kernel image" in words
    assert "nvidia-smi" in advice
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert doctor._torch_words({**facts, "trouble": "", "gpus": []})[1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    words, advice = doctor._torch_words({**facts, "trouble": "", "gpus": []})
    assert "hides the GPUs" in words
    assert not advice
