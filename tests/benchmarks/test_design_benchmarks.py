"""The benchmarks of designs and of metrics, on few studies and on a made table whose variances are known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.statistics import designs, metrics
from benchmarks.statistics.designs import measured
from benchmarks.statistics.metrics import compared, read_table, strata
from tune_bn.analysis.power import t_test_power


def test_a_design_is_measured_as_it_is_computed() -> None:
    row = measured((3, 5, 8, 11, 15), 0.675, studies=20_000)
    assert row["power_fixed"] == pytest.approx(t_test_power(0.675, 1, 15), abs=1e-6)
    assert abs(row["power"] - row["power_simulated"]) < 4.5 * row["power_se"]
    assert abs(row["pairs"] - row["pairs_simulated"]) < 4.5 * row["pairs_se"]
    assert f"{row['pairs']:.2f}" in designs.summary([row, row | {"looks": "other"}])


def made(
    cells: int, seeds: int, *, noise: tuple[float, float], spread: float = 1.0, holes: float = 0.0
) -> pd.DataFrame:
    """A table whose scores are those of the configuration, of the seed, and noise with these standard deviations."""
    rng = np.random.default_rng(cells * seeds)
    truth, luck = spread * rng.standard_normal(cells), 3 * rng.standard_normal(seeds)
    rows = []
    for cell in range(cells):
        for seed in range(seeds):
            if rng.random() >= holes:
                place = {
                    "gamma": 0.01 * (cell + 1),
                    "c": 10.0,
                    "lr": 0.1,
                    "epochs": 40,
                    "seed": seed,
                    "diverged": False,
                }
                scores = [90 + truth[cell] + luck[seed] + std * rng.standard_normal() for std in noise]
                rows.append(
                    place
                    | dict(zip(metrics.METRICS.values(), scores, strict=True))
                    | {"val_accuracy": [80.0, 90 + truth[cell]]}
                )
    return pd.DataFrame(rows)


@pytest.mark.parametrize("holes", [0.0, 0.25])
def test_the_ratio_of_variances_is_that_of_the_noise(holes: float) -> None:
    frame = made(120, 6, noise=(1.0, 0.8), spread=3.0, holes=holes)
    found = compared(frame, np.random.default_rng(0))
    assert found["runs"] == len(frame)
    assert found["df"] == len(frame) - 120 - 6 + 1
    assert found["variance_best"] == pytest.approx(2.0, rel=0.2)
    assert found["variance_final"] == pytest.approx(2 * 0.64, rel=0.2)
    assert found["ratio_low"] < 0.64 < found["ratio_high"]
    assert found["ratio_high"] - found["ratio_low"] < 0.35
    assert found["signal_ratio"] == pytest.approx(1.0, abs=0.1)


def test_equal_metrics_have_a_ratio_around_one() -> None:
    inside = 0
    for cells in range(20, 40):
        found = compared(made(cells, 3, noise=(0.5, 0.5)), np.random.default_rng(0))
        inside += found["ratio_low"] <= 1 <= found["ratio_high"]
    assert inside >= 15


def test_each_stratum_has_its_upper_half_and_no_run_that_cannot_be_paired() -> None:
    frame = made(12, 4, noise=(1.0, 1.0))
    single = frame.iloc[[0]].assign(gamma=0.9)
    diverged = frame.assign(epochs=80, diverged=frame["seed"] > 0)
    rows = strata("digits", pd.concat([frame, single, diverged], ignore_index=True))
    assert [(row["epochs"], row["part"], row["configurations"]) for row in rows] == [
        (40, "upper half", 6),
        (40, "all", 12),
    ]
    assert all(row["seeds"] == 4 for row in rows)
    assert "12 (all)" in metrics.summary(rows)


def test_a_table_is_read_while_it_grows_and_when_it_is_packed(tmp_path) -> None:
    row = made(1, 1, noise=(0.0, 0.0)).iloc[0].to_dict()
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "one.json").write_text(
        json.dumps({"row": row, "made": {"commit": "0123456789abcdef"}}, default=float), encoding="utf-8"
    )
    frame, commits = read_table(tmp_path, "digits")
    assert (len(frame), commits) == (1, ["0123456789ab"])
    pd.DataFrame([row, row]).to_parquet(tmp_path / "digits.parquet")
    (tmp_path / "digits.json").write_text(json.dumps({"made": [{"commit": "fedcba9876543210"}]}), encoding="utf-8")
    frame, commits = read_table(tmp_path, "digits")
    assert (len(frame), commits) == (2, ["fedcba987654"])
    assert len(read_table(tmp_path, "cifar10")[0]) == 0
