"""Metrics of scripts that only print: found by regular expressions in their words, however these come."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.scripts import finish, start, trainer_of
from tune_bn.errors import SpecError
from tune_bn.space.loading import parse_space
from tune_bn.trainers.command.keeper import LONGEST_LINE, PrintedRows
from tune_bn.trainers.command.settings import PRINTED, SealedTest, Tap

EPOCH = r"end of epoch +(?P<epoch>\d+) .* valid loss +(?P<val>\S+)"
WORDS = "| end of epoch   {} | time:  0.1s | valid loss {:5.2f} | valid ppl  9.9\n"


def rows_of(folder: Path, patterns: list[str], pieces: list[bytes], **order: Any) -> list[dict[str, Any]]:
    to = folder / "rows"
    found = PrintedRows({"patterns": patterns, "step": "epoch", "rename": {}, "to": str(to), "final": False, **order})
    for piece in pieces:
        found.take(piece)
    found.take(b"", last=True)
    return [json.loads(line) for line in to.read_text().splitlines()] if to.exists() else []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_counts_however_it_is_cut(tmp_path: Path, size: int) -> None:
    text = ("no numbers\n" + WORDS.format(1, 2.5) + "\x1b[31m" + WORDS.format(2, 1.25) + "the end").encode()
    pieces = [text[first : first + size] for first in range(0, len(text), size)]
    assert rows_of(tmp_path, [EPOCH], pieces) == [{"step": "1", "val": "2.50"}, {"step": "2", "val": "1.25"}]


def test_a_progress_bar_and_a_last_line_without_its_end_count(tmp_path: Path) -> None:
    text = b"epoch 0\r loss 3\r loss 2\nepoch 1\rloss 1"
    assert rows_of(tmp_path, [r"epoch (?P<epoch>\d+)", r"loss (?P<loss>\S+)"], [text]) == [
        {"step": "0", "loss": "3"},
        {"step": "0", "loss": "2"},
        {"step": "1", "loss": "1"},
    ]


def test_lines_are_counted_where_no_pattern_names_the_step(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [r"Prec@1 (?P<acc>[^)]+)"], [b"Prec@1 71.3%\nother\nPrec@1 80 %\n"])
    assert rows == [{"step": 1, "acc": "71.3"}, {"step": 2, "acc": "80"}]


def test_what_is_said_before_the_first_step_is_of_none(tmp_path: Path) -> None:
    assert rows_of(tmp_path, [r"epoch (?P<epoch>\d+)", r"loss (?P<loss>\S+)"], [b"loss 9\nepoch 1\nloss 1\n"]) == [
        {"step": "1", "loss": "1"}
    ]


def test_a_line_without_end_costs_no_memory(tmp_path: Path) -> None:
    to = {"patterns": [EPOCH], "step": "epoch", "rename": {}, "to": str(tmp_path / "rows"), "final": False}
    found = PrintedRows(to)
    for _ in range(100):
        found.take(b"x" * 10_000)
        assert len(found.rest) <= LONGEST_LINE + 10_000


def test_rows_wait_for_a_disk_that_is_full(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    found = PrintedRows({"patterns": [EPOCH], "step": "epoch", "rename": {}, "to": str(folder / "rows"), "final": True})
    found.take(WORDS.format(1, 2.5).encode())
    folder.mkdir()
    found.take(WORDS.format(2, 1.5).encode())
    assert (folder / "rows").read_text() == '{"final": true, "val": "2.50"}\n{"final": true, "val": "1.50"}\n'


SCRIPT = f"""
import pathlib, sys, time
first = int(pathlib.Path("last").read_text()) if "resume" in sys.argv else 0
for epoch in range(first, 5):
    print({WORDS!r}.format(epoch, 5.0 - epoch), end="")
    pathlib.Path("new").write_text(str(epoch + 1))
    pathlib.Path("new").rename("last")
    time.sleep(PAUSE)
"""
TAP = Tap(PRINTED, EPOCH, "epoch")


def test_a_script_that_only_prints_has_a_curve_and_a_test_score(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path,
        SCRIPT.replace("PAUSE", "0"),
        files={"test.py": "print('test loss | 0.75')"},
        metrics=TAP,
        checkpoint="last",
        test_metrics=Tap(PRINTED, r"test loss \| (?P<test>\S+)"),
        sealed=SealedTest(("python", "test.py"), None),
    )
    run = start(trainer, tmp_path / "run", test="test")
    assert finish(run) == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert run.result().scores["test"] == 0.75


def test_a_run_that_is_killed_goes_on_and_keeps_what_was_printed(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, SCRIPT.replace("PAUSE", "0.3"), metrics=TAP, checkpoint="last", resume=("resume",), grace=0.2
    )
    run = start(trainer, tmp_path / "run")
    while run.steps < 2:
        run.advance()
    run.close()
    again = start(trainer, tmp_path / "run", state=run.state())
    assert finish(again) == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert len(again.files.attempts) == 2
    assert again.points.inexact is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"metrics": {"printed": "loss (?P<val"}},
            "metrics.printed: got 'loss (?P<val'; accepted: a regular expression",
        ),
        ({"metrics": {"printed": r"loss (\S+)"}}, "accepted: a regular expression with named groups"),
        ({"metrics": {"printed": 3}}, "got 3; accepted: a regular expression"),
        ({"metrics": {"printed": []}}, "got []; accepted: a regular expression"),
        ({"metrics": {"printed": "(?P<val>.)\n(?P<epoch>.)"}}, "accepted: patterns of one line"),
        ({"metrics": {"printed": r"loss (?P<loss>\S+)"}}, "accepted: a pattern with the group val, such as"),
        ({"metrics": {"printed": r"(?P<val>\S+)", "csv": "x"}}, "accepted: one of csv, json, tensorboard, printed"),
        ({"metrics": {"printed": r"(?P<val>\S+)"}, "resume": ["-r"]}, "accepted: a pattern with the group step, since"),
        ({"metrics": {"csv": ""}}, "metrics.csv: got ''; accepted: a path below"),
        ({"test_metrics": {"printed": r"(?P<val>\S+)"}}, "test_metrics.printed: got .* with the group test, such as"),
        (
            {"command": None, "function": "a:b", "metrics": {"printed": r"(?P<val>\S+)"}},
            "accepted: what a command prints, or a function with isolate: true",
        ),
    ],
)
def test_patterns_that_cannot_be_are_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    trainer = {
        "command": ["python", "train.py"],
        "code": [],
        "steps": 5,
        "score": {"validation": "val", "test": "test", "goal": "min"},
        "checkpoint": "last",
        "test_command": ["python", "test.py"],
        **change,
    }
    content = {"name": "x", "trainer": trainer, "search": {"lr": {"uniform": [0, 1]}}, "claim": {"about": ["lr"]}}
    with pytest.raises(SpecError, match=".*".join(map(re.escape, words.split(".*")))):
        parse_space(content, "x")
