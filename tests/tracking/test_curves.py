import json
import math
from pathlib import Path

import pytest

from tune_bn.errors import RecordError
from tune_bn.runners.base import EpochPoint
from tune_bn.tracking.curves import read_curves


def _line(run: str, *losses: float | None) -> str:
    curve = [
        {"epoch": i, "train_loss": loss, "train_accuracy": 50.0, "val_loss": 1.0, "val_accuracy": 60.0, "lr": 0.1}
        for i, loss in enumerate(losses, start=1)
    ]
    return json.dumps({"run": run, "curve": curve}) + "\n"


def test_the_last_line_of_a_run_wins_and_a_torn_line_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "curves.jsonl"
    path.write_text(_line("a", 1.0) + _line("b", 2.0) + _line("a", 1.0, 0.5) + _line("c", 3.0)[:-10])
    curves = read_curves(path)
    assert set(curves) == {"a", "b"}
    assert [point.train_loss for point in curves["a"]] == [1.0, 0.5]
    assert curves["b"] == (EpochPoint(1, 2.0, 50.0, 1.0, 60.0, 0.1),)


def test_a_loss_that_was_not_finite_is_null_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "curves.jsonl"
    path.write_text(_line("a", 1.0, None))
    assert math.isnan(read_curves(path)["a"][1].train_loss)


def test_no_file_is_no_curves_and_a_spoilt_line_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "curves.jsonl"
    assert read_curves(path) == {}
    for spoilt in ("{", '{"run": "a"}', '{"run": "a", "curve": [{"epoch": 1}]}', "[]"):
        path.write_text(_line("a", 1.0) + spoilt + "\n")
        with pytest.raises(RecordError, match=r"curves\.jsonl:2: not a curve"):
            read_curves(path)
