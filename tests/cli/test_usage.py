"""What is said where a line is not one that the verbs take: what could be typed instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tune_bn.cli import app
from tune_bn.errors import MethodError
from tune_bn.front.surroundings import naming


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(1, 8):
        folder = tmp_path / "studies" / f"mine-{number}"
        folder.mkdir(parents=True)
        (folder / "space.yaml").write_text("name: mine")
    return tmp_path / "studies"


def said(*words: str) -> str:
    """What is printed, without the box and its line breaks."""
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})
    assert result.exit_code == 2
    text = result.output + (result.stderr if result.stderr_bytes else "")
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("verb", ["watch", "stop", "report", "logs", "confirm", "export", "bundle", "seal", "gate"])
def test_a_verb_without_a_study_says_which_there_are(studies: Path, verb: str) -> None:
    text = said(verb)
    assert "Missing argument 'STUDY'. In studies: " in text
    assert "mine-7" in text
    assert "and 2 more." in text
    assert "There is no study in elsewhere yet." in said(verb, "--output", "elsewhere")


@pytest.mark.parametrize("verb", ["search", "validate", "check", "train"])
def test_a_space_file_is_given_by_its_option(studies: Path, verb: str) -> None:
    assert "A space file: --space photos.yaml" in said(verb, "photos.yaml")
    assert "--space photos.yml" in said(verb, "photos.yml", "3")
    assert "--space" not in said(verb, "photos")


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--epochs", "--set train.epochs=…"),
        ("--batch-size", "--set train.batch_size=…"),
        ("--finalists", "--set budget.finalists=…"),
        ("--seeds", "--set 'seeds.confirm={from: 1, to: 30}'"),
        ("--gamma", "--set 'search.gamma={log_uniform: [0.05, 1.0]}'"),
        ("--root", "--set data.root=…"),
    ],
)
def test_an_option_that_is_a_key_is_said_as_one(studies: Path, option: str, key: str) -> None:
    assert f"No such option: {option}. Keys of the space file: {key}" in said("search", option, "8")
    assert "Keys of the space file" not in said("logs", option, "8")


def test_other_slips_are_told_as_before(studies: Path) -> None:
    assert "Possible options: --address, --require, --resume" in said("search", "--resum")
    assert "Did you mean 'search'" in said("serach")


@pytest.mark.parametrize("verb", ["rm", "delete", "remove"])
def test_how_a_study_is_thrown_away(studies: Path, verb: str) -> None:
    assert "rm -r studies/NAME throws it away" in said(verb, "mine-1")


@pytest.mark.parametrize("made", ["nets.py", "nets/__init__.py"])
@pytest.mark.parametrize("key", ["model.arch", "data.source"])
def test_a_module_beside_the_space_file_is_looked_for_where_the_line_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "my nets" / made
    place.parent.mkdir(parents=True)
    place.touch()
    problem = f"{key}: got 'nets:build', but there is no module nets; accepted: a module in the current folder"
    with pytest.raises(MethodError) as caught, naming("my nets/space.yaml with train.epochs=3"):
        raise MethodError(problem)
    assert str(caught.value).endswith("type the line in that folder (cd 'my nets')")
    for source in ("space.yaml", "elsewhere/space.yaml"):
        with pytest.raises(MethodError) as caught, naming(source):
            raise MethodError(problem)
        assert str(caught.value) == f"{source}: {problem}"


def test_which_effect_is_meant_is_said(studies: Path) -> None:
    assert "Missing option '--effect'. The gain that would matter to you" in said("power")
