"""The replay of a table of learning curves: what is interpolated, what is noise, and who may see the test columns."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.statistics.curve_replay import CHANCE, CurveTable, Replay, load_table
from benchmarks.statistics.early_stopping import ROWS, Row, cases, one_study, predicted_end, space_of, table_of
from benchmarks.statistics.surrogates import Point

EPOCHS, GAMMAS, CS, SEEDS = 20, (0.01, 0.1, 1.0), (1.0, 10.0, 100.0, 1000.0), (1, 2, 3)


def final(gamma: float, c: float, seed: int) -> float:
    return 90 + np.log10(gamma) * 2 + np.log10(c) + 0.2 * seed


def run(gamma: float, c: float, seed: int, **changed: Any) -> dict[str, Any]:
    """A run as the table keeps it; a small γ starts late."""
    end = final(gamma, c, seed)
    curve = [10 + (end - 10) * min(1.0, (epoch / EPOCHS) ** (1 - np.log10(gamma))) for epoch in range(1, EPOCHS + 1)]
    row = {"seed": seed, "lr": 0.1, "gamma": gamma, "c": c, "epochs": EPOCHS, "diverged": False}
    row |= {"val_accuracy": curve, "test_accuracy_best": end - 1, "test_accuracy_final": end - 2}
    return row | changed


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [run(*key) for key in product(GAMMAS, CS, SEEDS)]


def load(folder: Path, rows: list[dict[str, Any]], seeds: int = 3) -> CurveTable:
    pd.DataFrame(rows).to_parquet(folder / "digits.parquet")
    return load_table("digits", EPOCHS, folder, seeds=seeds)


def replay(table: CurveTable, replicate: int = 1, row: Row | None = None) -> Replay:
    return Replay(table, space_of(table, row or Row("none"), replicate), replicate)


def test_on_the_grid_the_mean_of_the_table_is_the_truth(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    table = load(tmp_path, rows)
    for gamma, c in product(GAMMAS, CS):
        point, mean = Point(gamma, c, 0.1), np.mean([final(gamma, c, seed) for seed in SEEDS])
        assert table.weights(point) == [((0, GAMMAS.index(gamma), CS.index(c)), 1.0)]
        assert table.true_value(point, "val_accuracy") == pytest.approx(mean)
        assert table.true_value(point) == pytest.approx(mean - 1)
        assert table.true_value(point, "final_test_accuracy") == pytest.approx(mean - 2)
    point, best = table.best()
    assert (point, best) == (Point(1.0, 1000.0, 0.1), pytest.approx(final(1.0, 1000.0, 2) - 1))
    assert table.best_known() == pytest.approx(best)


def test_between_cells_the_truth_is_linear_in_the_logarithms(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    table = load(tmp_path, rows)
    for gamma, c in ((0.02, 30.0), (0.5, 1.0), (0.1, 700.0)):
        assert table.true_value(Point(gamma, c, 0.1)) == pytest.approx(final(gamma, c, 2) - 1)
        assert sum(weight for _, weight in table.weights(Point(gamma, c, 0.1))) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"gamma: got 0\.001; accepted"):
        table.weights(Point(0.001, 1.0, 0.1))
    with pytest.raises(ValueError, match=r"lr: got 0\.5; accepted"):
        table.weights(Point(0.1, 1.0, 0.5))


def test_a_run_differs_from_the_mean_by_the_residual_of_its_seed(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """On the grid and between; the residuals of three seeds are larger by √(3/2) than from their own mean."""
    table = load(tmp_path, rows)
    world = replay(table)
    for point in (Point(0.1, 10.0, 0.1), Point(0.03, 50.0, 0.1)):
        ends = sorted(world.curve(point, seed, EPOCHS)[-1] for seed in (101, 201, 202))
        mean = final(point.gamma, point.c, 2)
        assert ends == pytest.approx([mean - 0.2 * 1.5**0.5, mean, mean + 0.2 * 1.5**0.5])
        curve = world.curve(point, 101, EPOCHS)
        assert curve == world.curve(point, 101, EPOCHS)
        assert len(curve) == EPOCHS
    with pytest.raises(ValueError, match="epochs: got 7; accepted: 20"):
        world.curve(Point(0.1, 10.0, 0.1), 101, 7)


def test_the_scores_of_a_run_have_the_table_s_variance_also_between_cells(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        run(g, c, seed, val_accuracy=list(np.linspace(50, 90 + generator.normal(), EPOCHS)))
        for g, c, seed in product(GAMMAS, CS, range(1, 41))
    ]
    table = load(tmp_path, rows, seeds=40)
    point = Point(0.03, 3.0, 0.1)
    ends = [replay(table, replicate).curve(point, 101, EPOCHS)[-1] for replicate in range(1500)]
    assert np.mean(ends) == pytest.approx(table.true_value(point, "val_accuracy"), abs=0.1)
    assert np.std(ends) == pytest.approx(1.0, abs=0.12)


def test_a_seed_does_the_same_to_every_configuration(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Or arms on the same seeds would be no pairs. Replicates shuffle which seed of the table it is."""
    table = load(tmp_path, rows)

    def luck(replicate: int, point: Point) -> list[float]:
        world = replay(table, replicate)
        return [round(world.curve(point, s, EPOCHS)[-1] - final(point.gamma, point.c, 2), 6) for s in (101, 201, 202)]

    assert luck(3, Point(0.1, 10.0, 0.1)) == luck(3, Point(1.0, 1.0, 0.1)) == luck(3, Point(0.03, 77.0, 0.1))
    assert len({tuple(luck(replicate, Point(0.1, 10.0, 0.1))) for replicate in range(30)}) == 6


def test_a_run_that_diverged_is_at_chance_from_then_on(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    changed = {"diverged": True, "val_accuracy": [20.0, 30.0, 10.0], "test_accuracy_best": None}
    rows[0] |= {**changed, "test_accuracy_final": None}
    table = load(tmp_path, rows)
    assert table.val[0, 0, 0, 0].tolist() == [20.0, 30.0] + [CHANCE] * (EPOCHS - 2)
    assert table.test["test_accuracy"][0, 0, 0, 0] == CHANCE


def test_what_is_not_there_on_every_seed_is_left_out(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    kept = [row for row in rows if not (row["gamma"] == 0.1 and row["seed"] == 3)]
    assert load(tmp_path, kept).gammas == (0.01, 1.0)
    assert load(tmp_path, kept).seeds == SEEDS
    assert load(tmp_path, kept, seeds=2).gammas == GAMMAS
    assert load(tmp_path, kept, seeds=2).seeds == (1, 2)
    with pytest.raises(ValueError, match=r"digits\.parquet: 20 epochs: accepted: 4 seeds"):
        load(tmp_path, rows, seeds=4)


def test_the_test_columns_are_never_read_by_a_search(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """With other test scores the same configurations are tried, stopped and chosen."""
    table = load(tmp_path, rows)
    other = load(tmp_path, [row | {"test_accuracy_best": 50.0, "test_accuracy_final": 50.0} for row in rows])
    for row in (Row("asha auto"), Row("predicted")):
        found, again = one_study(table, row, 1), one_study(other, row, 1)
        assert again["test_regret"] == 0
        same = set(found) - {"test_regret"}
        assert {key: found[key] for key in same} == {key: again[key] for key in same}


@pytest.mark.parametrize(
    "row", [Row("none"), Row("asha 0.25", "random"), Row("median 0.25", "grid"), Row("asha auto", seeds=2)], ids=str
)
def test_a_study_on_a_table_counts_what_it_finds_and_spends(
    tmp_path: Path, rows: list[dict[str, Any]], row: Row
) -> None:
    table = load(tmp_path, rows)
    found = one_study(table, row, 2)
    assert 0 <= found["val_regret"] < 5
    assert (found["epochs"] < 1) == (found["stopped"] > 0)
    if row.rule == "none":
        assert (found["stopped"], found["stopped_the_best"], found["epochs"]) == (0, False, 1.0)
    assert found == one_study(table, row, 2)


def test_what_optuna_is_told_of_stopped_trials_changes_what_comes_after(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    table = load(tmp_path, rows)
    found = [one_study(table, Row("asha 0.125", told=told), 3) for told in ("pruned", "completed", "nothing")]
    assert len({(one["val_regret"], one["epochs"]) for one in found}) > 1


def test_a_curve_that_saturates_is_predicted_and_none_is_below_where_it_is() -> None:
    whole = [90 * (1 - np.exp(-epoch / 8)) for epoch in range(40)]
    assert predicted_end(whole[:20], 40) == pytest.approx(whole[-1], abs=2)
    assert predicted_end([50.0, 60.0], 40) >= 60
    assert predicted_end([10.0] * 10, 40) == 10
    assert predicted_end([99.0, 99.9], 40) <= 100


def test_every_row_gets_its_studies_and_the_table_has_a_line_for_each() -> None:
    some = list(cases(2))
    assert len(some) == len(set(some))
    assert {row for row, replicate in some if replicate == 0} == set(ROWS)
    assert {row.sampler for row, _ in some[:20]} == {"tpe"}
    assert {row.sampler for row, replicate in some if replicate == 1} == {"tpe", "cmaes", "random", "grid"}
    line = {
        "val_regret": 0.5,
        "test_regret": 0.25,
        "epochs": 0.5,
        "stopped_the_best": True,
        "grid_gap": 0.0,
        "grace": 24,
    }
    lines = [{**line, "row": row.name} for row, _ in some]
    shown = table_of(lines).splitlines()
    assert len(shown) == 2 + sum(row.sampler != "gp" for row in ROWS)
    assert "| asha auto | tpe | 1 |  | 2 | 0.500 | ± 0.000 | 0.250 | 50 % | 100 % | 100 % | 24 (2) |" in shown
