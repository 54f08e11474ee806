"""The folder that a command is typed in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tune_bn.cli import main
from tune_bn.records.commands import study_command


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


def test_a_folder_that_goes_while_a_study_works_breaks_none_of_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "gone"
    here.mkdir()
    monkeypatch.chdir(here)
    assert study_command("report", here / "studies" / "one") == "tune_bn report one"
    assert study_command("report", tmp_path / "all" / "one") == f"tune_bn report one --output {tmp_path / 'all'}"
    here.rmdir()
    assert study_command("report", tmp_path / "all" / "one") == f"tune_bn report one --output {tmp_path / 'all'}"
