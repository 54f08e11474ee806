"""Who may read what a study writes is for the umask to say; secrets are for their owner alone, whatever it says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tune_bn.records.files import write_json, write_text
from tune_bn.records.identity import settle
from tune_bn.records.log import RecordLog
from tune_bn.records.table import write_table
from tune_bn.report.writing import write_report
from tune_bn.runners.checkpoint import CheckpointStore
from tune_bn.service.secret_files import write_mlflow_credentials, write_private


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o027, 0o077], ids=lambda mask: f"{mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def test_what_is_written_whole_has_the_mode_of_what_is_written_in_place(umask: int, tmp_path: Path) -> None:
    write_text(tmp_path / "text", "one")
    write_json(tmp_path / "json", {})
    (tmp_path / "text").chmod(0o600)
    write_text(tmp_path / "text", "another")
    CheckpointStore(tmp_path / "run").save({"epoch": 1})
    write_table([], tmp_path / "runs.csv")
    write_table([], tmp_path / "runs.parquet")
    found = modes(tmp_path)
    assert found.pop("run") == 0o777 & ~umask
    assert set(found) == {"text", "json", "run/latest.pt", "runs.csv", "runs.parquet"}, "nothing is left aside"
    assert set(found.values()) == {0o666 & ~umask}


@pytest.mark.long
def test_a_study_is_readable_by_whom_the_umask_lets(
    umask: int, tmp_path: Path, synthetic_study: Callable[..., Any]
) -> None:
    folder = synthetic_study(n=3).write(tmp_path / "one")
    settle(folder)
    write_report(folder)
    assert RecordLog(folder / "records.jsonl").read()
    files = {name: mode for name, mode in modes(folder).items() if not (folder / name).is_dir()}
    assert {"report.md", "report.html", "records.jsonl"} < set(files)
    assert {name for name, mode in files.items() if mode != 0o666 & ~umask} == set()


@pytest.mark.usefixtures("umask")
def test_a_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "text")
    write_mlflow_credentials(tmp_path, "admin", "secret")
    found = modes(tmp_path)
    assert (found["secret"], found[".mlflow/credentials"]) == (0o600, 0o600)
    assert found[".mlflow"] & 0o077 == 0
