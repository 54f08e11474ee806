"""Captions, legends and alternative texts speak of what their picture shows, and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.analysis.synthetic_claims import in_settings, sequential
from tests.analysis.test_early_order import look, settles
from tune_bn.analysis import judge
from tune_bn.analysis.early_order import words as look_words
from tune_bn.analysis.verdict import write_verdict
from tune_bn.records.verdict import verdict_from
from tune_bn.report import early_order, pairs, process, results
from tune_bn.report.blocks import Picture, first_of, pictures_in
from tune_bn.report.figures.effects import forest, shapes_words
from tune_bn.report.figures.importance import SHARE, Importance, importance_figure
from tune_bn.report.figures.landscape import best_words, landscape, landscape_words
from tune_bn.report.figures.pairs import CHANGES, changes_words, has_arrows, paired
from tune_bn.report.study import load
from tune_bn.report.writing import contents

pytestmark = [pytest.mark.usefixtures("no_importance"), pytest.mark.long]


def with_gains(study, gains):
    """The study with these differences of candidate-1 from the baseline, by seed."""
    baseline = {r.seed: r.scores["test_accuracy"] for r in study.confirm if r.arm == "baseline"}
    return study.with_records(
        [
            replace(r, scores=r.scores | {"test_accuracy": baseline[r.seed] + gains[r.seed - 1]})
            if r.arm == "candidate-1"
            else r
            for r in study.records
        ]
    )


def judged(study):
    return verdict_from(judge(study.plan, study.records))


@pytest.fixture
def with_verdict(tmp_path):
    def write(study):
        folder = study.write(tmp_path / "study")
        write_verdict(folder)
        return load(folder)

    return write


def legend_of(figure):
    (legend,) = figure.legends
    return dict(zip((text.get_text() for text in legend.get_texts()), legend.legend_handles, strict=True))


@pytest.mark.parametrize(
    ("gains", "told", "not_told"),
    [
        ((0.5, 0.0, -0.5, 1.0), ("better", "worse", "equal"), ()),
        ((0.5, 0.4, 0.2, 1.0), ("better",), ("worse", "equal", "vermilion", "grey")),
        ((-0.5, -0.4, 0.0, -1.0), ("worse", "equal"), ("better", "round")),
    ],
)
def test_the_caption_of_the_pairs_names_each_shape_that_is_drawn(synthetic_study, gains, told, not_told):
    verdict = judged(with_gains(synthetic_study(n=4), gains))
    words = changes_words(verdict)
    assert all(word in words for word in told)
    assert not [word for word in not_told if word in words]
    slopes, _ = paired(verdict).axes
    # A seed has the same marker in both panels.
    signs = [(gain > 0) - (gain < 0) for gain in gains]
    assert [line.get_marker() for line in slopes.lines[:-1]] == [CHANGES[sign][2] for sign in signs]


def test_with_many_candidates_there_are_no_lines_to_speak_of(synthetic_study):
    words = changes_words(judged(synthetic_study(candidates=6)))
    assert "blue, round: a seed" in words.lower()
    assert not [word for word in ("solid", "dashed", "dotted") if word in words]


def test_arrows_and_intervals_are_told_where_they_are(synthetic_study, with_verdict):
    near = with_verdict(synthetic_study(effect=0.1))
    (picture,) = [block for block in pairs.pairs(near) if isinstance(block, Picture)]
    assert "90 % interval" in picture.caption
    assert "arrow" not in picture.caption
    assert picture.result.startswith("candidate-1 better on ")
    far = judged(sequential(synthetic_study(effect=0.45, candidates=4, rng_seed=3)))
    assert has_arrows(far)
    assert "An arrow: the interval goes on" in shapes_words(far)


def test_pairs_of_an_invalid_study_have_no_interval_in_their_words(synthetic_study, with_verdict):
    made = synthetic_study()
    study = with_verdict(made.with_records(made.records[:-5]))
    (picture,) = [block for block in pairs.pairs(study) if isinstance(block, Picture)]
    assert "interval" not in picture.caption
    assert "interval" not in "".join(axes.get_title("left") for axes in picture.figure.axes)


@pytest.mark.parametrize(
    ("effect", "shape", "bold", "others"),
    [
        (0.1, "Circle: effect;", False, ("square", "cross", "arrow")),
        (2.0, "Filled square: effect, supported;", True, ("circle", "cross")),
        (-2.0, "Cross: effect, significantly worse;", True, ("circle", "square")),
    ],
)
def test_the_forest_tells_the_shapes_that_it_has(synthetic_study, with_verdict, effect, shape, bold, others):
    study = with_verdict(synthetic_study(effect=effect))
    (picture,) = [block for block in pairs.effects(study) if isinstance(block, Picture)]
    assert picture.caption.startswith(f"Confirmation. {shape}")
    assert not [word for word in others if word in picture.caption.lower()]
    (axes,) = picture.figure.axes
    assert (axes.get_title("left") == "bold: significant") is bold
    assert ("filled square" in " ".join(legend_of(picture.figure))) is (effect == 2.0)
    found = {0.1: "undecided", 2.0: "better", -2.0: "worse"}[effect]
    assert picture.result.endswith(found)
    legend = results._legend(study.verdict)
    assert ("bold" in legend) is bold
    assert legend.endswith(".")


def test_a_forest_with_both_names_both_kinds_in_its_legend(synthetic_study):
    made = in_settings(synthetic_study(), {"a": {"lr": 0.1}, "b": {"lr": 0.01}}, {"Ours": [-2.0, 2.0]})
    names = legend_of(forest(judged(made)))
    assert {"significantly worse", "effect (filled square: supported)"} <= set(names)


def test_without_anything_bold_the_legend_of_settings_does_not_explain_it(synthetic_study, with_verdict):
    made = synthetic_study(n=4)
    for effects, bold in ((2.0, True), (0.0, False)):
        baseline = {r.seed: r.scores["test_accuracy"] for r in made.confirm if r.arm == "baseline"}
        study = in_settings(made, {"a": {"lr": 0.1}, "b": {"lr": 0.01}}, {"Ours": [effects, effects]})
        noisy = [
            replace(r, scores=r.scores | {"test_accuracy": baseline[r.seed] + effects + (0.2 if r.seed % 2 else -0.2)})
            if r.arm.startswith("Ours")
            else r
            for r in study.records
        ]
        verdict = judged(study.with_records(noisy))
        text = "".join(str(span) for block in results._by_setting(verdict) for span in getattr(block, "spans", ()))
        assert ("bold" in text) is bold


def test_a_bar_of_importance_is_the_same_in_axis_and_caption(synthetic_study, loaded, monkeypatch):
    found = [Importance("at full length", 24, {"gamma": (60.0, 62.0), "random numbers": (40.0, 38.0)})]
    monkeypatch.setattr("tune_bn.report.process.importances", lambda study: found)
    (picture,) = [b for b in process.importance(loaded(synthetic_study())) if isinstance(b, Picture)]
    (axes,) = importance_figure(found).axes
    assert SHARE in picture.caption
    assert axes.get_xlabel().startswith(SHARE)
    assert picture.result == "γ 61 %, random numbers 39 %"


def test_no_swatch_of_the_landscape_has_the_colour_of_a_score(synthetic_study, loaded):
    study = loaded(synthetic_study(candidates=2))
    figure = landscape(study)
    names = legend_of(figure)
    swatch = names["completed, coloured by its score"]
    assert swatch.get_facecolor().tolist() == [[1.0, 1.0, 1.0, 1.0]]
    # What is drawn keeps its colours.
    points = next(item for item in figure.axes[0].collections if item.get_label() == "completed")
    assert points.get_array() is not None


def test_the_numbers_beside_rings_are_explained(synthetic_study, loaded):
    study = loaded(synthetic_study(candidates=2))
    assert {"1: candidate-1", "2: candidate-2", "baseline"} <= set(legend_of(landscape(study)))
    assert "1 is candidate-1, 2 is candidate-2." in landscape_words(study)
    many = loaded(synthetic_study(candidates=6))
    assert "in the order of the plan" in landscape_words(many)
    one_key = loaded(synthetic_study(searched=("gamma",)))
    assert "number beside a ring" not in landscape_words(one_key)
    assert "beside a ring" not in landscape_words(replace(study, plan=None))


def test_the_best_trial_is_told_of_those_that_ran_to_their_end(synthetic_study, loaded):
    made = synthetic_study()
    study = loaded(made)
    whole = [r for r in made.records if (r.stage, r.status) == ("search", "completed")]
    best = max(r.scores["val_accuracy"] for r in whole)
    assert best_words(study).startswith(f"best validation accuracy {best:.2f} % at γ = ")
    none = replace(study, records=[replace(r, status="pruned") for r in whole])
    assert best_words(none) == f"none of {len(whole)} trials ran to its end"


def test_the_early_order_says_of_which_trials_its_curves_are(synthetic_study, loaded):
    before = look(1, {"candidate": settles(16, 8)}, range(1, 10), 10)
    last = look(2, {"candidate": settles(24, 2)}, range(1, 10), 10)
    assert last.safe_from is not None
    study = replace(loaded(synthetic_study(), plan=False), early_order=[before, last])
    (picture,) = [block for block in early_order.early_order(study) if isinstance(block, Picture)]
    names = legend_of(picture.figure)
    assert "τ, better half of 24 trials" in names
    assert f"safe to stop from epoch {last.safe_from} on" in names
    # What is safe was not yet done.
    assert not [name for name in names if name.startswith("stops")]
    assert picture.caption.endswith("Dotted: τ at the earlier look, held when 16 trials had run to their end.")
    assert picture.result == f"stopping is safe from epoch {last.safe_from} of 10 on"
    assert "the better half of 24 candidate trials that ran to their end" in look_words(last)
    alone = replace(study, early_order=[last])
    (picture,) = [block for block in early_order.early_order(alone) if isinstance(block, Picture)]
    assert "Dotted" not in picture.caption


@pytest.mark.parametrize("looks", [False, True])
def test_every_picture_has_its_result_in_its_alternative_text(synthetic_study, with_verdict, looks):
    study = with_verdict(sequential(synthetic_study(effect=1.5, candidates=2)) if looks else synthetic_study())
    found = pictures_in(contents(study))
    assert len(found) == 5 + looks
    for picture in found:
        assert picture.result, picture.name
        assert picture.alternative == f"{picture.title}: {picture.result}"


def test_of_many_results_a_clause_holds_some():
    assert first_of(["a", "b"]) == "a; b"
    assert first_of(list("abcdef")) == "a; b; c; d; and 2 more"
