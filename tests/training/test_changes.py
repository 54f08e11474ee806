"""What the code differs by from its commit: of the package, and of files of the user's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tune_bn.training import changes
from tune_bn.training.changes import code_changes


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a package, which stands for this one, and a network of the user's."""
    root = tmp_path / "repo"
    (root / "pack").mkdir(parents=True)
    (root / "pack" / "__init__.py").write_text("one = 1\n")
    (root / "net.py").write_text("width = 8\n")
    (root / "secret.txt").write_text("nothing\n")
    git(tmp_path, "init", "-q", "repo")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    monkeypatch.setattr(changes, "PACKAGE", root / "pack")
    return root


def test_nothing_changed_is_no_diff(checkout: Path) -> None:
    assert code_changes([checkout / "net.py"]) == b""


def test_changes_and_new_files_of_the_code_and_nothing_else(checkout: Path) -> None:
    (checkout / "pack" / "__init__.py").write_text("one = 2\n")
    (checkout / "pack" / "new.py").write_text("new = 'ü'\n")
    (checkout / "net.py").write_text("width = 16\n")
    (checkout / "other.py").write_text("other = 3\n")
    (checkout / "secret.txt").write_text("password\n")
    found = code_changes([checkout / "net.py"]).decode()
    for line in ("-one = 1", "+one = 2", "+new = 'ü'", "-width = 8", "+width = 16"):
        assert line in found.splitlines()
    assert "password" not in found
    assert "other" not in found
    assert "width" not in code_changes().decode()
    # It brings the commit to what it was, as git applies it.
    (checkout / "d.diff").write_bytes(code_changes([checkout / "net.py"]))
    git(checkout, "stash", "-q")
    (checkout / "pack" / "new.py").unlink()
    git(checkout, "apply", "d.diff")
    assert (checkout / "net.py").read_text() == "width = 16\n"
    assert (checkout / "pack" / "new.py").read_text() == "new = 'ü'\n"


def test_a_command_that_a_configuration_names_is_not_run(checkout: Path) -> None:
    (checkout / "net.py").write_text("width = 16\n")
    (checkout / ".gitattributes").write_text("*.py diff=mine\n")
    for key in ("diff.external", "diff.mine.command", "diff.mine.textconv", "core.fsmonitor"):
        git(checkout, "config", key, f"touch {checkout}/ran;true")
    assert b"+width = 16" in code_changes([checkout / "net.py"])
    assert not (checkout / "ran").exists()


def test_what_is_in_no_checkout_or_too_large_is_left_out(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone.py").write_text("x = 1\n")
    assert code_changes([tmp_path / "alone.py"]) == b""
    (checkout / "net.py").write_text("width = 16\n")
    monkeypatch.setattr(changes, "MOST_DIFF_BYTES", 10)
    assert code_changes([checkout / "net.py"]).startswith(b"# the changes are larger than 10 bytes")
    monkeypatch.setenv("PATH", "")
    assert code_changes([checkout / "net.py"]) == b""
