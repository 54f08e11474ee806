"""What the tests of the command line share."""

from __future__ import annotations

import pytest

from tune_bn.cli import main


@pytest.fixture
def typed(capsys, tmp_path, monkeypatch):
    """Runs a command in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


@pytest.fixture
def judged(typed, tmp_path):
    """Runs ``verify --scores FILE …`` on a table of that content: exit status, stdout, stderr."""

    def run(content: str, *arguments: str, name: str = "scores.csv") -> tuple[int, str, str]:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return typed("verify", "--scores", name, *arguments)

    return run
