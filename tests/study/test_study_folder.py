import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tune_bn.errors import StudyError
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder, list_studies, new_study, require_writable


def make_space(**changes: Any) -> Space:
    return parse_space({"name": "x", "search": {"gamma": {"log_uniform": [0.01, 1]}}} | changes, "x.yaml")


SPACE = make_space()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_study_begins_with_its_space(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "studies" / "one")
    assert not folder.exists
    assert folder.created(SPACE) is folder
    assert folder.exists
    assert folder.space() == SPACE
    assert folder.name == "one"
    assert folder.artifacts() == [folder.space_file]
    for path in (folder.report_file, folder.page_file):
        path.write_text("report")
    assert folder.artifacts() == [folder.space_file, folder.report_file, folder.page_file]


def test_a_name_that_exists_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    StudyFolder(tmp_path / "one").created(SPACE)
    before = tree(tmp_path)
    with pytest.raises(
        StudyError, match=r"--study: got one, which exists in .*; accepted: --resume .* or another name"
    ):
        StudyFolder(tmp_path / "one").created(make_space(name="y"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_study_is_not_made_one(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "photos"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.jpg").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(StudyError, match=r"--study: got photos, but .* is no study; accepted: another name"):
        StudyFolder(place).created(SPACE)
    assert tree(tmp_path) == before


def test_what_a_crash_at_the_start_leaves_does_not_take_the_name(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / ".lock").touch()
    (tmp_path / "one" / ".space.yaml.abc").write_text("name:")
    assert StudyFolder(tmp_path / "one").created(SPACE).space() == SPACE


def test_a_resume_may_change_what_no_result_depends_on(tmp_path: Path) -> None:
    StudyFolder(tmp_path / "one").created(SPACE)
    more = make_space(budget={"trials": 99}, resources={"cpu": 2}, tracking={"uri": "http://127.0.0.1:1"})
    assert StudyFolder(tmp_path / "one").resumed(more).space() == more


def test_another_space_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "one").created(SPACE)
    before = tree(tmp_path)
    other = make_space(train={"lr": 0.2}, seeds={"search": [99]}, budget={"trials": 3})
    with pytest.raises(
        StudyError,
        match=r"--study: got one, which was made from another space \(they differ in train\.lr, seeds\.search\)",
    ):
        folder.resumed(other)
    assert tree(tmp_path) == before


def test_a_study_that_is_not_there_is_told_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"STUDY: got two; accepted: a study in .* \(none yet\)"):
        StudyFolder(tmp_path / "two").require()
    StudyFolder(tmp_path / "one").created(SPACE)
    with pytest.raises(StudyError, match=r"STUDY: got two; accepted: a study in .* \(one\)"):
        StudyFolder(tmp_path / "two").resumed(SPACE)
    assert not (tmp_path / "two").exists()


@pytest.mark.long
def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "one").created(SPACE)
    assert not folder.is_locked
    other = StudyFolder(tmp_path / "one")
    with folder.locked():
        assert other.is_locked
        before = tree(tmp_path)
        with (
            pytest.raises(StudyError, match=r"another process works on this study; accepted: one at a time"),
            other.locked(),
        ):
            pass
        with pytest.raises(StudyError, match="another process works on this study"):
            other.resumed(make_space(budget={"trials": 99}))
        assert tree(tmp_path) == before
    with other.locked():
        assert folder.is_locked


@pytest.mark.long
def test_a_study_that_another_process_begins_now_is_not_taken_or_removed(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with FileLock(tmp_path / "one" / ".lock"):
        with pytest.raises(StudyError, match="another process works on this study"):
            StudyFolder(tmp_path / "one").created(SPACE)
        assert (tmp_path / "one" / ".lock").exists()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "one").created(SPACE)
    code = (
        "import os, sys; from pathlib import Path; from tune_bn.study.folder import StudyFolder\n"
        "with StudyFolder(Path(sys.argv[1])).locked(): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder.path)], check=False).returncode == -9
    assert not folder.is_locked
    with folder.locked():
        pass


@pytest.mark.long
def test_a_study_that_cannot_be_begun_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files lets the folder be made, but nothing be written into it, as a full disk does."""
    code = """
import resource, sys
from pathlib import Path
from tune_bn.errors import StudyError
from tune_bn.space.loading import parse_space
from tune_bn.study.folder import StudyFolder, new_study
space = parse_space({"name": "x", "search": {"gamma": {"log_uniform": [0.01, 1]}}}, "x.yaml")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
for begin in (lambda: StudyFolder(Path(sys.argv[1]) / "one").created(space),
              lambda: new_study(Path(sys.argv[1]), "x").created(space)):
    try:
        begin()
    except StudyError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.count("cannot be written (File too large); accepted: a folder that can") == 2
    assert list(tmp_path.iterdir()) == []


def test_new_studies_are_numbered(tmp_path: Path) -> None:
    names = [new_study(tmp_path / "studies", "x").created(SPACE).name for _ in range(3)]
    assert names == ["x-1", "x-2", "x-3"]


def test_the_folder_of_all_studies_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"--output: .*file is no folder"):
        new_study(tmp_path / "file", "x")
    with pytest.raises(StudyError, match=r"--output: .*file/below cannot be written \(Not a directory\)"):
        new_study(tmp_path / "file" / "below", "x")


@pytest.mark.parametrize("below", ["", "a", "a/b/c"])
def test_a_folder_need_not_exist_to_be_writable(tmp_path: Path, below: str) -> None:
    require_writable(tmp_path / below)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "x" * 300, "/proc/x", "/dev/null/x"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"--output: .* cannot be written \(.+\); accepted: a folder that can$"):
        require_writable(tmp_path / place)


def test_studies_are_listed_in_the_order_of_their_last_work(tmp_path: Path) -> None:
    assert list_studies(tmp_path / "absent") == []
    for age, name in enumerate(["new", "mid", "old"]):
        folder = StudyFolder(tmp_path / name).created(SPACE)
        os.utime(folder.space_file, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "no-study").mkdir()
    (tmp_path / "file").touch()
    assert [folder.name for folder in list_studies(tmp_path)] == ["old", "mid", "new"]
    # To ask whether someone works on a study is no work on it.
    assert not StudyFolder(tmp_path / "old").is_locked
    assert [folder.name for folder in list_studies(tmp_path)] == ["old", "mid", "new"]
    StudyFolder(tmp_path / "old").records.path.touch()
    assert [folder.name for folder in list_studies(tmp_path)] == ["mid", "new", "old"]


def test_the_name_is_that_of_the_folder_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StudyFolder(tmp_path / "one").created(SPACE)
    monkeypatch.chdir(tmp_path / "one")
    for path in (".", "../one", "../one/", "../two/../one"):
        assert StudyFolder(Path(path)).name == "one"
        assert StudyFolder(Path(path)).exists


def test_a_path_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--output: got a path of \d+ folders; accepted: at most 256"):
        require_writable(tmp_path / ("x/" * 1500))
