"""A claim that has to hold in every setting: intersection–union."""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.synthetic_claims import in_settings, sequential
from tests.analysis.test_calibration import band
from tests.analysis.test_harm import SETTINGS
from tune_bn.analysis.family import NONE, comparison, findings_of
from tune_bn.analysis.paired import paired_t_test
from tune_bn.analysis.verdict import judge
from tune_bn.errors import RecordError


def holding(study):
    return study.with_plan(holds="all", correction="none")


@pytest.mark.parametrize(
    ("gains", "headline"),
    [
        ([1.2, 1.0, 0.9, 1.4], "supported in all of 4 settings"),
        ([1.2, 1.0, 0.0001, 1.4], "not_supported in all of 4 settings, held in 3"),
        ([1.2, -2.0, -2.0, 1.4], "not_supported in all of 4 settings, held in 2, worse in 2"),
        ([-1.2, -2.0, -2.0, -1.4], "not_supported in all of 4 settings, held in 0, worse in 4"),
    ],
)
def test_the_weakest_decides(synthetic_study, gains, headline):
    study = holding(in_settings(synthetic_study(), SETTINGS, {"Ours": gains}))
    verdict = judge(study.plan, study.records)
    assert verdict["headline"] == headline, verdict["problems"]
    assert (verdict["holds"], verdict["correction"]) == ("all", "none")
    weakest = max(arm["p_value"] for arm in verdict["candidates"])
    assert (verdict["verdict"] == "supported") == (weakest <= 0.05)
    for name in SETTINGS:
        assert f"{name} " in verdict["reason"]
    for arm in verdict["candidates"]:
        assert arm["p_adjusted"] == arm["p_value"]
        assert arm["ci_adjusted"][0] == arm["ci"][0]


@pytest.mark.long
def test_a_false_word_needs_every_setting():
    """One setting without a gain beside three with large ones, the worst case, and none with any."""
    rng, studies, n = np.random.default_rng(2), 3000, 8
    for effects, exact in (((0.0, 5.0, 5.0), True), ((0.0, 0.0, 0.0), False)):
        wrong = 0
        for _ in range(studies):
            base = rng.normal(0, 1, n)
            arms = {str(i): base + effect + rng.normal(0, 1, n) for i, effect in enumerate(effects)}
            found = findings_of(
                {name: comparison(paired_t_test(x, base)) for name, x in arms.items()}, alpha=0.05, correction=NONE
            )
            wrong += all(one.supported for one in found.values())
        low, high = band(0.05, studies)
        assert wrong / studies <= high
        assert not exact or wrong / studies >= low


def test_losses_keep_their_correction(synthetic_study):
    study = holding(in_settings(synthetic_study(), SETTINGS, {"Ours": [-0.2, -0.25, -0.2, -0.15]}))
    verdict = judge(study.plan, study.records)
    worse = [arm["p_worse"] for arm in verdict["candidates"]]
    assert [arm["p_worse_adjusted"] for arm in verdict["candidates"]] == pytest.approx(_holm(worse))


def _holm(p_values):
    order, found, worst = np.argsort(p_values), np.empty(len(p_values)), 0.0
    for place, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        found[index] = worst
    return found


def test_a_plan_says_it_in_whole(synthetic_study):
    settings = in_settings(synthetic_study(), SETTINGS, {"Ours": [1, 1, 1, 1]})
    for changes in (
        {"holds": "all"},
        {"correction": "none"},
        {"holds": "any"},
        {"holds": "some", "correction": "none"},
    ):
        with pytest.raises(RecordError, match="accepted: "):
            settings.with_plan(**changes)
    with pytest.raises(RecordError, match="holds: got 'all'"):
        holding(in_settings(synthetic_study(), SETTINGS, {"Ours": [1, 1, 1, 1], "half": [1, 1, 1, 1]}))
    with pytest.raises(RecordError, match="holds: got 'all'"):
        holding(synthetic_study())
    with pytest.raises(RecordError, match="holds: got 'all'"):
        holding(sequential(synthetic_study()))
