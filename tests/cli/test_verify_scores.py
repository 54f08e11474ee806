"""``verify --scores`` as a user types it, on tables as people have them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from tune_bn.cli import main

RNG = np.random.default_rng(0)
BASE = np.round(RNG.normal(94, 0.4, 10), 2)
BETTER = np.round(BASE * 0.5 + 47.6 + RNG.normal(0, 0.3, 10), 2)


def long(arms, seeds=True):
    head = "arm,seed,score" if seeds else "arm,score"
    rows = [
        f"{arm},{seed},{score}" if seeds else f"{arm},{score}"
        for arm, scores in arms.items()
        for seed, score in enumerate(scores, 1)
    ]
    return "\n".join([head, *rows]) + "\n"


def test_runs_that_are_no_pairs(judged):
    content = long({"base": BASE, "ours": BETTER[:-2]}, seeds=False)
    status, _, err = judged(content, "--baseline", "base")
    assert status == 2
    assert "or --unpaired" in err
    status, out, _ = judged(content, "--baseline", "base", "--unpaired")
    expected = stats.ttest_ind(BETTER[:-2], BASE, equal_var=False, alternative="greater")
    assert status == 0
    assert f"one-sided Welch t-test p = {expected.pvalue:.2g} " in out
    assert "n = 8 and 10 runs" in out
    assert "rank-sum p" in out


def test_a_published_mean(judged):
    """The way in which records of a training speedrun are claimed: losses against a number."""
    losses = [3.2781, 3.2776, 3.2801, 3.2779, 3.2789, 3.2785, 3.2790, 3.2771, 3.2796, 3.2783]
    content = "val_loss\n" + "\n".join(map(str, losses)) + "\n"
    status, _, err = judged(content, "--threshold", "3.28")
    assert status == 2
    assert "is a lower score better?" in err
    status, out, _ = judged(content, "--threshold", "3.28", "--goal", "min", "--json")
    verdict = json.loads(out)
    expected = stats.ttest_1samp(losses, 3.28, alternative="less")
    assert (status, verdict["verdict"], verdict["threshold"]) == (0, "supported", 3.28)
    (arm,) = verdict["candidates"]
    assert arm["p_value"] == pytest.approx(expected.pvalue)
    assert arm["effect"] == pytest.approx(3.28 - np.mean(losses))
    assert verdict["reason"].startswith("val_loss lowers val_loss by ") or "scores.csv" in verdict["reason"]
    status, _, err = judged(content, "--threshold", "3.28", "--goal", "min", "--baseline", "a")
    assert status == 2
    assert err.startswith("error: --baseline: got 'a'; accepted: no baseline beside a threshold")


def test_folds_of_a_cross_validation(judged):
    rows = [
        f"{arm},{repeat},{fold},{mean + RNG.normal(0, 0.5):.2f}"
        for arm, mean in (("base", 94), ("ours", 94.6))
        for repeat in range(4)
        for fold in range(5)
    ]
    content = "\n".join(["arm,repeat,fold,score", *rows]) + "\n"
    _, plain, _ = judged(content, "--baseline", "base", "--seed", "repeat", "--seed", "fold", "--json")
    assert any("--folds K" in remark for remark in json.loads(plain)["remarks"])
    status, out, _ = judged(content, "--baseline", "base", "--folds", "5", "--json")
    verdict, (arm,) = json.loads(out), json.loads(out)["candidates"]
    differences = np.array(list(arm["scores"].values())) - np.array(list(verdict["baseline"]["scores"].values()))
    t = differences.mean() / np.sqrt((1 / 20 + 1 / 4) * differences.var(ddof=1))
    assert status == 0
    assert arm["p_value"] == pytest.approx(stats.t.sf(t, 19))
    assert arm["uncorrected_p_value"] == pytest.approx(json.loads(plain)["candidates"][0]["p_value"])
    status, _, err = judged(content, "--baseline", "base", "--folds", "7")
    assert (status, err) == (2, "error: --folds: got 7; accepted: 2 or more, and a divisor of the 20 pairs\n")


def test_a_table_that_was_looked_at_before(judged):
    content = long({"base": BASE, "ours": BETTER})
    _, fixed, _ = judged(content, "--baseline", "base", "--json")
    status, out, _ = judged(content, "--baseline", "base", "--looks", "5,10,15", "--json")
    arm = json.loads(out)["candidates"][0]
    assert status == 0
    assert arm["p_value"] > json.loads(fixed)["candidates"][0]["p_value"]
    assert arm["ci_low"] < json.loads(fixed)["candidates"][0]["ci_low"]
    assert [look["n"] for look in arm["looks"]] in ([5], [5, 10])
    status, out, _ = judged(content, "--baseline", "base", "--looks", "5,10,15")
    assert "Look by look:" in out
    for looks in ("5,15", "5;10", "10,5", "a"):
        status, _, err = judged(content, "--baseline", "base", "--looks", looks)
        assert (status, err.startswith("error: --looks: got ")) == (2, True)


@pytest.mark.parametrize("n", [3, 4])
def test_few_pairs_say_what_they_cannot_show(judged, n):
    content = long({"base": BASE[:n], "ours": BASE[:n] + 1 + 0.01 * np.arange(n) ** 2})
    status, out, _ = judged(content, "--baseline", "base")
    assert status == 0
    assert out.startswith("verdict: supported")
    assert f"With {n} pairs no test free of assumptions on the distribution" in out
    assert f"1/2^{n} = {0.5**n:g}" in out


def test_two_pairs_are_no_evidence(judged):
    status, out, _ = judged(long({"b": [90, 91], "c": [91, 92.1]}), "--baseline", "b")
    assert status == 1
    assert out.startswith("verdict: invalid\ntwo pairs are no evidence")
    assert "0.25" in out


def test_harm_is_not_hidden_behind_a_gain(judged):
    arms = {"base": BASE, "A": BETTER + 1, "B": BETTER - 3, "C": BETTER - 4, "D": BASE + RNG.normal(0, 0.3, 10)}
    status, out, _ = judged(long(arms), "--baseline", "base")
    assert status == 0
    assert out.startswith("verdict: supported in 1 of 4 arms, worse in 2\nA raises the score by ")
    assert "worse in 2: B (-" in out
    rows = {line.split()[0]: line.split()[-1] for line in out.splitlines() if line[:2] in ("A ", "B ", "C ", "D ")}
    assert "worse" in out
    assert set(rows) == {"A", "B", "C", "D"}


def test_the_interval_belongs_to_the_test(judged):
    """One-sided at 5 % just passed: no interval beside it holds 0."""
    differences = np.array([0.5, -0.2, 0.6, 0.1, 0.5, -0.1, 0.4, 0.0, 0.3, -0.25])
    content = long({"base": BASE, "ours": np.round(BASE + differences, 2)})
    status, out, _ = judged(content, "--baseline", "base", "--json")
    verdict = json.loads(out)
    arm = verdict["candidates"][0]
    assert (status, verdict["verdict"]) == (0, "supported")
    assert 0.05 < arm["p_two_sided"] < 0.1
    assert arm["ci"][0] > 0
    assert arm["sensitivity"]["t_interval"][0] > 0
    _, out, _ = judged(content, "--baseline", "base")
    assert "90 % interval of the gain 0.0" in out
    assert f"two-sided p = {arm['p_two_sided']:.2g}" in out
    assert "95 % interval" not in out
    assert "t interval (95 %)" not in out


def test_the_goal_is_said_and_asked(judged):
    content = long({"base": BASE, "ours": BETTER})
    _, out, _ = judged(content, "--baseline", "base")
    assert "goal: a higher score is better, as for anything called score (else --goal min)." in out
    status, _, err = judged(content, "--baseline", "base", name="test_loss.csv")
    assert (status, err.count("--goal min")) == (2, 1)
    _, out, _ = judged(content, "--baseline", "base", "--goal", "min", name="test_loss.csv")
    assert "goal: a lower score is better." in out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--unpaired", "--folds", "5"], "--folds: got 5; accepted: one of unpaired and folds, not both"),
        (["--threshold", "nan"], "--threshold: got nan; accepted: a finite number"),
        (["--goal", "up"], "--goal: got 'up'; accepted: max, "),
        (["--accept", "all"], "--accept: got 'all'; accepted: summaries, repeats, units, names"),
        (["--metric", "x"], "--metric: got 'x' without --mlflow; accepted: beside --mlflow alone"),
        (["--write-tags"], "--write-tags: got it without --mlflow; "),
        (["--mlflow", "x"], "--mlflow: got 'x' beside --scores; accepted: one of the two"),
        (["--seed", "seed", "--paired-by", "seed"], "--paired-by: got 'seed' beside --seed; accepted: one of the two"),
        (["--decimal", "dot"], "--decimal: got 'dot'; accepted: comma or point"),
        (["--score", "seed"], "--score: got 'seed'; accepted: a column beside arm and score"),
    ],
)
def test_bad_options_are_refused(judged, arguments, problem):
    content = long({"base": BASE, "ours": BETTER})
    baseline = [] if "--threshold" in arguments else ["--baseline", "base"]
    status, out, err = judged(content, *baseline, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {problem}"), err
    assert len(err.splitlines()) == 1


def test_options_of_tables_need_a_table(capsys):
    for option, value in (("--goal", "max"), ("--arm", "x"), ("--seed", "x"), ("--threshold", "1")):
        with pytest.raises(SystemExit) as caught:
            main(["verify", "study", option, value])
        assert caught.value.code == 2
        assert f"{option}: got" in capsys.readouterr().err
