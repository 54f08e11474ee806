from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.synthetic_claims import in_settings, searched_in_settings, sequential
from tune_bn.analysis import judge
from tune_bn.records.verdict import verdict_from
from tune_bn.report.figures.canvas import save, svg_of
from tune_bn.report.figures.curves import curves
from tune_bn.report.figures.effects import forest
from tune_bn.report.figures.landscape import landscape
from tune_bn.report.figures.looks import FARTHEST, boundaries, normal_scores
from tune_bn.report.figures.luck import shrinkage_figure
from tune_bn.report.figures.pairs import paired
from tune_bn.report.study import load, trials_of

# A glyph that the font lacks, or an empty slice, is a warning.
pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.long]


def points(axes, label):
    """Places of the points drawn under a label, as a set of (x, y)."""
    found = [item for item in axes.collections if item.get_label() == label]
    return {tuple(place) for item in found for place in np.asarray(item.get_offsets())}


def searched(study, status):
    return {(r.config["gamma"], r.config["c"]) for r in study.records if r.stage == "search" and r.status == status}


def test_the_landscape_shows_every_trial_by_its_outcome(synthetic_study, loaded):
    study = synthetic_study()
    axes = landscape(loaded(study)).axes[0]
    for status in ("completed", "pruned", "diverged"):
        assert points(axes, status) == searched(study, status) != set()
    chosen = study.plan["candidates"][0]["config"]
    assert points(axes, "candidate-1") == {(chosen["gamma"], chosen["c"])}
    assert points(axes, "baseline") == {(1.0, 1.0)}
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_candidate_has_one_place_whatever_the_settings(synthetic_study, loaded):
    study = searched_in_settings(synthetic_study(candidates=2), {"a": {"lr": 0.1}, "b": {"lr": 0.01}})
    axes = landscape(loaded(study)).axes[0]
    chosen = [arm["config"] for arm in study.plan["candidates"][:2]]
    for number, config in enumerate(chosen, start=1):
        assert points(axes, f"candidate-{number}") == {(config["gamma"], config["c"])}
    assert [text.get_text() for text in axes.texts] == ["1", "2"]


def test_of_many_candidates_the_legend_names_one(synthetic_study, loaded):
    study = synthetic_study(candidates=6)
    figure = landscape(loaded(study))
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "3", "4", "5", "6"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [name for name in named if name.startswith("candidate")] == ["candidate, by its number"]


def test_pruned_trials_are_hollow_and_completed_ones_coloured_by_accuracy(synthetic_study, loaded):
    study = synthetic_study()
    figure = landscape(loaded(study))
    drawn = {item.get_label(): item for item in figure.axes[0].collections}
    assert len(drawn["pruned"].get_facecolor()) == 0
    accuracies = [r.scores["val_accuracy"] for r in study.records if (r.stage, r.status) == ("search", "completed")]
    assert sorted(drawn["completed"].get_array()) == pytest.approx(sorted(accuracies))
    assert "%" in figure.axes[1].get_ylabel()


def test_one_bad_trial_does_not_flatten_the_colours(synthetic_study, loaded):
    study = synthetic_study()
    index = next(i for i, r in enumerate(study.records) if r.status == "completed")
    bad = replace(study.records[index], scores={"val_accuracy": 12.0})
    records = [*study.records[:index], bad, *study.records[index + 1 :]]
    completed = next(
        item
        for item in landscape(loaded(study.with_records(records))).axes[0].collections
        if item.get_label() == "completed"
    )
    assert completed.get_clim()[0] > 90


@pytest.mark.parametrize(
    ("keys", "label"),
    [(("gamma",), "gamma"), (("c",), "c"), (("lr",), "lr"), (("momentum", "lr"), "lr"), ((), "trial")],
)
def test_with_fewer_searched_keys_the_landscape_has_one_axis(synthetic_study, loaded, keys, label):
    study = synthetic_study(searched=keys)
    axes, strip = landscape(loaded(study)).axes
    assert label in strip.get_xlabel()
    assert "accuracy" in axes.get_ylabel()
    completed = [r for r in study.records if (r.stage, r.status) == ("search", "completed")]
    assert {y for _, y in points(axes, "completed")} == {r.scores["val_accuracy"] for r in completed}
    # What has no comparable score stands in a strip of its own, and not at a height that reads as one.
    assert [text.get_text() for text in strip.get_yticklabels()] == ["pruned, no score", "diverged, no score"]
    stopped = [r for r in study.records if r.stage == "search" and r.status in ("pruned", "diverged")]
    assert sum(len(item.get_offsets()) for item in strip.collections) == len(stopped)


def test_other_searched_keys_leave_the_landscape_over_gamma_and_c(synthetic_study, loaded):
    study = synthetic_study(searched=("gamma", "c", "lr", "momentum"))
    axes = landscape(loaded(study)).axes[0]
    assert points(axes, "completed") == searched(study, "completed")


def test_a_search_without_scores_has_no_landscape(synthetic_study, loaded):
    study = synthetic_study()
    failed = [replace(r, status="failed", scores={}) for r in study.records if r.stage == "search"]
    assert landscape(loaded(study.with_records(failed), plan=False)) is None


def test_a_search_that_was_stopped_everywhere_is_drawn(synthetic_study, loaded):
    study = synthetic_study()
    pruned = [replace(r, status="pruned") for r in study.records if r.stage == "search" and r.status == "completed"]
    assert points(landscape(loaded(study.with_records(pruned), plan=False)).axes[0], "pruned") != set()


@pytest.mark.parametrize("candidates", [1, 3])
def test_every_pair_is_a_line(synthetic_study, candidates):
    study = synthetic_study(candidates=candidates)
    verdict = judge(study.plan, study.records)
    *slopes, differences = paired(verdict_from(verdict)).axes
    assert len(slopes) == candidates
    for axes, arm in zip(slopes, verdict["candidates"], strict=True):
        *seeds, mean = (tuple(line.get_ydata()) for line in axes.lines)
        assert sorted(seeds) == sorted((verdict["baseline"]["scores"][s], arm["scores"][s]) for s in arm["scores"])
        assert mean == pytest.approx((verdict["baseline"]["mean"], arm["mean"]))
        assert axes.get_ylim() == slopes[0].get_ylim()
        low, high = axes.get_ylim()
        assert all(low <= value <= high for pair in seeds for value in pair)
    labels = [text.get_text() for text in differences.texts]
    assert labels == [f"{arm['effect']:+.2f}" for arm in verdict["candidates"]]


def test_a_run_that_diverged_flattens_no_other_candidate(synthetic_study):
    study = synthetic_study(candidates=2)
    records = [
        replace(r, status="diverged", scores={**r.scores, "test_accuracy": 10.0})
        if (r.stage, r.arm, r.seed) == ("confirm", "candidate-2", 3)
        else r
        for r in study.records
    ]
    first, second, _ = paired(verdict_from(judge(study.plan, records))).axes
    low, high = first.get_ylim()
    assert low > 90
    assert second.get_ylim()[0] < 10
    assert all(low <= value <= high for line in first.lines for value in line.get_ydata())
    # Each of the two scales is written beside its panel.
    assert second.yaxis.get_tick_params()["labelleft"]


def test_many_arms_have_a_row_each_instead_of_a_panel(synthetic_study):
    study = synthetic_study(candidates=6)
    verdict = judge(study.plan, study.records)
    (axes,) = paired(verdict_from(verdict)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"candidate-{place}" for place in range(1, 7)]
    assert sum(len(item.get_offsets()) for item in axes.collections) == 6 * len(verdict["seeds"])
    shown = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert shown == {f"{a['effect']:+.2f}": "bold" if a["supported"] else "normal" for a in verdict["candidates"]}


def test_equal_scores_are_neither_better_nor_worse(synthetic_study):
    study = synthetic_study(n=4)
    baseline = {r.seed: r.scores["test_accuracy"] for r in study.confirm if r.arm == "baseline"}
    gains = {1: 0.5, 2: 0.0, 3: -0.5, 4: 1.0}
    records = [
        replace(r, scores={"test_accuracy": baseline[r.seed] + gains[r.seed]}) if r.arm == "candidate-1" else r
        for r in study.records
    ]
    slopes = paired(verdict_from(judge(study.plan, records))).axes[0]
    assert slopes.get_title("left") == "better on 2 of 4 seeds"
    assert {line.get_linestyle() for line in slopes.lines[:-1]} == {"-", "--", ":"}


def test_an_invalid_study_shows_the_pairs_that_exist_without_a_bound(synthetic_study):
    study = synthetic_study()
    verdict = judge(study.plan, study.records[:-5])
    slopes, differences = paired(verdict_from(verdict)).axes
    assert len(slopes.lines) == 10 + 1
    # Zero line and mean; no bound.
    assert len(differences.lines) == 2


def test_a_verdict_without_scores_has_no_pairs(synthetic_study):
    study = synthetic_study()
    assert paired(verdict_from(judge(study.plan, []))) is None
    assert paired(verdict_from(judge({}, []))) is None


def test_curves_are_means_over_seeds(synthetic_study, loaded):
    study = synthetic_study(candidates=2)
    whole = curves(loaded(study)).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in whole.lines}
    assert set(drawn) == {"baseline (n = 15)", "candidate-1 (n = 15)", "candidate-2 (n = 15)"}
    runs = [study.curves[r.key] for r in study.confirm if r.arm == "baseline"]
    expected = [np.mean([run[epoch]["val_accuracy"] for run in runs]) for epoch in range(40)]
    assert drawn["baseline (n = 15)"] == pytest.approx(expected)


def test_a_course_of_two_epochs_has_no_second_half_to_enlarge(synthetic_study, loaded):
    study = synthetic_study()
    short = {key: points[:2] for key, points in study.curves.items()}
    # A warning is an error here: matplotlib warns of an axis whose ends are the same.
    assert len(curves(loaded(replace(study, curves=short))).axes) == 2


def test_a_run_that_diverged_ends_its_curve_early(synthetic_study, loaded):
    study = synthetic_study()
    key = study.confirm[0].key
    cut = [*study.curves[key][:5], {**study.curves[key][5], "val_accuracy": None}]
    whole = curves(loaded(replace(study, curves={**study.curves, key: cut}))).axes[0]
    rest = [study.curves[r.key] for r in study.confirm if r.arm == "baseline"][1:]
    expected = np.mean([run[20]["val_accuracy"] for run in rest])
    assert whole.lines[0].get_ydata()[20] == pytest.approx(expected)
    assert np.isfinite(whole.lines[0].get_ydata()).all()


def test_a_torn_line_of_curves_costs_one_curve(synthetic_study, tmp_path):
    study = synthetic_study()
    folder = study.write(tmp_path / "study")
    file = folder / "curves.jsonl"
    file.write_bytes(file.read_bytes()[:-30])
    labels = {line.get_label() for line in curves(load(folder)).axes[0].lines}
    assert labels == {"baseline (n = 15)", "candidate-1 (n = 14)"}


def test_without_curves_there_is_no_figure_of_them(synthetic_study, loaded):
    assert curves(loaded(synthetic_study(), curves=False)) is None


def lines(axes, label):
    """The lines drawn under a label, as lists of (x, y)."""
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines if line.get_label() == label]


def test_the_forest_has_a_row_for_each_candidate(synthetic_study):
    study = synthetic_study(candidates=6)
    verdict = judge(study.plan, study.records)
    (axes,) = forest(verdict_from(verdict)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [arm["arm"] for arm in verdict["candidates"]]
    drawn = {tuple(np.round(point, 9)) for line in axes.lines for point in zip(*line.get_data(), strict=True)}
    for row, arm in enumerate(verdict["candidates"]):
        for x in (arm["effect"], *arm["ci"], *arm["ci_adjusted"]):
            assert (round(x, 9), row) in drawn
        assert (round(arm["minimum_detectable_effect"], 9), round(row - 0.3, 9)) in drawn
    shown = {text.get_text(): text.get_fontweight() for text in axes.texts}
    assert shown == {f"{a['effect']:+.2f}": "bold" if a["supported"] else "normal" for a in verdict["candidates"]}


def test_bounds_far_away_are_arrows_and_do_not_flatten_the_forest(synthetic_study):
    study = sequential(synthetic_study(effect=0.45, candidates=4, rng_seed=3))
    verdict = judge(study.plan, study.records)
    stopped = verdict["candidates"][3]
    assert (stopped["n"], stopped["ci"][1] > 30, stopped["ci_adjusted"][1] > 100) == (3, True, True)
    (axes,) = forest(verdict_from(verdict)).axes
    low, high = axes.get_xlim()
    assert -3 < low < high < 3
    arrows = {line.get_marker() for line in axes.lines if 3 in line.get_ydata()}
    assert {"<", ">"} <= arrows
    *_, differences = paired(verdict_from(verdict)).axes
    assert differences.get_ylim()[0] > -3
    assert "v" in {line.get_marker() for line in differences.lines}


def test_an_invalid_study_has_no_forest(synthetic_study):
    study = synthetic_study()
    assert forest(verdict_from(judge(study.plan, study.records[:-5]))) is None


def test_boundaries_and_paths_are_drawn_by_their_p_values(synthetic_study):
    study = sequential(synthetic_study(effect=0.45, candidates=4, rng_seed=3))
    verdict = judge(study.plan, study.records)
    (axes,) = boundaries(verdict_from(verdict)).axes
    ((*efficacy,),) = lines(axes, "efficacy")
    assert [x for x, _ in efficacy] == [3, 5, 8, 11, 15]
    assert [z for _, z in efficacy] == pytest.approx(normal_scores(verdict["design"]["nominal_p"]))
    ((*futility,),) = lines(axes, "futility")
    assert len(futility) == 4
    assert all(below[1] < above[1] for below, above in zip(futility, efficacy, strict=False))
    words = {"efficacy": "gain shown", "futility": "stopped for futility", "last_look": "not shown at the last look"}
    for arm in verdict["candidates"]:
        (path,) = lines(axes, f"{arm['arm']}: {words[arm['decision']]}")
        assert [round(x) for x, _ in path] == [look["n"] for look in arm["looks"]]
        assert [z for _, z in path] == pytest.approx(normal_scores([look["nominal_p"] for look in arm["looks"]]))
    low, high = axes.get_ylim()
    assert low < min(z for line in axes.lines for z in line.get_ydata())
    # The boundary at three pairs, t = 206, is within the picture.
    assert efficacy[0][1] < high < 6
    assert "t = 206" in {text.get_text() for text in axes.texts}


def test_a_path_beyond_the_picture_ends_in_an_arrow_and_equal_differences_leave_a_gap(synthetic_study):
    study = sequential(synthetic_study(effect=1.0))
    verdict = judge(study.plan, study.records)
    looks = verdict["candidates"][0]["looks"]
    looks[0] |= {"t": None, "nominal_p": 1.0}
    looks[-1] |= {"nominal_p": 1e-15}
    (axes,) = boundaries(verdict_from(verdict)).axes
    (path,) = lines(axes, "candidate-1: gain shown")
    assert np.isnan(path[0][1])
    assert path[-1][1] == FARTHEST < axes.get_ylim()[1]
    assert [line.get_data()[1].tolist() for line in axes.lines if line.get_marker() == "^"] == [[FARTHEST]]


def test_a_fixed_confirmation_has_no_boundaries(synthetic_study):
    study = synthetic_study()
    assert boundaries(verdict_from(judge(study.plan, study.records))) is None


def test_each_candidate_is_compared_with_the_baseline_of_its_setting(synthetic_study):
    study = in_settings(synthetic_study(), {"a": {"lr": 0.1}, "b": {"lr": 0.01}}, {"Ours": [1.0, 0.0]})
    shifted = [
        replace(r, scores=r.scores | {"test_accuracy": r.scores["test_accuracy"] - 20}) if r.arm.endswith(".b") else r
        for r in study.records
    ]
    verdict = judge(
        study.plan, [*shifted[:-1], replace(shifted[-1], scores=shifted[-1].scores | {"test_accuracy": 70.0})]
    )
    assert verdict["problems"] == []
    first, second, differences = paired(verdict_from(verdict)).axes
    assert [label.get_text() for label in second.get_xticklabels()] == ["baseline.b", "Ours.b"]
    assert max(second.lines[0].get_ydata()) < 80 < min(first.lines[0].get_ydata())
    shown = [text.get_text().replace("−", "-") for text in differences.texts]
    assert shown == [f"{a['effect']:+.2f}" for a in verdict["candidates"]]


def test_shrinkage_is_drawn_stage_by_stage_beside_the_baseline(synthetic_study):
    study = synthetic_study(candidates=2)
    verdict = judge(study.plan, study.records)
    (axes,) = shrinkage_figure(verdict_from(verdict)).axes
    for arm in verdict["candidates"]:
        found = arm["shrinkage"]
        assert lines(axes, arm["arm"]) == [
            [(i, found[s]["mean"]) for i, s in enumerate(("search", "select", "confirm"))]
        ]
    ((start, end),) = lines(axes, "baseline, confirm")
    assert start[1] == end[1] == verdict["candidates"][0]["shrinkage"]["baseline"]["mean"]
    assert "n = 15" in axes.get_xticklabels()[2].get_text()


def test_arms_that_were_not_searched_have_nothing_to_shrink(synthetic_study):
    study = in_settings(synthetic_study(), {"a": {"lr": 0.1}, "b": {"lr": 0.01}}, {"Ours": [1.0, 0.5]})
    assert shrinkage_figure(verdict_from(judge(study.plan, study.records))) is None


def test_pictures_are_the_same_each_time(synthetic_study, tmp_path):
    def draw():
        study = sequential(synthetic_study(effect=1.0))
        figure = boundaries(verdict_from(judge(study.plan, study.records)))
        save(figure, tmp_path / "looks.png")
        return (tmp_path / "looks.png").read_bytes(), svg_of(figure)

    first, second = draw(), draw()
    assert first == second
    assert b"<dc:date>" not in first[1]
    assert [path.name for path in tmp_path.iterdir()] == ["looks.png"]


def test_a_dollar_sign_in_a_name_begins_no_formula(synthetic_study):
    study = synthetic_study(candidates=2)
    verdict = judge(study.plan, study.records)
    verdict["candidates"][0]["arm"] = "$\\frac$"
    for draw in (forest, paired, shrinkage_figure):
        figure = draw(verdict_from(verdict))
        figure.canvas.draw()


def test_trials_are_means_over_their_seeds(synthetic_study):
    study = synthetic_study()
    trials = trials_of(study.records, "select")
    assert len(trials) == 3
    for trial in trials:
        scores = [r.scores["val_accuracy"] for r in study.records if r.stage == "select" and r.trial == trial.number]
        assert trial.score == pytest.approx(np.mean(scores))


def test_a_trial_with_a_failed_seed_has_no_score(synthetic_study):
    study = synthetic_study()
    records = [
        replace(r, status="failed", scores={}) if (r.stage, r.seed) == ("select", 202) else r for r in study.records
    ]
    assert {(t.status, t.score) for t in trials_of(records, "select")} == {("failed", None)}
