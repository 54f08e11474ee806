"""Step-down max-t: by brute force, against SciPy's permutation test, its error rates, and through table and plan."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.analysis.synthetic_claims import sequential
from tests.analysis.test_calibration import band
from tests.analysis.test_claims import table
from tune_bn.analysis.claims import PLAIN, Claim
from tune_bn.analysis.family import comparison, findings_of
from tune_bn.analysis.max_t import step_down
from tune_bn.analysis.paired import holm, paired_t_test
from tune_bn.analysis.scores import judge_scores
from tune_bn.analysis.sensitivity import sign_flip_test
from tune_bn.analysis.verdict import judge
from tune_bn.errors import ConfigError, RecordError


def t_of(rows):
    return rows.mean(1) / (rows.std(1, ddof=1) / np.sqrt(rows.shape[1]))


def by_hand(rows):
    """Westfall and Young's algorithm, one flip after the other."""
    observed, found, worst = t_of(rows), np.empty(len(rows)), 0.0
    order = np.argsort(-observed)
    flips = [t_of(rows * np.array(signs)) for signs in itertools.product((1, -1), repeat=rows.shape[1])]
    for place, arm in enumerate(order):
        rest = order[place:]
        worst = max(worst, float(np.mean([flip[rest].max() >= observed[arm] - 1e-9 for flip in flips])))
        found[arm] = worst
    return found


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_algorithm_by_hand(seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(rng.uniform(-0.3, 1.0, (4, 1)), 1, (4, 7)) + 0.8 * rng.normal(0, 1, 7)
    assert step_down(rows, 0.05).p_adjusted == pytest.approx(by_hand(rows), abs=1e-12)


def test_one_candidate_is_the_sign_flip_test_and_scipy_s_permutation_test():
    d = np.random.default_rng(1).normal(0.4, 1, 9)
    reference = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    assert step_down(d[None], 0.05).p_adjusted[0] == pytest.approx(reference, abs=1e-12)
    assert sign_flip_test(d).p_value == pytest.approx(reference, abs=1e-12)


def test_candidates_that_agree_cost_nothing():
    """Holm counts five candidates; where they move together, max-t sees about one."""
    rng = np.random.default_rng(3)
    shared = rng.normal(0.8, 1, 12)
    rows = shared + 0.01 * rng.normal(0, 1, (5, 12))
    alone = sign_flip_test(shared).p_value
    assert step_down(rows, 0.05).p_adjusted.max() < 1.5 * alone
    assert holm([alone] * 5)[0] == pytest.approx(5 * alone)


def test_drawn_flips_are_near_the_exact_ones_and_the_same_every_time(monkeypatch):
    rng = np.random.default_rng(5)
    rows = rng.normal(0.5, 1, (3, 14))
    exact = step_down(rows, 0.05).p_adjusted
    monkeypatch.setattr("tune_bn.analysis.max_t.EXACT_UP_TO", 10)
    drawn = step_down(rows, 0.05).p_adjusted
    assert drawn == pytest.approx(exact, abs=0.004)
    assert np.array_equal(drawn, step_down(rows, 0.05).p_adjusted)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_scales_do_not_count(scale):
    rows = np.random.default_rng(6).normal(0.3, 1, (3, 8))
    assert step_down(scale * rows, 0.05).p_adjusted == pytest.approx(step_down(rows, 0.05).p_adjusted)


@pytest.mark.long
@pytest.mark.parametrize("effects", [(0, 0, 0, 0, 0), (0, 0, 3, 3, 3), (0, -1, 0, -1, 0)])
@pytest.mark.parametrize("heavy", [False, True])
def test_false_gains_stay_below_alpha(effects, heavy):
    rng, studies, n = np.random.default_rng([sum(effects) + 9, heavy]), 2000, 8
    null, wrong = np.array(effects) <= 0, 0
    for _ in range(studies):
        noise = rng.standard_t(3, (6, n)) if heavy else rng.normal(0, 1, (6, n))
        rows = noise[1:] - noise[0] + np.array(effects)[:, None]
        wrong += bool(np.any(step_down(rows, 0.05).p_adjusted[null] <= 0.05))
    # Exact: p-values are multiples of 1/256.
    low, high = band(12 / 256, studies)
    assert wrong / studies <= high
    if set(effects) == {0}:
        assert wrong / studies >= low


# Through a table and a plan.

RNG = np.random.default_rng(12)
BASE = RNG.normal(90, 1, 10)
ARMS = {f"a{i}": 0.7 * BASE + 27 + 0.5 + RNG.normal(0, 0.8, 10) for i in range(6)}


@pytest.mark.long
def test_a_table_by_max_t():
    by = {c: judge_scores(table({"base": BASE} | ARMS), baseline="base", correction=c) for c in ("holm", "max_t")}
    expected = by_hand(np.stack([arm - BASE for arm in ARMS.values()]))
    assert [arm["p_adjusted"] for arm in by["max_t"]["candidates"]] == pytest.approx(list(expected))
    assert by["max_t"]["correction"] == "max_t"
    for one, other in zip(by["holm"]["candidates"], by["max_t"]["candidates"], strict=True):
        for key in ("effect", "p_value", "ci", "p_worse"):
            assert one[key] == other[key]
        low, high = other["ci_adjusted"]
        assert other["supported"] == (other["p_adjusted"] <= 0.05) == (low > 0)
        assert other["worse"] == (high < 0)
    assert sum(arm["p_adjusted"] for arm in by["max_t"]["candidates"]) < sum(
        arm["p_adjusted"] for arm in by["holm"]["candidates"]
    )


@pytest.mark.parametrize(
    "what", [{"unpaired": True}, {"looks": [5, 10]}, {"folds": 5}, {"kind": "equivalent", "margin": 1.0}]
)
def test_where_it_does_not_hold_it_is_refused(what):
    with pytest.raises(ConfigError, match="correction: got 'max_t'; accepted: holm; max_t goes with 5 or more pairs"):
        judge_scores(table({"base": BASE} | ARMS), baseline="base", correction="max_t", **what)


def test_four_pairs_are_too_few():
    few = {name: scores[:4] for name, scores in ({"base": BASE} | ARMS).items()}
    with pytest.raises(ConfigError, match="5 or more pairs"):
        judge_scores(table(few), baseline="base", correction="max_t")


def test_a_margin_moves_the_flips():
    moved = judge_scores(
        table({"base": BASE} | ARMS), baseline="base", correction="max_t", kind="noninferior", margin=0.5
    )
    expected = by_hand(np.stack([arm - BASE + 0.5 for arm in ARMS.values()]))
    assert [arm["p_adjusted"] for arm in moved["candidates"]] == pytest.approx(list(expected))


def test_a_plan_locks_it(synthetic_study):
    study = synthetic_study(candidates=3, effect=0.6)
    verdict = judge(study.plan, study.records)
    changed = study.with_plan(correction="max_t")
    other = judge(changed.plan, changed.records)
    assert (verdict["correction"], other["correction"]) == ("holm", "max_t")
    assert other["verdict"] != "invalid", other["problems"]
    assert "interval at its max-t step" in other["reason"]
    assert judge(study.plan | {"correction": "max_t"}, study.records)["verdict"] == "invalid", "chosen afterwards"
    with pytest.raises(RecordError, match="correction: got 'max_t'; accepted: holm"):
        sequential(study).with_plan(correction="max_t")


@pytest.mark.long
@pytest.mark.parametrize("correction", ["holm", "max_t"])
@given(seed=st.integers(0, 10_000), m=st.integers(1, 5), n=st.integers(5, 8), margin=st.sampled_from([0.0, 0.3]))
@settings(max_examples=60, deadline=None)
def test_a_simultaneous_bound_excludes_the_null_exactly_where_the_claim_is_shown(correction, seed, m, n, margin):
    rng = np.random.default_rng(seed)
    claim, base = Claim("superior", margin), rng.normal(0, 1, n)
    arms = {str(i): base + rng.uniform(-0.5, 2.5) + rng.normal(0, 1, n) for i in range(m)}
    comparisons = {name: comparison(paired_t_test(x, base), claim, x - base) for name, x in arms.items()}
    found = findings_of(comparisons, alpha=0.1, correction=correction)
    shown = [one.supported for one in found.values()]
    for one in found.values():
        low = one.simultaneous_low
        assert (low is not None and low >= margin) == one.supported
        # No more than the bound that speaks of its arm alone; of one that is shown, more than its null only with all.
        assert low is None or one.ci_adjusted[0] is None or low <= max(one.ci_adjusted[0], margin)
        if one.supported and not all(shown):
            assert low == margin


@pytest.mark.long
@pytest.mark.parametrize("correction", ["holm", "max_t"])
def test_simultaneous_bounds_hold_all_at_once(correction):
    """Where no arm gains, some do, and all do much: at least 1 − α of 2,000 families."""
    rng, families, n = np.random.default_rng(8), 2000, 8
    for effects in ([0.0] * 4, [0.0, 0.0, 1.0, 3.0], [3.0] * 4):
        missed = 0
        for _ in range(families):
            base = rng.normal(0, 1, n)
            arms = {str(i): base + effect + rng.normal(0, 1, n) for i, effect in enumerate(effects)}
            rows = {name: comparison(paired_t_test(x, base), PLAIN, x - base) for name, x in arms.items()}
            found = findings_of(rows, alpha=0.1, correction=correction)
            lows = [one.simultaneous_low for one in found.values()]
            missed += any(low is not None and low > effect for low, effect in zip(lows, effects, strict=True))
        assert missed / families <= band(0.1, families)[1]
