from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tune_bn.analysis import judge
from tune_bn.report.landscape import landscape
from tune_bn.report.plots import curves, paired, write_plots
from tune_bn.report.study import load, trials_of

# A glyph that the font lacks, or an empty slice, is a warning.
pytestmark = pytest.mark.filterwarnings("error")


def points(axes, label):
    """Places of the points drawn under a label, as a set of (x, y)."""
    found = [item for item in axes.collections if item.get_label() == label]
    return {tuple(place) for item in found for place in np.asarray(item.get_offsets())}


@pytest.fixture
def loaded(tmp_path):
    def write(study, **options):
        return load(study.write(tmp_path / "study", **options))

    return write


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
    axes = landscape(loaded(study)).axes[0]
    assert label in axes.get_xlabel()
    assert "accuracy" in axes.get_ylabel()
    completed = [r for r in study.records if (r.stage, r.status) == ("search", "completed")]
    assert {y for _, y in points(axes, "completed")} == {r.scores["val_accuracy"] for r in completed}


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
    *slopes, differences = paired(verdict).axes
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


def test_many_arms_have_a_row_each_instead_of_a_panel(synthetic_study):
    study = synthetic_study(candidates=6)
    verdict = judge(study.plan, study.records)
    (axes,) = paired(verdict).axes
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
    slopes = paired(judge(study.plan, records)).axes[0]
    assert slopes.get_title("left") == "better on 2 of 4 seeds"
    assert {line.get_linestyle() for line in slopes.lines[:-1]} == {"-", "--", ":"}


def test_an_invalid_study_shows_the_pairs_that_exist_without_a_bound(synthetic_study):
    study = synthetic_study()
    verdict = judge(study.plan, study.records[:-5])
    slopes, differences = paired(verdict).axes
    assert len(slopes.lines) == 10 + 1
    # Zero line and mean; no bound.
    assert len(differences.lines) == 2


def test_a_verdict_without_scores_has_no_pairs(synthetic_study):
    study = synthetic_study()
    assert paired(judge(study.plan, [])) is None
    assert paired(judge({}, [])) is None


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


def test_plots_are_the_same_each_time(synthetic_study, loaded, tmp_path):
    study = loaded(synthetic_study())
    first = {path.name: path.read_bytes() for path in write_plots(study, tmp_path / "plots")}
    again = {path.name: path.read_bytes() for path in write_plots(study, tmp_path / "plots")}
    assert first == again
    assert set(first) == {"landscape.png", "curves.png"}


def test_trials_are_means_over_their_seeds(synthetic_study):
    study = synthetic_study()
    trials = trials_of(study.records, "select")
    assert len(trials) == 3
    for trial in trials:
        scores = [r.scores["val_accuracy"] for r in study.records if r.stage == "select" and r.trial == trial.number]
        assert trial.val_accuracy == pytest.approx(np.mean(scores))


def test_a_trial_with_a_failed_seed_has_no_score(synthetic_study):
    study = synthetic_study()
    records = [
        replace(r, status="failed", scores={}) if (r.stage, r.seed) == ("select", 202) else r for r in study.records
    ]
    assert {(t.status, t.val_accuracy) for t in trials_of(records, "select")} == {("failed", None)}
