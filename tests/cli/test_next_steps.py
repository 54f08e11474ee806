"""What is said after a verdict: what may be done next, and how it stands on a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_bn.analysis.verdict import write_verdict
from tune_bn.cli.common import say_words
from tune_bn.cli.next_steps import next_steps
from tune_bn.records.verdict import verdict_from
from tune_bn.study.folder import StudyFolder


@pytest.mark.parametrize(
    ("effect", "claim", "proposed"),
    [
        (0.05, {}, True),
        (-0.05, {}, False),
        # No worse by 0.3: a mean of -0.05 is where it is claimed to be.
        (-0.05, {"kind": "noninferior", "margin": 0.1}, True),
        (-0.2, {"kind": "noninferior", "margin": 0.1}, False),
        (0.05, {"kind": "superior", "margin": 0.1}, False),
        (0.05, {"kind": "equivalent", "margin": 0.1}, True),
        (0.2, {"kind": "equivalent", "margin": 0.1}, False),
    ],
)
def test_more_seeds_are_proposed_where_the_mean_is_where_it_is_claimed_to_be(
    tmp_path: Path, synthetic_study: Callable[..., Any], effect: float, claim: dict[str, Any], proposed: bool
) -> None:
    study = synthetic_study(n=5)
    if claim:
        study = study.with_plan(**claim)
    folder = StudyFolder(study.write(tmp_path / "one"))
    verdict = write_verdict(folder.path)
    verdict |= {"verdict": "not_supported", "worse": []}
    verdict["candidates"][0] |= {"effect": effect, "supported": False}
    steps = next_steps(folder, verdict_from(verdict))
    assert any("a new study from its best" in step for step in steps) == proposed


@pytest.mark.parametrize(
    ("effect", "power"),
    # By `tune_bn power`: 10 seeds after 5, at d_z = effect / 0.5.
    [
        (0.05, r"0\.09; 620 with 0\.8"),
        (0.25, r"0\.43; 27 with 0\.8"),
        (0.5, r"0\.90"),
        (1e-9, r"0\.05; far more with 0\.8"),
    ],
)
def test_what_the_proposed_seeds_would_find_is_said(
    tmp_path: Path, synthetic_study: Callable[..., Any], effect: float, power: str
) -> None:
    folder = StudyFolder(synthetic_study(n=5).write(tmp_path / "one"))
    verdict = write_verdict(folder.path) | {"verdict": "not_supported", "worse": []}
    verdict["candidates"][0] |= {"effect": effect, "std_difference": 0.5, "supported": False}
    (step,) = [step for step in next_steps(folder, verdict_from(verdict)) if "a new study from its best" in step]
    assert re.search(rf"on 10 fresh seeds \(.* with power {power}\): tune_bn search --space ", step), step


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"gamma": 0.067934567, "c": 932.7}, "scale_batchnorm(model, gamma=0.0679346), .*lr=…, c=932.7)"),
        ({"gamma": 0.5}, "scale_batchnorm(model, gamma=0.5), .*lr=…, c=1)"),
        ({"gamma": 0.5, "c": 10, "lr": 0.1}, None),
        ({"gamma": {"per_stage": [1, 0.5]}, "c": 10}, None),
    ],
)
def test_what_was_supported_is_said_as_a_training_script_has_it(
    tmp_path: Path, synthetic_study: Callable[..., Any], config: dict[str, Any], words: str | None
) -> None:
    folder = StudyFolder(synthetic_study(effect=3.0).write(tmp_path / "one"))
    verdict = write_verdict(folder.path)
    assert verdict["verdict"] == "supported"
    verdict["candidates"][0]["config"] = config
    steps = "\n".join(next_steps(folder, verdict_from(verdict)))
    assert ("scale_batchnorm" in steps) == (words is not None)
    assert words is None or re.search(re.escape(words).replace(r"\.\*", ".*"), steps), steps
    verdict["candidates"][0]["supported"] = False
    assert "scale_batchnorm" not in "\n".join(next_steps(folder, verdict_from(verdict)))


@pytest.mark.parametrize("width", [40, 80, 100])
def test_prose_breaks_between_words_on_a_terminal_and_nowhere_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    words = "about:   " + "initialization, order and augmentation of the training images " * 4
    typed = "in all     at most 4 runs; `tune_bn check --space 'a long name with blanks.yaml'` says how long each takes"
    say_words(f"{words}\n{typed}", 9)
    assert capsys.readouterr().out == f"{words}\n{typed}\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
    say_words(f"{words}\n{typed}", 9)
    first, *others = capsys.readouterr().out.splitlines()
    assert others[-1] == typed
    assert first.startswith("about:   initialization,")
    for line in (first, *others[:-1]):
        assert len(line) <= width
        assert set(line.split()) <= set(words.split())
    assert all(line.startswith(" " * 9) for line in others[:-1])
