"""Whether a lower score is better is asked wherever a name leaves doubt."""

from __future__ import annotations

import pytest

from tune_bn.analysis.columns import Scores
from tune_bn.analysis.goals import goal_of, words_of
from tune_bn.analysis.scores import judge_scores
from tune_bn.errors import ConfigError, ScoresError

LOSSES = {
    "base": [3.2800, 3.2810, 3.2795, 3.2804, 3.2799],
    "worse": [3.2900, 3.2925, 3.2891, 3.2912, 3.2897],
    "better": [3.2700, 3.2725, 3.2691, 3.2712, 3.2697],
}


def table(arms, metric="score", source="t.csv", **more):
    rows = tuple((arm, str(seed), x) for arm, scores in arms.items() for seed, x in enumerate(scores, 1))
    return Scores(source, "seed", rows, metric=metric, **more)


LOWER = (
    "loss|val_loss|testLoss|Test Loss|eval/loss|logloss|error|top1_err|err@1|ERROR RATE|perplexity|val.ppl|RMSE"
    "|rmse_test|MAE|nll|NLL/token|val_bpb|bpc|FID|fid50k|WER|cer|test-wer|crossEntropy|xent|KL|brier_score|ECE|latency_ms"
    "|time|regret|neg_log_loss|misclassified|PER|lpips|EPE|fpr95|mean_squared_error|MSELoss|val loss (smoothed)"
    "|1-acc|100 - accuracy|1 − F1|(1 - acc)|-acc|−test_accuracy|1/acc|acc (lower is better)|score↓|AUC (↓)"
    "|rank_test_score|accuracy_degradation|acc decrease|steps_to_90_acc|epochs-to-accuracy|incorrect top1|inv_acc"
)
HIGHER = (
    "score|Score|accuracy|test_accuracy|valAcc|top1|acc@5|AUROC|f1|macro-F1|mIoU|PSNR|SSIM|BLEU|reward|episode_return|R2"
    "|mAP|success_rate_score|precision|accuracy_per_class"
    "|R²|R^2|top-1-acc|acc@1|F1-score|acc_epoch_10|accuracy (↑)|best-1 - val_acc|text_to_image_score"
)


@pytest.mark.parametrize("name", LOWER.split("|"))
def test_a_score_that_sounds_like_a_loss_is_asked_about(name):
    with pytest.raises(ScoresError, match=r"is a lower score better\?.*--goal min.*--goal max"):
        judge_scores(table(LOSSES, metric=name), baseline="base")


@pytest.mark.parametrize("name", HIGHER.split("|"))
def test_a_score_that_is_surely_high_needs_no_goal(name):
    assert goal_of(name) == "max"
    assert judge_scores(table(LOSSES, metric=name), baseline="base")["goal_from"] == "name"


@pytest.mark.parametrize("name", ["value", "result", "y", "metric", "x1"])
def test_a_name_that_says_nothing_is_asked_about(name):
    with pytest.raises(ScoresError, match="higher score better, or a lower one"):
        goal_of(name)
    assert goal_of(name, goal="min") == "min"


def test_a_score_in_a_file_that_is_called_after_a_loss_is_asked_about():
    with pytest.raises(ScoresError, match=r"loss\.csv sounds like it"):
        judge_scores(table(LOSSES, source="loss.csv"), baseline="base")
    with pytest.raises(ScoresError, match="base_loss sounds like it"):
        judge_scores(table({"base_loss": LOSSES["base"], "b": LOSSES["worse"]}, wide=True), baseline="base_loss")
    # Arms may be losses to train with, judged by accuracy.
    arms = {"cross entropy loss": LOSSES["base"], "focal loss": LOSSES["worse"]}
    assert judge_scores(table(arms), baseline="cross entropy loss")["verdict"] == "supported"


@pytest.mark.parametrize("goal", ["maximize", "", "MIN", "lower"])
def test_another_goal_is_refused(goal):
    with pytest.raises(ConfigError, match="goal: got "):
        goal_of("score", goal=goal)


def test_lower_is_better_speaks_the_right_way():
    verdict = judge_scores(table(LOSSES), baseline="base", goal="min")
    assert verdict["reason"].startswith("better lowers the score by 0.00966 below base (3.2705 ± 0.0014 against ")
    assert "worse in 1: worse (-0.0103), by the mirrored test" in verdict["reason"]
    assert verdict["headline"] == "supported in 1 of 2 arms, worse in 1"
    worse, better = verdict["candidates"]
    assert (worse["supported"], worse["worse"]) == (False, True)
    assert (better["supported"], better["worse"]) == (True, False)
    assert better["effect"] == pytest.approx(0.00966)
    assert better["difference"] == pytest.approx(-0.00966)
    assert better["ci_low"] > 0


@pytest.mark.parametrize("goal", ["max", "min"])
def test_a_mirrored_table_gives_the_mirrored_verdict(goal):
    mirrored = {arm: [-x for x in scores] for arm, scores in LOSSES.items()}
    first = judge_scores(table(LOSSES), baseline="base", goal=goal)
    second = judge_scores(table(mirrored), baseline="base", goal="max" if goal == "min" else "min")
    for one, other in zip(first["candidates"], second["candidates"], strict=True):
        for key in ("effect", "ci_low", "p_value", "p_adjusted", "supported", "worse", "sensitivity"):
            assert one[key] == pytest.approx(other[key]) if isinstance(one[key], float) else one[key] == other[key]


def test_no_arm_is_better_and_the_sentence_says_which_way():
    arms = {"base": LOSSES["base"], "worse": LOSSES["worse"]}
    verdict = judge_scores(table(arms, "val_loss"), baseline="base", goal="min")
    assert verdict["verdict"] == "not_supported"
    assert verdict["reason"].startswith("worse raises val_loss by 0.0103 above base (")
    assert "It is significantly worse than base" in verdict["reason"]


def test_words_of_a_name():
    assert words_of("val/topLossABC_x") == ["val", "top", "loss", "abc", "x"]
