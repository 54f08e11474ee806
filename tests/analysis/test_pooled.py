"""A claim about the average over settings: its test, its level, the spread between settings, and what is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.analysis.synthetic_claims import in_settings, sequential
from tests.analysis.test_calibration import band
from tests.analysis.test_harm import SETTINGS
from tune_bn.analysis.claims import PLAIN, Claim, outcome
from tune_bn.analysis.gate import exit_status
from tune_bn.analysis.plan import plan_from
from tune_bn.analysis.pooled import between, pooled
from tune_bn.analysis.verdict import judge
from tune_bn.errors import RecordError
from tune_bn.records.verdict import verdict_from


def averaged(study: Any, **plan: Any) -> Any:
    made = study.with_plan(holds="pooled", **plan)
    return judge(made.plan, made.records)


@pytest.mark.parametrize(
    ("gains", "headline", "word"),
    [
        ([1.2, 1.0, 0.9, 1.4], "supported on average over 4 settings", "supported"),
        ([2.5, 0.05, 0.3, 0.2], "supported on average over 4 settings", "supported"),
        ([3.5, -2.0, 2.0, 2.5], "supported on average over 4 settings, worse in 1 of them", "mixed"),
        ([0.3, 0.15, -0.05, -0.1], "not_supported on average over 4 settings", "not_supported"),
        (
            [-1.2, -2.0, 0.1, -1.4],
            "not_supported on average over 4 settings, worse on average, worse in 3 of them",
            "worse",
        ),
    ],
)
def test_the_average_decides_and_losses_are_named(synthetic_study, gains, headline, word):
    verdict = averaged(in_settings(synthetic_study(), SETTINGS, {"Ours": gains}))
    assert verdict["headline"] == headline, verdict["problems"]
    assert outcome(verdict_from(verdict)) == word
    found = verdict["pooled"]
    scores = {
        arm["arm"]: np.array(list(arm["scores"].values())) for arm in [*verdict["baselines"], *verdict["candidates"]]
    }
    by_seed = np.mean([scores[f"Ours.{name}"] - scores[f"baseline.{name}"] for name in SETTINGS], axis=0)
    expected = stats.ttest_1samp(by_seed, 0, alternative="greater")
    assert (found["t"], found["p_value"]) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    assert found["ci"][0] == pytest.approx(expected.confidence_interval(0.95).low, rel=1e-9)
    assert found["effect"] == pytest.approx(np.mean([arm["effect"] for arm in verdict["candidates"]]))
    assert (found["ci"][0] > 0) == found["supported"]
    assert found["least"][1] == min(arm["effect"] for arm in verdict["candidates"])
    for said in (f"{found['effect']:+.2f}", found["most"][0], "no signed-rank test over so few settings (4)"):
        assert said in verdict["reason"]
    assert exit_status(verdict_from(verdict), "supported") == (0 if word == "supported" else 3)


def test_a_gain_that_no_setting_shows_alone_may_show_on_average(synthetic_study):
    """And one that a single setting shows need not."""
    small = in_settings(synthetic_study(), SETTINGS, {"Ours": [0.18, 0.25, 0.18, 0.16]})
    assert judge(small.plan, small.records)["verdict"] == "not_supported"
    assert averaged(small)["verdict"] == "supported"
    one = in_settings(synthetic_study(), SETTINGS, {"Ours": [2.0, -1.0, -0.8, -0.2]})
    assert judge(one.plan, one.records)["verdict"] == "supported"
    assert averaged(one)["verdict"] == "not_supported"


def test_margins_and_lower_scores_count_for_the_average(synthetic_study):
    study = in_settings(synthetic_study(), SETTINGS, {"Ours": [-0.3, 0.1, -0.2, 0.05]})
    verdict = averaged(study, kind="noninferior", margin=0.5)
    assert verdict["headline"].startswith("supported on average over 4 settings: noninferior, margin 0.5")
    assert verdict["pooled"]["ci_adjusted"][0] > -0.5
    verdict = averaged(study, kind="equivalent", margin=0.5)
    assert verdict["verdict"] == "supported"
    assert verdict["pooled"]["over_settings"] is None
    verdict = averaged(study, kind="superior", margin=0.5)
    assert verdict["verdict"] == "not_supported"
    # Of a score that is to be low a gain is a loss of the score.
    score = plan_from(study.plan).score.to_json() | {"goal": "min", "low": None, "high": None, "diverged": None}
    if "score" in study.plan:
        lower = averaged(study, score=score)
        assert lower["pooled"]["effect"] == pytest.approx(-verdict["pooled"]["effect"])


def test_five_settings_have_a_signed_rank_test_that_agrees_with_scipy():
    rng = np.random.default_rng(3)
    base = {str(k): rng.normal(0, 1, 6) for k in range(7)}
    ours = {name: scores + 0.3 + rng.normal(0, 0.5, 6) for name, scores in base.items()}
    found = pooled(ours, base, PLAIN, alpha=0.05).to_json()
    effects = np.array([np.mean(ours[name] - base[name]) for name in base])
    expected = stats.wilcoxon(effects, alternative="greater", method="exact")
    assert found["over_settings"] == {"statistic": expected.statistic, "n": 7, "p_value": expected.pvalue}
    shifted = pooled(ours, base, Claim("superior", 0.2), alpha=0.05)
    assert shifted.over_settings.p_value == stats.wilcoxon(effects - 0.2, alternative="greater").pvalue
    four = {name: base[name] for name in list(base)[:4]}
    assert pooled({name: ours[name] for name in four}, four, PLAIN, alpha=0.05).over_settings is None


@pytest.mark.long
@pytest.mark.parametrize("true", [0.0, 0.5, 2.0])
def test_the_spread_between_settings_is_that_of_the_true_effects(true):
    """Where settings share their seeds' luck, and some are noisier than others."""
    rng, studies = np.random.default_rng(4), 2000
    found, naive = [], []
    for _ in range(studies):
        effects = true * rng.standard_normal(6)
        noise = rng.normal(0, 1, 5) + rng.normal(0, 1, (6, 5)) * np.linspace(0.5, 2, 6)[:, None]
        found.append(between(effects[:, None] + noise) ** 2)
        naive.append(np.var((effects[:, None] + noise).mean(axis=1), ddof=1))
    error = 4 * np.std(found) / np.sqrt(studies)
    # Cut off at 0, it is no longer unbiased where there is no spread, but far below what the means show.
    assert np.mean(found) == pytest.approx(true**2, abs=error) or (true < 1 and np.mean(found) < np.mean(naive))
    assert np.mean(naive) > true**2 + 0.2


def test_the_level_holds_whatever_settings_share_and_however_unlike_they_are():
    rng, studies, n = np.random.default_rng(5), 20_000, 5
    for effects, shared in (([0.0] * 4, 0.0), ([0.0] * 4, 3.0), ([3.0, -1.0, -1.5, -0.5], 1.0)):
        noise = rng.normal(0, 1, (studies, 4, n)) * np.array([0.3, 1, 1, 2])[:, None]
        noise += shared * rng.normal(0, 1, (studies, 1, n))
        by_seed = (np.array(effects)[:, None] + noise).mean(axis=1)
        t = by_seed.mean(axis=1) / (by_seed.std(axis=1, ddof=1) / np.sqrt(n))
        low, high = band(0.05, studies)
        assert low <= np.mean(stats.t.sf(t, n - 1) <= 0.05) <= high


def test_a_plan_says_it_in_whole(synthetic_study):
    settings = in_settings(synthetic_study(), SETTINGS, {"Ours": [1, 1, 1, 1]})
    for changes in ({"correction": "none"}, {"correction": "max_t"}):
        with pytest.raises(RecordError, match="holds: got 'pooled'"):
            settings.with_plan(holds="pooled", **changes)
    for other in (
        synthetic_study(),
        sequential(synthetic_study()),
        in_settings(synthetic_study(), SETTINGS, {"Ours": [1, 1, 1, 1], "half": [1, 1, 1, 1]}),
    ):
        with pytest.raises(RecordError, match="holds: got 'pooled'"):
            other.with_plan(holds="pooled")
