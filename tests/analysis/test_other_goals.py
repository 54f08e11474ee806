"""Plans that state their score, and verdicts on scores of which less is better, or that have another range or unit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.synthetic_claims import sequential
from tests.conftest import SyntheticStudy
from tune_bn.analysis.plan import plan_from, seal
from tune_bn.analysis.verdict import judge
from tune_bn.errors import ConfigError, RecordError
from tune_bn.records.files import write_json
from tune_bn.records.score import (
    BEST,
    LARGEST_RECORDED,
    LAST,
    MAX,
    MIN,
    SCORE_FILE,
    Score,
    accuracy,
    read_score,
    score_from,
    write_score,
)

LOSS = Score("val_loss", "test_loss", MIN, step="step")


def stating(study: SyntheticStudy, score: Score, turn: Any = lambda value: value) -> SyntheticStudy:
    """The same study under a plan that states its score; ``turn`` makes its values of the accuracies."""
    names = {"val_accuracy": score.validation, "test_accuracy": score.test}
    records = [
        replace(record, scores={names.get(k, k): turn(v) if k in names else v for k, v in record.scores.items()})
        for record in study.records
    ]
    stated = {key: value for key, value in study.plan.items() if key not in ("direction", "diverged")}
    stated |= {"schema_version": 3, "data": {}, "device_kind": "cpu", "metric": score.test, "score": score.to_json()}
    return replace(study, records=records, plan=stated).with_plan()


def test_a_plan_from_before_is_about_accuracy_in_percent(synthetic_study) -> None:
    assert plan_from(synthetic_study().plan).score == accuracy("test_accuracy", 10.0)


@pytest.mark.parametrize("effect", [0.7, 0.0, -0.7])
def test_a_loss_is_judged_as_its_negative_is_where_more_is_better(synthetic_study, effect) -> None:
    study = synthetic_study(effect=effect)
    lower = judge_of(stating(study, LOSS, lambda value: -value))
    higher = judge_of(stating(study, replace(LOSS, goal=MAX)))
    # What is shown is the score, what is decided on is the gain.
    assert lower["headline"] == higher["headline"]
    (low,), (high,) = lower["candidates"], higher["candidates"]
    for key in ("effect", "p_value", "p_two_sided", "p_worse", "ci", "ci_adjusted", "d_z", "t", "supported", "worse"):
        assert low[key] == pytest.approx(high[key]), key
    assert low["difference"] == pytest.approx(-high["difference"])
    assert low["mean"] == pytest.approx(-high["mean"])
    assert low["sensitivity"]["wilcoxon"]["p_value"] == pytest.approx(high["sensitivity"]["wilcoxon"]["p_value"])
    assert low["shrinkage"]["luck"] == pytest.approx(high["shrinkage"]["luck"])
    assert low["shrinkage"]["searched_gain"] == pytest.approx(high["shrinkage"]["searched_gain"])


def test_looks_at_a_loss_end_where_those_at_its_negative_do(synthetic_study) -> None:
    study = sequential(synthetic_study(effect=1.5))
    lower = judge_of(stating(study, LOSS, lambda value: -value))
    higher = judge_of(stating(study, replace(LOSS, goal=MAX)))
    assert lower["verdict"] == higher["verdict"] == "supported"
    (low,), (high,) = lower["candidates"], higher["candidates"]
    assert low["n"] == high["n"] < 15
    assert [look["decision"] for look in low["looks"]] == [look["decision"] for look in high["looks"]]
    # Under the other goal the same runs are those of a look that ended nothing.
    turned = stating(study, replace(LOSS, goal=MAX), lambda value: -value)
    assert judge_of(turned)["verdict"] == "invalid"


def judge_of(study: SyntheticStudy) -> dict[str, Any]:
    return judge(study.plan, study.records)


def test_the_same_losses_are_worse_where_more_is_better(synthetic_study) -> None:
    study = stating(synthetic_study(effect=2.0), LOSS, lambda value: -value)
    assert judge_of(study)["verdict"] == "supported"
    turned = study.with_plan(score=replace(LOSS, goal=MAX).to_json())
    assert judge_of(turned)["headline"] == "not_supported, and worse"


def test_the_same_verdict_as_of_a_plan_from_before_but_for_what_it_states(synthetic_study) -> None:
    study = synthetic_study()
    before = judge_of(study)
    now = judge_of(stating(study, accuracy("test_accuracy", 10.0)))
    added = {"score", "schema_version", "plan_sha256", "candidates"}
    assert {k: v for k, v in now.items() if k not in added} == {k: v for k, v in before.items() if k not in added}
    assert (before["schema_version"], now["schema_version"]) == (1, 2)
    for old, new in zip(before["candidates"], now["candidates"], strict=True):
        assert {k: v for k, v in new.items() if k != "difference"} == old


@pytest.mark.parametrize(
    ("score", "value", "words"),
    [
        (LOSS, 2e150, "is not a finite number"),
        (replace(LOSS, low=0.0), -0.1, "is not a number ≥ 0"),
        (replace(LOSS, high=1.0), 1.5, "is not a number ≤ 1"),
        (replace(LOSS, low=-1.0, high=1.0), 97.0, "is not a number from -1 to 1"),
        (accuracy("test_loss"), 100.5, "is not a number from 0 to 100"),
    ],
)
def test_a_score_outside_of_its_range_is_none(synthetic_study, score, value, words) -> None:
    study = stating(synthetic_study(), score, lambda accuracy: 0.5 + accuracy / 1000)
    assert judge_of(study)["verdict"] != "invalid"
    spoilt = [
        replace(r, scores={**r.scores, score.test: value}) if r.stage == "confirm" and r.seed == 3 else r
        for r in study.records
    ]
    verdict = judge_of(study.with_records(spoilt))
    assert verdict["verdict"] == "invalid"
    assert words in verdict["reason"]


@pytest.mark.parametrize(("declared", "valid"), [(None, False), (99.0, True)])
def test_a_diverged_run_has_the_score_that_was_declared_or_none(synthetic_study, declared, valid) -> None:
    score = replace(LOSS, diverged=declared)
    study = stating(synthetic_study(), score, lambda value: 100 - value)
    scores = {} if declared is None else {score.test: declared, score.validation: declared}
    one = next(r for r in study.confirm if r.arm == "baseline" and r.seed == 4)
    diverged = replace(one, status="diverged", epochs=2, scores=scores)
    verdict = judge_of(study.with_records([diverged if r is one else r for r in study.records]))
    assert (verdict["verdict"] != "invalid") == valid
    if valid:
        assert verdict["baseline"]["scores"]["4"] == 99.0
    else:
        assert "declares no score" in verdict["reason"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"goal": "more"}, ["score.goal", "'more'", "max | min"]),
        ({"goal": None}, ["score.goal", "text"]),
        ({"test": "other"}, ["score.test", "'other'", "metric"]),
        ({"range": [1, 0]}, ["score.range", "increase"]),
        ({"range": None}, ["score.range", "two numbers or null"]),
        ({"range": [True, 2]}, ["score.range", "number or null"]),
        ({"diverged": "worst"}, ["score.diverged", "number or null"]),
        ({"range": [0, 1], "diverged": 5}, ["score.diverged", "from 0 to 1"]),
        ({"at": "first"}, ["score.at", "best | last | mean_last(K)"]),
        ({"decimals": 99}, ["score.decimals", "0 to 12"]),
        ({"more": 1}, ["score", "exactly the keys"]),
    ],
)
def test_a_score_of_another_shape_is_refused(synthetic_study, changes, words) -> None:
    plan = stating(synthetic_study(), LOSS, lambda value: -value).plan
    with pytest.raises(RecordError) as caught:
        seal(plan | {"score": plan["score"] | changes})
    assert all(word in str(caught.value) for word in [*words, "accepted"])


def test_a_goal_that_was_turned_after_sealing_is_noticed(synthetic_study) -> None:
    study = stating(synthetic_study(effect=-1.0), replace(LOSS, goal=MAX))
    turned = study.plan | {"score": study.plan["score"] | {"goal": "min"}}
    verdict = judge(turned, study.records)
    assert verdict["verdict"] == "invalid"
    assert "changed after it was sealed" in verdict["reason"]


@pytest.mark.parametrize(
    ("at", "values", "objectives"),
    [
        (BEST, [3.0, 1.0, 2.0], [-3.0, -1.0, -1.0]),
        (LAST, [3.0, 1.0, 2.0], [-3.0, -1.0, -2.0]),
        ("mean_last(2)", [3.0, 1.0, 2.0], [-3.0, -2.0, -1.5]),
        (BEST, [1.0, math.nan, 0.5], [-1.0, -1.0, -0.5]),
    ],
)
def test_what_of_a_curve_is_its_score(at, values, objectives) -> None:
    score = replace(LOSS, at=at)
    assert score.objectives(values) == objectives
    assert score.objectives(values, diverged=True) == [*objectives[:-1], -LARGEST_RECORDED]
    assert replace(score, diverged=7.0).objectives(values, diverged=True)[-1] == -7.0
    turned = replace(score, goal=MAX).objectives([-value for value in values])
    assert turned == objectives


@pytest.mark.parametrize(
    ("score", "value", "words"),
    [
        (accuracy(), 97.156, "97.16 %"),
        (LOSS, 0.403149, "0.4031"),
        (LOSS, 3.90412, "3.904"),
        (LOSS, 12345.6, "12346"),
        (LOSS, 0.000123456, "0.0001235"),
        (LOSS, 0.0, "0.0000"),
        (LOSS, math.inf, "inf"),
        (replace(LOSS, decimals=1, unit="s"), 4.06, "4.1 s"),
    ],
)
def test_a_value_is_printed_with_as_many_digits_as_it_takes(score, value, words) -> None:
    assert score.value_words(value) == words


def test_it_is_kept_in_the_studys_folder(tmp_path: Path) -> None:
    assert read_score(tmp_path) == accuracy()
    write_score(tmp_path, LOSS)
    assert read_score(tmp_path) == LOSS
    assert score_from(json.loads((tmp_path / SCORE_FILE).read_text())) == LOSS
    write_json(tmp_path / SCORE_FILE, {"goal": "min"})
    with pytest.raises(RecordError, match=r"score\.json: not a score"):
        read_score(tmp_path)


@pytest.mark.parametrize(
    "changes", [{"goal": "maximize"}, {"validation": ""}, {"low": math.nan}, {"diverged": math.nan}]
)
def test_no_score_that_could_not_be_judged_can_be_made(changes) -> None:
    with pytest.raises(ConfigError):
        replace(LOSS, **changes)
