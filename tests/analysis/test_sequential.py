"""Group-sequential stopping: what it promises, over simulated studies, and what it decides, look by look.

The simulations follow the rule for many studies at once (``follow``); one test ties it to ``decide``.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import special, stats

from tune_bn.analysis.paired import PairsError, PairsProblem, holm, paired_t_test
from tune_bn.analysis.sequential import Decision, decide, design, monitor
from tune_bn.analysis.spending import repeated_p
from tune_bn.errors import ConfigError
from tune_bn.paper import tables as paper

DESIGN = design()
LOOKS, PAIRS, ALPHA = np.array(DESIGN.looks), DESIGN.looks[-1], DESIGN.alpha
STUDIES = 100_000
DECISIONS = np.array([Decision.CONTINUE, Decision.EFFICACY, Decision.FUTILITY, Decision.LAST_LOOK])


def statistics(differences):
    """Mean and standard deviation of the first n differences for each look, shapes (..., K)."""
    total, squares = (np.cumsum(x, axis=-1)[..., LOOKS - 1] for x in (differences, differences**2))
    return total / LOOKS, np.sqrt(np.maximum(squares - total**2 / LOOKS, 0) / (LOOKS - 1))


def evidence(differences):
    """t statistics and repeated p-values, shapes (..., K); differences that do not vary give no evidence."""
    mean, std = statistics(differences)
    varied = std > 1e-6
    t = mean / np.where(varied, std, 1) * np.sqrt(LOOKS)
    return t, repeated_p(DESIGN.looks, np.where(varied, special.stdtr(LOOKS - 1, -t), 1))


def follow(t, p, *, futility=DESIGN.futility_t):
    """The rule of ``decide`` for many studies, shape (studies, candidates, K).

    Returns which of DECISIONS ended each candidate and the index of that look, both (studies, candidates).
    """
    decision, ended = np.zeros(t.shape[:-1], dtype=int), np.full(t.shape[:-1], len(LOOKS) - 1)
    frozen = np.ones(t.shape[:-1])
    for k in range(len(LOOKS)):
        running = decision == 0
        frozen = np.where(running, p[..., k], frozen)
        now = np.where(holm(frozen) <= ALPHA, 1, 0)
        if k == len(LOOKS) - 1:
            now = np.where(now == 0, 3, now)
        elif futility is not None:
            now = np.where((now == 0) & (t[..., k] < futility[k]), 2, now)
        ended = np.where(running & (now > 0), k, ended)
        decision = np.where(running, now, decision)
    return decision, ended


def simulate(effects, *, studies=STUDIES, rng_seed=0, draw=None):
    """Differences of candidates to a baseline that they share, (studies, candidates, pairs); effects in std of one."""
    rng = np.random.default_rng(rng_seed)
    noise = rng.standard_normal if draw is None else lambda shape: draw(rng, shape)
    arms = noise((studies, len(effects) + 1, PAIRS))
    return (arms[:, 1:] - arms[:, :1]) / np.sqrt(2) + np.asarray(effects)[:, None]


def upper(probability, trials):
    """A rate over ``trials`` lies at or below this with probability 0.9999."""
    return stats.binom.ppf(0.9999, trials, probability) / trials


def lower(probability, trials):
    return stats.binom.ppf(0.0001, trials, probability) / trials


def scores(differences, rng_seed=9):
    """Percent scores of a candidate and a baseline with the given differences."""
    baseline = 90 + np.random.default_rng(rng_seed).normal(0, 0.5, len(differences))
    return baseline + np.asarray(differences, dtype=float), baseline


def outcome_of(differences, rule=DESIGN):
    return monitor(*scores(differences), rule)


def told(outcome):
    return [str(look.decision) for look in outcome.looks]


# Its promises


def test_without_an_effect_the_level_is_alpha():
    rate = np.mean(follow(*evidence(simulate([0.0])), futility=None)[0] == 1)
    assert lower(ALPHA, STUDIES) <= rate <= upper(ALPHA, STUDIES)


def test_where_futility_is_obeyed_the_level_is_not_above_alpha():
    assert 0.03 < np.mean(follow(*evidence(simulate([0.0])))[0] == 1) <= upper(ALPHA, STUDIES)


@pytest.mark.long
@pytest.mark.parametrize("candidates", [3, 6])
def test_the_family_wise_rate_is_not_above_alpha(candidates):
    t, p = evidence(simulate([0.0] * candidates, rng_seed=candidates))
    for futility in (None, DESIGN.futility_t):
        rate = np.mean((follow(t, p, futility=futility)[0] == 1).any(axis=-1))
        assert 0.02 < rate <= upper(ALPHA, STUDIES)


@pytest.mark.long
def test_the_family_wise_rate_holds_beside_a_true_effect():
    decision, _ = follow(*evidence(simulate([2.0, 0.0, 0.0], rng_seed=1)))
    assert np.mean(decision[:, 0] == 1) > 0.99
    assert np.mean((decision[:, 1:] == 1).any(axis=-1)) <= upper(ALPHA, STUDIES)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: rng.standard_t(5, shape),
        # Accuracies on 897 test images, in whole images: equal differences are common.
        lambda rng, shape: np.round(897 * (0.96 + 0.006 * rng.standard_normal(shape))) / 897,
    ],
    ids=["heavy tails", "whole images"],
)
def test_other_noise_does_not_raise_the_level(draw):
    _, p = evidence(simulate([0.0], rng_seed=2, draw=draw))
    assert np.mean((p <= ALPHA).any(axis=-1)) <= upper(ALPHA, STUDIES)


@pytest.mark.long
@pytest.mark.parametrize("effect", [-0.5, 0.0, 0.6, 1.5])
def test_the_lower_bound_covers_wherever_the_candidate_stops(effect):
    differences = simulate([effect], rng_seed=3)[:, 0]
    mean, std = statistics(differences)
    bound = mean - np.array(DESIGN.efficacy) * std / np.sqrt(LOOKS)
    _, ended = follow(*evidence(differences[:, None]))
    assert np.mean(np.take_along_axis(bound, ended, axis=-1) <= effect) >= lower(1 - ALPHA, STUDIES)
    # At all looks together, so whatever made one of them the last.
    assert lower(1 - ALPHA, STUDIES) <= np.mean((bound <= effect).all(axis=-1)) <= upper(1 - ALPHA, STUDIES)


def paper_cells(correlation, studies=10_000):
    """For each cell of Table 1.a with a γ: is it shown by the fixed test, by the sequential one, and after how many."""
    fixed, shown, pairs = [], [], []
    for index, cell in enumerate(cell for cell in paper.cells("table1a") if cell.method != paper.BASE):
        base = paper.base_of(cell)
        std = np.sqrt(cell.std**2 + base.std**2 - 2 * correlation * cell.std * base.std)
        rng = np.random.default_rng(index)
        differences = rng.normal(cell.mean - base.mean, std, (studies, 1, PAIRS))
        t, p = evidence(differences)
        fixed.append(np.mean(t[..., -1] >= stats.t.isf(ALPHA, PAIRS - 1)))
        decision, ended = follow(t, p)
        shown.append(np.mean(decision == 1))
        pairs.append(np.mean(LOOKS[ended]))
    assert len(pairs) == 21
    return np.mean(fixed), np.mean(shown), 1 - np.mean(pairs) / PAIRS


@pytest.mark.long
def test_over_the_papers_cells_it_saves_half_of_the_pairs_and_keeps_the_power():
    fixed, shown, saved = paper_cells(correlation=0.0)
    assert shown >= fixed - 0.01
    assert saved >= 0.45
    fixed, shown, saved_when_correlated = paper_cells(correlation=0.5)
    assert shown >= fixed - 0.01
    assert saved_when_correlated > saved


def test_decide_follows_the_rule_that_was_simulated():
    differences = simulate([0.8, 0.3, 0.0], studies=60, rng_seed=4)
    decision, ended = follow(*evidence(differences))
    for one, expected, last in zip(differences, decision, ended, strict=True):
        _, baseline = scores(np.zeros(PAIRS))
        found = decide({str(i): baseline + d for i, d in enumerate(one)}, baseline, DESIGN)
        assert [outcome.last.decision for outcome in found.values()] == DECISIONS[expected].tolist()
        assert [outcome.last.n for outcome in found.values()] == LOOKS[last].tolist()
    assert set(decision.ravel()) == {1, 2, 3}


# What it decides


def test_the_default_design_as_json():
    assert json.loads(json.dumps(asdict(DESIGN))) == asdict(DESIGN) | {
        key: list(value) for key, value in asdict(DESIGN).items() if isinstance(value, tuple)
    }
    assert DESIGN.efficacy == pytest.approx(stats.t.isf(DESIGN.nominal_p, LOOKS - 1), rel=1e-5)
    assert np.all(np.diff(DESIGN.efficacy) < 0)
    assert len(DESIGN.futility_t) == len(LOOKS) - 1
    assert np.all(np.array(DESIGN.futility_t) < DESIGN.efficacy[:-1])
    assert design(futility=None).futility_t is None
    assert design(futility=None).efficacy == DESIGN.efficacy


@pytest.mark.parametrize("futility", [0.05, 0.2])
def test_on_the_futility_bound_the_predictive_power_is_what_was_asked(futility):
    """With many pairs t is normal; the last z, given the one so far and a flat prior, is drawn."""
    rule = design((1000, 2000, 4000), futility=futility)
    draws = np.random.default_rng(0).standard_normal((2, 400_000))
    for n, bound in zip(rule.looks, rule.futility_t, strict=False):
        drift = bound / np.sqrt(n) + draws[0] / np.sqrt(n)
        final = (bound * np.sqrt(n) + drift * (4000 - n) + draws[1] * np.sqrt(4000 - n)) / np.sqrt(4000)
        assert np.mean(final >= special.ndtri(0.95)) == pytest.approx(futility, abs=0.004)


def test_each_look_carries_the_fixed_tests_numbers_on_its_pairs():
    differences = np.random.default_rng(5).normal(0.3, 1, PAIRS)
    outcome = outcome_of(differences)
    candidate, baseline = scores(differences)
    for look in outcome.looks:
        fixed = paired_t_test(candidate[: look.n], baseline[: look.n])
        assert (look.effect, look.std, look.t, look.nominal_p) == (fixed.effect, fixed.std, fixed.t, fixed.p_value)
    assert [look.n for look in outcome.looks] == list(DESIGN.looks)[: len(outcome.looks)]
    assert [look.efficacy for look in outcome.looks] == list(DESIGN.efficacy)[: len(outcome.looks)]
    assert outcome.p_adjusted == outcome.last.p_value


def test_a_large_gain_stops_early_and_a_loss_sooner():
    assert told(outcome_of(np.tile([1.0, 1.3, 0.8, 1.1, 0.9], 3))) == ["continue", "efficacy"]
    assert told(outcome_of(np.tile([-1.0, -1.3, -0.8, -1.1, -0.9], 3))) == ["futility"]
    assert told(outcome_of(np.tile([-1.0, -1.3, -0.8, -1.1, -0.9], 3), design(futility=None)))[-1] == "last_look"


@pytest.mark.parametrize("rng_seed", range(12))
def test_the_boundary_the_p_value_and_the_lower_bound_agree(rng_seed):
    outcome = outcome_of(np.random.default_rng(rng_seed).normal(0.6, 1, PAIRS), design(futility=None))
    for look in outcome.looks:
        crossed = look.t >= look.efficacy
        assert (look.decision is Decision.EFFICACY) == crossed == (look.p_value <= ALPHA) == (look.ci_low >= 0)
        # A sequential test is never more lenient than the fixed one on the same pairs.
        assert look.p_value >= look.nominal_p


@pytest.mark.parametrize("rng_seed", range(8))
def test_later_pairs_change_nothing_that_was_decided(rng_seed):
    """The same looks come out while the study runs and when it is verified from all its records."""
    rng = np.random.default_rng(rng_seed)
    _, baseline = scores(np.zeros(PAIRS))
    candidates = {name: baseline + rng.normal(effect, 1, PAIRS) for name, effect in (("a", 1.0), ("b", 0.4), ("c", 0))}
    whole = decide(candidates, baseline, DESIGN)
    for n in range(DESIGN.looks[0], PAIRS + 1):
        part = decide({name: values[:n] for name, values in candidates.items()}, baseline[:n], DESIGN)
        for name, outcome in part.items():
            assert outcome.looks == whole[name].looks[: len(outcome.looks)]
            assert outcome.last.n == whole[name].last.n or outcome.last.decision is Decision.CONTINUE
    needed = {name: values[: whole[name].last.n] for name, values in candidates.items()}
    assert decide(needed, baseline, DESIGN) == whole
    backwards = decide(dict(reversed(candidates.items())), baseline, DESIGN)
    assert backwards == whole


def test_a_look_waits_for_the_candidates_that_still_run():
    good, even = np.tile([1.0, 1.1, 0.9], 5), np.tile([0.4, -0.2, 0.1], 5)
    _, baseline = scores(np.zeros(PAIRS))
    found = decide({"good": baseline + good, "even": (baseline + even)[:7]}, baseline, DESIGN)
    assert [found[name].last.n for name in ("good", "even")] == [5, 5]
    assert [str(found[name].last.decision) for name in ("good", "even")] == ["efficacy", "continue"]
    found = decide({"good": (baseline + good)[:5], "even": (baseline + even)[:8]}, baseline, DESIGN)
    assert [found[name].last.n for name in ("good", "even")] == [5, 8]


def test_a_claim_that_waits_for_another_candidate_is_freed_by_it():
    """Holm: p = 0.036 is not enough for the first of two, and is enough for the second."""
    _, baseline = scores(np.zeros(PAIRS))
    waits = np.add(baseline[:8], [1.6, -0.2, 1.2, 0.4, 1.5, 0.2, 1.1, 0.9])
    alone = monitor(waits, baseline, DESIGN)
    assert alone.last.decision is Decision.EFFICACY
    assert ALPHA / 2 < alone.last.p_value <= ALPHA
    weak = baseline + np.tile([0.3, -0.2, 0.25], 5)
    beside = decide({"waits": waits, "other": weak}, baseline, DESIGN)["waits"]
    assert beside.looks[:-1] == alone.looks[:-1]
    assert (beside.last.decision, beside.p_adjusted) == (Decision.CONTINUE, 2 * alone.p_adjusted)
    strong = baseline + np.tile([1.0, 1.1, 0.9], 5)
    freed = decide({"waits": waits, "other": strong}, baseline, DESIGN)
    assert {name: (o.last.n, str(o.last.decision)) for name, o in freed.items()} == {
        "waits": (8, "efficacy"),
        "other": (5, "efficacy"),
    }


def test_a_claim_that_waited_must_still_hold_when_it_is_freed():
    _, baseline = scores(np.zeros(PAIRS))
    falls = np.add(baseline, [1.6, -0.2, 1.2, 0.4, 1.5, 0.2, 1.1, 0.9, -6, -5, -4, 0, 0, 0, 0])
    assert monitor(falls, baseline, DESIGN).last.decision is Decision.EFFICACY
    late = np.add(baseline, [0.2, 0.9, -0.6, 0.7, 0.3, 0.9, -0.2, 0.5, 0.4, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9])
    found = decide({"falls": falls, "late": late}, baseline, DESIGN)
    assert told(found["falls"]) == ["continue", "continue", "continue", "futility"]
    assert told(found["late"])[-1] == "efficacy"


# What cannot be judged


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_differences_that_do_not_vary_never_reject(constant):
    """Three equal differences have an infinite t; with accuracies in whole images they come about by chance."""
    outcome = outcome_of([constant] * 3)
    assert (outcome.last.t, outcome.last.p_value, outcome.last.ci_low, told(outcome)) == (None, 1.0, None, ["continue"])
    assert outcome.last.effect == pytest.approx(constant, abs=1e-12)
    later = outcome_of([constant] * 3 + [0.2, 0.9, 0.1, 0.6, 0.3])
    assert [look.t is None for look in later.looks] == [True, False, False]
    whole = outcome_of([constant] * PAIRS)
    assert (whole.last.t, whole.last.p_value, told(whole)[-1]) == (None, 1.0, "last_look")


@pytest.mark.parametrize(
    ("candidate", "baseline", "problem"),
    [
        ([97.0, 96.0], [96.0, 96.5], PairsProblem.TOO_FEW),
        ([], [], PairsProblem.TOO_FEW),
        ([97.0, np.nan, 96.0], [96.0, 95.0, 95.5], PairsProblem.NOT_FINITE),
        ([97.0, np.inf, 96.0], [96.0, 95.0, 95.5], PairsProblem.NOT_FINITE),
        ([1e308, -1e308, 0], [-1e308, 1e308, 1], PairsProblem.NOT_FINITE),
        ([97.0, 96.0, 96.5], [96.0, 95.0], PairsProblem.UNPAIRED),
        ([[97.0, 96.0, 96.5]], [[96.0, 95.0, 95.5]], PairsProblem.UNPAIRED),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(candidate, baseline, problem):
    with pytest.raises(PairsError, match=r"^candidate: ") as caught:
        monitor(candidate, baseline, DESIGN)
    assert caught.value.problem is problem


@pytest.mark.parametrize("futility", [1e-16, 1e-300, 5e-324])
def test_a_bound_that_nothing_reaches_is_a_number_all_the_same(futility):
    rule = design(futility=futility)
    assert np.isfinite(rule.futility_t).all()
    assert max(rule.futility_t) < -3.5
    assert json.loads(json.dumps(asdict(rule), allow_nan=False))


@pytest.mark.parametrize("futility", [0.0, 0.5, -1, float("nan")])
def test_a_futility_that_is_no_small_probability_is_refused(futility):
    with pytest.raises(ConfigError, match=r"futility: got .*; accepted: null or a number between 0 and 0\.5"):
        design(futility=futility)


def test_a_confirmation_without_candidates_is_refused():
    with pytest.raises(ConfigError, match="candidates"):
        decide({}, [96.0, 95.0, 97.0], DESIGN)
