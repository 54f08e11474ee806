"""The paper's tables: that they are copied right, and what their numbers alone can show."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from scipy import integrate, stats

from tune_bn.errors import ConfigError
from tune_bn.paper.tables import (
    BASE,
    LAYOUT,
    OURS,
    SEEDS,
    TABLES,
    Cell,
    above_base,
    arm,
    base_of,
    cells,
    column,
    configuration,
    find,
    t_interval,
    welch,
)
from tune_bn.space.loading import parse_space

EVERY = [cell for table in TABLES for cell in cells(table)]


@pytest.mark.parametrize(
    ("table", "rows", "rates"), [("table1a", 8, 3), ("table2a", 3 * 4, 2), ("table2b", 4 * 6, 2)], ids=TABLES
)
def test_a_table_is_a_full_grid_and_every_column_has_one_baseline(table: str, rows: int, rates: int) -> None:
    found = cells(table)
    assert len(found) == rows * rates
    assert len({cell.lr for cell in found}) == rates
    assert len({(cell.column, cell.row) for cell in found}) == len(found)
    assert Counter(cell.column for cell in found if cell.method == BASE) == Counter({cell.column for cell in found})
    assert {cell.n for cell in found} == {15} == {len(SEEDS)}
    keys = {tuple(getattr(cell, key) for key in LAYOUT[table].keys) for cell in found if cell.method != BASE}
    assert len(keys) == len([cell for cell in found if cell.method != BASE]), "the keys tell the cells apart"


@pytest.mark.parametrize(
    ("table", "keys", "mean", "std"),
    [
        ("table1a", {"gamma": 0.01, "lr": 0.001}, 80.37, 0.58),
        ("table1a", {"gamma": 0.05, "lr": 0.01}, 88.84, 0.32),
        ("table1a", {"gamma": 0.10, "lr": 0.1}, 90.80, 0.20),
        ("table1a", {"gamma": 0.75, "lr": 0.01}, 84.43, 0.30),
        ("table1a", {"gamma": 1.0, "lr": 0.1}, 89.81, 0.46),
        ("table1a", {"method": BASE, "lr": 0.001}, 71.32, 0.60),
        ("table2a", {"network": "resnet50", "method": BASE, "lr": 0.1}, 86.94, 1.23),
        ("table2a", {"network": "resnet101", "gamma": 0.05, "lr": 0.1}, 91.58, 0.22),
        ("table2a", {"network": "resnet152", "gamma": 0.50, "lr": 0.01}, 85.23, 0.62),
        ("table2b", {"dataset": "cifar10", "method": "IEBN*", "lr": 0.01}, 85.29, 0.35),
        ("table2b", {"dataset": "cifar100", "method": OURS, "lr": 0.01}, 64.01, 0.54),
        ("table2b", {"dataset": "cub200", "method": "RBN*", "lr": 0.1}, 47.14, 2.72),
        ("table2b", {"dataset": "cars", "method": "IEBN", "lr": 0.1}, 73.60, 0.92),
        ("table2b", {"dataset": "cars", "method": BASE, "lr": 0.01}, 51.86, 1.80),
    ],
)
def test_a_cell_is_the_posters(table: str, keys: dict[str, object], mean: float, std: float) -> None:
    cell = find(table, **keys)
    assert (cell.mean, cell.std) == (mean, std)


@pytest.mark.parametrize("lr", [0.1, 0.01])
def test_tables_1a_and_2b_agree_where_they_overlap(lr: float) -> None:
    """The poster prints these cells twice, which is how the γ of Ours is known."""
    ours = find("table2b", dataset="cifar10", method=OURS, lr=lr)
    base = base_of(ours)
    twins = [cell for cell in cells("table1a") if cell.lr == lr and (cell.mean, cell.std) == (ours.mean, ours.std)]
    assert [cell.gamma for cell in twins] == [configuration(ours)["model"]["gamma"]]
    assert configuration(twins[0]) == configuration(ours)
    assert (base.mean, base.std) == (base_of(twins[0]).mean, base_of(twins[0]).std)
    assert configuration(base) == configuration(base_of(twins[0]))


def welch_by_hand(cell: Cell, base: Cell) -> float:
    a, b = cell.std**2 / cell.n, base.std**2 / base.n
    t = (cell.mean - base.mean) / math.sqrt(a + b)
    df = (a + b) ** 2 / (a**2 / (cell.n - 1) + b**2 / (base.n - 1))
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    tail, _ = integrate.quad(lambda x: scale * (1 + x * x / df) ** (-(df + 1) / 2), abs(t), np.inf, epsabs=0)
    return tail if t >= 0 else 1 - tail


@pytest.mark.parametrize("table", TABLES)
def test_welch_is_the_tail_of_students_density(table: str) -> None:
    for cell in cells(table):
        assert welch(cell, base_of(cell)) == pytest.approx(welch_by_hand(cell, base_of(cell)), rel=1e-6)


def test_welch_agrees_with_the_test_on_scores_that_have_these_means_and_stds() -> None:
    cell = find("table1a", gamma=1.0, lr=0.1)
    rng = np.random.default_rng(0)
    scores = []
    for arm_ in (cell, base_of(cell)):
        draw = rng.normal(size=arm_.n)
        scores.append(arm_.mean + arm_.std * (draw - draw.mean()) / draw.std(ddof=1))
    expected = stats.ttest_ind(*scores, equal_var=False, alternative="greater").pvalue
    assert welch(cell, base_of(cell)) == pytest.approx(expected, rel=1e-9)


def test_what_is_above_base() -> None:
    for cell in EVERY:
        assert above_base(cell) == (welch_by_hand(cell, base_of(cell)) <= 0.05)
    assert not any(above_base(cell) for cell in EVERY if cell.mean <= base_of(cell).mean)
    # Higher, but not by more than two such samples differ by chance.
    assert not above_base(find("table2b", dataset="cars", method="RBN*", lr=0.01))


@pytest.mark.parametrize(("n", "quantile"), [(2, 12.706), (15, 2.1448)])
def test_the_interval_has_the_quantile_of_printed_tables(n: int, quantile: float) -> None:
    low, high = t_interval(90.0, 0.5, n)
    assert (low + high) / 2 == pytest.approx(90.0)
    assert high - 90.0 == pytest.approx(quantile * 0.5 / math.sqrt(n), rel=1e-4)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    draws = rng.normal(90.0, 0.4, (2000, 5))
    hits = [low <= 90.0 <= high for low, high in (t_interval(d.mean(), d.std(ddof=1), 5) for d in draws)]
    assert stats.binomtest(sum(hits), 2000, 0.95).pvalue > 0.001


@pytest.mark.parametrize("cell", EVERY, ids=lambda cell: "-".join([cell.table, cell.network, cell.dataset, cell.row]))
def test_every_cell_has_a_configuration_that_a_space_takes(cell: Cell) -> None:
    arms = {"other": {"norm": "scaled", "gamma": 0.3, "c": 7}}
    space = parse_space({"name": "x", **configuration(cell), "claim": {"baseline": {}, "arms": arms}}, "x")
    config = space.run_config(space.baseline)
    for section, values in configuration(cell).items():
        assert asdict(config)[section].items() >= values.items()
    assert (config.model.arch, config.data.source, config.train.lr) == (cell.network, cell.dataset, cell.lr)
    assert config.model.norm == {"RBN*": "rbn_star", "IEBN*": "iebn_star", BASE: "base", OURS: "scaled"}.get(
        cell.method, cell.method.lower()
    )
    assert config.train.c == (100 if cell.method == OURS else 1)
    if cell.gamma is not None:
        assert config.model.gamma == cell.gamma
    elif cell.method != OURS:
        assert config.model.gamma == 1


def test_a_cell_differs_from_its_baseline_in_nothing_but_the_arm() -> None:
    for cell in EVERY:
        base = base_of(cell)
        assert column(cell) == column(base)
        assert (arm(cell) == arm(base)) == (cell is base)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"TABLE: got 'table3'; accepted: table1a, table2a, table2b"):
        cells("table3")
    with pytest.raises(LookupError, match="table1a has 0 cells with"):
        find("table1a", gamma=0.2)
    with pytest.raises(LookupError, match="table1a has 3 cells with"):
        find("table1a", gamma=0.1)
