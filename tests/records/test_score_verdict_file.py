"""The verdict on a table as a dataclass and as what is printed: the same keys in the same order as ever."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tune_bn.analysis.columns import Scores
from tune_bn.analysis.scores import judge_scores, verdict_on_scores
from tune_bn.analysis.table_test import TableTest
from tune_bn.records.score_verdict import score_verdict_from

RNG = np.random.default_rng(11)
BASE = RNG.normal(90, 1, 12)
ARMS = {
    "base": BASE,
    "up": BASE + 1 + RNG.normal(0, 0.3, 12),
    "down": BASE - 2 + RNG.normal(0, 0.3, 12),
    "flat": BASE + 0.5,
}
ONE_VALUE = {**ARMS, "flat": np.full(12, 91.0)}
SORTED = {"base": np.sort(BASE), "up": np.sort(ARMS["up"])}
BROKEN = {**ARMS, "up": ARMS["up"][:-1]}


def keys(text: str) -> list[str]:
    return text.split()


OF_VERDICT = keys("""
    schema_version source verdict headline reason problems remarks metric goal goal_from mode test alpha correction
    kind margin n paired_by pairs threshold folds looks baseline candidates worse ci_confidence selection
    """)
OF_ARM = keys("""
    arm n scores mean std effect difference std_difference ci_low ci p_value p_two_sided p_worse p_adjusted
    p_worse_adjusted ci_adjusted adjusted_levels simultaneous_low d_z correlation sensitivity welch doubt supported
    worse outcome not_tested
    """)

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "paired": (ARMS, {}, []),
    "max_t": (ARMS, {"correction": "max_t"}, []),
    "doubted": (SORTED, {}, []),
    "broken": (BROKEN, {}, []),
    "unpaired": (ARMS, {"unpaired": True}, ["df"]),
    "threshold": (ONE_VALUE, {"threshold": 90.0, "baseline": None, "accept": ["repeats"]}, []),
    "folds": (ARMS, {"folds": 4}, ["uncorrected_p_value", "test_to_train"]),
    "looks": (ARMS, {"looks": [4, 8, 12]}, ["decision", "looks"]),
    "noninferior": (ARMS, {"kind": "noninferior", "margin": 0.5}, []),
}


def table(arms: dict[str, Any]) -> Scores:
    rows = [(arm, str(seed), float(score)) for arm, scores in arms.items() for seed, score in enumerate(scores, 1)]
    return Scores(source="t.csv", rows=rows, metric="score", paired_by="seed")


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_is_read_and_printed_again_byte_for_byte(name: str) -> None:
    arms, options, further = CASES[name]
    verdict = verdict_on_scores(table(arms), TableTest(**{"baseline": "base", **options}))
    content = verdict.to_json()
    assert content == judge_scores(table(arms), **{"baseline": "base", **options})
    text = json.dumps(content, allow_nan=False)
    again = score_verdict_from(json.loads(text))
    assert again == verdict
    assert json.dumps(again.to_json(), allow_nan=False) == text
    assert list(content) == OF_VERDICT
    for arm in content["candidates"]:
        # What only one kind of test has stands where an arm has that test.
        assert list(arm) == OF_ARM + (further if arm["p_value"] is not None else [])
    if content["baseline"] is not None:
        assert list(content["baseline"]) == ["arm", "n", "scores", "mean", "std"]


def test_the_cases_are_what_they_are_called() -> None:
    found = {
        name: judge_scores(table(arms), **{"baseline": "base", **options}) for name, (arms, options, _) in CASES.items()
    }
    assert {name for name, verdict in found.items() if verdict["verdict"] == "invalid"} == {"broken"}
    assert {name for name, verdict in found.items() if any(arm["doubt"] for arm in verdict["candidates"])} == {
        "doubted"
    }
    untested = {name for name, verdict in found.items() if any(arm["not_tested"] for arm in verdict["candidates"])}
    assert {"paired", "folds", "looks"} <= untested
