"""What holds in all pictures: one style for an arm, names beside the lines, nothing clipped, nothing flattened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.synthetic_claims import sequential
from tests.report.test_plots import points
from tune_bn.analysis import judge
from tune_bn.records.verdict import verdict_from
from tune_bn.report.figures.curves import curves
from tune_bn.report.figures.effects import forest
from tune_bn.report.figures.landscape import landscape
from tune_bn.report.figures.luck import shrinkage_figure

pytestmark = pytest.mark.filterwarnings("error")


def test_over_one_key_every_arm_stands_at_its_score(synthetic_study, loaded):
    study = synthetic_study(searched=("gamma",))
    axes = landscape(loaded(study)).axes[0]
    (chosen,) = study.plan["candidates"]
    trial = next(r for r in study.records if r.stage == "search" and r.trial == chosen["trial"])
    assert points(axes, "candidate-1") == {(chosen["config"]["gamma"], trial.scores["val_accuracy"])}
    mean = np.mean([r.scores["val_accuracy"] for r in study.confirm if r.arm == "baseline"])
    ((x, y),) = points(axes, "baseline, in the confirmation")
    assert (x, y) == (1.0, pytest.approx(mean))


@pytest.mark.long
@pytest.mark.parametrize("candidates", [1, 3, 14])
def test_an_arm_looks_the_same_in_every_picture(synthetic_study, loaded, candidates):
    study = synthetic_study(candidates=candidates, trials=60)
    verdict = judge(study.plan, study.records)
    files = replace(loaded(study), verdict=verdict_from(verdict))
    whole, late = curves(files).axes
    (luck,) = shrinkage_figure(verdict_from(verdict)).axes
    in_curves = {line.get_label().partition(" (")[0]: line.get_color() for line in whole.lines}
    in_luck = {line.get_label(): line.get_color() for line in luck.lines}
    for arm in verdict["candidates"]:
        assert in_curves[arm["arm"]] == in_luck[arm["arm"]]
    assert in_curves["baseline"] == in_luck["baseline, confirm"] == "black"
    # Each is named where it ends, and nothing lies on the frame or beyond it.
    assert {text.get_text() for text in late.texts} == {line.get_label() for line in whole.lines}
    low, high = late.get_ylim()
    drawn = [y for line in late.lines for y in line.get_ydata()[len(line.get_ydata()) // 2 :]]
    assert low < min(drawn) <= max(drawn) < high


def test_an_arm_that_learned_nothing_does_not_flatten_the_enlarged_half(synthetic_study, loaded):
    study = synthetic_study(candidates=3)
    flat = {r.key for r in study.confirm if r.arm == "candidate-2"}
    bad = {key: [p | {"val_accuracy": 10.0} for p in c] if key in flat else c for key, c in study.curves.items()}
    whole, late = curves(loaded(replace(study, curves=bad))).axes
    low, high = late.get_ylim()
    assert low > 60
    assert high - low < 40
    assert any(text.get_text() == "candidate-2 (n = 15), below" for text in late.texts)
    assert whole.get_ylim()[0] < 10


@pytest.mark.long
def test_an_arrow_is_drawn_only_where_the_interval_leaves_the_picture(synthetic_study):
    study = sequential(synthetic_study(effect=0.45, candidates=4, rng_seed=3))
    verdict = judge(study.plan, study.records)
    (axes,) = forest(verdict_from(verdict)).axes
    low, high = axes.get_xlim()
    for row, arm in enumerate(verdict["candidates"]):
        arrows = [line for line in axes.lines if line.get_marker() in ("<", ">") and row in line.get_ydata()]
        beyond = [end for end in (*arm["ci"], *arm["ci_adjusted"]) if end is not None and not low <= end <= high]
        assert len(arrows) >= len(beyond) > 0 or not arrows
