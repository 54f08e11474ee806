"""``tune_bn reproduce``: from cells to studies, and from their verdicts to a comparison."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import warm
from tune_bn.cli import main
from tune_bn.cli.paper import openers
from tune_bn.errors import SpecError, StudyError
from tune_bn.paper.reproduction import (
    Column,
    Comparison,
    as_row,
    asked_cells,
    columns,
    compare,
    deviation_words,
    parse_seeds,
    seed_words,
    write_comparison,
)
from tune_bn.paper.tables import BASE, TABLES, cells, find
from tune_bn.paper.text import comparison_text
from tune_bn.records.verdict import Verdict, verdict_from
from tune_bn.space.loading import load_space
from tune_bn.space.locate import shipped_spaces
from tune_bn.study.folder import StudyFolder

SEEDS = list(range(1, 16))
TINY = {
    "model.arch": "resnet8",
    "data.source": "digits",
    "data.train_size": 40,
    "data.val_size": 40,
    "data.test_size": 40,
    "train.epochs": 1,
    "train.batch_size": 20,
    "resources.gpu": 0,
}
TINY_SET = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


def column_of(table: str, *asked: str, seeds: list[int] = SEEDS, overrides: tuple[str, ...] = ()) -> Column:
    (only,) = columns(table, asked_cells(table, asked), seeds, overrides)
    return only


@pytest.mark.parametrize(
    ("table", "asked", "found"),
    [
        ("table1a", ["gamma=0.1,lr=0.1"], {("0.10", 0.1)}),
        ("table1a", ["lr=0.1, gamma=0.10"], {("0.10", 0.1)}),
        ("table1a", ["gamma=1,lr=1e-3", "gamma=0.01,lr=0.1"], {("1.00", 0.001), ("0.01", 0.1)}),
        ("table1a", ["gamma=0.5", "gamma=0.5,lr=0.1"], {("0.50", 0.1), ("0.50", 0.01), ("0.50", 0.001)}),
        ("table2a", ["network=ResNet50,lr=0.1"], {("0.05", 0.1), ("0.10", 0.1), ("0.50", 0.1)}),
        ("table2b", ["dataset=cars,method=Ours,lr=0.01"], {("Ours", 0.01)}),
        ("table2b", ["dataset=cub200,method=RBN*,lr=0.1"], {("RBN*", 0.1)}),
        ("table2b", ["dataset=cub200,method=iebn_star,lr=0.1"], {("IEBN*", 0.1)}),
    ],
)
def test_cells_are_asked_by_their_keys(table: str, asked: list[str], found: set[tuple[str, float]]) -> None:
    got = asked_cells(table, asked)
    assert {(cell.row, cell.lr) for cell in got} == found
    assert len(got) == len(found)


@pytest.mark.parametrize("table", TABLES)
def test_all_is_every_cell_but_base(table: str) -> None:
    assert asked_cells(table, ["all"]) == [cell for cell in cells(table) if cell.method != BASE]


@pytest.mark.parametrize(
    "asked",
    [
        "gama=0.1",
        "gamma=0.2",
        "gamma=BASE",
        "gamma",
        "",
        "gamma=0.1,gamma=0.5",
        "gamma=0.1,network=resnet18",
        "gamma=nan",
    ],
)
def test_a_cell_that_is_not_there_is_told_those_that_are(asked: str) -> None:
    with pytest.raises(SpecError) as caught:
        asked_cells("table1a", [asked])
    assert str(caught.value) == (
        f"--cell: got {asked!r}; accepted: all, or keys of table1a: gamma (0.01 | 0.05 | 0.1 | 0.25 | 0.5 | 0.75 | 1), "
        "lr (0.1 | 0.01 | 0.001); BASE is run with every column"
    )


@pytest.mark.parametrize(
    ("text", "seeds"), [("1-15", SEEDS), ("1,2,5", [1, 2, 5]), ("7, 1-3", [7, 1, 2, 3]), ("0-1", [0, 1])]
)
def test_seeds_are_read(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds
    assert parse_seeds(seed_words(seeds)) == seeds


@pytest.mark.parametrize("text", ["", "1", "1,1", "3-1", "1-3,2", "a", "-1", "1.5,2", "1-9999999999", "2147483648,1"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"--seeds: got .*; accepted: two or more different seeds"):
        parse_seeds(text)


@pytest.mark.parametrize("table", TABLES)
def test_the_shipped_space_is_the_first_column_of_its_table(table: str) -> None:
    """Run by `search` or by `reproduce`, it is the same configurations on the same seeds."""
    shipped = load_space(shipped_spaces() / f"{table}.yaml")
    asked = asked_cells(table, ["all"])
    first = columns(table, [cell for cell in asked if cell.column == asked[0].column], SEEDS)[0].space
    assert list(shipped.claim.arms) == list(first.claim.arms)
    for name in shipped.claim.arms:
        assert shipped.run_config(shipped.arm_config(name)) == first.run_config(first.arm_config(name))
    assert shipped.run_config(shipped.baseline) == first.run_config(first.baseline)
    assert (shipped.seeds.confirm, shipped.claim.metric) == (first.seeds.confirm, first.claim.metric)
    assert not columns(table, asked, SEEDS)[0].deviations


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("table1a", ["lr0.1", "lr0.01", "lr0.001"]),
        ("table2a", [f"{net}-lr{lr}" for net in ("resnet50", "resnet101", "resnet152") for lr in ("0.1", "0.01")]),
        ("table2b", [f"{data}-lr{lr}" for data in ("cifar10", "cifar100", "cub200", "cars") for lr in ("0.1", "0.01")]),
    ],
)
def test_every_column_is_a_study_of_its_own(table: str, names: list[str]) -> None:
    parts = columns(table, asked_cells(table, ["all"]), SEEDS)
    assert [part.name for part in parts] == names
    assert [part.space.name for part in parts] == [f"{table}-{name}" for name in names]
    assert len({part.space.sha256 for part in parts}) == len(parts)
    for part in parts:
        cell, space = part.cells[0], part.space
        assert (space.model.arch, space.data.source, space.train.lr) == (cell.network, cell.dataset, cell.lr)
        assert space.run_config(space.baseline).model.norm == "base"
        assert space.seeds.confirm == SEEDS
        for asked, name in zip(part.cells, space.claim.arms, strict=True):
            config = space.run_config(space.arm_config(name))
            assert (config.train.c, config.model.norm != "base") == (100 if asked.method == "Ours" else 1, True)
            assert asked.gamma in (None, config.model.gamma)


def test_seeds_may_be_any() -> None:
    """The stages that are not run have seeds too, which may not be among them."""
    assert column_of("table1a", "gamma=0.1,lr=0.1", seeds=[101, 201, 202]).space.seeds.confirm == [101, 201, 202]


def test_what_differs_from_the_paper_is_said() -> None:
    column = column_of(
        "table1a",
        "gamma=0.1,lr=0.01",
        seeds=[1, 2, 5],
        overrides=("train.epochs=5", "data.flip=false", "data.root=here", "resources.gpu=0", "train.lr=0.01"),
    )
    assert column.deviations == (
        "train.epochs=5 (paper: 180)",
        "data.flip=false (paper: true)",
        "seeds 1-2,5 (paper: 1-15)",
    )
    words = deviation_words(column)
    assert words.startswith("At reduced length: train.epochs=5 (paper: 180), ")
    assert words.endswith("; not a reproduction of the published values.")
    other = column_of("table1a", "lr=0.1", overrides=("train.lr=0.2", "train.precision=bf16"))
    assert deviation_words(other).startswith("In another setting: train.lr=0.2 (paper: 0.1), train.precision=bf16 (")


def test_a_recipe_that_nobody_knows_is_never_called_the_papers() -> None:
    assert deviation_words(column_of("table2b", "dataset=cifar10,lr=0.1")).startswith("The paper's setting as far as")
    for column in columns("table2b", asked_cells("table2b", ["dataset=cub200"]), SEEDS):
        assert "The paper's recipe for CUB-200 is not known" in deviation_words(column)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("claim.arms={}", "--set claim.arms={}: accepted: a key of model, data, train, budget, resources, tracking; "),
        ("seeds.confirm=[1, 2]", "--set seeds.confirm=[1, 2]: accepted: a key of model"),
        ("train", "--set train: accepted: KEY=VALUE"),
        ("train.epochs=0", "table1a.yaml with train.epochs=0: train.epochs: got 0; accepted: an integer ≥ 1"),
    ],
)
def test_an_override_that_is_not_acceptable_is_refused(override: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        column_of("table1a", "lr=0.1", overrides=(override,))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std", "n", "overlap"),
    [
        (90.80, 0.20, 15, True),
        (90.60, 0.20, 15, True),
        (90.55, 0.20, 15, False),  # 90.66 at its upper end; the published interval begins at 90.69
        (91.05, 0.20, 15, False),
        (60.0, 5.0, 2, True),  # two runs say little
        (90.80, 0.0, 3, True),
        (90.80, None, 1, None),
        (None, None, 0, None),
    ],
)
def test_whether_two_intervals_overlap(mean: float | None, std: float | None, n: int, overlap: bool | None) -> None:
    row = Comparison(find("table1a", gamma=0.1, lr=0.1), n, mean, std)
    assert row.overlap is overlap
    assert row.difference == (None if mean is None else pytest.approx(mean - 90.80))


def verdict_of(column: Column, **scores: list[float]) -> Verdict:
    def arm(name: str) -> dict[str, Any]:
        values = scores.get(name, [])
        mean = sum(values) / len(values) if values else None
        std = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if mean is not None else None
        return {
            "arm": name,
            "config": {},
            "scores": {str(i): v for i, v in enumerate(values)},
            "mean": mean,
            "std": std,
        }

    return verdict_from(
        {
            "study": "one",
            "verdict": "supported",
            "headline": "supported",
            "reason": "so it is.",
            "diverged": ["confirm-rbn-s3"],
            "baseline": arm("baseline"),
            "candidates": [arm(name) for name in column.space.claim.arms],
        }
    )


def test_ours_stands_beside_the_published_cell_of_the_same_arm(tmp_path: Path) -> None:
    column = column_of("table2b", "dataset=cifar10,method=rbn_star,lr=0.1", "dataset=cifar10,method=ours,lr=0.1")
    verdict = verdict_of(column, ours=[90.9, 90.7], baseline=[89.0, 89.4, 89.8])
    rows = compare(column, verdict)
    assert [(row.cell.row, row.n) for row in rows] == [("RBN*", 0), ("Ours", 2), (BASE, 3)]
    assert (rows[1].mean, rows[2].difference) == (pytest.approx(90.8), pytest.approx(-0.04))
    plain = as_row(column, verdict)
    assert json.loads(json.dumps(plain)) == plain
    assert [cell["arm"] for cell in plain["cells"]] == ["rbn_star", "ours", "baseline"]
    assert plain["cells"][0]["ours"] == {"mean": None, "std": None, "n": 0, "interval": None}
    text, page = comparison_text(column, verdict), write_comparison(tmp_path, column, verdict).read_text()
    for shown in (text, page):
        assert "Table 2.b, CIFAR-10, learning rate 0.1" in shown
        assert all(words in shown for words in ("90.80 ± 0.20", "90.80 ± 0.14", "89.40 ± 0.40", "confirm-rbn-s3"))
    assert "| Ours | 90.80 ± 0.20 | 90.69 to 90.91 | 90.80 ± 0.14 | 2 | 89.53 to 92.07 | +0.00 | yes |" in page


def test_an_invalid_verdict_without_arms_is_compared_too() -> None:
    column = column_of("table1a", "gamma=0.1,lr=0.1")
    rows = compare(column, Verdict(verdict="invalid"))
    assert [(row.n, row.difference, row.overlap) for row in rows] == [(0, None, None)] * 2


def test_a_resume_finds_the_study_of_the_same_cells_and_begins_what_it_had_not_come_to(tmp_path: Path) -> None:
    parts = columns("table1a", asked_cells("table1a", ["gamma=0.1"]), [1, 2])
    with pytest.raises(StudyError, match=r"--resume: .* has no study of these cells and settings; accepted: "):
        openers(parts, None, tmp_path, True)
    others = columns("table1a", asked_cells("table1a", ["gamma=0.1"]), [1, 3])
    StudyFolder(tmp_path / "table1a-lr0.1-1").created(others[0].space)
    StudyFolder(tmp_path / "table1a-lr0.1-2").created(parts[0].space)
    opened = [opening() for opening in openers(parts, None, tmp_path, True)]
    assert [folder.name for folder in opened] == ["table1a-lr0.1-2", "table1a-lr0.01-1", "table1a-lr0.001-1"]
    fresh = [opening() for opening in openers(parts[:1], None, tmp_path, False)]
    assert [folder.name for folder in fresh] == ["table1a-lr0.1-3"]


def test_a_named_study_gets_a_name_for_each_column(tmp_path: Path) -> None:
    parts = columns("table1a", asked_cells("table1a", ["gamma=0.1"]), [1, 2])
    opened = [opening() for opening in openers(parts, "mine", tmp_path, False)]
    assert [folder.name for folder in opened] == ["mine-lr0.1", "mine-lr0.01", "mine-lr0.001"]
    with pytest.raises(StudyError, match=r"--study: got mine-lr0.1, which exists in "):
        openers(parts, "mine", tmp_path, False)
    with pytest.raises(StudyError, match=r"which was made from another space \(they differ in train.epochs\)"):
        openers([replace(p, space=q.space) for p, q in zip(parts, shorter(parts), strict=True)], "mine", tmp_path, True)
    (alone,) = openers(parts[:1], "alone", tmp_path, False)
    assert alone().name == "alone"


def shorter(parts: list[Column]) -> list[Column]:
    return [columns("table1a", part.cells, [1, 2], ["train.epochs=3"])[0] for part in parts]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["table3", "--cell", "all"], "TABLE: got 'table3'; accepted: table1a, table2a, table2b"),
        (["table2b"], "--cell: is missing; accepted: all, or keys of table2b: dataset (cifar10 | "),
        (["table1a", "--cell", "lr=0.1", "--seeds", "1"], "--seeds: got '1'; accepted: "),
        (["table1a", "--cell", "lr=0.1", "--resume"], "--resume: studies has no study of these cells and settings"),
        (["table1a", "--cell", "lr=0.1", "--study", "a/b"], "--study: got 'a/b'; accepted: "),
        (["table1a", "--cell", "lr=0.1", "--set", "data.val_size=99999"], "data.val_size: got 99999"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")
    assert problem in err
    assert not list(tmp_path.iterdir())


def test_a_cell_is_run_on_ray_and_put_beside_the_published_one(tmp_path: Path) -> None:
    words = ["reproduce", "table1a", "--cell", "gamma=0.5,lr=0.1", "--seeds", "1,2", "--json", *TINY_SET]
    # One worker is enough, and each takes seconds to start.
    done = warm.run(words, cwd=tmp_path, env=os.environ | {"TUNE_BN_CORES": "1"}, timeout=240)
    assert done.stdout, (done.returncode, done.stderr)
    (column,) = json.loads(done.stdout)
    assert done.returncode == (1 if column["verdict"] == "invalid" else 0), done.stderr
    assert column["study"] == "table1a-lr0.1-1"
    assert {"train.epochs=1 (paper: 180)", "seeds 1-2 (paper: 1-15)"} <= set(column["deviations"])
    verdict = json.loads((tmp_path / "studies/table1a-lr0.1-1/verdict.json").read_text())
    for cell, arm in zip(column["cells"], [verdict["candidates"][0], verdict["baseline"]], strict=True):
        published = find("table1a", lr=0.1, method=cell["method"], gamma=cell["gamma"])
        assert (cell["arm"], cell["ours"]["mean"], cell["ours"]["n"]) == (arm["arm"], arm["mean"], 2)
        assert cell["difference"] == pytest.approx(arm["mean"] - published.mean)
    assert "verdict: " in done.stderr
    page = (tmp_path / "studies/table1a-lr0.1-1/paper.md").read_text()
    assert "not a reproduction of the published values" in page
    space = yaml.safe_load((tmp_path / "studies/table1a-lr0.1-1/space.yaml").read_text())
    assert space["model"]["input_norm"] == "bn"
