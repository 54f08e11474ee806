"""What stands behind the finding's own sentence: the gain that could have been seen, and what else got worse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.analysis.synthetic_claims import in_settings, sequential
from tune_bn.analysis.plan import design_of
from tune_bn.analysis.verdict import write_verdict
from tune_bn.report.aside import FEWEST_PAIRS, detectable_gain, detectable_words, worse_outcomes_words
from tune_bn.report.results import headline
from tune_bn.report.study import load


@pytest.fixture
def judged(tmp_path):
    """A made-up study with its verdict, as the report reads it."""

    def write(study):
        folder = study.write(tmp_path / "study")
        write_verdict(folder)
        return load(folder)

    return write


def with_outcomes(study, shifts, base=None):
    """The confirmation with outcomes beside its score: per candidate and name a shift and how it swings by seed."""
    base = base or {"loss": 0.2, "brier": 0.1, "calibration_error": 0.03, "worst_class": 80.0}

    def stated(record):
        found = {}
        for name, value in base.items():
            shift, swing = shifts.get((record.arm, name), (0.0, 0.0))
            noise = 0.01 * value * ((7 * record.seed) % 5 - 2)
            found[name] = value + noise + shift + (swing if record.seed % 2 else -swing)
        return found

    return study.with_records(
        [replace(r, test={**(r.test or {}), **stated(r)}) if r.stage == "confirm" else r for r in study.records]
    )


def test_an_undecided_study_says_which_gain_it_could_have_seen(synthetic_study, judged):
    study = judged(synthetic_study(effect=0.1))
    (arm,) = study.verdict.candidates
    assert study.verdict.verdict == "not_supported"
    words = detectable_words(study)
    assert words.startswith(
        f"Undecided: the design finds true gains from +{arm.minimum_detectable_effect:.2f} percentage"
    )
    block = next(iter(headline(study)))
    assert block.sentence == f"{study.verdict.reason} {words}"
    assert words not in study.verdict.reason


@pytest.mark.parametrize("effect", [2.0, -2.0])
def test_what_is_decided_needs_no_power(synthetic_study, judged, effect):
    study = judged(synthetic_study(effect=effect))
    assert detectable_words(study) == ""


def test_an_invalid_study_has_nothing_beside_its_reason(synthetic_study, judged):
    made = with_outcomes(synthetic_study(effect=0.1), {("candidate-1", "loss"): (0.3, 0.0)})
    study = judged(made.with_records(made.records[:-1]))
    assert study.verdict.is_invalid
    assert (detectable_words(study), worse_outcomes_words(study)) == ("", "")


def test_of_several_the_undecided_are_named(synthetic_study, judged, monkeypatch):
    study = judged(synthetic_study(effect=0.0, candidates=2))
    words = detectable_words(study)
    assert words.startswith("Undecided: candidate-1 and candidate-2; the design finds true gains from +")
    low, high = sorted(arm.minimum_detectable_effect for arm in study.verdict.candidates)
    assert f"from {low:+.2f} to {high:+.2f} percentage points on with power 0.8" in words
    monkeypatch.setattr("tune_bn.report.aside.FEW_ARMS", 1)
    assert detectable_words(study).startswith("Undecided: 2 candidates; the design")


def test_looks_have_their_own_power(synthetic_study, judged):
    study = judged(sequential(synthetic_study(effect=0.25, rng_seed=4)))
    (arm,) = study.verdict.candidates
    assert design_of(study.plan) is not None
    # Looks cost power: the same seeds find a larger gain alone.
    assert detectable_gain(study, study.verdict, arm) > arm.minimum_detectable_effect


def test_equivalence_looks_for_no_gain(synthetic_study, judged):
    study = judged(synthetic_study(effect=0.1, n=15).with_plan(kind="equivalent", margin=0.1))
    assert study.verdict.verdict == "not_supported"
    assert detectable_words(study) == ""


def test_what_got_worse_beside_the_score_is_told_with_its_numbers(synthetic_study, judged):
    shifts = {("candidate-1", "loss"): (0.25, 0.0), ("candidate-1", "worst_class"): (-6.0, 0.5)}
    study = judged(with_outcomes(synthetic_study(effect=2.0), shifts))
    words = worse_outcomes_words(study)
    assert words.startswith("Described, not tested: ")
    assert "in test loss (0.4500 against 0.2000) and accuracy of the worst class (7" in words
    assert words.count("against") == 2
    # A gain that was shown does not hide it.
    assert study.verdict.verdict == "supported"
    assert words in next(iter(headline(study))).sentence


@pytest.mark.parametrize(
    "shift",
    [
        pytest.param((0.002, 0.03), id="its spread explains it"),
        pytest.param((-0.1, 0.0), id="better"),
        pytest.param((0.0, 0.0), id="the same"),
    ],
)
def test_what_did_not_get_worse_is_not_told(synthetic_study, judged, shift):
    study = judged(with_outcomes(synthetic_study(effect=0.1), {("candidate-1", "loss"): shift}))
    assert worse_outcomes_words(study) == ""


def test_a_higher_accuracy_of_the_worst_class_is_no_loss(synthetic_study, judged):
    study = judged(with_outcomes(synthetic_study(effect=0.1), {("candidate-1", "worst_class"): (5.0, 0.0)}))
    assert worse_outcomes_words(study) == ""


def test_each_of_several_candidates_is_compared_with_its_own_baseline(synthetic_study, judged):
    made = in_settings(synthetic_study(), {"a": {"lr": 0.1}, "b": {"lr": 0.01}}, {"Ours": [1.0, 0.5]})
    shifts = {(arm, "loss"): (1.0, 0.0) for arm in ("baseline.b", "Ours.b")} | {("Ours.a", "brier"): (0.2, 0.0)}
    words = worse_outcomes_words(judged(with_outcomes(made, shifts)))
    assert "worse: Ours.a in Brier score (0.3000 against 0.1000);" in words
    assert "Ours.b" not in words


def test_a_run_without_its_outcomes_or_too_few_pairs_say_nothing(synthetic_study, judged):
    made = with_outcomes(synthetic_study(effect=0.1), {("candidate-1", "loss"): (0.3, 0.0)})
    last = made.records[-1]
    study = judged(made.with_records([*made.records[:-1], replace(last, test={**last.test, "loss": "much"})]))
    assert worse_outcomes_words(study) == ""
    few = with_outcomes(synthetic_study(n=FEWEST_PAIRS - 1), {("candidate-1", "loss"): (0.3, 0.0)})
    assert worse_outcomes_words(judged(few)) == ""


def test_the_tested_score_is_not_told_again_as_described(synthetic_study, judged):
    study = judged(with_outcomes(synthetic_study(effect=0.1), {("candidate-1", "loss"): (0.3, 0.0)}))
    of_loss = replace(study, verdict=replace(study.verdict, metric="test_loss"))
    assert "test loss" in worse_outcomes_words(study)
    assert worse_outcomes_words(of_loss) == ""
