"""A study is the same wherever its folder is moved; a copy of it is another one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tune_bn.records import identity as module
from tune_bn.records.identity import identity_of, is_copy, renewed, settle


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    settle(tmp_path / "one")
    return tmp_path / "one"


def test_a_study_begins_with_the_name_of_its_folder(study: Path) -> None:
    found = settle(study)
    assert (found.name, found.path, found.copied_from) == ("one", str(study), None)
    before = (study / "study.json").stat().st_mtime_ns
    assert settle(study) == found
    assert (study / "study.json").stat().st_mtime_ns == before, "nothing changed, so nothing is written"


def test_two_studies_of_one_name_are_two(study: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "one").mkdir(parents=True)
    assert settle(tmp_path / "elsewhere" / "one").study_id != settle(study).study_id


@pytest.mark.parametrize("times", [1, 2])
def test_a_renamed_folder_is_the_same_study(study: Path, tmp_path: Path, times: int) -> None:
    first, place = settle(study), study
    for number in range(times):
        place = place.rename(tmp_path / f"renamed {number}")
    assert not is_copy(place)
    found = settle(place)
    assert (found.study_id, found.name) == (first.study_id, "one")
    assert found.path == str(place)


def test_a_folder_that_went_to_another_disk_is_the_same_study(study: Path, tmp_path: Path) -> None:
    first = settle(study)
    moved = Path(shutil.copytree(study, tmp_path / "disk" / "one"))
    shutil.rmtree(study)
    assert settle(moved).study_id == first.study_id


def test_a_copy_beside_its_original_is_a_study_of_its_own(study: Path, tmp_path: Path) -> None:
    first = settle(study)
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    assert is_copy(copy)
    found = settle(copy)
    assert found.study_id != first.study_id
    assert (found.name, found.copied_from) == ("one", first.study_id)
    assert settle(study) == first, "the original stays what it was"
    assert settle(copy) == found, "the copy stays what it became"
    again = settle(Path(shutil.copytree(copy, tmp_path / "copy of the copy")))
    assert again.copied_from == found.study_id


def test_the_original_renamed_and_its_copy_in_its_place_are_two(study: Path, tmp_path: Path) -> None:
    moved = study.rename(tmp_path / "moved")
    shutil.copytree(moved, study)
    ids = {settle(place).study_id for place in (study, moved)}
    assert len(ids) == 2


def test_another_study_where_it_lay_does_not_make_it_a_copy(study: Path, tmp_path: Path) -> None:
    first = settle(study)
    moved = study.rename(tmp_path / "moved")
    study.mkdir()
    settle(study)
    assert settle(moved).study_id == first.study_id


def test_another_way_to_the_same_folder_is_no_copy(study: Path, tmp_path: Path) -> None:
    first = settle(study)
    os.symlink(tmp_path, tmp_path / "link")
    assert settle(tmp_path / "link" / "one") == first


def test_the_same_place_on_another_machine_is_the_same_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = settle(study)
    monkeypatch.setattr(module.socket, "gethostname", lambda: "another")
    found = settle(study)
    assert (found.study_id, found.host) == (first.study_id, "another")


def test_another_place_on_another_machine_counts_as_a_copy(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = settle(study)
    arrived = Path(shutil.copytree(study, tmp_path / "arrived"))
    shutil.rmtree(study)
    monkeypatch.setattr(module.socket, "gethostname", lambda: "another")
    assert settle(arrived).copied_from == first.study_id


def test_a_renewed_study_keeps_its_name(study: Path) -> None:
    first = settle(study)
    found = renewed(study)
    assert (found.name, found.copied_from) == ("one", first.study_id)
    assert identity_of(study) == found


SPOILT = ["", "{", "[]", "{}", '{"study_id": 3, "name": "x"}', '{"study_id": "", "name": "x"}']


@pytest.mark.parametrize("content", SPOILT)
def test_a_spoilt_file_is_no_identity(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    assert identity_of(tmp_path).name == tmp_path.name
    found = settle(tmp_path)
    assert json.loads((tmp_path / "study.json").read_text())["study_id"] == found.study_id
    assert settle(tmp_path) == found
