"""Rows that are no runs, runs that count twice, scores in another unit: refused by name; honest tables pass."""

from __future__ import annotations

import numpy as np
import pytest

from tune_bn.analysis.columns import Scores
from tune_bn.analysis.doorman import name_findings, value_findings
from tune_bn.analysis.repeats import grid
from tune_bn.analysis.scores import judge_scores
from tune_bn.errors import ConfigError

BASE = [95.52, 95.58, 95.03, 94.69, 94.56, 95.01, 94.59, 94.43]
NEW = [95.58, 95.55, 95.72, 95.13, 95.50, 95.47, 94.90, 95.72]


def table(arms, pairs=None, paired_by="seed"):
    rows = []
    for arm, scores in arms.items():
        rows += [
            (arm, pair, float(x)) for pair, x in zip(pairs or map(str, range(1, len(scores) + 1)), scores, strict=True)
        ]
    return Scores("t.csv", paired_by, tuple(rows))


def problems(scores, **options):
    verdict = judge_scores(scores, baseline=scores.arms[0], **options)
    assert (verdict["verdict"] == "invalid") == bool(verdict["problems"])
    return verdict["problems"]


NAMES = (
    "mean|Mean|AVERAGE|avg|avg.|Avg:|std|STD|sd|SD|s.d.|stdev|Std. Dev.|StDev|min|max|Median|total|sum|Overall|all|±"
    "|count|n|N|standard deviation|mean ± std|mean±std|mean (std)|mean of 8 seeds|Grand Total|mean_score|std err|SEM"
    "|variance|Mittelwert|moyenne|ø|Σ|µ|all seeds|mean accuracy|avg (8)|M|iqr|95% CI"
)
SUMMARIES = NAMES.split("|")


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_row_that_is_called_after_a_summary_is_refused(name):
    pairs = [*map(str, range(1, 9)), name]
    found = problems(table({"base": [*BASE, 95.1], "new": [*NEW, 95.5]}, pairs))
    assert any("is no run but a summary" in problem for problem in found), found
    assert "--accept summaries" in found[0]


@pytest.mark.parametrize(
    "name", ["8", "seed 8", "max_planck", "all-MiniLM", "summer", "meander", "sd-v1", "run_mean_field_2"]
)
def test_other_names_are_no_summaries(name):
    assert not name_findings(["a", "b"], ["1", "2", "3x", "4y", name], "seed")


def test_letters_are_names_where_the_others_are_letters():
    assert not problems(table({"base": BASE, "new": NEW}, list("klmnopqs")))


@pytest.mark.parametrize("name", ["final", "Ergebnis", "—", "total?", "xyz"])
def test_a_word_among_numbers_is_no_run(name):
    found = problems(table({"base": [*BASE, 95.1], "new": [*NEW, 95.5]}, [*map(str, range(8)), name]))
    assert found
    assert name in found[0] or "\\u" in found[0]


@pytest.mark.parametrize(
    "statistic", [np.mean, np.sum, np.std, lambda x: np.std(x, ddof=1), lambda x: np.std(x, ddof=1) / np.sqrt(len(x))]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_row_that_is_a_statistic_of_the_others_is_refused_whatever_its_name(statistic, first):
    arms = {}
    for arm, scores in (("base", BASE), ("new", NEW)):
        row = [float(f"{statistic(scores):.5f}")]
        arms[arm] = [*row, *scores] if first else [*scores, *row]
    found = problems(table(arms))
    assert any("in every arm, and no run" in text or "another unit" in text for text in found), found


def test_a_mean_and_a_deviation_below_each_other():
    arms = {arm: [*s, round(np.mean(s), 4), round(np.std(s, ddof=1), 4)] for arm, s in (("base", BASE), ("new", NEW))}
    assert problems(table(arms))


def test_an_arm_that_was_computed_from_others_is_refused():
    arms = {"base": BASE, "new": NEW}
    difference = [round(x - y, 2) for x, y in zip(NEW, BASE, strict=True)]
    assert "delta is new − base in every pair" in problems(table({**arms, "delta": difference}))[0]
    mean = [round((x + y) / 2, 3) for x, y in zip(NEW, BASE, strict=True)]
    assert "both is the mean of base, new in every pair" in problems(table({**arms, "both": mean}))[0]


@pytest.mark.parametrize("factor", [100, 1000, 1e6])
@pytest.mark.parametrize("arm", ["base", "new"])
def test_an_arm_in_another_unit_is_refused(factor, arm):
    arms = {"base": BASE, "new": NEW}
    arms[arm] = [x / factor for x in arms[arm]]
    found = problems(table(arms))
    assert len(found) == 1
    assert "base and new" in found[0] or "new and base" in found[0]
    assert f"factor near {factor:,.0f}" in found[0]


@pytest.mark.parametrize("factor", [0.01, 0.001, 100, 1000])
@pytest.mark.parametrize("rows", [[2], [0], [1, 6], [0, 1, 2, 3]])
def test_rows_in_another_unit_are_refused_and_named(factor, rows):
    base = [x * factor if i in rows else x for i, x in enumerate(BASE)]
    (found,) = problems(table({"base": base, "new": NEW}))
    assert "in another unit than the arm's other scores" in found
    if len(rows) < 4:
        assert all(f"{row + 1} (" in found for row in rows)


def test_a_row_in_another_unit_in_every_arm():
    arms = {arm: [x / 100 if i == 4 else x for i, x in enumerate(s)] for arm, s in (("base", BASE), ("new", NEW))}
    (found,) = problems(table(arms))
    assert "base at seed 5" in found
    assert "new at seed 5" in found


def test_units_may_be_meant():
    scores = table({"base": [x / 100 for x in BASE], "new": NEW})
    verdict = judge_scores(scores, baseline="base", accept=["units"])
    assert verdict["verdict"] == "supported"
    assert any(remark.startswith("accepted as units: base and new differ by a factor") for remark in verdict["remarks"])
    with pytest.raises(ConfigError, match="accept: got 'unit'; accepted: summaries, repeats, units, names"):
        judge_scores(scores, baseline="base", accept=["unit"])


@pytest.mark.parametrize(
    ("base", "new"),
    [
        ([70.1, 71.0, 69.8, 70.4, 70.9], [1.0] * 5),  # at chance among 100 classes
        ([95.2, 95.3, 10.0, 95.1, 94.9], [95.8, 95.5, 95.9, 95.6, 95.2]),  # one run diverged
        ([70.1, 71.0, 1.0, 70.4, 70.9], [72.0, 71.5, 70.8, 71.9, 72.2]),  # to the chance of 100 classes
        ([2.1, 2.3, 2.2, 2.15, 2.4], [0.11, 0.12, 0.1, 0.13, 0.09]),  # losses far apart
        ([0.02, 0.03, 0.025, 0.04, 0.01], [2.0, 0.5, 1.0, 4.0, 0.1]),
        ([0.0, 0.0, 1.0, 0.0, 2.0], [3.0, 5.0, 0.0, 7.0, 4.0]),
    ],
)
def test_what_only_looks_like_another_unit(base, new):
    assert not problems(table({"base": base, "new": new}))


@pytest.mark.parametrize("copies", [2, 3, 5])
@pytest.mark.parametrize("digits", [1, 2, 4])
@pytest.mark.parametrize("each", [True, False])
def test_pairs_that_stand_again_under_other_names_are_refused(copies, digits, each):
    rng = np.random.default_rng(copies)
    n = 5
    arms = {name: np.round(rng.normal(95, 0.5, n), digits) for name in ("base", "new")}
    repeated = {name: (np.repeat if each else np.tile)(scores, copies) for name, scores in arms.items()}
    (found,) = problems(table(repeated))
    assert "have the same scores in every arm" in found
    assert "--accept repeats" in found
    assert ("1, 2" if each else "1, 6") in found


def test_a_part_that_stands_again():
    rng = np.random.default_rng(1)
    arms = {name: np.round(rng.normal(95, 0.4, 9), 2) for name in ("base", "new", "other")}
    repeated = {name: [*scores, *scores[2:5]] for name, scores in arms.items()}
    (found,) = problems(table(repeated))
    assert "3, 10; 4, 11; 5, 12" in found


def test_runs_of_one_arm_that_stand_again():
    rng = np.random.default_rng(2)
    arms = {"base": np.tile(np.round(rng.normal(95, 0.5, 5), 2), 3), "new": np.round(rng.normal(96, 0.5, 15), 2)}
    (found,) = problems(table(arms))
    assert "base has the same scores again under other names" in found


@pytest.mark.parametrize("number", [1e-310, 5e-324])
def test_a_copied_number_may_be_as_small_as_it_likes(number):
    assert any("has the same score" in text for text in problems(table({"base": [number] * 8, "new": NEW})))


def test_an_arm_of_one_copied_number_is_refused():
    (found,) = problems(table({"base": [94.1] * 8, "new": NEW}))
    assert "base has the same score 94.1 in all 8 rows, as one run that was copied" in found
    assert "--threshold" in found
    assert not problems(table({"base": [94.1] * 8, "new": NEW}), accept=["repeats"])


@pytest.mark.parametrize("value", [0.0, 1.0, 10.0, 50.0, 100.0, 0.1, 0.5, 33.333333])
def test_an_arm_that_fails_or_succeeds_in_every_run_is_honest(value):
    verdict = judge_scores(table({"base": [value] * 8, "new": NEW}), baseline="base")
    assert not verdict["problems"]
    assert any("has the same score" in remark for remark in verdict["remarks"])


def test_a_mean_under_another_number_and_without_pairs():
    arms = {arm: [*scores, round(float(np.mean(scores)), 2)] for arm, scores in (("base", BASE), ("new", NEW))}
    assert "seed 9 is the mean of the others in every arm" in problems(table(arms))[0]
    assert "is the mean of the others in every arm" in problems(table(arms), unpaired=True)[0]


def test_one_number_in_two_spellings_is_no_second_pair():
    found = problems(table({"base": BASE, "new": NEW}, ["1", "01", "2", "2.0", "3", "4", "5", "6"]))
    assert any("seed 1, 01 are spellings of one name" in text or "seed 01, 1" in text for text in found)
    assert problems(table({"base": BASE, "Base ": NEW}))


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([95.1, 95.3, 95.2], 0.1),
        ([90, 91, 95], 1.0),
        ([100 * k / 897 for k in (850, 853, 861, 870)], 100 / 897),
        ([round(100 * k / 897, 4) for k in (850, 853, 861, 870)], 100 / 897),
        ([0.95123, 0.95177, 0.9499, 0.95011, 0.95101], 1e-5),
    ],
)
def test_the_step_of_the_scores(values, step):
    assert grid(np.array(values, dtype=float)) == pytest.approx(step, rel=2e-3)


def honest(rng):
    """A table as people have them: any arms, pairs, correlation, and any way to round."""
    n, k, rho = int(rng.integers(3, 31)), int(rng.integers(2, 6)), float(rng.uniform(0, 0.9))
    common, own = rng.normal(0, 1, n), rng.normal(0, 1, (k, n))
    z = np.sqrt(rho) * common + np.sqrt(1 - rho) * own + rng.normal(0, 1, (k, 1))
    kind = rng.integers(0, 7)
    spread = float(10 ** rng.uniform(-1, 0.5))
    if kind == 0:
        scores = np.round(94 + spread * z, 2)
    elif kind == 1:
        scores = np.round(np.clip(94 + spread * z, 0, 100), 1)
    elif kind == 2:
        images = int(rng.choice([100, 897, 1000, 10_000, 50_000]))
        scores = 100 * np.round(images * np.clip(0.9 + 0.01 * spread * z, 0, 1)) / images
    elif kind == 3:
        scores = np.round(20 + 10 * spread * z)
    elif kind == 4:
        scores = np.round(np.exp(rng.uniform(-3, 3) + 0.1 * spread * z), 4)
    elif kind == 5:
        scores = np.round(0.94 + 0.01 * spread * z, 4)
    else:
        scores = rng.normal(0, 100) + 50 * spread * z
    return {
        f"arm {i}": dict(zip(map(str, range(1, n + 1)), map(float, row), strict=True)) for i, row in enumerate(scores)
    }


def test_a_row_that_is_the_mean_in_one_arm_alone_is_a_run():
    arms = {"base": [*BASE, round(float(np.mean(BASE)), 6)], "new": [*NEW, 95.61]}
    assert not problems(table(arms))


@pytest.mark.long
def test_honest_tables_pass():
    """Of 2,000 honest tables at most 2 are refused, by whichever check."""
    rng = np.random.default_rng(7)
    refused = []
    for _ in range(2000):
        usable = honest(rng)
        order = list(next(iter(usable.values())))
        if any(len(set(scores.values())) == 1 for scores in usable.values()):
            continue
        found = [one for one in value_findings(usable, order, "seed") if one.refused]
        refused += found
        assert not name_findings(list(usable), order, "seed")
    assert len(refused) <= 2, [one.text for one in refused]
