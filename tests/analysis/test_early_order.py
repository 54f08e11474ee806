"""From which epoch on an early order counts: the exact distribution, its bound, ties, arms, looks, and their file."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tune_bn.analysis.early_order import (
    ALPHA,
    FEWEST_TRIALS,
    LEAST_TAU,
    MOST_TRIALS,
    Look,
    discordant,
    look,
    read_looks,
    sizes_of_looks,
    tau_lower_bound,
    words,
)
from tune_bn.errors import RecordError


def inversions(order: tuple[int, ...]) -> int:
    return sum(a > b for a, b in combinations(order, 2))


Ties = tuple[tuple[int, ...], ...]


def distinct(*sizes: int) -> Ties:
    return tuple((1,) * size for size in sizes)


@cache
def orders(ties: Ties) -> Counter[int]:
    """All orders of all arms by their number of discordant pairs; who ends the same makes none."""
    counts = Counter({0: 1})
    for groups in ties:
        ends = [place for place, size in enumerate(groups) for _ in range(size)]
        own = Counter(inversions(order) for order in permutations(ends))
        mixed: Counter[int] = Counter()
        for a, n in counts.items():
            for b, m in own.items():
                mixed[a + b] += n * m
        counts = mixed
    return counts


def by_enumeration(ties: Ties, q: float) -> tuple[list[float], float]:
    """Distribution of D with P ∝ q^D, and the expected τ."""
    counts = orders(ties)
    weights = [counts[d] * q**d for d in range(max(counts) + 1)]
    shares = [weight / sum(weights) for weight in weights]
    return shares, 1 - 2 * sum(d * share for d, share in enumerate(shares)) / (len(shares) - 1)


@pytest.mark.parametrize(
    "ties", [distinct(5), distinct(7), distinct(3, 4), distinct(6, 2), ((3, 1, 1, 2),), ((2, 2), (1, 3))]
)
@pytest.mark.parametrize("level", [0.05, 0.01])
@pytest.mark.parametrize("against", [0, 1, 2])
def test_the_bound_is_the_tau_that_is_just_not_refuted(ties: Ties, level: float, against: int) -> None:
    bound = tau_lower_bound(ties, against, level)

    def tail(tau: float) -> float:
        """P(D ≤ the one seen) where the expected τ is this one; q by bisection."""
        low, high = 1e-9, 1e9
        for _ in range(200):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if by_enumeration(ties, middle)[1] > tau else (low, middle)
        return sum(by_enumeration(ties, low)[0][: against + 1])

    assert tail(bound) == pytest.approx(level, rel=1e-3)
    assert tail(bound - 0.02) < level < tail(bound + 0.02)


def test_more_trials_fewer_discordant_pairs_and_a_laxer_level_say_more() -> None:
    assert tau_lower_bound(distinct(8), 0, 0.05) == pytest.approx(0.751, abs=1e-3)
    assert tau_lower_bound(distinct(4), 0, 0.05) < 0.05
    bounds = [tau_lower_bound(distinct(n), 0, 0.05) for n in range(3, 40)]
    assert bounds == sorted(bounds)
    bounds = [tau_lower_bound(distinct(9), d, 0.05) for d in range(37)]
    assert bounds == sorted(bounds, reverse=True)
    assert tau_lower_bound(distinct(9), 3, 0.05) > tau_lower_bound(distinct(9), 3, 0.025)
    assert tau_lower_bound(distinct(9), 2.5, 0.05) == tau_lower_bound(distinct(9), 3, 0.05)
    # Fewer pairs that end differently say less.
    bounds = [tau_lower_bound(((1,) * (9 - m) + (m,),), 0, 0.05) for m in range(1, 9)]
    assert bounds == sorted(bounds, reverse=True)
    # The largest look of two arms is no trouble for floats.
    assert 0.9 < tau_lower_bound(distinct(MOST_TRIALS, MOST_TRIALS), 60, ALPHA / 30) < 1


NORMAL = [((sizes), tau, False) for sizes in [(8,), (12,), (18,), (8, 8)] for tau in (0.0, 0.3, 0.5, 0.7)]


@pytest.mark.long
@pytest.mark.parametrize(("sizes", "tau", "rounded"), [*NORMAL, ((8,), 0.5, True), ((12,), 0.0, True)])
def test_the_bound_lies_above_the_truth_as_seldom_as_it_says_under_another_law(
    sizes: tuple[int, ...], tau: float, rounded: bool
) -> None:
    """Early and final scores that are bivariate normal, which is not Mallows' model; E τ̂ = 2/π·arcsin ρ.

    Rounded so that a tenth of the pairs end the same, the others lie farther apart, and their τ is higher.
    """
    generator, studies, level = np.random.default_rng([*sizes, int(10 * tau)]), 1000, 0.05
    rho, truth, wrong = np.sin(np.pi * tau / 2), {0.0: 0.0, 0.5: 0.54}.get(tau, tau) if rounded else tau, 0
    bound = cache(tau_lower_bound)
    for _ in range(studies):
        against, ties = 0.0, []
        for n in sizes:
            early = generator.standard_normal(n)
            final = rho * early + np.sqrt(1 - rho**2) * generator.standard_normal(n)
            final = np.round(3 * final) if rounded else final
            against += discordant(early, final)
            ties.append(tuple(sorted(Counter(final.tolist()).values())))
        wrong += bound(tuple(sorted(ties)), against, level) > truth
    assert wrong <= stats.binom.ppf(0.9999, studies, level)


def test_whoever_ends_the_same_makes_no_pair_and_an_early_tie_is_half_a_discordant_one() -> None:
    assert discordant([1, 2, 3], [10, 20, 30]) == 0
    assert discordant([3, 2, 1], [10, 20, 30]) == 3
    assert discordant([1, 1, 2], [10, 20, 30]) == 0.5
    assert discordant([1, 2, 3], [10, 10, 30]) == discordant([2, 1, 3], [10, 10, 30]) == 0
    assert discordant([1, 1, 3], [10, 10, 30]) == 0
    # All at chance: the early order says nothing, and τ is 0.
    assert discordant([10, 10, 10, 10], [91, 92, 93, 94]) == 3
    assert discordant([5], [5]) == 0


def test_trials_that_end_the_same_neither_hide_nor_feign_an_order() -> None:
    """Few validation images: five of twenty trials share the best score to the last digit."""
    trials = [{1: float(n), 2: float(n), 3: 90.0 + min(n, 15)} for n in range(20)]
    found = look(1, {"candidate": trials}, [1, 2], 3)
    assert [at.tau for at in found.epochs] == [1.0, 1.0]
    assert found.safe_from == 1
    assert found.epochs[0].low < look(1, {"candidate": settles(20, 1)}, [5], 10).epochs[0].low
    # Where all end the same there is nothing to lose, and nothing to learn from either.
    found = look(1, {"candidate": [{1: float(n), 2: 95.0} for n in range(10)]}, [1], 2)
    assert (found.epochs, found.safe_from) == ((), None)


def curves(*rows: list[float]) -> list[dict[int, float]]:
    """Whole trials by their objective at epochs 1, 2, 3, …"""
    return [dict(enumerate(row, start=1)) for row in rows]


def settles(trials: int, at: int, last: int = 10) -> list[dict[int, float]]:
    """Trials whose order is reversed before an epoch and final from there on."""
    return [{epoch: (n if epoch >= at else -n) + 100.0 * epoch for epoch in range(1, last + 1)} for n in range(trials)]


@pytest.mark.parametrize("at", [1, 4, 9])
def test_stopping_is_safe_from_where_the_order_settles(at: int) -> None:
    found = look(1, {"candidate": settles(FEWEST_TRIALS, at)}, range(1, 10), 10)
    assert found.safe_from == at
    assert [round(one.tau, 6) for one in found.epochs] == [-1.0] * (at - 1) + [1.0] * (10 - at)
    assert found.at_safe is not None
    assert found.at_safe.low >= LEAST_TAU


def test_hopeless_trials_do_not_make_an_epoch_look_trustworthy() -> None:
    """All pairs with a bad trial are in their final order from the start; those of good ones from epoch 7 on."""
    good = [{e: v + 1000 for e, v in trial.items()} for trial in settles(10, 7)]
    bad = [{e: float(n) for e in range(1, 11)} for n in range(10)]
    assert look(1, {"candidate": [*bad, *good]}, range(1, 10), 10).safe_from == 7
    assert look(1, {"candidate": [*good, *bad]}, range(1, 10), 10).safe_from == 7


def test_an_order_that_agrees_and_then_does_not_is_not_safe() -> None:
    trials = settles(20, 1)
    for number, trial in enumerate(trials):
        trial[7] = -number
    assert look(1, {"candidate": trials}, range(1, 10), 10).safe_from == 8


def test_too_few_trials_are_never_sure() -> None:
    assert look(1, {"candidate": settles(10, 1)}, range(1, 10), 10).safe_from is None
    for few in ({}, {"candidate": []}, {"candidate": settles(1, 1)}, {"candidate": settles(1, 1), "baseline": []}):
        found = look(1, few, range(1, 10), 10)
        assert (found.safe_from, found.epochs) == (None, ())
        assert "nothing is stopped" in words(found)


def test_arms_make_no_pairs_with_each_other_and_one_cannot_outvote_the_other() -> None:
    """The baseline is a hundred points better throughout: no pair knows of it."""
    base = [{epoch: value + 100 for epoch, value in trial.items()} for trial in settles(16, 6)]
    found = look(1, {"candidate": settles(16, 3), "baseline": base}, range(1, 10), 10)
    assert found.safe_from == 6
    assert found.epochs[2].arms == {"candidate": 1.0, "baseline": -1.0}
    # Of so many candidates' pairs the few of the baseline would not be noticed.
    found = look(1, {"candidate": settles(60, 3), "baseline": settles(6, 6)}, range(1, 10), 10)
    assert found.epochs[2].low > LEAST_TAU
    assert found.safe_from == 6


def test_later_looks_are_held_at_lower_levels_and_together_at_alpha() -> None:
    levels = [look(number, {"candidate": settles(8, 1)}, [5], 10).level for number in range(1, 200)]
    assert levels == sorted(levels, reverse=True)
    assert ALPHA * 0.99 < sum(levels) < ALPHA


def test_sizes_of_looks_grow_to_the_last_trial_and_no_further() -> None:
    assert sizes_of_looks(8, 24) == [8, 12, 18, 24]
    assert sizes_of_looks(8, 5) == [5]
    assert sizes_of_looks(8, 8) == [8]
    assert sizes_of_looks(24, 24) == [24]
    assert sizes_of_looks(8, 10_000)[-1] < MOST_TRIALS * 1.5
    assert sizes_of_looks(100, 10_000) == [100]


@pytest.mark.long
def test_a_safe_epoch_is_wrongly_found_in_no_more_studies_than_alpha() -> None:
    """Trials whose order says too little at the last epoch in question: over all looks of a study."""
    generator, wrong, studies = np.random.default_rng(0), 0, 400
    rho = np.sin(np.pi * (LEAST_TAU - 0.01) / 2)
    sizes = sizes_of_looks(FEWEST_TRIALS, 48)
    for _ in range(studies):
        early = generator.standard_normal(24)
        final = rho * early + np.sqrt(1 - rho**2) * generator.standard_normal(24)
        # The worse half knows its place, and must not be heard.
        good = [[a + 20, b + 20] for a, b in zip(early, final, strict=True)]
        trials = curves(*(row for k in range(24) for row in (good[k], [-float(k), -float(k)])))
        looks = [look(k, {"candidate": trials[:n]}, [1], 2) for k, n in enumerate(sizes, start=1)]
        wrong += any(found.safe_from is not None for found in looks)
    assert wrong <= stats.binom.ppf(0.9999, studies, ALPHA)


def test_the_words_say_the_epoch_the_correlation_and_what_follows() -> None:
    safe = words(look(1, {"candidate": settles(20, 4)}, range(1, 10), 10))
    assert safe.startswith("early stopping is safe from epoch 4 of 10 here: from there on ")
    assert "(τ = 1.00, surely ≥ " in safe
    assert "97.5 % confidence, the better half of 20 candidate trials" in safe
    unsafe = look(2, {"candidate": settles(10, 10), "baseline": settles(4, 10)}, range(1, 10), 10)
    line = words(unsafe, next_at=15)
    assert "not safe here: at epoch 9 of 10 the order of the better half of the trials still differs from" in line
    assert "(τ = -1.00, surely ≥ -1.00, needed: 0.5" in line
    assert "10 candidate and 4 baseline trials" in words(unsafe)
    assert words(unsafe, next_at=15).endswith("all go on to their end; next look at 15 trials")
    assert words(unsafe).endswith("nothing is stopped")


def test_too_few_trials_are_said_to_be_too_few_and_not_out_of_order() -> None:
    few = look(1, {"candidate": settles(4, 2)}, range(1, 5), 5)
    assert few.safe_from is None
    assert few.epochs[-1].tau == 1.0
    line = words(few)
    assert line.startswith("early stopping is not known to be safe here: at epoch 4 of 5 the order of the better half")
    assert "agrees with their final one (τ = 1.00), but of so few that only τ ≥ -0." in line
    assert "differs" not in line


def test_the_file_gives_back_the_looks(tmp_path: Path) -> None:
    looks = [
        look(1, {"candidate": settles(8, 10), "baseline": settles(3, 2)}, range(1, 10), 10),
        look(2, {"candidate": settles(12, 4), "baseline": []}, range(1, 10), 10),
    ]
    path = tmp_path / "early_order.json"
    path.write_text(json.dumps({"looks": [found.to_json() for found in looks]}))
    assert read_looks(path) == looks
    assert all(isinstance(found, Look) for found in read_looks(path))


def _damaged() -> list[Any]:
    good = look(1, {"candidate": settles(16, 4)}, range(1, 10), 10).to_json()
    at = good["epochs"][0]
    return [
        "",
        "[]",
        "{}",
        '{"looks": 3}',
        '{"looks": [3]}',
        "[" * 100_000,
        {**good, "safe_from": 11},
        {**good, "safe_from": "x"},
        {**good, "last": 5},
        {**good, "level": 0},
        {**good, "level": float("nan")},
        {**good, "trials": []},
        {**good, "epochs": 1},
        {**good, "epochs": [{**at, "tau": 1.5}]},
        {**good, "epochs": [{**at, "low": float("inf")}]},
        {**good, "epochs": [{**at, "arms": {}}]},
        {**good, "epochs": [{**at, "epoch": 10**400}]},
        {key: value for key, value in good.items() if key != "epochs"},
    ]


@pytest.mark.parametrize("content", _damaged(), ids=range(len(_damaged())))
def test_a_damaged_file_is_named(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "early_order.json"
    path.write_text(content if isinstance(content, str) else json.dumps({"looks": [content]}))
    with pytest.raises(RecordError, match=r"early_order\.json: not the looks .*; accepted"):
        read_looks(path)
