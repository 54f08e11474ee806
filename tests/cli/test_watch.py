"""``tune_bn watch``: one screen of a study, from its files alone."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SyntheticStudy
from tests.observers.standard_output import StandardOutput
from tune_bn.analysis.verdict import write_verdict
from tune_bn.cli.watch import BLOCKS, for_encoding, screen, sparkline, still, watch
from tune_bn.protocols.runner import Point, Task
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.study.driver import LIVE_FILE, Driver
from tune_bn.study.folder import StudyFolder
from tune_bn.training.config import RunConfig, TrainConfig


def part(study: SyntheticStudy, *stages: str, most: int | None = None) -> SyntheticStudy:
    return study.with_records([record for record in study.records if record.stage in stages][:most])


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("arms", [1, 3, 14])
@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (("search",), "trials as they learn"),
        (("search", "select"), "race of the finalists"),
        (("search", "select", "confirm"), "pairs of the confirmation"),
    ],
)
def test_every_stage_fits_a_terminal(
    tmp_path: Path, synthetic_study: Callable[..., Any], width: int, arms: int, stages: tuple[str, ...], words: str
) -> None:
    study = part(synthetic_study(candidates=arms, trials=60 if arms > 3 else 24), *stages)
    folder = StudyFolder(study.write(tmp_path / "one", plan="confirm" in stages))
    lines = screen(folder, width, 24)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert any(words in line for line in lines)
    assert lines[0].startswith("one  stopped  ")


def test_a_verdict_and_the_pairs_are_shown(tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    study = synthetic_study(n=9)
    folder = StudyFolder(study.write(tmp_path / "one"))
    verdict = write_verdict(folder.path)
    text = still(folder)
    assert f"verdict  {verdict['headline']}" in text
    (arm,) = verdict["candidates"]
    pairs = [arm["scores"][seed] - verdict["baseline"]["scores"][seed] for seed in arm["scores"]]
    signs = "".join("=" if value == 0 else "+" if value > 0 else "-" for value in pairs)
    assert f"{signs} {arm['effect']:+.2f} pp" in text


def test_a_study_that_has_nothing_yet_and_one_that_is_spoilt(
    tmp_path: Path, synthetic_study: Callable[..., Any]
) -> None:
    folder = StudyFolder(synthetic_study().with_records([]).write(tmp_path / "one", plan=False, curves=False))
    assert "no epoch of a trial is known yet" in still(folder)
    folder.space_file.write_text("search: 3")
    assert still(folder).startswith("one  unreadable\n")


def test_a_course_that_diverges_breaks_no_picture() -> None:
    assert sparkline([1.0, math.nan, 3.0, math.inf], 1.0, 3.0) == BLOCKS[0] + BLOCKS[0] + BLOCKS[-1] + BLOCKS[0]
    assert sparkline([5.0, 5.0], 5.0, 5.0) == BLOCKS[0] * 2
    assert len(sparkline([float(x) for x in range(333)], 0.0, 332.0)) == 20


def test_trials_at_work_are_seen_as_far_as_they_are(tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    folder = StudyFolder(part(synthetic_study(), "search", most=2).write(tmp_path / "one", plan=False))
    space = folder.space()
    task = Task("search", "candidate", 7, {"gamma": 0.3}, RunConfig(train=TrainConfig(epochs=9)), (101, 102), steps=9)
    driver = Driver(folder, space.budget, space.resources, stop=StopRequest())
    with folder.locked(), driver.watching():
        driver.stage_started("search", 24, 2)
        driver.task_started(task)
        for first in (1, 3):
            points = [Point(epoch, {"val_accuracy": 10.0 * epoch}) for epoch in (first, first + 1)]
            driver.task_progress(task, {101: points, 102: points})
        driver._write()
        assert json.loads((folder.path / LIVE_FILE).read_text())["tasks"] == [
            {"name": "trial 7", "config": {"gamma": 0.3}, "epochs": 9, "scores": [10.0, 20.0, 30.0, 40.0]}
        ]
        line = next(line for line in screen(folder) if "trial 7" in line)
        assert "40.00 %  epoch 4/9" in line
        driver.task_killed(task)
        driver._write()
        assert json.loads((folder.path / LIVE_FILE).read_text())["tasks"] == []


def test_an_encoding_without_blocks_gets_other_signs(tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    text = still(StudyFolder(synthetic_study().write(tmp_path / "one", plan=False)))
    assert for_encoding(text, "utf-8") == text
    for encoding in ("latin-1", "ascii", "no such encoding", None):
        told = for_encoding(text, encoding)
        # Other signs in the same places.
        assert [len(line) for line in told.splitlines()] == [len(line) for line in text.splitlines()]
        assert told.replace("γ", "g").isascii()


@pytest.mark.parametrize(
    ("terminal", "environment", "moves"),
    [
        (False, {}, False),
        # Wanted by those whose logs show colours.
        (False, {"FORCE_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "COLUMNS": "20"}, True),
    ],
)
def test_where_no_cursor_moves_a_study_is_shown_once(
    terminal: bool,
    environment: dict[str, str],
    moves: bool,
    tmp_path: Path,
    synthetic_study: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = StudyFolder(part(synthetic_study(), "search").write(tmp_path / "one", plan=False))
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = StandardOutput(terminal)
    monkeypatch.setattr(sys, "stdout", out)

    def looked_on(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tune_bn.cli.watch.time.sleep", looked_on)
    ended: AbstractContextManager[Any] = pytest.raises(KeyboardInterrupt) if moves else nullcontext()
    with ended:
        watch(lambda: folder)
    said = out.getvalue()
    assert said.count("one  stopped") == 1
    assert ("\x1b" in said) is moves
