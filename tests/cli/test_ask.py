"""``tune_bn ask`` and ``tune_bn tell``, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.study.test_asked import CONTENT
from tune_bn.cli import app, ask
from tune_bn.errors import TuneBNError
from tune_bn.front import asking


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(asking, "write_report", lambda folder: [])
    monkeypatch.setattr(ask, "_mirror", lambda folder: None)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(CONTENT))
    return tmp_path / "space.yaml"


def typed(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.long
def test_a_study_is_begun_asked_and_told(space: Path) -> None:
    asked = json.loads(typed("ask", "mine", "--space", "space.yaml", "--json"))
    assert (asked["run"], asked["state"], asked["test"]) == ("search-candidate-t00000-s101", "run", None)
    assert set(asked["params"]) == {"gamma", "c", "lr"}
    # Every loop may be started by the same line.
    other = json.loads(typed("ask", "mine", "--space", "space.yaml", "--json", "--lease", "30 min"))
    assert other["run"] == "search-candidate-t00000-s102"
    assert "taken" in typed("tell", "mine", asked["run"], "val=50.5", "loss=0.3")
    assert json.loads(typed("tell", "mine", asked["run"], "val=50.5", "loss=0.3", "--json"))["again"]
    Path("curve.jsonl").write_text('{"step": 1, "val": 3}\n\n{"step": 2, "val": 4}\n')
    assert "yours for 2h" in typed("tell", "mine", other["run"], "--renew", "--lease", "2h")
    typed("tell", "mine", other["run"], "--curve", "curve.jsonl")
    words = typed("ask", "mine")
    assert "not to be looked at" in words
    assert "tune_bn tell mine search-baseline-t00000-s101 'val=…'" in words
    assert asked["validation"] == "val"
    assert "asked" in typed("status")


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ask", "other"), "STUDY: got other; accepted: a study"),
        (("ask", "mine", "--lease", "soon"), "--lease: got 'soon'; accepted: a time such as 90s"),
        (("ask", "mine", "--lease", "0"), "--lease: got '0'"),
        (("ask", "mine", "--space", "space.yaml", "--set", "budget.trials=x"), "budget.trials"),
        (("ask", "mine", "--space", "space.yaml", "--set", "trainer.steps=5"), "was begun with another space"),
        (("ask", "mine", "--set", "budget.trials=3"), "--set: got budget.trials=3 without --space"),
        (("ask", "new", "--space", "digits.yaml"), "trainer: got the built-in loop"),
        (("tell", "mine", "x", "val=1"), "RUN: got 'x'; accepted: a run that was handed out"),
        (("tell", "mine", "search-candidate-t00000-s101", "val"), "NAME=VALUE: got 'val'"),
        (("tell", "mine", "search-candidate-t00000-s101", "val=high"), "NAME=VALUE: got 'val=high'"),
        (("tell", "mine", "search-candidate-t00000-s101", "val=1_0"), "NAME=VALUE: got 'val=1_0'"),
        (("tell", "mine", "search-candidate-t00000-s101", "val=٣"), "NAME=VALUE: got 'val=٣'"),
        (("tell", "mine", "search-candidate-t00000-s101", "val=1", "val=2"), "NAME=VALUE: got val twice"),
        (("tell", "mine", "search-candidate-t00000-s101", "--curve", "twice"), "--curve: twice:1: got val twice"),
        (("tell", "mine", "search-candidate-t00000-s101", "--curve", "none"), "--curve: none cannot be read"),
        (("tell", "mine", "search-candidate-t00000-s101", "--curve", "space.yaml"), "--curve: space.yaml:1: no JSON"),
        (("tell", "mine", "search-candidate-t00000-s101", "val=1", "--renew"), "--renew: got it beside scores"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], message: str, space: Path) -> None:
    typed("ask", "mine", "--space", "space.yaml")
    Path("twice").write_text('{"step": 1, "val": 3, "val": 4}\n')
    with pytest.raises(TuneBNError) as error:
        typed(*words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("studies/new").exists()
