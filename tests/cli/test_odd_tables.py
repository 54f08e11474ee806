"""``verify --scores`` on honest tables in odd dress, and on tables that are not what they seem."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

RNG = np.random.default_rng(7)
BASE = np.round(RNG.normal(90, 0.5, 10), 2)
NEW = np.round(0.4 * BASE + 0.6 * 90 + 0.5 + RNG.normal(0, 0.3, 10), 2)
P = stats.ttest_rel(NEW, BASE, alternative="greater").pvalue


def long(head: str = "arm,seed,score", cell: str = "{:.2f}", base=BASE, new=NEW, seeds=None) -> str:
    names = range(1, len(base) + 1) if seeds is None else seeds
    rows = [
        f"{arm},{seed},{cell.format(score)}"
        for arm, scores in (("base", base), ("new", new))
        for seed, score in zip(names, scores, strict=True)
    ]
    return "\n".join([head, *rows]) + "\n"


def p_of(out: str) -> float:
    return json.loads(out)["candidates"][0]["p_value"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(long(cell="{:.2f}%"), id="percent"),
        pytest.param(long(cell="{:.2f} %").replace(",", ";").replace(".", ","), id="percent with a comma"),
        pytest.param(
            "seed;base;new\n" + "".join(f"{i};{x} %;{y} %\n" for i, (x, y) in enumerate(zip(BASE, NEW, strict=True))),
            id="wide",
        ),
        pytest.param(long().replace("base", "\u200bbase").replace("\n", "\u200b\n"), id="zero-width spaces"),
        pytest.param(
            "| arm | seed | score |\n|:----|-----:|------:|\n"
            + "".join(f"| {a} | {i} | {x} |\n" for a, xs in (("base", BASE), ("new", NEW)) for i, x in enumerate(xs)),
            id="Markdown",
        ),
    ],
)
def test_the_same_scores_in_another_dress(judged, content):
    status, out, err = judged(content, "--baseline", "base", "--json")
    assert status == 0, err
    assert p_of(out) == pytest.approx(P)


def test_a_minus_sign_of_a_typesetter(judged):
    status, out, err = judged(long(cell="\u2212{:.2f}"), "--baseline", "base", "--goal", "min", "--json")
    assert status == 0, err
    assert p_of(out) == pytest.approx(P)


def test_percent_in_some_cells_alone_is_refused(judged):
    status, _, err = judged(long().replace(f"base,1,{BASE[0]:.2f}", f"base,1,{BASE[0]:.2f}%"), "--baseline", "base")
    assert status == 2
    assert "column score: got '" in err


def test_columns_that_name_an_arm_together(judged):
    rows = [
        f"{lr},{decay},{seed},{score + 0.1 * lr + shift:.3f}"
        for lr, decay, shift in ((0.1, 1e-4, 0.0), (0.1, 5e-4, 0.3), (0.2, 1e-4, -0.4))
        for seed, score in enumerate(BASE + RNG.normal(0, 0.1, 10))
    ]
    content = "\n".join(["lr,wd,seed,acc", *rows]) + "\n"
    options = ("--arm", "lr", "--arm", "wd", "--score", "acc", "--baseline", "0.1/0.0001", "--json")
    status, out, err = judged(content, *options)
    assert status == 0, err
    assert [arm["arm"] for arm in json.loads(out)["candidates"]] == ["0.1/0.0005", "0.2/0.0001"]


def test_wide_arms_that_are_named_by_hyperparameters(judged):
    rows = "".join(f"{i},{x},{y}\n" for i, (x, y) in enumerate(zip(BASE, NEW, strict=True)))
    status, out, err = judged(f"seed,lr=0.1,lr=0.01\n{rows}", "--baseline", "lr=0.1", "--json")
    assert status == 0, err
    assert p_of(out) == pytest.approx(P)
    status, _, err = judged(f"seed,lr 1,lr 2\n{rows}", "--baseline", "lr 1")
    assert status == 2
    assert "--arm NAME once for each column that is an arm" in err


@pytest.mark.parametrize("state", ["crashed", "failed", "Running", "killed"])
def test_a_row_that_the_table_calls_unfinished_is_said(judged, state):
    lines = long().splitlines()
    content = "\n".join([f"{lines[0]},State", f"{lines[1]},{state}", *(f"{line},finished" for line in lines[2:])])
    status, out, _ = judged(content, "--baseline", "base")
    assert status == 0
    assert f"remark: column State: 1 row is {state}, and counted all the same" in out


@pytest.mark.parametrize("number", ["0.9", "0.93", "9000"])
def test_a_threshold_in_another_unit(judged, number):
    status, out, _ = judged(long(), "--threshold", number)
    assert status == 1
    assert "and the threshold" in out
    assert "accepted: one unit" in out
    status, _, _ = judged(long(), "--threshold", number, "--accept", "units")
    assert status == 0


def test_errors_beside_hits_are_said(judged):
    status, out, _ = judged(long(base=100 - BASE), "--baseline", "base")
    assert status == 0
    assert "if it were taken from 100: errors in one arm and hits in the other?" in out
    assert "taken from" not in judged(long(base=BASE - 60), "--baseline", "base")[1]


def test_epochs_are_no_pairs(judged):
    rows = [
        f"{arm},{seed},{epoch},{score - 10 / epoch:.2f}"
        for arm, scores in (("base", BASE), ("new", NEW))
        for seed, score in enumerate(scores)
        for epoch in (1, 2, 3)
    ]
    content = "\n".join(["arm,seed,epoch,score", *rows]) + "\n"
    status, out, _ = judged(content, "--baseline", "base", "--seed", "seed", "--seed", "epoch")
    assert status == 0
    assert "at several epochs or steps are no independent runs" in out


COPIES = {
    "an arm with noise": (BASE, BASE + np.abs(RNG.normal(0, 1e-9, 10))),
    "pairs with noise": tuple(np.tile(x[:4], 3) + RNG.normal(0, 1e-9, 12) for x in (BASE, NEW)),
    "pairs rounded": tuple(np.r_[x, np.round(x, 2)] for x in (BASE[:4] + 0.00371, NEW[:4] - 0.00429)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_that_are_not_equal_to_the_last_place(judged, kind):
    base, new = COPIES[kind]
    status, out, _ = judged(long(cell="{:.13g}", base=base, new=new), "--baseline", "base")
    assert status == 1
    assert "accepted: every run once" in out


def test_a_mean_that_ends_in_zero_is_still_a_mean(judged):
    base = [89.53, 90.61, 90.14, 89.72]
    new = [90.83, 91.35, 90.92, 91.12]
    base, new = ([*scores, round(float(np.mean(scores)), 2)] for scores in (base, new))
    assert base[-1] == 90.0
    status, out, _ = judged(long(base=base, new=new), "--baseline", "base")
    assert "is the mean of the others in every arm" in out, status


def test_columns_that_were_sorted_under_seeds_of_any_names(judged):
    base, new = np.sort(RNG.normal(90, 0.5, 6)), np.sort(RNG.normal(90.3, 0.5, 6))
    content = long(base=base, new=new, seeds=(42, 7, 1337, 2024, 0, 99))
    assert "are both sorted in the order of the rows" in judged(content, "--baseline", "base")[1]


def test_equal_ranks_with_a_tie(judged):
    base = [89.53, 90.61, 90.14, 89.72, 90.02, 89.91, 90.33, 89.72, 88.9, 90.95]
    new = [89.95, 90.71, 90.62, 90.12, 90.41, 90.33, 90.62, 90.12, 89.9, 90.75]
    assert "have the same ranks over seed" in judged(long(base=base, new=new), "--baseline", "base")[1]


@pytest.mark.long
def test_means_beside_a_gain_at_a_look_are_of_the_same_pairs(judged):
    base = np.round(RNG.normal(90, 0.2, 15), 2)
    new = np.round(np.r_[base[:10] + 1.5 + RNG.normal(0, 0.1, 10), base[10:] + 0.1], 2)
    _, out, _ = judged(long(base=base, new=new), "--baseline", "base", "--looks", "5,10,15", "--json")
    verdict = json.loads(out)
    (arm,) = verdict["candidates"]
    assert arm["n"] < 15
    n = arm["n"]
    assert arm["mean"] == pytest.approx(np.mean(new[:n]))
    assert arm["effect"] == pytest.approx(np.mean(new[:n]) - np.mean(base[:n]))
    assert f" against {np.mean(base[:n]):.2f} ± {np.std(base[:n], ddof=1):.2f}" in verdict["reason"]


def test_summaries_in_the_plural(judged):
    content = long() + "base,mean,90.1\nbase,std,0.5\nnew,mean,90.5\nnew,std,0.4\n"
    assert "seed mean, std are no runs but summaries of the others" in judged(content, "--baseline", "base")[1]
    assert "seed 平均 is no run but" in judged(long() + "base,平均,90.1\nnew,平均,90.5\n", "--baseline", "base")[1]


def test_an_arm_of_one_number_spreads_by_nothing(judged):
    out = judged(long(base=[0.1] * 10), "--baseline", "base")[1]
    assert "against 0.10 ± 0.00" in out
