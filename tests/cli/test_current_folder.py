"""The folder that a command is typed in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tune_bn.cli import main


@pytest.mark.parametrize("arguments", [["--version"], ["paper"], ["train", "--space", "digits.yaml"]])
def test_a_folder_that_was_deleted_under_the_shell_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: current folder: No such file or directory; accepted: a folder that is there (cd into it)\n"
    )
