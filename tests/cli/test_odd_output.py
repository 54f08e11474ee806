"""A folder of studies may have any name, whether it is there already or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tune_bn.cli import main
from tune_bn.errors import RunnerError


@pytest.mark.long
@pytest.mark.parametrize("there", [True, False], ids=["there already", "to be made"])
@pytest.mark.parametrize("study", [["--study", "one"], []], ids=["named", "numbered"])
@pytest.mark.parametrize("name", ["My%20Project", "a?b", "o %20?#ü;&=[a]"])
def test_the_door_lets_a_search_into_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    study: list[str],
    there: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    if there:
        Path(name).mkdir()

    def reached(*_: Any, **__: Any) -> None:
        raise RunnerError("the study would begin here")

    monkeypatch.setattr("tune_bn.front.wiring.run_study", reached)
    with pytest.raises(SystemExit) as ended:
        main(["search", "--output", name, *study])
    assert ended.value.code == 2
    assert "error: the study would begin here" in capsys.readouterr().err
