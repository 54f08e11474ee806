"""Metrics from files that scripts write: tables that grow, documents that are written anew, TensorBoard's events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tune_bn.trainers.command.rows import Row, RowError
from tune_bn.trainers.command.settings import Tap
from tune_bn.trainers.command.taps import tap_rows


def told(rows: list[Row]) -> list[tuple[int | None, dict[str, float]]]:
    return [(row.step, row.metrics) for row in rows]


def test_a_table_is_read_as_it_grows_and_half_a_line_waits(tmp_path: Path) -> None:
    rows = tap_rows(Tap("csv", "*.csv", "epoch", {"acc": "val"}), tmp_path, 0.0)
    assert list(rows.read()) == []
    log = tmp_path / "log.csv"
    log.write_text("epoch,acc,words\n0,0.5,good\n1,0.")
    assert told(list(rows.read())) == [(0, {"val": 0.5})]
    with log.open("a") as handle:
        handle.write("75,bad\n2,nan,")
    assert told(list(rows.read())) == [(1, {"val": 0.75})]
    assert list(rows.read()) == []
    ((step, metrics),) = told(list(rows.read(last=True)))
    assert step == 2
    assert str(metrics) == "{'val': nan}"


def test_gaps_of_a_logger_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,train_loss,val_loss\n0,9,1.5,\n0,9,,1.25\n1,19,0.5,\n")
    rows = tap_rows(Tap("csv", "metrics.csv", "epoch"), tmp_path, 0.0)
    assert told(list(rows.read())) == [
        (0, {"step": 9.0, "train_loss": 1.5}),
        (0, {"step": 9.0, "val_loss": 1.25}),
        (1, {"step": 19.0, "train_loss": 0.5}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch,acc\n0,1,2\n", "got 3 cells; accepted: 2"),
        ("epoch,acc\n0.5,1\n", "got step '0.5'"),
        ("time,acc\n0,1\n", "no step under 'epoch'; it has time, acc"),
    ],
)
def test_a_table_that_says_something_else_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(RowError, match=words.replace(".", r"\.")):
        list(tap_rows(Tap("csv", "log.csv", "epoch"), tmp_path, 0.0).read())


@pytest.mark.parametrize("form", ["lines", "list", "state", "state with words"])
def test_json_in_whatever_form_gives_its_new_rows(tmp_path: Path, form: str) -> None:
    def write(count: int) -> None:
        content = [{"epoch": step, "loss": 1 / (1 + step), "note": "x"} for step in range(count)]
        texts = {
            "lines": "".join(json.dumps(one) + "\n" for one in content),
            "list": json.dumps(content),
            "state": json.dumps({"best": 1.0, "log_history": content}),
            "state with words": json.dumps({"args": ["a", "b"], "log_history": content, "by": {"x": 1}}),
        }
        (tmp_path / "state.json").write_text(texts[form])

    rows = tap_rows(Tap("json", "state.json", "epoch"), tmp_path, 0.0)
    write(1)
    assert told(list(rows.read())) == [(0, {"loss": 1.0})]
    (tmp_path / "state.json").write_text('{"epoch": ')
    assert list(rows.read()) == []
    write(2)
    assert told(list(rows.read())) == [(1, {"loss": 0.5})]


def test_a_single_object_is_what_is_known_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"acc": 0.5, "words": "fine"}')
    rows = tap_rows(Tap("json", "result.json", rename={"acc": "test"}), tmp_path, 0.0)
    assert told(list(rows.read(last=True))) == [(None, {"test": 0.5})]


def test_a_file_of_an_earlier_attempt_is_not_this_ones(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,val\n0,1\n")
    since = (tmp_path / "log.csv").stat().st_mtime + 10
    assert list(tap_rows(Tap("csv", "log.csv"), tmp_path, since).read()) == []


WRITER = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import torch
from torch.utils.tensorboard import SummaryWriter
for new in (False, True):
    writer = SummaryWriter(f"runs/{new}")
    for step in range(3):
        writer.add_scalar("val/acc", 0.5 + step / 8, step, new_style=new)
        writer.add_histogram("weights", torch.ones(3), step)
    writer.close()
"""


def test_what_tensorboards_own_writer_writes_is_read_and_launch_seeds_and_taps(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(WRITER + "import random; print('drawn', random.random())\n")
    (tmp_path / "run.json").write_text(
        json.dumps({"format": 1, "params": {}, "seed": 7, "steps": 3, "attempt": 1, "score": "val"})
    )
    done = subprocess.run(
        [sys.executable, "-m", "tune_bn.launch", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "TUNE_BN_RUN": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for new in (False, True):
        rows = tap_rows(Tap("tensorboard", f"runs/{new}/events*", rename={"val/acc": "val"}), tmp_path, 0.0)
        found = list(rows.read())
        assert told(found) == [(step, {"val": 0.5 + step / 8}) for step in range(3)]
        assert list(rows.read()) == []
    lines = (tmp_path / "scalars.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": step, "val/acc": 0.5 + step / 8} for _ in range(2) for step in range(3)
    ]
    import random

    assert f"drawn {random.Random(7).random()}" in done.stdout
