"""``tune_bn power`` on group-sequential designs, as a user types it."""

from __future__ import annotations

import json
import re

import pytest

D_Z = ("--effect", "0.675", "--std", "1", "--rho", "0.5")
HIGHER_CAP = "4,6,8,10,12,15,18,21"


def test_the_design_of_some_looks_in_sentences(typed):
    status, out, err = typed("power", *D_Z, "--looks", HIGHER_CAP)
    assert (status, err) == (0, "")
    assert "21 seeds find a true gain of 0.675 (d_z = 0.675) with power 0.910." in out
    assert "Group-sequential, looks at 4, 6, 8, 10, 12, 15, 18 and 21 pairs: power 0.874" in out
    assert "takes 14.5 pairs with the gain, 10.8 without any." in out
    ends = re.findall(r"^(\d+) +\S+ +\S+ +(\S+) % +(\S+) % +(\S+) % +(\S+) %$", out, re.M)
    assert [row[0] for row in ends] == HIGHER_CAP.split(",")
    for first in (1, 3):
        assert sum(float(cell) for row in ends for cell in row[first : first + 2]) == pytest.approx(100, abs=0.9)


def test_fixed_and_sequential_stand_side_by_side_and_one_is_recommended(typed):
    _, out, _ = typed("power", *D_Z)
    rows = re.findall(r"^(fixed|looks [\d, ]+?)( \*)? +(\d+) +(0\.\d+) +(\S+) +(\S+) +(\S+) +(\S+)$", out, re.M)
    assert rows[0][0] == "fixed"
    assert len(rows) == 4
    assert all(float(row[3]) >= 0.8 for row in rows)
    assert [float(row[6]) for row in rows] == pytest.approx([2 * float(row[4]) for row in rows], abs=0.11)
    starred = [row for row in rows if row[1]]
    assert len(starred) == 1
    looks = starred[0][0].removeprefix("looks ")
    assert (
        f"{starred[0][2]} seeds in `seeds.confirm` and `claim: {{stopping: group_sequential, looks: [{looks}]}}`" in out
    )


@pytest.mark.long
def test_json_says_what_the_sentences_say(typed):
    arguments = ("power", *D_Z, "--looks", HIGHER_CAP, "--power", "0.9", "--candidates", "3")
    _, out, _ = typed(*arguments, "--json")
    answer = json.loads(out)
    design = answer["design"]
    assert (answer["n"], design["looks"]) == (21, [4, 6, 8, 10, 12, 15, 18, 21])
    assert design["power"] == pytest.approx(sum(stage["shown"] for stage in design["stages"]))
    assert answer["recommended"] in answer["options"]
    assert answer["options"][0]["stopping"] == "fixed"
    assert answer["options"][0]["expected_runs"] == 4 * answer["seeds_needed"]
    assert all(option["power"] >= 0.9 for option in answer["options"])
    assert design["stages"][-1]["futility_t"] is None
    _, text, _ = typed(*arguments)
    assert (
        f"power {design['power']:.3f}, and power 0.9 for a gain from {design['minimum_detectable_effect']:.3g} on"
        in text
    )
    assert "runs of 3 (at most), gain" in text
    assert "14.5 pairs" not in text


@pytest.mark.long
def test_the_looks_follow_the_seeds_where_none_are_named(typed):
    _, out, _ = typed("power", *D_Z, "--n", "30", "--json")
    assert json.loads(out)["design"]["looks"] == [6, 10, 16, 22, 30]
    _, out, _ = typed("power", *D_Z, "--n", "2")
    assert "Group-sequential" not in out
    _, out, _ = typed("power", *D_Z, "--n", "20000", "--json")
    assert json.loads(out)["design"] is None


@pytest.mark.long
@pytest.mark.parametrize(("effect", "warned"), [("5", True), ("3", True), ("1.5", False), ("0.675", False)])
def test_so_few_seeds_are_recommended_with_a_caution(typed, effect, warned):
    _, out, _ = typed("power", *D_Z, "--effect", effect)
    assert ("rests on normal differences alone. From 5 pairs on it need not." in out) == warned


def test_the_fixed_design_alone_says_why(typed):
    assert "; looks are computed for 4 to 10,000 pairs at α ≤ 0.3." in typed("power", *D_Z, "--effect", "0.02")[1]
    assert "; looks would save nothing." in typed("power", *D_Z, "--effect", "8")[1]


def test_futility_may_be_left_out(typed):
    with_bound, without = (
        json.loads(typed("power", *D_Z, "--json", *more)[1]) for more in ((), ("--futility", "none"))
    )
    assert without["design"]["futility"] is None
    assert without["design"]["power"] > with_bound["design"]["power"]
    assert without["design"]["expected_pairs_without_gain"] > 14 > with_bound["design"]["expected_pairs_without_gain"]
    _, text, _ = typed("power", *D_Z, "--futility", "none")
    assert ", futility: null}`" in text


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "begins"), [("power.png", b"\x89PNG"), ("power.svg", b"<?xml"), ("POWER.PNG", b"\x89PNG")]
)
def test_the_designs_are_drawn(typed, tmp_path, name, begins):
    status, out, _ = typed("power", *D_Z, "--plot", name)
    assert status == 0
    assert "recommended" in out
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--looks", "4,6,x"], "--looks: got '4,6,x'; accepted: whole numbers of pairs, such as 5,10,15"),
        (["--looks", ""], "--looks: got ''; accepted: whole numbers of pairs"),
        (["--looks", "6,4"], "--looks: got [6, 4]; accepted: 1 to 20 increasing integers, the first ≥ 3"),
        (["--looks", "2,4"], "--looks: got [2, 4]; accepted: 1 to 20 increasing integers, the first ≥ 3"),
        (["--looks", "3,90"], "--looks: got [3, 90]; accepted: 1 to 20 increasing integers, the first ≥ 3"),
        (["--looks", "5,10", "--n", "15"], "--n: got 15; accepted: 10, the last of --looks, or no --n"),
        (["--looks", "5,10", "--alpha", "0.4"], "--alpha: got 0.4; accepted: a number in [5e-09, 0.3]"),
        (["--futility", "0.5"], "--futility: got '0.5'; accepted: none, or a number between 0 and 0.5"),
        (["--futility", "nan"], "--futility: got 'nan'; accepted: none, or a number between 0 and 0.5"),
        (["--futility", "often"], "--futility: got 'often'; accepted: none, or a number between 0 and 0.5"),
        (["--plot", "power.pdf"], "--plot: got 'power.pdf'; accepted: a file that ends in .png or .svg"),
        (["--plot", "nowhere/power.png"], "--plot: got 'nowhere/power.png'; accepted: a file that can be written ("),
        (["--plot", "nowhere/power.svg"], "--plot: got 'nowhere/power.svg'; accepted: a file that can be written ("),
    ],
)
def test_a_bad_value_is_refused(typed, tmp_path, options, problem):
    status, out, err = typed("power", *D_Z, *options)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {problem}")
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("name", ["folder.png", "folder.svg"])
def test_a_picture_in_the_place_of_a_folder_leaves_nothing_behind(typed, tmp_path, name):
    (tmp_path / name).mkdir()
    status, out, err = typed("power", *D_Z, "--plot", name)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: --plot: got '{name}'; accepted: a file that can be written (")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.long
@pytest.mark.parametrize(
    "more",
    [
        ["--effect", "1e100"],
        ["--effect", "1e-90"],
        ["--effect", "1e100", "--std", "1e-100"],
        ["--power", "0.999999"],
        ["--alpha", "0.4"],
        ["--candidates", "100"],
    ],
)
def test_extreme_values_get_an_answer(typed, more):
    status, out, err = typed("power", *D_Z, *more)
    assert (status, err) == (0, "")
    assert "seeds" in out
