"""The benchmarks in small: the chain keeps its level, where the naive pipelines do not; runs and pairs are counted.

A rate over n studies must lie where a binomial count lies with probability 0.9998 (0.0001 on each side). The generators
are fixed, so a failure is a change of the code and not bad luck.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.results import RESULTS, markdown, rate_words, read, save
from benchmarks.statistics.calibration import NAIVE, Setting, decisions, naive_decisions, whole
from benchmarks.statistics.power import cell_power
from benchmarks.statistics.power import summary as power_table
from benchmarks.statistics.sample_efficiency import Budget, best_mean, one_study, paper_procedure, space_of
from benchmarks.statistics.simulation import Laboratory
from benchmarks.statistics.summary import summary
from benchmarks.statistics.surrogates import OFF_GRID, ON_GRID
from benchmarks.statistics.vectorized import sequential_decisions
from tune_bn.analysis.sequential import Decision, decide, design
from tune_bn.paper import tables as paper

STUDIES = 10_000


def upper(probability: float, n: int) -> int:
    return int(stats.binom.ppf(0.9999, n, probability))


def lower(probability: float, n: int) -> int:
    return int(stats.binom.ppf(0.0001, n, probability))


@pytest.mark.parametrize("futility", [None, 0.05])
@pytest.mark.parametrize("images", [None, 40])
def test_the_vectorized_decisions_are_those_of_decide(futility: float | None, images: int | None) -> None:
    rng, rule = np.random.default_rng(1), design(futility=futility)
    scores = 90 + 0.6 * rng.standard_normal((120, 4, 15)) + np.array([0.0, 0.0, 0.5, 1.0])[:, None]
    if images:
        # So few images that all differences of an early look are equal now and then.
        scores = np.round(scores / 100 * images) * 100 / images
        scores[:, 0, -1] += 0.01
    found = sequential_decisions(scores[:, 1:], scores[:, :1], rule)
    for study, arms in enumerate(scores):
        expected = decide(dict(enumerate(arms[1:])), arms[0], rule)  # type: ignore[arg-type]
        for arm, outcome in expected.items():
            last = outcome.last
            assert found.supported[study, arm] == (last.decision is Decision.EFFICACY)
            assert found.pairs[study, arm] == last.n
            assert last.ci_low is None or found.ci_low[study, arm] == pytest.approx(last.ci_low, abs=1e-4)
    assert 0 < found.supported.mean() < 1


@pytest.mark.parametrize("stopping", ["fixed", "group_sequential"])
@pytest.mark.parametrize(("candidates", "least"), [(1, 0.0475), (3, 0.0425), (6, 0.0395)])
def test_the_chain_keeps_its_level(stopping: str, candidates: int, least: float) -> None:
    """``least``: Holm's correction is not exact for arms that share a baseline, nor is a futility bound that is obeyed;
    docs/statistics.md has the rates of a million studies, the lowest of each number of candidates is taken here."""
    for rho in (0.0, 0.5):
        row = decisions(Setting("decisions", rho, 0.0, candidates, stopping), STUDIES)
        assert lower(least, STUDIES) <= row["supported"] <= upper(0.05, STUDIES)


@pytest.mark.parametrize("stopping", ["fixed", "group_sequential"])
def test_the_intervals_cover_a_true_effect(stopping: str) -> None:
    row = decisions(Setting("decisions", 0.5, 0.5, 1, stopping), STUDIES)
    for covered, confidence in ((row["covered_one_sided"], 0.95), (row["covered_two_sided"], 0.9)):
        assert covered >= lower(confidence, STUDIES)
        # Repeated bounds hold at all looks together, so at the one that ended the study they cover more.
        assert stopping == "group_sequential" or covered <= upper(confidence, STUDIES)


def test_judging_the_winner_on_the_seeds_that_chose_it_does_not_keep_the_level() -> None:
    naive, by_test_scores, rerun = naive_decisions(0.5, 5000)
    assert [row["pipeline"] for row in (naive, by_test_scores, rerun)] == list(NAIVE)
    assert naive["supported"] > 5000 * 0.35
    assert by_test_scores["supported"] > upper(0.10, 5000)
    assert rerun["supported"] > upper(0.05, 5000)


def test_whole_studies_keep_the_level_where_the_naive_pipeline_on_the_same_data_does_not() -> None:
    supported, naive, studies = 0, 0, 0
    for stopping, candidates, count in (("fixed", 1, 40), ("group_sequential", 6, 15)):
        row, found = whole(Setting("whole", 0.5, 0.0, candidates, stopping), count, jobs=1)
        supported += row["supported"]
        naive += sum(one[0] for one in found)
        studies += row["studies"]
        assert row["intervals"] == count * candidates
        assert (row["mean_pairs"] == 15) == (stopping == "fixed")
    assert supported <= upper(0.05, studies) < naive


def test_the_papers_procedure_runs_its_grid_and_its_baselines() -> None:
    for surrogate, most in ((ON_GRID, 0.1), (OFF_GRID, 0.4)):
        point, runs = paper_procedure(Laboratory(surrogate, 0, 0.5))
        assert runs == 315 + 15 * 3
        assert point.c == 100
        assert 0 <= best_mean(surrogate) - surrogate.mean(point) <= most


def test_every_run_of_a_study_is_counted() -> None:
    budget = Budget("lean", trials=24, finalists=2, select=3, scheduler="none", stopping="group_sequential")
    row = one_study((ON_GRID, budget, "tpe", 1), rho=0.5)
    search_and_select = row["runs"] - row["confirm_runs"]
    assert search_and_select == 24 + 2 * 2 * 3
    # Three trials of the baseline, one for each learning rate; the candidates' are of ranges.
    assert row["repeats"] == 0
    assert row["full_runs"] == row["runs"]
    assert row["confirm_runs"] < 30
    assert row["regret"] >= 0


def test_what_early_stopping_saves_is_counted() -> None:
    space = space_of(Budget("resnet.yaml"), "random", 0)
    assert (space.train.epochs, space.scheduler.grace, space.budget.trials) == (18, "auto", 32)
    row = one_study((OFF_GRID, Budget("resnet.yaml"), "random", 2), rho=0.5)
    # Sixteen trials of each arm run to their end first.
    assert row["full_runs"] < row["runs"] - 1


@pytest.mark.parametrize(("gamma", "lr"), [(0.1, 0.1), (1.0, 0.1), (0.75, 0.001)])
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_stopping_early_costs_little_power(gamma: float, lr: float, rho: float) -> None:
    row = cell_power(paper.find("table1a", gamma=gamma, lr=lr), rho, design(), STUDIES, seed=3)
    assert (
        lower(row["power_exact"], STUDIES) <= round(row["power_fixed"] * STUDIES) <= upper(row["power_exact"], STUDIES)
    )
    assert row["power_lost"] <= 0.05
    # The cell that is hardest to tell from BASE still saves a fifth.
    assert row["mean_pairs"] < 0.8 * 15
    assert f"{row['mean_pairs']:.2f}" in power_table([row])


def test_results_can_be_read_back(tmp_path: Path) -> None:
    rows = [{"sampler": "tpe", "runs": 58}, {"sampler": "gp", "runs": 57}]
    made = {"command": "python -m benchmarks.x", "commit": "0" * 40, "seconds": 3}
    save("x", rows, made, {"**Runs**": markdown([("sampler", "runs"), ("tpe", "58")])}, tmp_path)
    with (tmp_path / "x.csv").open() as handle:
        assert list(csv.DictReader(handle)) == [{key: str(value) for key, value in row.items()} for row in rows]
    assert json.loads((tmp_path / "x.json").read_text()) == made
    text = (tmp_path / "x.md").read_text()
    assert text.endswith("**Runs**\n\n| sampler | runs |\n| --- | --- |\n| tpe | 58 |\n")
    assert text.startswith("Written by `python -m benchmarks.x` at commit 000000000000 in 3 s.\n")


def test_a_rate_comes_with_its_exact_interval() -> None:
    assert rate_words(5, 100) == "5.0 % (1.6 to 11.3)"


def test_the_summary_is_that_of_the_committed_results() -> None:
    found = summary(*map(read, ("sample_efficiency", "calibration", "power")))
    assert (RESULTS / "summary.md").read_text() == found + "\n"
