"""Tables as spreadsheets, pandas, NumPy and loggers write them: read, or refused with the place and the remedy."""

from __future__ import annotations

import json

import pytest

from tune_bn.analysis.columns import Columns, read_scores
from tune_bn.errors import ConfigError, ScoresError

ROWS = [("base", 1, 94.25), ("base", 2, 93.5), ("ours", 1, 95.0), ("ours", 2, 94.75)]
READ = tuple((arm, str(seed), score) for arm, seed, score in ROWS)


def text(delimiter=",", comma=False, header=("arm", "seed", "score"), end="\n", quote=""):
    lines = [delimiter.join(header)]
    for arm, seed, score in ROWS:
        number = str(score).replace(".", ",") if comma else str(score)
        lines.append(delimiter.join((arm, str(seed), f"{quote}{number}{quote}")))
    return end.join(lines) + end


def read(tmp_path, content, name="t.csv", **columns):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_scores(path, columns=Columns(**columns))


@pytest.mark.parametrize(
    "content",
    [
        text(";"),
        text(";", comma=True),
        text("\t"),
        text("\t", comma=True),
        text("|"),
        text(comma=True, quote='"'),
        text(header=("ARM", "Seed", " SCORE ")),
        text(end="\r\n"),
        text(end="\r\n").encode("utf-8-sig"),
        text("\t").encode("utf-16"),
        b"\xff\xfe" + text(";", comma=True).encode("utf-16-le"),
        b"\xfe\xff" + text().encode("utf-16-be"),
        text().replace("\n", ",,\n"),
        text(";") + ";;\n;;\n",
        "\n\n" + text() + ",,\n\n  \n",
        "sep=;\n" + text(";"),
        "# made by hand\n# torch 2.1, 2 seeds, A100\n" + text(),
        "# " + text(),
        text().replace("\nours,1", "\n# ours,1,95.0\nours,1"),
    ],
)
def test_one_table_in_many_dresses(tmp_path, content):
    assert read(tmp_path, content).rows == READ


def test_json_lines_and_lists(tmp_path):
    objects = [{"arm": arm, "seed": seed, "score": score, "x": [1]} for arm, seed, score in ROWS]
    lines = "\n".join(map(json.dumps, objects))
    for name, content in (("t.jsonl", lines), ("t.txt", lines + "\n\n"), ("t.json", json.dumps(objects))):
        assert read(tmp_path, content, name).rows == READ
    nested = "\n".join(json.dumps({"arm": o["arm"], "seed": o["seed"], "scores": {"acc": o["score"]}}) for o in objects)
    found = read(tmp_path, nested, "t.jsonl")
    assert (found.rows, found.metric) == (READ, "acc")
    # What pandas writes where a column of whole numbers lacks some.
    floats = [{**o, "seed": float(o["seed"])} for o in objects]
    assert read(tmp_path, "\n".join(map(json.dumps, floats)), "t.jsonl").rows == READ


def test_columns_by_name_in_any_capitals(tmp_path):
    content = text(header=("Method", "Run ID", "val/acc"))
    found = read(tmp_path, content, arm=("method",), pair=("run id",), score="VAL/ACC")
    assert (found.rows, found.paired_by, found.metric) == (READ, "run id", "val/acc")
    content = "arm,rep,fold,score\n" + "".join(f"a,{r},{f},{r + f / 10}\n" for r in (1, 2) for f in (1, 2))
    assert [pair for _, pair, _ in read(tmp_path, content, pair=("rep", "fold")).rows] == ["1/1", "1/2", "2/1", "2/2"]
    assert read(tmp_path, content, folds=True).paired_by == "rep/fold"


WIDE = "seed;base;ours;note\n1;94,25;95;x\n2;93,5;94,75;y\n"


def test_wide_tables(tmp_path):
    found = read(tmp_path, WIDE)
    assert found.rows == READ
    assert found.remarks == ("columns without numbers left out: note",)
    assert read(tmp_path, WIDE.replace("seed", "run"), pair=("run",)).rows == READ
    assert read(tmp_path, ",seed,base,ours\n0,1,94.25,95\n1,2,93.5,94.75\n").rows == READ
    some = read(tmp_path, "seed,base,ours\n1,94.25,\n2,,94.75\n")
    assert some.rows == (("base", "1", 94.25), ("ours", "2", 94.75))
    loose = read(tmp_path, "base,ours\n94.25,95\n93.5,94.75\n,96\n", paired=False)
    assert loose.rows == (*READ, ("ours", "3", 96.0))
    chosen = read(tmp_path, "seed,base,ours,epochs\n1,94.25,95,9\n2,93.5,94.75,9\n", arm=("base", "ours"))
    assert chosen.rows == READ


@pytest.mark.parametrize(
    "name", ["epochs", "epoch", "lr", "diff", "Δ", "mean", "p-value", "n", "run", "id", "mean ± std"]
)
def test_a_column_that_may_be_no_arm_is_asked_about(tmp_path, name):
    with pytest.raises(ScoresError, match=r"it cannot be told whether it is scores of an arm; accepted: --arm NAME"):
        read(tmp_path, f"seed,base,ours,{name}\n1,94.25,95,9\n2,93.5,94.75,9\n")


def test_columns_of_several_scores_are_asked_about(tmp_path):
    content = "seed,base_acc,base_time,ours_acc,ours_time\n1,94.25,100,95,120\n2,93.5,101,94.75,119\n"
    with pytest.raises(ScoresError, match=r"column base_acc, base_time, ours_acc, ours_time: it cannot be told"):
        read(tmp_path, content)
    found = read(tmp_path, content, arm=("base_acc", "ours_acc"))
    assert [score for *_, score in found.rows] == [94.25, 93.5, 95, 94.75]


def test_an_odd_cell_costs_no_arm(tmp_path):
    with pytest.raises(ScoresError, match=r"t\.csv:3: column ours: got 'OOM'; accepted: a number"):
        read(tmp_path, "seed,base,ours\n1,94.25,95\n2,93.5,OOM\n3,93.5,96\n")


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (["1.234,5", "950,25"], [1234.5, 950.25]),
        (["1,234.5", "950.25"], [1234.5, 950.25]),
        (["1,234", "950.25"], [1234, 950.25]),
        (["0,951", "0,955"], [0.951, 0.955]),
        (["95,123", "95,5"], [95.123, 95.5]),
        (["1,234,567", "12"], [1234567, 12]),
        (["1.234.567", "12"], [1234567, 12]),
        (["-2,5e-3", "1"], [-0.0025, 1]),
        (["95.123", "95.124"], [95.123, 95.124]),
    ],
)
def test_decimal_marks(tmp_path, numbers, expected):
    rows = "".join(f"a;{i};{number}\n" for i, number in enumerate(numbers))
    assert [score for *_, score in read(tmp_path, "arm;seed;score\n" + rows).rows] == expected


def test_a_number_that_may_be_read_in_two_ways_is_asked_about(tmp_path):
    content = "arm;seed;score\na;1;95,123\na;2;94,876\n"
    with pytest.raises(ScoresError, match=r":2: column score: got '95,123', which may be .* --decimal comma"):
        read(tmp_path, content)
    assert [score for *_, score in read(tmp_path, content, decimal="comma").rows] == [95.123, 94.876]
    assert [score for *_, score in read(tmp_path, content, decimal="point").rows] == [95123, 94876]
    with pytest.raises(ConfigError, match="decimal: got 'dot'; accepted: comma or point"):
        read(tmp_path, content, decimal="dot")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "arm;seed;score\na;1;95,5\na;2;95.5\n",
            r":2: column score: got '95,5', and '95.5' at .*:3: a decimal comma and",
        ),
        ("arm,seed,score\na,1,97,5\n", r":2: 4 fields; accepted: 3, .*; numbers with a decimal comma stand in quotes"),
        ("a,1,95\nb,1,96\n", r":1: column .* is missing \(the first line is a, 1, 95, which holds a number and is no"),
        ("arm,score\na,1\n", r"--seed NAME for the column whose values make the pairs, or --unpaired"),
        ("arm,seed,acc\na,1,2\n", r"column score is missing .*, or --score NAME"),
        ("method,seed,score\na,1,2\n", r"column arm is missing .*, or --arm NAME"),
        ("arm,seed,Score,SCORE\na,1,2,3\n", r"column score stands twice"),
        ("arm;seed,x;score\na;1,2;3\n", r":1: the header holds comma and semicolon, and it cannot be told which"),
        ("PK\x03\x04rest", r"is an Excel workbook or another zip file; save the sheet as CSV"),
        (b"\x1f\x8brest", r"is compressed by gzip; unpack it"),
        ('{"arm": "a"\n', r":1: not JSON"),
        ("[1, 2]", r"row 1: got int; accepted: an object"),
        ('{"arm": "a", "seed": 1, "score": true}\n', r":1: column score: got True; accepted: a number"),
        ('{"arm": "a", "seed": 1}\n{"arm": "a", "seed": 2, "score": null}\n', r":1: column score: got ''"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(tmp_path, content, problem):
    with pytest.raises(ScoresError, match=problem):
        read(tmp_path, content)


def test_places_stay_true_below_comments_and_blank_lines(tmp_path):
    content = "# one\n\n# two\narm,seed,score\n\n# three\na,1,x\n"
    with pytest.raises(ScoresError, match=r"t\.csv:7: column score: got 'x'"):
        read(tmp_path, content)
    assert read(tmp_path, content.replace("x", "1")).remarks == ("3 lines that begin with # left out",)


EXPORT = ["study", "stage", "arm", "seed", "status", "scores.val_accuracy", "scores.best_epoch", "scores.test_accuracy"]


def export(*confirm):
    rows = [
        ("s", "search", "candidate", 101, "completed", 80, 3, ""),
        ("s", "select", "baseline", 201, "completed", 81, 3, ""),
    ]
    rows += [("s", "confirm", arm, seed, status, 82, 4, score) for arm, seed, status, score in confirm]
    return "\n".join(",".join(map(str, row)) for row in [EXPORT, *rows]) + "\n"


CONFIRM = [
    (arm.replace("base", "baseline").replace("ours", "candidate-1"), seed, "completed", x) for arm, seed, x in ROWS
]


def test_an_export_reads_without_options(tmp_path):
    found = read(tmp_path, export(*CONFIRM, ("baseline", 3, "failed", "")))
    assert found.rows == tuple((arm, str(seed), x) for arm, seed, _, x in CONFIRM)
    assert (found.metric, found.baseline) == ("test_accuracy", "baseline")
    assert found.remarks == ("2 rows of other stages left out", "1 rows that are not completed left out")
    assert read(tmp_path, export(*CONFIRM), score="scores.val_accuracy").rows[0][2] == 82


@pytest.mark.parametrize(
    ("confirm", "problem"),
    [
        ([], "no row is of stage confirm"),
        ([*CONFIRM, ("candidate-1", 3, "diverged", "")], "`tune_bn verify STUDY`, which knows the plan"),
        (
            [("baseline.resnet", 1, "completed", 90), ("candidate-1.resnet", 1, "completed", 91)],
            "a baseline of its own",
        ),
    ],
)
def test_an_export_that_needs_its_plan_is_refused(tmp_path, confirm, problem):
    with pytest.raises(ScoresError, match=problem):
        read(tmp_path, export(*confirm))
