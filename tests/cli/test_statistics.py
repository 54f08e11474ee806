"""The verbs of statistics as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

BASE = [89.1, 89.9, 89.4, 90.2, 88.8]
BETTER = [90.3, 90.6, 90.9, 90.8, 90.1]


@pytest.fixture
def table(tmp_path) -> Path:
    rows = [("base", BASE), ("γ = 0.1", BETTER), ("twin", [x + 0.1 * (i % 2) for i, x in enumerate(BASE)])]
    lines = [f"{seed},{arm},{score},note" for arm, scores in rows for seed, score in enumerate(scores, 1)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["seed,arm,score,note", *lines]) + "\n", encoding="utf-8")
    return path


def refusal(typed, *arguments: str) -> str:
    status, out, err = typed(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    return err.removeprefix("error: ").rstrip("\n")


def test_power_in_sentences(typed):
    status, out, _ = typed("power", "--effect", "0.5", "--std", "0.4")
    assert status == 0
    assert "15 seeds find a true gain of 0.5 (d_z = 0.884) with power 0.946." in out
    assert "the minimum detectable effect" in out
    needed = int(re.search(r"needs (\d+) seeds for power 0.8", out)[1])
    rows = {int(row[0]): float(row[1].lstrip("> ")) for row in re.findall(r"^(\d+) +(>? ?0\.\d+) ", out, re.M)}
    assert rows[needed] >= 0.8 > max(power for n, power in rows.items() if n < needed)


@pytest.mark.long
def test_power_as_json_says_what_the_sentences_say(typed):
    arguments = ("power", "--effect", "0.5", "--std", "0.4", "--rho", "0.5", "--candidates", "6", "--n", "10")
    status, out, _ = typed(*arguments, "--json")
    answer = json.loads(out)
    assert status == 0
    assert answer["std_of_differences"] == pytest.approx(0.4)
    assert answer["level"] == pytest.approx(0.05 / 6)
    assert {"n": 10, "power": answer["power"]}.items() <= next(r for r in answer["table"] if r["n"] == 10).items()
    _, text, _ = typed(*arguments)
    assert f"with power {answer['power']:.3f}." in text
    assert f"needs {answer['seeds_needed']} seeds" in text
    assert f"a gain from {answer['minimum_detectable_effect']:.3g} on" in text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--effect", "0"], "--effect: got 0.0; accepted: a number > 0"),
        (["--effect", "nan"], "--effect: got nan; accepted: a number > 0"),
        (["--std", "-1"], "--std: got -1.0; accepted: a number > 0"),
        (["--std", "1e300"], "--std: got 1e+300; accepted: a number from "),
        (["--rho", "1"], "--rho: got 1.0; accepted: a number from -1 to below 1"),
        (["--n", "1"], "--n: got 1; accepted: an integer from 2 to "),
        (["--alpha", "0.5"], "--alpha: got 0.5; accepted: a number from "),
        (["--candidates", "0"], "--candidates: got 0; accepted: an integer from 1 to "),
        (["--power", "0.01"], "--power: got 0.01; accepted: a number between the level of the test, 0.05, and 1"),
    ],
)
def test_a_bad_value_of_power_is_refused(typed, options, problem):
    defaults = {"--effect": "0.5", "--std": "0.4"} | dict([options])
    assert refusal(typed, "power", *(word for pair in defaults.items() for word in pair)).startswith(problem)


def test_more_seeds_than_anyone_has(typed):
    status, out, _ = typed("power", "--effect", "1e-9", "--std", "1")
    assert status == 0
    assert "needs more than 1,000,000 seeds" in out


def test_a_table_of_scores_is_judged_in_words(typed, table, tmp_path):
    before = sorted(tmp_path.iterdir())
    status, out, err = typed("verify", "--scores", "scores.csv", "--baseline", "base")
    assert (status, err) == (0, "")
    verdict, reason, *rest = out.splitlines()
    assert verdict == "verdict: supported"
    assert reason.startswith("γ = 0.1 raises the score by 1.06 over base (")
    rows = [line for line in rest if line.startswith(("base", "γ = 0.1", "twin"))]
    assert [row.endswith(" supported") for row in rows[:3]] == [False, True, True]
    assert rows[2].endswith("not supported")
    assert len(rows) == 5
    assert "a table cannot show" in rest[-1]
    assert sorted(tmp_path.iterdir()) == before


def test_a_table_of_scores_is_judged_as_json(typed, table):
    status, out, _ = typed("verify", "--scores", str(table), "--baseline", "base", "--alpha", "0.1", "--json")
    verdict = json.loads(out)
    assert status == 0
    assert (verdict["verdict"], verdict["alpha"], verdict["source"]) == ("supported", 0.1, "scores.csv")
    assert verdict["candidates"][0]["sensitivity"]["sign_flip"]["p_value"] == 1 / 32


def test_another_column_makes_the_pairs(typed, table):
    table.write_text(table.read_text(encoding="utf-8").replace("seed,arm", "fold,arm"), encoding="utf-8")
    assert "column seed is missing" in refusal(typed, "verify", "--scores", str(table), "--baseline", "base")
    status, out, _ = typed("verify", "--scores", str(table), "--baseline", "base", "--paired-by", "fold")
    assert status == 0
    assert "n = 5 pairs by fold" in out


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_invalid_table_is_status_1(typed, table, as_json):
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines[:-1], lines[2]]), encoding="utf-8")
    status, out, _ = typed("verify", "--scores", str(table), "--baseline", "base", *as_json)
    assert status == 1
    for problem in ("base has more than one score for seed 2", "twin has no score for seed 5"):
        assert problem in out
    assert ("supported" in out.replace("not_supported", "")) == bool(as_json)  # the key of every arm


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--scores", "absent.csv", "--baseline", "a"], "absent.csv: cannot be read (No such file or directory); "),
        (["--scores", "scores.csv"], "--baseline: missing; accepted: an arm of scores.csv (base, γ = 0.1, twin)"),
        (["--scores", "scores.csv", "--baseline", "x"], "--baseline: got 'x'; accepted: an arm of scores.csv (base, "),
        (["--scores", "scores.csv", "--baseline", "base", "--paired-by", "arm"], "--paired-by: got 'arm'; accepted: "),
        (["--scores", "scores.csv", "--baseline", "base", "--alpha", "2"], "--alpha: got 2.0; accepted: a number b"),
        (["--scores", "scores.csv", "one"], "STUDY: got 'one' beside --scores; accepted: one of the two"),
        (["one", "--baseline", "base"], "--baseline: got 'base' without --scores; "),
        (["one", "--alpha", "0.1"], "--alpha: got 0.1 without --scores; "),
    ],
)
def test_bad_options_of_verify_are_refused(typed, table, options, problem):
    assert refusal(typed, "verify", *options).startswith(problem)
