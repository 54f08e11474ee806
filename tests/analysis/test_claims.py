"""Kinds of claim: numbers of statsmodels, error rates at the edge of the null, and what a verdict says of each."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from tests.analysis.synthetic_claims import sequential
from tests.analysis.test_calibration import band
from tune_bn.analysis.claims import EQUIVALENT, KINDS, NONINFERIOR, PLAIN, SUPERIOR, Claim, claim_of
from tune_bn.analysis.columns import Scores
from tune_bn.analysis.family import comparison, findings_of
from tune_bn.analysis.monitoring import standing
from tune_bn.analysis.paired import PairsError, paired_t_test
from tune_bn.analysis.plan import plan_from, seal
from tune_bn.analysis.scores import judge_scores
from tune_bn.analysis.sequential import decide, design
from tune_bn.analysis.verdict import judge
from tune_bn.errors import ConfigError, RecordError

RNG = np.random.default_rng(11)
BASE = RNG.normal(94, 0.5, 12)
ARM = BASE + RNG.normal(-0.05, 0.3, 12)


def table(arms, metric="score"):
    rows = [(arm, str(seed), float(score)) for arm, scores in arms.items() for seed, score in enumerate(scores, 1)]
    return Scores(source="t.csv", rows=rows, metric=metric, paired_by="seed")


def fields(claim, alpha=0.05, first=ARM, second=BASE):
    return vars(findings_of({"a": comparison(paired_t_test(first, second, alpha=alpha), claim)}, alpha=alpha)["a"])


# `ttost_paired(second, first, -margin, margin)[0]` of statsmodels 0.15.0.
FIRST = [94.12, 93.87, 94.55, 94.01, 93.62, 94.40, 94.21, 93.95, 94.33, 94.08, 93.79, 94.47]
SECOND = [94.05, 93.99, 94.31, 94.10, 93.58, 94.22, 94.35, 93.70, 94.41, 93.93, 93.88, 94.29]
TOST = {0.05: 0.49240237465409725, 0.1: 0.1298388438801231, 0.2: 0.002372327614182796, 0.5: 2.1795996622164662e-07}


@pytest.mark.parametrize(("margin", "p_value"), TOST.items())
def test_equivalence_is_the_two_one_sided_tests_of_statsmodels(margin, p_value):
    found = fields(Claim(EQUIVALENT, margin), first=np.array(SECOND), second=np.array(FIRST))
    assert found["p_value"] == pytest.approx(p_value, rel=1e-9)


@pytest.mark.parametrize(("kind", "null"), [(SUPERIOR, 0.2), (NONINFERIOR, -0.2)])
def test_a_margin_moves_the_t_test(kind, null):
    found = fields(Claim(kind, 0.2))
    assert found["p_value"] == pytest.approx(
        stats.ttest_1samp(ARM - BASE, null, alternative="greater").pvalue, rel=1e-9
    )
    plain = fields(PLAIN)
    for key in ("ci", "p_two_sided", "p_worse", "worse"):
        assert found[key] == plain[key], "what is known of the effect does not depend on the claim"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_says_what_the_test_says(kind, seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(90, 1, 8)
    arm = base + rng.normal(rng.uniform(-0.5, 0.5), 0.4, 8)
    claim = Claim(kind, 0.3)
    found = fields(claim, first=arm, second=base)
    low, high = found["ci"]
    shown = low > claim.null and (claim.ceiling is None or high < claim.ceiling)
    assert found["supported"] == (found["p_value"] <= 0.05) == shown
    assert found["worse"] == (high < 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [3, 5, 15])
def test_at_the_edge_of_the_null_the_rate_is_alpha(kind, n):
    claim, studies = Claim(kind, 1.0), 4000
    rng = np.random.default_rng([n, KINDS.index(kind)])
    # Much closer than the margin is wide, so that only one of the two tests of equivalence can fail.
    spread = 0.2
    differences = claim.null + spread * rng.standard_normal((studies, n))
    t = (differences.mean(1) - claim.null) / (differences.std(1, ddof=1) / np.sqrt(n))
    wrong = 0
    for row in range(studies):
        if abs(t[row]) < stats.t.ppf(0.9, n - 1):
            continue  # clearly not rejected; saves most of the time
        wrong += fields(claim, first=differences[row], second=np.zeros(n))["supported"]
    low, high = band(0.05, studies)
    assert low <= wrong / studies <= high


@pytest.mark.long
def test_holm_keeps_the_family_of_equivalences():
    """Four arms, three at the edge of the margin: no more than 5 % of the families have a false word."""
    rng, studies, n, claim = np.random.default_rng(5), 2000, 8, Claim(EQUIVALENT, 1.0)
    wrong = 0
    for _ in range(studies):
        base = rng.normal(0, 0.3, n)
        arms = {str(i): mean + rng.normal(0, 0.3, n) for i, mean in enumerate((1.0, -1.0, 1.0, 0.0))}
        found = findings_of(
            {name: comparison(paired_t_test(x, base, alpha=0.05), claim) for name, x in arms.items()}, alpha=0.05
        )
        wrong += any(found[name].supported for name in "012")
    assert wrong / studies <= band(0.05, studies)[1]


@pytest.mark.long
@pytest.mark.parametrize("kind", [SUPERIOR, NONINFERIOR])
def test_looks_with_a_margin_are_looks_at_moved_scores(kind):
    claim, rule = Claim(kind, 0.25), design()
    rng = np.random.default_rng(3)
    for _ in range(50):
        base = rng.normal(0, 1, 15)
        arm = base + rng.normal(claim.null + rng.uniform(-0.2, 0.6), 0.4, 15)
        found = decide({"a": arm}, base, rule, claim)["a"]
        moved = decide({"a": arm - claim.null}, base, rule)["a"]
        assert [look.decision for look in found.looks] == [look.decision for look in moved.looks]
        for one, other in zip(found.looks, moved.looks, strict=True):
            assert one.p_value == pytest.approx(other.p_value, rel=1e-6)
            assert one.ci_low == pytest.approx(other.ci_low + claim.null, abs=1e-9)
            assert one.effect == pytest.approx(other.effect + claim.null, abs=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("kind", [SUPERIOR, NONINFERIOR])
def test_looks_keep_alpha_at_the_edge(kind):
    claim, rule, studies = Claim(kind, 0.5), design(futility=None), 2000
    rng = np.random.default_rng(8)
    wrong = sum(
        decide({"a": claim.null + rng.standard_normal(15)}, np.zeros(15), rule, claim)["a"].p_adjusted <= 0.05
        for _ in range(studies)
    )
    low, high = band(0.05, studies)
    assert low <= wrong / studies <= high


def test_equivalence_has_no_looks():
    with pytest.raises(ConfigError, match="kind: got 'equivalent'; accepted: superior or noninferior"):
        decide({"a": ARM}, BASE, design((3, 12)), Claim(EQUIVALENT, 0.5))
    with pytest.raises(ConfigError, match="fixed number of pairs"):
        judge_scores(table({"base": BASE, "a": ARM}), baseline="base", kind="equivalent", margin=1.0, looks=[4, 12])


@pytest.mark.parametrize(
    ("kind", "margin"),
    [
        *((kind, odd) for kind in (NONINFERIOR, EQUIVALENT) for odd in (None, 0.0, -1.0, float("nan"), float("inf"))),
        *((SUPERIOR, odd) for odd in (-0.1, float("nan"), float("inf"))),
        ("better", 0.5),
        ("", None),
        ("Superior", None),
    ],
)
def test_a_margin_that_fits_no_claim_is_refused(kind, margin):
    with pytest.raises(ConfigError, match="accepted: "):
        claim_of(kind, margin)


# What a table's verdict says.

LOWER, SAME, HIGHER = BASE - 1.0 + 0.1 * RNG.standard_normal(12), ARM, BASE + 1.0 + 0.1 * RNG.standard_normal(12)


@pytest.mark.parametrize(
    ("arm", "kind", "margin", "headline", "outcome", "words"),
    [
        (LOWER, None, None, "not_supported, and worse", "worse", "lowers the score by 1."),
        (
            HIGHER,
            "superior",
            0.5,
            "supported: superior, margin 0.5",
            "supported",
            "is better than base in the score by ",
        ),
        (
            HIGHER,
            "superior",
            2,
            "not_supported: superior, margin 2",
            "undecided",
            "is not shown to be better than base",
        ),
        (LOWER, "noninferior", 2, "supported: noninferior, margin 2, though worse", "supported", "though it is worse"),
        (LOWER, "noninferior", 0.5, "not_supported: noninferior, margin 0.5, and worse", "worse", "and is worse"),
        (SAME, "noninferior", 0.5, "supported: noninferior, margin 0.5", "supported", "is noninferior to base"),
        (SAME, "equivalent", 0.5, "supported: equivalent, margin 0.5", "supported", "is equivalent to base"),
        (
            SAME,
            "equivalent",
            0.05,
            "not_supported: equivalent, margin 0.05",
            "undecided",
            "is not shown to be equivalent",
        ),
        (HIGHER, "equivalent", 0.5, "not_supported: equivalent, margin 0.5", "undecided", "within ±0.5"),
    ],
)
def test_what_is_said_of_a_table(arm, kind, margin, headline, outcome, words):
    verdict = judge_scores(table({"base": BASE, "ours": arm}), baseline="base", kind=kind, margin=margin)
    assert verdict["headline"] == headline
    assert verdict["candidates"][0]["outcome"] == outcome
    assert words in verdict["reason"]
    assert (verdict["kind"], verdict["margin"]) == (kind or "superior", margin or 0.0)


@pytest.mark.parametrize("goal", ["max", "min"])
def test_a_margin_is_one_of_gains_under_either_goal(goal):
    """Turning all scores round with the goal changes no word of the claim."""
    sign = 1 if goal == "max" else -1
    found = [
        judge_scores(
            table({"base": s * BASE, "ours": s * LOWER}), baseline="base", kind="noninferior", margin=2, goal=g
        )
        for s, g in ((1, "max"), (sign, goal))
    ]
    first, second = (verdict["candidates"][0] for verdict in found)
    assert first["p_value"] == pytest.approx(second["p_value"], rel=1e-9)
    assert first["supported"] is second["supported"] is True


@pytest.mark.parametrize("mode", [{"unpaired": True}, {"threshold": 94.0}, {"folds": 4}, {"looks": [4, 8, 12]}])
def test_every_test_of_a_table_has_margins(mode):
    arms = {"base": BASE, "ours": SAME} if "threshold" not in mode else {"ours": SAME}
    baseline = None if "threshold" in mode else "base"
    verdicts = {
        kind: judge_scores(table(arms), baseline=baseline, kind=kind, margin=margin, **mode)
        for kind, margin in ((None, None), ("noninferior", 5.0), ("superior", 5.0))
    }
    p_values = {kind: verdict["candidates"][0]["p_value"] for kind, verdict in verdicts.items()}
    assert p_values["noninferior"] < 0.01 < p_values[None] < p_values["superior"]
    assert verdicts["noninferior"]["verdict"] == "supported"


def test_other_methods_beside_test_the_same_claim():
    plain = judge_scores(table({"base": BASE, "ours": SAME}), baseline="base")["candidates"][0]["sensitivity"]
    found = judge_scores(table({"base": BASE, "ours": SAME}), baseline="base", kind="noninferior", margin=1.0)
    beside = found["candidates"][0]["sensitivity"]
    assert beside["sign_flip"]["p_value"] == 1 / 2**12 == beside["wilcoxon"]["p_value"]
    assert plain["sign_flip"]["p_value"] > 0.1
    assert beside["t_interval"] == plain["t_interval"]


# Through the plan of a study.


def claiming(study, kind, margin):
    return study.with_plan(kind=kind, margin=margin)


@pytest.mark.parametrize(
    ("effect", "kind", "margin", "word", "headline"),
    [
        (1.25, "superior", 0.5, "supported", "supported: superior, margin 0.5"),
        (1.25, "superior", 3.0, "not_supported", "not_supported: superior, margin 3"),
        (-1.25, "noninferior", 3.0, "supported", "supported: noninferior, margin 3, though worse"),
        (-1.25, "noninferior", 0.5, "not_supported", "not_supported: noninferior, margin 0.5, and worse"),
        (0.0, "equivalent", 2.0, "supported", "supported: equivalent, margin 2"),
        (1.25, "equivalent", 0.2, "not_supported", "not_supported: equivalent, margin 0.2"),
    ],
)
def test_the_verdict_of_a_study(synthetic_study, effect, kind, margin, word, headline):
    study = claiming(synthetic_study(effect=effect), kind, margin)
    verdict = judge(study.plan, study.records)
    assert (verdict["verdict"], verdict["headline"]) == (word, headline), verdict["problems"]
    assert "percentage points" in verdict["reason"]


def test_a_plan_that_says_nothing_of_kinds_is_what_it_was(synthetic_study):
    study = synthetic_study()
    assert "kind" not in study.plan
    assert (judge(study.plan, study.records)["kind"], judge(study.plan, study.records)["margin"]) == ("superior", 0.0)
    with pytest.raises(RecordError, match="kind: got 'superior' with margin 0"):
        seal(study.plan | {"kind": "superior", "margin": 0.0})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "noninferior", "margin": 0}, "margin: got 0"),
        ({"kind": "noninferior"}, "margin: missing"),
        ({"margin": 1.0}, "kind: missing"),
        ({"kind": "noninferior", "margin": -1.0}, "margin: got -1.0"),
        ({"kind": "noninferior", "margin": True}, "margin: got True"),
        ({"kind": "better", "margin": 1.0}, "kind: got 'better'"),
    ],
)
def test_a_plan_with_an_odd_claim_is_refused(synthetic_study, changes, named):
    with pytest.raises(RecordError, match=named):
        seal(synthetic_study().plan | changes)


def test_a_margin_changed_after_the_plan_was_sealed_is_noticed(synthetic_study):
    study = claiming(synthetic_study(effect=-1.25), "noninferior", 0.5)
    verdict = judge(study.plan | {"margin": 3.0}, study.records)
    assert verdict["verdict"] == "invalid"
    assert "changed after it was sealed" in verdict["problems"][0]


def test_looks_and_verdict_ask_for_the_same_claim(synthetic_study):
    """A confirmation that was run look by look under a margin is judged under it, and no run is out of turn."""
    study = synthetic_study(effect=1.0)
    scores = {}
    plan = sequential(study).with_plan(kind="noninferior", margin=1.0).plan
    for record in study.confirm:
        scores.setdefault(record.arm, {})[record.seed] = record.scores["test_accuracy"]
    needed = standing(plan_from(plan), scores).needed
    assert needed["baseline"] < 15, "the claim is plain at an early look"
    before = [r for r in study.records if r.stage != "confirm"]
    kept = sorted((r for r in study.confirm if r.seed <= needed[r.arm]), key=lambda r: r.seed)
    made = replace(study, records=[*before, *kept]).with_plan(
        stopping="group_sequential", design=asdict(design()), seeds=list(range(1, 16)), kind="noninferior", margin=1.0
    )
    verdict = judge(made.plan, made.records)
    assert verdict["headline"] == "supported: noninferior, margin 1", verdict["problems"]
    with pytest.raises(RecordError, match="stopping: got 'group_sequential' with kind 'equivalent'"):
        made.with_plan(kind="equivalent")


def test_identical_arms_are_no_equivalence():
    """No spread, no test: a run that was copied is no proof that nothing differs."""
    with pytest.raises(PairsError, match="identical"):
        paired_t_test(BASE, BASE)
    verdict = judge_scores(table({"base": BASE, "ours": BASE}), baseline="base", kind="equivalent", margin=1.0)
    assert verdict["verdict"] == "invalid"
