import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tune_bn.errors import RecordError
from tune_bn.records.curves import CurveLog, Point
from tune_bn.training.points import epoch_point

POINT = epoch_point(epoch=1, train_loss=2.0, train_accuracy=50.0, val_loss=1.0, val_accuracy=60.0, lr=0.1)


def with_metrics(**changed: float) -> Point:
    return replace(POINT, metrics={**POINT.metrics, **changed})


@pytest.fixture
def log(tmp_path: Path) -> CurveLog:
    return CurveLog(tmp_path / "curves.jsonl")


def problem_of(log: CurveLog) -> str:
    """What reading says against the file; nothing where it can be read."""
    try:
        log.read()
    except RecordError as error:
        return str(error)
    return ""


def test_what_was_appended_is_read(log: CurveLog) -> None:
    assert log.read() == {}
    log.append("a", [POINT, replace(POINT, step=2)])
    log.append("b", [])
    assert log.read() == {"a": (POINT, replace(POINT, step=2)), "b": ()}


def test_the_last_line_of_a_run_wins(log: CurveLog) -> None:
    log.append("a", [POINT])
    log.append("a", [with_metrics(train_loss=0.5)])
    assert log.read()["a"][0]["train_loss"] == 0.5


def test_a_loss_that_was_not_finite_is_null_in_the_file(log: CurveLog) -> None:
    log.append("a", [with_metrics(train_loss=math.inf, val_loss=math.nan)])
    written = json.loads(log.path.read_text())["curve"][0]
    assert written["train_loss"] is None
    assert written["val_loss"] is None
    (point,) = log.read()["a"]
    assert math.isnan(point["train_loss"])
    assert point["val_accuracy"] == 60.0


def test_curves_of_studies_from_before_there_were_other_trainers_are_read(log: CurveLog) -> None:
    old = {"epoch": 1, "train_loss": 2.0, "train_accuracy": 50.0, "val_loss": 1.0, "val_accuracy": 60.0, "lr": 0.1}
    log.path.write_text(json.dumps({"run": "a", "curve": [old]}) + "\n")
    assert log.read() == {"a": (POINT,)}


def test_a_metric_may_be_called_epoch(log: CurveLog) -> None:
    point = Point(300, {"epoch": 2.0, "val_loss": 0.4})
    log.append("a", [point])
    assert log.read() == {"a": (point,)}


def test_a_line_torn_anywhere_is_passed_over_and_then_replaced(log: CurveLog) -> None:
    log.append("a", [POINT])
    whole = log.path.read_bytes()
    log.append("b", [POINT])
    both = log.path.read_bytes()
    for end in range(len(whole), len(both)):
        log.path.write_bytes(both[:end])
        assert set(log.read()) == {"a"}
        log.append("c", [POINT])
        assert log.read() == {"a": (POINT,), "c": (POINT,)}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"run": "a"}',
        '{"run": "a", "curve": 3}',
        '{"run": "a", "curve": [3]}',
        '{"run": "a", "curve": ["text"]}',
        '{"run": "a", "curve": [{"epoch": 1}]}',
        json.dumps({"run": "a", "curve": [{"step": 1, "lr": "0.1"}]}),
        json.dumps({"run": "a", "curve": [{"epoch": None, "lr": 0.1}]}),
        json.dumps({"run": "a", "curve": [{"step": True, "lr": 0.1}]}),
        json.dumps({"run": "a", "curve": [{"lr": 0.1}]}),
        json.dumps({"run": "a", "curve": [{"step": 1.0, "lr": 0.1}]}),
        "[" * 100_000,
    ],
)
def test_a_spoilt_line_is_named(log: CurveLog, line: str) -> None:
    log.append("a", [POINT])
    with log.path.open("a") as handle:
        handle.write(line + "\n")
    with pytest.raises(RecordError, match=r"curves\.jsonl:2: not a curve .*; accepted: "):
        log.read()


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> CurveLog:
    """For a hundred examples: a folder for each would be looked for among all that there are."""
    return CurveLog(tmp_path_factory.mktemp("reused") / "curves.jsonl")


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_read_or_refused(reused: CurveLog, data: bytes) -> None:
    reused.path.write_bytes(data)
    assert len(problem_of(reused).splitlines()) <= 1
