"""Columns that were sorted before their rows were numbered are no pairs: said, and not enough for a gain."""

from __future__ import annotations

import numpy as np
import pytest

from tune_bn.analysis import score_tests
from tune_bn.analysis.columns import Scores
from tune_bn.analysis.pairing import FEW_TIES, _same_ranks, doubt_of
from tune_bn.analysis.scores import judge_scores


def table(arms, paired_by="seed"):
    return Scores(
        "t.csv", paired_by, tuple((a, str(i), float(x)) for a, xs in arms.items() for i, x in enumerate(xs, 1))
    )


def doubt(first, second, paired_by="seed"):
    return doubt_of(first, second, name="b", against="a", paired_by=paired_by)


def two(rng, n, rho):
    common = rng.normal(0, 1, n)
    return [np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(0, 1, n) for _ in range(2)]


@pytest.mark.parametrize("n", [5, 8, 15, 28])
@pytest.mark.parametrize("ways", [(1, 1), (-1, -1), (1, -1)])
def test_sorted_columns_are_said(n, ways):
    rng = np.random.default_rng(n)
    arms = {name: np.sort(rng.normal(90, 1, n))[::way] for name, way in zip("ab", ways, strict=True)}
    verdict = judge_scores(table(arms), baseline="a")
    assert "The pairs are in doubt: a and b are both sorted" in verdict["reason"]
    assert "Without the pairs Welch's t-test gives p = " in verdict["reason"]


def test_sorted_with_ties_and_nearly_sorted():
    rng = np.random.default_rng(0)
    tied = [np.sort(np.round(rng.normal(90, 1, 12), 1)) for _ in "ab"]
    assert "are both sorted in the order" in doubt(*tied).text
    swapped = [np.sort(rng.normal(90, 1, 12)) for _ in "ab"]
    swapped[1][[3, 4]] = swapped[1][[4, 3]]
    assert "sorted" in doubt(*swapped).text
    appended = [np.append(np.sort(rng.normal(90, 1, 14)), 90.0) for _ in "ab"]
    assert "nearly sorted" in doubt(*appended).text


@pytest.mark.parametrize("others", [{}, {"c": [1.5, 2.9, 2.2, 4.1, 6.3, 5.0, 8.1, 7.7]}])
def test_the_same_scores_sorted_the_other_way_are_said(others):
    """Welch's test refuses the same scores in another order where they are a whole table without pairs."""
    scores = [1.1, 2.3, 3.2, 4.7, 5.1, 6.9, 7.4, 8.8]
    verdict = judge_scores(table({"a": scores, "b": scores[::-1], **others}), baseline="a")
    (turned,) = (arm for arm in verdict["candidates"] if arm["arm"] == "b")
    assert "are both sorted (one the other way)" in turned["doubt"]
    assert turned["welch"]["p_value"] == 0.5
    assert not turned["supported"]
    assert not turned["worse"]


def test_sorted_by_one_column_is_no_reason_for_doubt():
    """Rows that moved together are pairs still."""
    rng = np.random.default_rng(1)
    first, second = two(rng, 15, 0.6)
    order = np.argsort(first)
    found = doubt(first[order], second[order])
    assert found is None


def test_ranks_that_were_matched_and_shuffled_are_said():
    rng = np.random.default_rng(2)
    arms = [np.sort(rng.normal(90, 1, 20)) for _ in "ab"]
    order = rng.permutation(20)
    found = doubt(arms[0][order], arms[1][order])
    assert "correlate by" in found.text or "same ranks" in found.text
    assert not found.is_grave


def test_a_correlation_above_what_runs_have_is_said_with_welch_beside():
    rng = np.random.default_rng(3)
    base = rng.normal(90, 1, 20)
    verdict = judge_scores(table({"a": base, "b": base + 0.1 + rng.normal(0, 0.02, 20)}), baseline="a")
    assert verdict["verdict"] == "supported"
    assert "a and b correlate by 0.999" in verdict["reason"] or "a and b correlate by 1" in verdict["reason"]
    assert "Welch's t-test gives p = " in verdict["reason"]


@pytest.mark.parametrize("paired_by", ["fold", "dataset", "task_name", "repeat/fold"])
def test_data_sets_and_folds_correlate_by_nature(paired_by):
    rng = np.random.default_rng(4)
    base = rng.uniform(50, 99, 15)
    assert doubt(base, base + rng.normal(1, 0.5, 15), paired_by) is None


def test_each_doubtful_arm_is_said():
    rng = np.random.default_rng(5)
    ranked = {name: np.sort(rng.normal(90, 1, 9)) for name in ("a", "b", "c")}
    verdict = judge_scores(table({**ranked, "d": rng.normal(95, 1, 9)}), baseline="a")
    said = [remark for remark in verdict["remarks"] if "sorted" in remark]
    assert len(said) == 2
    assert "a and b" in said[0]
    assert "Welch" in said[0]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(score_tests, "other_tests", lambda differences, **_: None)


@pytest.mark.long
def test_sorting_makes_no_gain(quick):
    """Two arms without an effect, each sorted by itself: the paired test alone rejects a third of the time."""
    rng = np.random.default_rng(6)
    tables = [{name: np.sort(rng.normal(90, 1, 15)) for name in "ab"} for _ in range(400)]
    verdicts = [judge_scores(table(arms), baseline="a") for arms in tables]
    plain = np.mean([verdict["candidates"][0]["p_value"] <= 0.05 for verdict in verdicts])
    told = np.mean([verdict["verdict"] == "supported" for verdict in verdicts])
    assert plain > 0.25
    assert told <= 0.08


@pytest.mark.long
@pytest.mark.parametrize(("n", "rate"), [(3, 0.0), (4, 0.03), (5, 0.01), (6, 0.01), (10, 0.01), (30, 0.01)])
@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_false_alarms_are_rare(n, rate, rho):
    """Honest pairs, as seeds are numbered: the share of tables in which something is said."""
    rng = np.random.default_rng(n)
    found = sum(doubt(*two(rng, n, rho)) is not None for _ in range(500))
    assert found <= 500 * rate + 3 * np.sqrt(500 * rate)


@pytest.mark.long
def test_so_many_runs_without_pairs_are_refused():
    """All differences between two arms would fill the memory."""
    many = np.random.default_rng(5).normal(90, 1, 5_001)
    verdict = judge_scores(table({"a": many[:4_000], "b": many}), baseline="a", unpaired=True)
    assert verdict["problems"] == ["b has 5,001 runs; accepted: at most 5,000 without pairs"]


@pytest.mark.parametrize("digits", [0, 1, 2])
def test_ranks_are_compared_without_looking_at_every_two_pairs(digits):
    rng = np.random.default_rng(digits)
    found = set()
    for n in [8, 9, 20] * 60:
        first = np.round(rng.normal(90, 2, n), digits)
        second = np.round(first + rng.choice([0.0, 0.02, 0.5]) * rng.normal(0, 1, n), digits)
        i, j = np.triu_indices(n, 1)
        agree = np.sign(first[i] - first[j]) * np.sign(second[i] - second[j])
        expected = bool(agree.min() >= 0 and agree.mean() >= FEW_TIES)
        assert _same_ranks(first, second) is expected
        found.add(expected)
    assert found == {True, False}


def test_many_pairs_fill_no_memory():
    first, second = two(np.random.default_rng(0), 100_000, 0.5)
    assert doubt(first, second) is None
