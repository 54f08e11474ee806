"""The index of `tune_bn status`: nothing that changed is shown as it was, and nothing else is read again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_bn.cli.status import View, describe_study
from tune_bn.cli.status_index import StatusIndex
from tune_bn.records.files import write_json
from tune_bn.records.score import SCORE_FILE
from tune_bn.runners.ask.ledger import ASKED_FILE
from tune_bn.study.driver import STOPPED, DriverState
from tune_bn.study.folder import StudyFolder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # As if all had been written long ago.
    long_after = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: long_after)
    return tmp_path / "cache/tune_bn/status"


@pytest.fixture
def folder(tmp_path: Path, synthetic_study: Callable[..., Any]) -> StudyFolder:
    folder = StudyFolder(synthetic_study(n=5).write(tmp_path / "studies/one"))
    folder.verdict_file.write_text('{"verdict": "supported"}')
    return folder


class Looks:
    """One `tune_bn status` after the other."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder, self.read = folder, 0

    def _describe(self, folder: StudyFolder) -> dict[str, Any]:
        self.read += 1
        return describe_study(folder)

    def __call__(self) -> tuple[dict[str, Any], int]:
        """The row, and how often the study was read for it."""
        before, index = self.read, StatusIndex(self._describe)
        row = index.row(self.folder)
        index.save()
        return row, self.read - before


def test_a_study_that_is_as_it_was_is_not_read_again(folder: StudyFolder) -> None:
    look = Looks(folder)
    first, second = look(), look()
    assert (first[1], second[1]) == (1, 0)
    assert second[0] == first[0] == describe_study(folder)
    assert View([folder]).rows() == [describe_study(folder)]


def _grow(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def _same_size_and_time(path: Path) -> None:
    before = path.stat()
    path.write_text(path.read_text().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [_grow, _same_size_and_time])
@pytest.mark.parametrize("name", ["space.yaml", "records.jsonl", "plan.json", "verdict.json", "driver.json"])
def test_whatever_file_changes_the_study_is_read_again(
    folder: StudyFolder, name: str, change: Callable[[Path], None]
) -> None:
    write_json(folder.path / "driver.json", DriverState(state=STOPPED).__dict__)
    look = Looks(folder)
    look()
    change(folder.path / name)
    assert look() == (describe_study(folder), 1)


@pytest.mark.parametrize("name", ["plan.json", "verdict.json", SCORE_FILE, ASKED_FILE])
def test_a_file_that_comes_or_goes_is_seen(folder: StudyFolder, name: str) -> None:
    look = Looks(folder)
    look()
    path = folder.path / name
    if path.exists():
        path.unlink()
    else:
        path.write_text("{}\n")
    assert look() == (describe_study(folder), 1)


def test_a_study_at_work_is_read_by_everybody_who_asks(folder: StudyFolder, cache: Path) -> None:
    look = Looks(folder)
    with folder.locked():
        assert [look()[1], look()[1]] == [1, 1]
        index = StatusIndex(look._describe)
        assert [index.row(folder)["state"], index.row(folder)["state"]] == ["running", "running"]
        assert look.read == 3, "whoever keeps watching reads it once"
    assert look() == (describe_study(folder), 1)
    assert look()[0]["state"] == "finished"


def test_what_was_written_just_now_may_be_written_again(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.path.parent.parent / "fresh"))
    _grow(folder.verdict_file)
    look = Looks(folder)
    assert [look()[1], look()[1]] == [1, 1]


@pytest.mark.parametrize(
    "damaged", ["", "[]", "nonsense", '{"studies": []}', '{"studies": {"one": 3}}', "another version"]
)
def test_an_index_that_is_none_is_forgotten(folder: StudyFolder, cache: Path, damaged: str) -> None:
    look = Looks(folder)
    look()
    (file,) = cache.iterdir()
    content = json.loads(file.read_text())
    if damaged == "another version":
        damaged = json.dumps(content | {"version": "0"})
    elif damaged.startswith('{"studies"'):
        damaged = json.dumps(content | json.loads(damaged))
    file.write_text(damaged)
    assert look() == (describe_study(folder), 1)
    assert look()[1] == 0


def test_studies_that_are_gone_are_forgotten_and_others_cannot_read_it(folder: StudyFolder, cache: Path) -> None:
    Looks(folder)()
    (file,) = cache.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    other = StudyFolder(folder.path.with_name("other"))
    folder.path.rename(other.path)
    assert Looks(other)()[0]["study"] == "other"
    assert list(json.loads(file.read_text())["studies"]) == ["other"]


def test_without_a_cache_it_is_read_each_time(folder: StudyFolder, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("no folder")
    look = Looks(folder)
    assert [look()[1], look()[1]] == [1, 1]


def test_without_a_home_there_is_no_index(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_bn.host.user_cache.user_cache_path", lambda name: Path("~/.cache") / name)
    monkeypatch.chdir(folder.path)
    look = Looks(folder)
    assert [look()[1], look()[1]] == [1, 1]
    assert not Path("~").exists()
