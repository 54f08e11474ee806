"""Which code produced a number: the hash of the package and the commit of its checkout, on packages made here."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tune_bn
from tune_bn.training import versions

Git = Callable[..., str]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in a folder of its own, taken for the installed one."""
    folder = tmp_path / "checkout" / "package"
    (folder / "room").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '1'\n")
    (folder / "room/module.py").write_text("x = 1\n")
    monkeypatch.setattr(versions, "PACKAGE", folder)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return folder


@pytest.fixture
def git(package: Path) -> Git:
    """Run git in the checkout around the package, which is committed in it."""

    def run(*arguments: str) -> str:
        who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
        command = ["git", "-C", str(package.parent), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    run("init", "--quiet")
    run("add", "package")
    run("commit", "--quiet", "--message", "all")
    return run


def commit() -> str | None:
    return versions.commit.__wrapped__()


def remark() -> str | None:
    return versions.commit_remark.__wrapped__()


def code() -> str:
    return versions.library_versions.__wrapped__()["code"]


def test_the_versions_are_those_of_the_libraries_in_use() -> None:
    found = versions.library_versions()
    assert found["tune_bn"] == tune_bn.__version__
    assert found["numpy"] == np.__version__
    # The wheel's metadata may lack the build's suffix.
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(found) == {"tune_bn", "code", "python", "torch", "torchvision", "numpy"}


def test_a_network_of_the_users_is_part_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_versioned.py").write_text("net = other = print\n")
    assert versions.library_versions("resnet8", "torchvision/resnet18") == versions.library_versions()

    def network(*archs: str) -> str:
        return versions.library_versions.__wrapped__(*archs)["network"]

    first = network("users_versioned:net")
    assert network("resnet8", "users_versioned:net") == first
    assert network("users_versioned:net", "users_versioned:other") != first
    (tmp_path / "users_versioned.py").write_text("net = other = print  # changed\n")
    assert network("users_versioned:net") != first


def test_the_hash_changes_with_every_module_and_with_nothing_else(package: Path) -> None:
    first = code()
    (package / "room/notes.txt").write_text("a note")
    assert code() == first
    (package / "room/module.py").write_text("x = 2\n")
    second = code()
    assert second != first
    (package / "room/module.py").rename(package / "room/renamed.py")
    assert code() not in (first, second)


def test_text_that_moves_between_modules_changes_the_hash(package: Path) -> None:
    (package / "a.py").write_text("1\n2\n")
    (package / "b.py").write_text("3\n")
    first = code()
    (package / "a.py").write_text("1\n")
    (package / "b.py").write_text("2\n3\n")
    assert code() != first


def test_a_clean_checkout_gives_its_commit(git: Git) -> None:
    assert commit() == git("rev-parse", "HEAD")


def test_a_change_is_marked(git: Git, package: Path) -> None:
    (package / "room/module.py").write_text("x = 2\n")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"


def test_a_change_outside_the_package_is_not(git: Git, package: Path) -> None:
    (package.parent / "README.md").write_text("words")
    git("add", "README.md")
    assert commit() == git("rev-parse", "HEAD")


def test_a_package_that_a_checkout_only_contains_has_no_commit(
    git: Git, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = package.parent / ".venv/package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    monkeypatch.setattr(versions, "PACKAGE", installed)
    assert commit() is None
    assert "is no part of the checkout around it" in (remark() or "")


def test_outside_a_checkout_there_is_no_commit(package: Path) -> None:
    assert commit() is None
    assert "is no checkout, and was not built from one" in (remark() or "")


def test_without_git_there_is_no_commit(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit() is None
    assert "git in " in (remark() or "")


def test_a_commit_needs_no_remark(git: Git) -> None:
    assert remark() is None


def test_a_checkout_of_somebody_else_gives_its_commit(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    refused = subprocess.run(["git", "-C", str(versions.PACKAGE), "status"], capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    expected = git("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert commit() == expected


def test_a_checkout_that_a_third_put_around_the_package_is_not_asked(
    git: Git, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions.os, "geteuid", lambda: 12345)
    stat = Path.stat

    def of_others(path: Path, **options: bool) -> object:
        found = stat(path, **options)
        owner = 12345 if path == package else 54321
        return type("Stat", (), {"st_uid": owner, "st_mode": found.st_mode})

    monkeypatch.setattr(Path, "stat", of_others)
    assert commit() is None
    assert "belongs to somebody else" in (remark() or "")


@pytest.mark.parametrize("text", ["0" * 40, "a" * 64, "0" * 40 + "-dirty"])
def test_an_installed_package_names_the_commit_that_it_was_built_from(package: Path, text: str) -> None:
    (package / "commit.txt").write_text(text + "\n")
    assert (commit(), remark()) == (text, None)


@pytest.mark.parametrize("text", ["", "unknown", "\xff", "0" * 39])
def test_a_spoilt_file_names_none(package: Path, text: str) -> None:
    (package / "commit.txt").write_text(text, encoding="latin-1")
    assert commit() is None


@pytest.mark.parametrize(("change", "ending"), [(False, ""), (True, "-dirty")])
def test_a_wheel_holds_its_commit(tmp_path: Path, change: bool, ending: str) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "tune_bn/host").mkdir(parents=True)
    (checkout / "tune_bn/__init__.py").write_text("__version__ = '1'\n")
    (checkout / "tune_bn/host/version.py").write_text('__version__ = "1.2.3"\n')
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "search_spaces").mkdir()
    (checkout / "search_spaces/one.yaml").touch()
    (checkout / ".gitignore").write_text("dist/\n")
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for arguments in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-C", str(checkout), *arguments], check=True)
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if change:
        (checkout / "tune_bn/__init__.py").write_text("__version__ = '2'\n")
    # By way of the sdist, as `python -m build` does it: that has no .git.
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "sdist"], cwd=checkout, check=True)
    (sdist,) = (checkout / "dist").iterdir()
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    for folder in (checkout, unpacked):
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel"], cwd=folder, check=True)
        (wheel,) = (folder / "dist").glob("*.whl")
        # There is no tag, and an sdist has no git at all.
        assert wheel.name.startswith("tune_bn-1.2.3-")
        with zipfile.ZipFile(wheel) as archive:
            assert archive.read("tune_bn/commit.txt").decode() == f"{head}{ending}\n"
        assert not (folder / "dist/commit.txt").exists()
