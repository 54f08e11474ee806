"""What a report says of arms that are worse, of intervals beside decisions, and of verdicts from before either."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.analysis.synthetic_claims import in_settings
from tests.analysis.test_other_goals import LOSS, stating
from tune_bn.analysis.verdict import judge, write_verdict
from tune_bn.records.files import write_json
from tune_bn.records.verdict import verdict_from
from tune_bn.report.arms import confidence_of, deciding_interval
from tune_bn.report.figures.effects import WORSE, forest
from tune_bn.report.figures.pairs import paired
from tune_bn.report.markdown import to_markdown
from tune_bn.report.page import to_html
from tune_bn.report.study import load
from tune_bn.report.writing import contents

SETTINGS = {"r18": {"arch": "resnet18"}, "r34": {"arch": "resnet34"}, "r50": {"arch": "resnet50"}, "d": {"lr": 0.01}}
LATER = {"ci_confidence", "headline", "worse"}
LATER_OF_ARM = {"p_two_sided", "p_worse", "p_worse_adjusted", "worse", "ci_adjusted", "adjusted_levels"}


@pytest.fixture(autouse=True)
def no_importance(monkeypatch):
    """The forests of the importance take their time; test_importance.py has them."""
    monkeypatch.setattr("tune_bn.report.process.importances", lambda study: [])


@pytest.fixture
def harmed(synthetic_study):
    return in_settings(synthetic_study(), SETTINGS, {"Ours": [1.25, -2.0, -2.0, 0.05]})


def rows_of(text, column):
    """The rows of the first table with this column, as dicts."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| arm |") and f"| {column} |" in line)
    table = [line.strip("| ").split(" | ") for line in lines[start : lines.index("", start)]]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def as_before(verdict):
    """The verdict as the version before wrote it: two-sided intervals at 1 − alpha, no losses."""
    old = {key: value for key, value in verdict.items() if key not in LATER}
    old["candidates"] = [
        {key: value for key, value in arm.items() if key not in LATER_OF_ARM} for arm in verdict["candidates"]
    ]
    for arm in old["candidates"]:
        arm["sensitivity"] = arm["sensitivity"] | {"confidence": 0.95}
    return old


@pytest.mark.long
def test_a_gain_beside_a_loss_does_not_look_like_a_plain_success(harmed, tmp_path):
    folder = harmed.write(tmp_path / "one")
    assert write_verdict(folder)["verdict"] == "supported"
    blocks = contents(load(folder))
    page = to_html(blocks, title="one", draw=lambda picture: b"")
    assert (
        '<p class="verdict mixed"><strong>Supported in 1 of 4 settings, worse in 2:</strong> Better in 1 of 4' in page
    )
    assert ".verdict.mixed {" in page
    assert "**Supported in 1 of 4 settings, worse in 2:** Better in 1 of 4 settings: r18 (+1." in to_markdown(blocks)


def test_a_single_candidate_that_is_worse_is_called_so(synthetic_study, tmp_path):
    folder = synthetic_study(effect=-1.0).write(tmp_path / "one")
    write_verdict(folder)
    text = to_markdown(contents(load(folder)))
    assert "\n\n**Worse, by 1.0" in text or "\n\n**Worse, by 0.9" in text
    (_, row) = rows_of(text, "finding")
    assert row["finding"] == "**worse**"


def test_every_row_of_the_result_agrees_with_itself(harmed, tmp_path):
    folder = harmed.write(tmp_path / "one")
    write_verdict(folder)
    text = to_markdown(contents(load(folder)))
    rows = [row for row in rows_of(text, "finding") if "Ours" in row["arm"]]
    assert [row["finding"].strip("*") for row in rows] == ["better", "worse", "worse", "undecided"]
    for row in rows:
        row = {key: cell.strip("*").replace("−", "-") for key, cell in row.items()}
        low, high = map(float, row["interval at its Holm step, pp"].split(" to "))
        assert (low > 0, high < 0) == (row["finding"] == "better", row["finding"] == "worse")
        assert (float(row["p, adjusted (Holm)"]) <= 0.05) == (low > 0)
        assert (float(row["p of a loss, adjusted"]) <= 0.05) == (high < 0)
        low, high = map(float, row["90 % interval, pp"].split(" to "))
        assert (float(row["p"]) <= 0.05, float(row["p of a loss"]) <= 0.05) == (low > 0, high < 0)
        assert (float(row["p, two-sided"]) <= 0.1) == (low > 0 or high < 0)


def test_the_pictures_show_the_interval_that_says_what_was_decided(harmed):
    verdict = judge(harmed.plan, harmed.records)
    (axes,) = forest(verdict_from(verdict)).axes
    assert WORSE in {text.get_text() for text in axes.get_figure().legends[0].get_texts()}
    assert sum(line.get_marker() == "X" and len(line.get_xdata()) for line in axes.lines) == 2
    *_, differences = paired(verdict_from(verdict)).axes
    assert "interval at its Holm step" in differences.get_title(loc="left")
    spans = {round(float(y), 9) for line in differences.lines for y in line.get_ydata()}
    for arm in verdict_from(verdict).candidates:
        assert {round(end, 9) for end in deciding_interval(arm)} <= spans


def test_a_single_candidates_picture_names_the_level_of_its_interval(synthetic_study):
    study = synthetic_study(effect=0.7).with_plan(alpha=0.01)
    verdict = judge(study.plan, study.records)
    assert "98 % interval" in paired(verdict_from(verdict)).axes[-1].get_title(loc="left")
    labels = {text.get_text() for text in forest(verdict_from(verdict)).legends[0].get_texts()}
    assert "98 % interval" in labels
    assert not any("Holm" in label for label in labels)


@pytest.mark.long
def test_a_verdict_of_the_version_before_is_printed_with_its_own_levels(harmed, synthetic_study, tmp_path):
    for name, study in (("one", harmed), ("two", synthetic_study(effect=0.7))):
        folder = study.write(tmp_path / name)
        old = as_before(write_verdict(folder))
        assert confidence_of(verdict_from(old)) == 0.95
        write_json(folder / "verdict.json", old)
        text = to_markdown(contents(load(folder)))
        assert "\n\n**Supported:** " in text
        row = rows_of(text, "95 % lower bound, pp")[-1]
        assert {"95 % lower bound, pp", "95 % interval, pp"} <= set(row)
        assert not {"finding", "p of a loss", "p, two-sided"} & set(row)
        assert "95 % bootstrap interval, pp" in text


@pytest.mark.long
@pytest.mark.parametrize("candidates", [3, 6])
def test_a_bound_inside_the_picture_of_a_loss_is_no_arrow(synthetic_study, candidates):
    study = stating(synthetic_study(effect=1.0, candidates=candidates), LOSS, lambda value: (100 - value) / 1e4)
    verdict = judge(study.plan, study.records)
    axes = paired(verdict_from(verdict)).axes[-1]
    several = candidates > 4
    ends = {round(end, 9) for arm in verdict_from(verdict).candidates for end in deciding_interval(arm)}
    drawn = {
        round(float((line.get_xdata() if several else line.get_ydata())[-1]), 9)
        for line in axes.lines
        if line.get_marker() in ("|", "_")
    }
    assert drawn == ends
    assert not [line for line in axes.lines if line.get_marker() in ("<", ">", "^", "v")]
    # Numbers as long as these lie on no other candidate.
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not [1 for one, other in pairwise(boxes) if one.overlaps(other)]
