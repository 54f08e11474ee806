"""Whose heads and studies a user sees on a machine that several share, and what stays closed."""

from __future__ import annotations

import json
import os
import pwd
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from tune_bn.cli.status import View, describe_study, table
from tune_bn.service import neighbours
from tune_bn.service.neighbours import OtherHead, closed_words, on_a_head, other_heads, studies_of_everybody
from tune_bn.study.folder import StudyFolder, closed_studies, list_studies

ME, ANNA, BOB = 61500, 61501, 61502


def as_user(uid: int, look: Callable[[], Any]) -> Any:
    """What ``look`` gives to a user who is not root, by a fork: an ordinary user may not even start this Python."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = json.dumps(look())
        except BaseException:
            said = json.dumps(traceback.format_exc())
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synthetic_study: Callable[..., Any]) -> Path:
    """Homes of three users with studies; Anna has closed some of hers, and Bob his home."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    study = synthetic_study(n=3)
    for uid, name, studies in ((ME, "me", ["mine"]), (ANNA, "anna", ["open", "shut", "torn"]), (BOB, "bob", ["own"])):
        home = tmp_path / name
        for title in studies:
            study.write(home / "studies" / title)
        for path in (home, *home.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)
            path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "anna" / "studies" / "mlartifacts").mkdir(mode=0o700)
    os.chown(tmp_path / "anna" / "studies" / "mlartifacts", ANNA, ANNA)
    (tmp_path / "anna" / "studies" / "shut").chmod(0o700)
    (tmp_path / "anna" / "studies" / "torn" / "records.jsonl").chmod(0o600)
    (tmp_path / "bob").chmod(0o700)
    people = [
        SimpleNamespace(pw_name=name, pw_uid=uid, pw_dir=str(tmp_path / name), pw_shell=shell)
        for name, uid, shell in (
            *(("me", ME, "/bin/bash"), ("anna", ANNA, "/bin/bash"), ("bob", BOB, "/bin/zsh")),
            *(("carl", 61503, "/bin/bash"), ("daemon", 2, "/usr/sbin/nologin"), ("games", 61504, "/bin/false")),
        )
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: people)
    monkeypatch.setattr(neighbours, "other_heads", lambda: [OtherHead("anna", tmp_path / "anna" / "studies", None)])
    return tmp_path


@pytest.mark.long
def test_a_user_sees_all_studies_that_may_be_read_and_one_line_about_the_others(homes: Path) -> None:
    output = homes / "me" / "studies"

    def look() -> Any:
        found = studies_of_everybody(output)
        view = View(found.folders, found.names, found.remark)
        return [[view.named(row)["study"] for row in view.rows()], view.remark, table(view.rows(), output)]

    names, remark, text = as_user(ME, look)
    assert names == ["mine", "~anna/studies/open"]
    assert remark == "2 studies of others cannot be read, nor what is in the closed folders of bob"
    assert "torn" not in text

    # Of a folder that several users share, and whose links lead to it, each study is shown once.
    (homes / "carl").mkdir()
    (homes / "carl" / "studies").symlink_to(homes / "anna" / "studies")
    assert as_user(ME, look)[0] == names
    names, remark, _ = as_user(BOB, look)
    assert names == ["mine", "~anna/studies/open", "~bob/studies/own"]
    assert remark == "2 studies of others cannot be read"
    assert as_user(0, look)[1] == "", "root may read everything"


@pytest.mark.long
def test_a_study_of_somebody_else_is_seen_to_run_though_nothing_of_it_may_be_written(homes: Path) -> None:
    folder = StudyFolder(homes / "anna" / "studies" / "open")

    def look() -> Any:
        row = describe_study(folder)
        return [row["state"], row["user"]]

    assert as_user(ME, look) == ["stopped", None], "this user has no name"
    with FileLock(folder.path / ".lock"):
        (folder.path / ".lock").chmod(0o644)
        assert as_user(ME, look)[0] == "running"
    assert as_user(ME, look)[0] == "stopped"
    with folder.locked():
        assert folder.is_locked
    assert not folder.is_locked


@pytest.mark.long
def test_in_a_shared_folder_what_others_closed_ends_no_view_of_the_rest(homes: Path) -> None:
    shared = homes / "anna" / "studies"

    def look() -> Any:
        return [[folder.name for folder in list_studies(shared)], closed_studies(shared)]

    assert as_user(ME, look) == [["open"], 2]
    names, closed = as_user(ANNA, look)
    assert (sorted(names), closed) == (["open", "shut", "torn"], 0)


@pytest.mark.parametrize(
    ("closed", "users", "words"),
    [
        (0, [], ""),
        (1, [], "1 study of others cannot be read"),
        (3, ["a", "b"], "3 studies of others cannot be read, nor what is in the closed folders of a and b"),
        (0, ["a"], "studies of a, if there are any, cannot be read: their folders are closed"),
        (0, ["a", "b", "c"], "studies of a, b and c, if there are any, cannot be read: their folders are closed"),
    ],
)
def test_what_is_closed_is_one_line(closed: int, users: list[str], words: str) -> None:
    assert closed_words(closed, users) == words


WATCH = ["/x/python", "-P", "-m", "tune_bn", "head", "resume", "--watch", "--output", "/home/anna/studies"]
SERVER = ["/x/python", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "5007", "mlflow.server.auth:create_app"]


@pytest.mark.parametrize(
    ("commands", "found"),
    [
        ([], []),
        ([WATCH, SERVER], [("/home/anna/studies", "http://127.0.0.1:5007")]),
        ([WATCH], [("/home/anna/studies", None)]),
        ([SERVER], []),
        ([WATCH, [*SERVER[:4], "0.0.0.0", *SERVER[5:]]], [("/home/anna/studies", "http://127.0.0.1:5007")]),
        ([WATCH, [*SERVER[:4], "::1", *SERVER[5:]]], [("/home/anna/studies", "http://[::1]:5007")]),
        (
            [WATCH, ["/x/python", "-m", "uvicorn", "theirs:app", "--port", "1", "--host", "x"]],
            [("/home/anna/studies", None)],
        ),
        ([WATCH[:-1], ["grep", *WATCH[2:-1]], ["\udcff"]], []),
    ],
)
def test_the_head_of_another_user_is_known_by_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]], found: list[Any]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ME)
    for number, words in enumerate(commands):
        (tmp_path / str(number)).mkdir()
        text = "".join(f"{word}\0" for word in words)
        (tmp_path / str(number) / "cmdline").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "9").mkdir()
    (tmp_path / "self").mkdir()
    user = pwd.getpwuid(tmp_path.stat().st_uid).pw_name
    assert other_heads(tmp_path) == [OtherHead(user, Path(studies), mlflow) for studies, mlflow in found]


def test_a_machine_without_services_of_a_head_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_BN_HEAD_STATE", str(tmp_path))
    monkeypatch.setattr(neighbours, "SYSTEM_STATE", tmp_path / "none")
    monkeypatch.setattr(neighbours, "other_heads", list)
    assert not on_a_head()
    (tmp_path / "head.json").write_text("{}")
    assert on_a_head()
