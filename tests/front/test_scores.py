"""tune_bn.verify_scores: the verdict of ``tune_bn verify --scores``, for files, frames and rows."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch

import tune_bn
from tune_bn.analysis import judge_scores, read_scores
from tune_bn.errors import ConfigError, ScoresError

ROWS = [
    {"arm": arm, "seed": seed, "score": round(90 + seed * seed % 7 / 10 + gain + seed % 3 / 50 * (arm == "a"), 3)}
    for seed in range(8)
    for arm, gain in (("a", 2.0), ("b", 0.0))
]


def judged(table: Any, **options: Any) -> tune_bn.Verdict:
    return tune_bn.verify_scores(table, **{"baseline": "b", "goal": "max", **options})


def without_source(verdict: Any) -> dict[str, Any]:
    return {**verdict, "source": ""}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    return path


def test_a_path_is_judged_as_on_the_command_line(file: Path) -> None:
    expected = judge_scores(read_scores(file), baseline="b", goal="max")
    assert judged(file) == judged(str(file)) == expected
    assert judged(file).supported


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.pivot(index="seed", columns="arm", values="score")


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame.set_index(["arm", "seed"]),
        lambda frame: frame.astype({"arm": "category", "seed": "Int64", "score": "float64"}),
        lambda frame: frame.sample(frac=1, random_state=0).sort_values("arm", kind="stable"),
        lambda frame: frame.convert_dtypes(),
        lambda frame: pyarrow.Table.from_pandas(frame),
        lambda frame: (row for row in ROWS),
        lambda frame: [{**row, "score": np.float64(row["score"])} for row in ROWS],
        lambda frame: [{**row, "score": torch.tensor(row["score"], dtype=torch.float64)} for row in ROWS],
        lambda frame: [{**row, "score": Decimal(str(row["score"])), "seed": np.int64(row["seed"])} for row in ROWS],
        lambda frame: [{**row, "score": Fraction(str(row["score"]))} for row in ROWS],
    ],
)
def test_the_form_of_the_table_makes_no_difference(file: Path, change: Any) -> None:
    found = judged(change(pd.DataFrame(ROWS)))
    assert found["verdict"] == "supported"
    (own,), (expected,) = found["candidates"], judged(file)["candidates"]
    assert (own["effect"], own["p_value"], own["n"]) == (expected["effect"], expected["p_value"], 8)


def test_a_wide_frame_with_its_index(file: Path) -> None:
    found = judged(wide(pd.DataFrame(ROWS)))
    assert found["paired_by"] == "seed"
    assert found["candidates"][0]["effect"] == judged(file)["candidates"][0]["effect"]


@pytest.mark.parametrize("missing", [float("nan"), None, pd.NA])
def test_a_missing_score_is_never_passed_over(missing: Any) -> None:
    rows = [dict(row) for row in ROWS]
    rows[3]["score"] = missing
    frame = pd.DataFrame(rows).convert_dtypes() if missing is pd.NA else rows
    if missing is None or missing is pd.NA:
        with pytest.raises(ScoresError, match="row 4: column score"):
            judged(frame)
    else:
        assert judged(frame).invalid


def test_rows_of_a_study_can_be_given_as_they_are() -> None:
    from tune_bn.front.rows import Rows

    assert judged(Rows(ROWS)).supported


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (5, "table: got int; accepted: a path, a pandas or polars frame, or a list of rows"),
        ({"arm": ["a"], "score": [1]}, "table: got dict; accepted: a path"),
        (b"arm,seed", "table: got bytes; accepted: a path"),
        ([["a", 1, 0.5]], "table: row 1: got list; accepted: a path"),
        ([*ROWS, "arm"], "table: row 17: got str; accepted: a path"),
        ([{1: "a", "1": 2}], "table: row 1: a column stands twice"),
        ("no-such-file.csv", "no-such-file.csv: cannot be read"),
        ([], "column arm is missing"),
        ([{"arm": "a", "seed": 1, "loss": 1.0}], "or score=NAME"),
        (pd.DataFrame([["a", 1, 2.0, 3.0]], columns=["arm", "seed", "score", "score"]), "column score stands twice"),
        (pd.DataFrame({("a", "b"): [1.0]}), "columns of several levels"),
        ([{"arm": "a", "seed": 1, "score": [1, 2]}], "score"),
        ([{"arm": "a", "seed": 1, "score": np.array([1.0, 2.0])}], "score"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(table: Any, words: str) -> None:
    with pytest.raises(ScoresError) as caught:
        judged(table)
    assert words in str(caught.value)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_are_named_as_arguments() -> None:
    with pytest.raises(ConfigError, match=r"^goal: got 'up'; accepted: max"):
        judged(ROWS, goal="up")
    with pytest.raises(ConfigError, match=r"^baseline: got 'c'; accepted: an arm of"):
        judged(ROWS, baseline="c")
    with pytest.raises(ScoresError, match="unpaired=True"):
        judged([{"arm": "a", "score": 1.0}])
    with pytest.raises(ConfigError, match=r"^accept: got 'all'; accepted:"):
        judged(ROWS, accept="all")


def test_options_reach_the_test() -> None:
    assert judged(ROWS, unpaired=True)["mode"] == "unpaired"
    assert judged(ROWS, baseline=None, threshold=89.0)["mode"] == "threshold"
    assert judged([{**row, "fold": row["seed"]} for row in ROWS], folds=8, seed="fold")["mode"] == "folds"
    assert judged(ROWS, looks=[4, 8])["looks"] == [4, 8]
    assert judged(ROWS, alpha=0.01)["alpha"] == 0.01
    renamed = [{"method": row["arm"], "run": row["seed"], "top1": row["score"]} for row in ROWS]
    assert judged(renamed, arm="method", seed=["run"], score="top1").supported


def test_a_verdict_reads_well() -> None:
    found = judged(ROWS)
    assert str(found).startswith("verdict: supported\na raises ")
    assert repr(found).startswith("<Verdict: supported: ")
    assert "<b>verdict: supported</b>" in found._repr_html_()
    worse = judged(ROWS, baseline="a")
    assert not worse.supported
    assert not worse.invalid
    assert (
        "<script>"
        not in judged([{**row, "arm": f"<script>{row['arm']}"} for row in ROWS], baseline="<script>b")._repr_html_()
    )


def test_a_loss_is_said_as_the_command_line_does_without_a_unit_that_nobody_stated() -> None:
    verdict = tune_bn.verify_scores(ROWS, baseline="a", goal="max")
    assert verdict.headline == verdict["headline"] == "not_supported, and worse"
    assert "percentage" not in f"{verdict} {verdict!r} {verdict._repr_html_()}"
