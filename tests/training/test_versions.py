"""Which code produced a number: the hash of the package and the commit of its checkout, on packages made here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tune_bn
from tune_bn.training import versions

Git = Callable[..., str]


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


def test_outside_a_checkout_there_is_no_commit(package: Path) -> None:
    assert commit() is None


def test_without_git_there_is_no_commit(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit() is None
