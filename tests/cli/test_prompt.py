"""What helps at the prompt: the order of the verbs, completion, and names that were nearly right."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from tune_bn.cli import app
from tune_bn.cli.completion import PANELS, known_keys, known_spaces, known_studies
from tune_bn.errors import SpecError
from tune_bn.space.loading import parse_space
from tune_bn.space.locate import find_space
from tune_bn.study.folder import StudyFolder


@pytest.mark.long
def test_help_shows_the_verbs_in_the_order_of_their_use_under_their_panels(typed: Any) -> None:
    _, out, _ = typed("--help")
    there = {panel: [verb for verb in verbs if verb in commands()] for panel, verbs in PANELS.items()}
    panels = [out.index(f" {panel} ") for panel, verbs in there.items() if verbs]
    assert panels == sorted(panels)
    starts = [out.index(f"│ {verb} ") for verbs in there.values() for verb in verbs]
    assert starts == sorted(starts)


def commands() -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_verb_has_its_place() -> None:
    assert commands() <= {verb for verbs in PANELS.values() for verb in verbs}


def test_studies_spaces_and_keys_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = parse_space({"name": "x", "search": {"gamma": {"log_uniform": [0.01, 1]}}}, "x")
    for name in ("digits-1", "digits-2", "mine"):
        StudyFolder(tmp_path / "studies" / name).created(space)
    assert sorted(known_studies(SimpleNamespace(params={}), "dig")) == ["digits-1", "digits-2"]  # type: ignore[arg-type]
    assert known_studies(SimpleNamespace(params={"output": tmp_path / "none"}), "") == []  # type: ignore[arg-type]
    (tmp_path / "my.yaml").touch()
    assert known_spaces("my") == ["my.yaml"]
    assert {"digits.yaml", "digits_methods.yaml"} <= set(known_spaces("digits"))
    assert known_keys("train.ep") == ["train.epochs="]
    assert "budget.at_chance=" in known_keys("budget.")
    assert "name=" in known_keys("")


@pytest.mark.parametrize(
    ("given", "meant"), [("digits", "digits.yaml"), ("digit.yaml", "digits.yaml"), ("resnet", "resnet.yaml")]
)
def test_a_space_that_was_nearly_named_is_proposed(given: str, meant: str) -> None:
    with pytest.raises(
        SpecError, match=rf"--space: got '{given}', which is not found; accepted: {meant} \(did you mean it"
    ):
        find_space(given)


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("verb", [*(name for names in PANELS.values() for name in names), "head start"])
def test_help_fits_the_terminal_and_a_flag_takes_no_value(
    typed: Any, monkeypatch: pytest.MonkeyPatch, verb: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    # Read from the environment when it is loaded.
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    _, out, _ = typed(*verb.split(), "--help")
    assert "<bool>" not in out
    prose = re.split(r"\n ╭|\n╭", out)[0].splitlines()
    for line, after in pairwise(line.strip() for line in prose):
        # A line that ends before the next word would not have fitted was broken by hand.
        if line and after and not line.startswith("Usage"):
            assert len(line) + 1 + len(after.split()[0]) > width - 2, (line, after)
