from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from tune_bn.report.figures.importance import CONTROL, FEWEST_TRIALS, REPEATS, importance_figure, importances
from tune_bn.report.markdown import to_markdown
from tune_bn.report.process import importance
from tune_bn.report.study import load

pytestmark = pytest.mark.long


@pytest.fixture
def loaded(tmp_path):
    def write(study, **options):
        return load(study.write(tmp_path / "study", **options))

    return write


def rescored(study, score, status="completed"):
    """The search with scores by a rule, all of one status, without what went wrong."""
    records = [
        replace(r, status=status, scores={"val_accuracy": score(r.config)})
        for r in study.records
        if r.stage == "search" and r.status in ("completed", "pruned")
    ]
    return study.with_records(records)


def test_the_key_that_makes_the_score_gets_the_share(synthetic_study, loaded):
    study = synthetic_study(searched=("gamma", "c", "lr", "momentum"), trials=40)
    (by_gamma,) = importances(loaded(rescored(study, lambda c: 95 + np.log10(c["gamma"])), plan=False))
    assert by_gamma.trials == len([r for r in study.records if r.stage == "search"]) - 2
    assert set(by_gamma.shares) == {"gamma", "c", "lr", "momentum", CONTROL}
    assert {len(shares) for shares in by_gamma.shares.values()} == {REPEATS}
    for repeat in zip(*by_gamma.shares.values(), strict=True):
        assert sum(repeat) == pytest.approx(100)
    assert min(by_gamma.shares["gamma"]) > 80
    assert fmean(by_gamma.shares[CONTROL]) < 10


def test_a_choice_counts_as_one_key(synthetic_study, loaded):
    study = synthetic_study(searched=("gamma", "lr"), trials=40)
    (by_lr,) = importances(loaded(rescored(study, lambda c: 90.0 + (c["lr"] == 0.05)), plan=False))
    assert min(by_lr.shares["lr"]) > 80


def test_trials_that_were_stopped_early_are_compared_at_equal_epochs_alone(synthetic_study, loaded):
    study = synthetic_study(trials=40)
    trials = [r for r in study.records if r.stage == "search"]
    full, early = importances(loaded(study))
    assert (full.score, full.trials) == ("at full length", sum(r.status == "completed" for r in trials))
    stopped = sum(r.status in ("completed", "pruned") for r in trials)
    assert (early.score, early.trials) == ("after 10 epochs", stopped)


def test_the_score_at_equal_epochs_is_that_of_the_curve(synthetic_study, loaded):
    study = synthetic_study(trials=40)
    # The curves know c, the final scores know nothing.
    curves = {
        r.key: [{**point, "val_accuracy": 80 + 5 * np.log10(r.config["c"])} for point in study.curves[r.key]]
        for r in study.records
    }
    flat = [
        replace(r, scores={**r.scores, "val_accuracy": 50.0}) if r.status in ("completed", "pruned") else r
        for r in study.records
    ]
    (early,) = importances(loaded(replace(study, records=flat, curves=curves)))
    assert early.score == "after 10 epochs"
    assert min(early.shares["c"]) > 80


def test_without_curves_only_full_length_counts(synthetic_study, loaded):
    (full,) = importances(loaded(synthetic_study(), curves=False))
    assert full.score == "at full length"


def test_the_same_records_give_the_same_shares(synthetic_study, loaded):
    study = loaded(synthetic_study(), curves=False)
    assert importances(study) == importances(study)


@pytest.mark.parametrize("trials", [FEWEST_TRIALS - 3, FEWEST_TRIALS])
def test_a_few_trials_give_a_sentence_instead(synthetic_study, loaded, trials):
    study = loaded(synthetic_study(trials=trials))
    assert importances(study) == []
    text = to_markdown(list(importance(study)))
    assert f"takes {FEWEST_TRIALS} or more comparable trials" in text
    assert "![" not in text


def test_equal_scores_give_a_sentence_instead(synthetic_study, loaded):
    assert importances(loaded(rescored(synthetic_study(), lambda config: 90.0), plan=False)) == []


def test_without_a_search_nothing_is_said(synthetic_study, loaded):
    study = synthetic_study()
    assert list(importance(loaded(study.with_records(study.confirm)))) == []


def test_bars_are_the_shares_and_the_caption_warns_of_noise(synthetic_study, loaded):
    study = loaded(synthetic_study())
    found = importances(study)
    (axes,) = importance_figure(found).axes
    widths = [bar.get_width() for container in axes.containers if hasattr(container, "patches") for bar in container]
    expected = [fmean(shares) for one in found for shares in one.shares.values()]
    assert widths == pytest.approx(expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["γ", "c", CONTROL]
    text = to_markdown(list(importance(study)))
    assert re.search(r"!\[Importance of the searched keys: γ \d+ %, [^]]+\]\(plots/importance\.png\)", text)
    assert f"no longer than that of {CONTROL} has shown nothing" in text


def test_optuna_comes_only_when_it_is_asked(synthetic_study, tmp_path):
    folder = synthetic_study().write(tmp_path / "study")
    code = (
        "import json, sys; from pathlib import Path; from tune_bn.report.study import load\n"
        "from tune_bn.report.figures import importance; from tune_bn.report import writing\n"
        "before = 'optuna' in sys.modules\n"
        "importance.importances(load(Path(sys.argv[1])))\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pydantic', 'matplotlib.pyplot', 'tune_bn.samplers'}\n"
        "print(json.dumps([before, 'optuna' in sys.modules, sorted(heavy & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, []]
    assert done.stderr == ""
