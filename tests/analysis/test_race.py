"""The race of the selection: what it promises, over simulated races, and what it decides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tune_bn.analysis.race import race, race_looks

SEEDS, ERROR = 15, 0.2


def run(scores, *, seeds=SEEDS, error=ERROR, places=1):
    """The race over whole columns of scores, finalist by finalist, as the selection would feed it."""
    have = dict.fromkeys(scores, 0)
    while True:
        stand = race({name: scores[name][: have[name]] for name in scores}, seeds=seeds, error=error, places=places)
        if stand.needed == have:
            return stand
        have = dict(stand.needed)


def simulated(truth, studies, rng_seed=0):
    rng = np.random.default_rng(rng_seed)
    shared = rng.normal(0, 0.5, (studies, 1, SEEDS))
    return np.asarray(truth)[:, None] + shared + rng.normal(0, 0.5, (studies, len(truth), SEEDS))


def drop_rate(truth, places=1, studies=400):
    """How often one of the truly best is dropped, and the share of runs that was saved."""
    best = [str(index) for index in np.argsort(truth)[::-1][:places]]
    lost, runs = np.zeros(places), 0
    for table in simulated(truth, studies):
        stand = run({str(index): list(row) for index, row in enumerate(table)}, places=places)
        lost += [name in stand.dropped for name in best]
        runs += sum(stand.needed.values())
    return lost / studies, 1 - runs / (studies * len(truth) * SEEDS)


@pytest.mark.long
@pytest.mark.parametrize(("truth", "places"), [([0, 0, 0, 0], 1), ([0.2, 0, 0, 0], 1), ([0, 0, 0, -3, -3], 2)])
def test_the_best_is_hardly_ever_dropped(truth, places):
    rates, _ = drop_rate(truth, places)
    assert max(rates) <= stats.binom.ppf(0.9999, 400, ERROR) / 400


@pytest.mark.long
def test_where_nothing_is_better_the_error_is_spent_but_not_exceeded():
    # All are equally good, so every drop is one of the best: the bound must hold for each, and it must not be vacuous.
    rates, _ = drop_rate([0.0] * 4)
    assert rates[0] <= ERROR
    any_drop = np.mean(
        [bool(run(dict(zip("abcd", map(list, t), strict=True))).dropped) for t in simulated([0] * 4, 400)]
    )
    assert any_drop > 0.02


def test_runs_of_hopeless_finalists_are_saved():
    _, saved = drop_rate([0.0, -2.0, -2.0, -2.0])
    assert saved > 0.5


def test_with_one_left_the_race_is_over():
    stand = run({"a": [95.0 + 0.01 * k for k in range(15)], "b": [80.0 + 0.02 * k * (-1) ** k for k in range(15)]})
    assert stand.dropped == {"b": 3}
    assert stand.needed == {"a": 3, "b": 3}


def test_a_place_for_each_candidate_is_kept():
    rng = np.random.default_rng(3)
    scores = {name: list(mean + rng.normal(0, 0.1, 15)) for name, mean in {"a": 96, "b": 95, "c": 90}.items()}
    assert set(run(scores, places=1).dropped) == {"b", "c"}
    assert set(run(scores, places=2).dropped) == {"c"}
    assert run(scores, places=3).dropped == {}


def test_without_a_race_everybody_runs_on_every_seed():
    scores = {"a": [95.0, 95.1, 95.0], "b": [50.0, 50.1, 50.3]}
    assert race(scores, seeds=10, error=None).needed == {"a": 10, "b": 10}
    # Up to three seeds there is no look at which something could be saved.
    assert race(scores, seeds=3, error=0.5).needed == {"a": 3, "b": 3}
    assert race({"a": []}, seeds=15, error=0.5).needed == {"a": 3}


def test_a_constant_difference_decides_nothing():
    assert race({"a": [95.0] * 3, "b": [90.0] * 3}, seeds=5, error=0.5).dropped == {}


def test_who_fails_holds_nobody_up():
    scores = {"a": [95.0, 95.2, 95.1], "b": [94.9, 95.3, 95.0], "c": [95.5]}
    assert race(scores, seeds=5, error=0.05).needed == {"a": 3, "b": 3, "c": 3}
    assert race(scores, seeds=5, error=0.05, withdrawn=frozenset("c")).needed == {"a": 5, "b": 5}


def test_comparisons_are_paired_t_tests():
    a, b = [95.5, 96.1, 95.0], [95.0, 95.2, 94.8]
    p = stats.ttest_rel(a, b, alternative="greater").pvalue
    # One look and one rival: the level is the error itself.
    assert race({"a": a, "b": b}, seeds=5, error=p * (1 + 1e-9)).dropped == {"b": 3}
    assert race({"a": a, "b": b}, seeds=5, error=p * (1 - 1e-9)).dropped == {}
    # A second rival halves it, a second look again.
    assert race({"a": a, "b": b, "c": [99.0, 95.0, 91.0]}, seeds=5, error=2 * p * (1 - 1e-9)).dropped == {}
    assert race({"a": a, "b": b, "c": [99.0, 95.0, 91.0]}, seeds=5, error=2 * p * (1 + 1e-9)).dropped == {"b": 3}
    assert race({"a": a, "b": b}, seeds=8, error=2 * p * (1 - 1e-9)).dropped == {}


@pytest.mark.parametrize(("seeds", "looks"), [(3, ()), (4, (3,)), (15, (3, 5, 8, 11)), (26, (3, 5, 8, 11, 15, 20, 25))])
def test_looks_come_before_the_last_seed(seeds, looks):
    assert race_looks(seeds) == looks
