"""Claims by kind and margin on scores of which less is better, or that have another unit: words and decisions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from tests.analysis.test_other_goals import LOSS, stating
from tune_bn.analysis.claims import outcome
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.verdict import judge
from tune_bn.analysis.wording import spoken
from tune_bn.cli.common import about
from tune_bn.records.score import MAX
from tune_bn.records.verdict import verdict_from
from tune_bn.report.paperkit import checklist_words, method_words, numbers_tex, table_tex

SECONDS = replace(LOSS, unit="s")
PERCENT_WORDS = re.compile(r"\bpp\b|percentage|\bpoints?\b|%\)")


def loss_of(study: Any, score: Any = LOSS, **claim: Any) -> Any:
    """The study with losses instead of accuracies: a gain of 1 % is a loss that is lower by 0.01."""
    return stating(study, score, lambda value: (100 - value) / 100).with_plan(**claim)


@pytest.mark.parametrize(
    ("effect", "kind", "margin", "headline"),
    [
        (1.25, "superior", 0.005, "supported: superior, margin 0.005"),
        (1.25, "superior", 0.03, "not_supported: superior, margin 0.03"),
        (-1.25, "noninferior", 0.03, "supported: noninferior, margin 0.03, though worse"),
        (-1.25, "noninferior", 0.005, "not_supported: noninferior, margin 0.005, and worse"),
        (0.0, "equivalent", 0.02, "supported: equivalent, margin 0.02"),
        (1.25, "equivalent", 0.002, "not_supported: equivalent, margin 0.002"),
    ],
)
def test_a_claim_about_a_loss_asks_of_gains_and_says_which_way(synthetic_study, effect, kind, margin, headline) -> None:
    study = loss_of(synthetic_study(effect=effect), kind=kind, margin=margin)
    verdict = judge(study.plan, study.records)
    assert verdict["headline"] == headline, verdict["problems"]
    assert verdict["score"]["goal"] == "min"
    assert (verdict["kind"], verdict["margin"]) == (kind, margin)
    assert "(+ is lower)" in verdict["reason"]
    assert f"{margin:g}" in verdict["reason"]
    assert not PERCENT_WORDS.search(verdict["reason"].replace("90 % interval", ""))


def test_a_margin_has_the_unit_of_its_score(synthetic_study) -> None:
    study = loss_of(synthetic_study(effect=1.25), SECONDS, kind="superior", margin=0.005)
    verdict = judge(study.plan, study.records)
    assert "by more than 0.005 s: +0.01" in verdict["reason"]


def test_what_is_spoken_of_a_loss_has_its_unit_and_decimals(synthetic_study) -> None:
    worse = loss_of(synthetic_study(effect=-2.0), SECONDS)
    verdict = judge(worse.plan, worse.records)
    assert outcome(verdict_from(verdict)) == "worse"
    said = spoken(verdict_from(verdict))
    assert re.fullmatch(r"worse, by 0\.0\d+ s \(-0\.0\d+ to -0\.0\d+\)", said), said
    claimed = worse.with_plan(kind="noninferior", margin=0.001)
    said = spoken(verdict_from(judge(claimed.plan, claimed.records)))
    assert said.startswith("not_supported: noninferior, margin 0.001, and worse by 0.0"), said


def test_noninferior_though_worse_is_no_plain_success(synthetic_study) -> None:
    study = loss_of(synthetic_study(effect=-1.25), kind="noninferior", margin=0.03)
    verdict = judge(study.plan, study.records)
    assert outcome(verdict_from(verdict)) == "mixed"
    assert spoken(verdict_from(verdict)) == verdict["headline"]


def test_nothing_is_said_of_images_where_the_trainer_knows_none(synthetic_study) -> None:
    study = loss_of(synthetic_study())
    verdict = judge(study.plan, study.records)
    assert verdict["other_outcomes"] == {}
    assert [arm["over_images"] for arm in verdict["candidates"]] == [None]
    assert "image" not in verdict["covers"]
    assert not any(line.startswith("images:") for line in about(verdict_from(verdict)))
    accuracies = synthetic_study()
    assert "images" in judge(accuracies.plan, accuracies.records)["covers"]


@pytest.mark.parametrize("score", [SECONDS, replace(LOSS, goal=MAX), replace(LOSS, diverged=9.0)])
def test_the_paper_kit_speaks_of_the_score(synthetic_study, score) -> None:
    study = loss_of(synthetic_study(), score)
    verdict = verdict_from(judge(study.plan, study.records))
    methods = " ".join(method_words(verdict, plan_from(study.plan), study.records))
    told = [
        table_tex(verdict),
        numbers_tex(verdict),
        methods,
        checklist_words(verdict, plan_from(study.plan), study.records),
    ]
    for text in told:
        assert not re.search(r"\bpp\b|percentage points", text), text
    assert f"better where it is {'higher' if score.goal == MAX else 'lower'}" in methods
    assert ("+ is lower" in told[0]) == (score.goal != MAX)
    assert ("counts as 9" in methods) == (score.diverged is not None)
    # Four digits of the mean, as everywhere.
    assert re.search(r"0\.0\d{3,} \$\\pm\$", told[0]), told[0]
