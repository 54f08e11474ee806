"""The benchmark at full length, in small: records, what a later call does, the clock, and the verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu import reproduce_gpu
from benchmarks.gpu.gpu_records import (
    arm_name,
    arms_of,
    asked_cell,
    identity,
    paper_config,
    read_runs,
    report,
    setting,
    verdict_of,
)
from benchmarks.gpu.reproduce_gpu import main
from tune_bn.analysis import TableTest, read_scores, verdict_on_scores
from tune_bn.paper.reproduction import columns
from tune_bn.paper.tables import cells
from tune_bn.training.config import RunConfig

ARMS = ["BASE, lr 0.1", "γ = 0.10, lr 0.1", "BASE, lr 0.01", "γ = 0.05, lr 0.01"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 training images of 8×8 in two classes that differ in brightness, and 16 for the test."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(1)
    for split, count in (("train", 32), ("test", 8)):
        for label, brightness in (("dark", 70), ("light", 130)):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (8, 8, 3)) + brightness - 60
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def options(images: Path, results: Path, *more: str) -> list[str]:
    small = ["--epochs", "2", "--train-size", "40", "--val-size", "16", "--precision", "fp32", "--device", "cpu"]
    return ["--data", str(images), "--results", str(results), *small, *more]


def made_up_run(arm: str, seed: int, score: float, *, epochs: int = 180, status: str = "completed") -> dict[str, Any]:
    """A line of a results file, as far as the table reads it."""
    cell = next(cell for cell in cells("table1a") if arm_name(cell) == arm)
    config = asdict(paper_config(cell))
    config["train"]["epochs"] = epochs
    return {
        "arm": arm,
        "seed": seed,
        "status": status,
        "epochs_planned": epochs,
        "precision": "fp32",
        "scores": {"test_accuracy": score, "final_test_accuracy": score - 0.1},
        "config": config,
        "images": {"sha256": "0" * 64, "train": 45_000, "val": 5000, "test": 10_000},
        "device": "a GPU",
        "commit": "1" * 40,
    }


PAIRS = [
    made_up_run(arm, seed, score)
    for seed, scores in enumerate([(89.1, 90.7), (89.9, 90.8), (89.4, 90.9)], start=1)
    for arm, score in zip(ARMS, scores, strict=False)
]


def test_the_recipe_is_that_of_the_space_file_for_every_cell() -> None:
    for cell in cells("table1a"):
        if cell.gamma is not None:
            (column,) = columns("table1a", [cell], [1, 2])
            space = column.space
            expected = space.run_config({"gamma": cell.gamma, "c": 100.0})
            assert paper_config(cell) == RunConfig(expected.model, expected.data, expected.train)
            base = space.run_config({"norm": "base", "gamma": 1.0, "c": 1.0})
            assert paper_config(arms_of([cell])[0]) == base


def test_every_run_is_one_line_in_the_order_of_its_seeds_and_a_second_call_completes_more_pairs(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "made" / "runs.jsonl"
    assert main(options(images, results, "--pairs", "1")) == 0
    first = results.read_bytes()
    assert "no test is possible with fewer than 2 complete pairs" in capsys.readouterr().out
    assert main(options(images, results, "--pairs", "2")) == 0
    assert results.read_bytes().startswith(first)
    runs = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(run["arm"], run["seed"]) for run in runs] == [(arm, seed) for seed in (1, 2) for arm in ARMS]
    for run in runs:
        assert run["status"] == "completed"
        assert run["epochs"] == run["epochs_planned"] == len(run["curve"]["val_accuracy"]) == 2
        assert max(run["curve"]["val_accuracy"]) == pytest.approx(run["scores"]["val_accuracy"], abs=1e-4)
        assert 0 <= run["scores"]["test_accuracy"] <= 100
        assert run["scores"]["final_test_accuracy"] % 6.25 == 0
        assert (run["images"]["train"], run["images"]["val"], run["images"]["test"]) == (40, 16, 16)
        assert run["images_per_second"] > 0
        assert run["versions"]["torch"]
        assert run["command"].startswith("python -m benchmarks.gpu.reproduce_gpu --data")
    assert [(run["gamma"], run["c"], run["lr"]) for run in runs[:4]] == [
        (1.0, 1.0, 0.1),
        (0.1, 100.0, 0.1),
        (1.0, 1.0, 0.01),
        (0.05, 100.0, 0.01),
    ]
    out = capsys.readouterr().out
    assert "4 of 8 runs are in" in out
    assert "train.epochs=2 (paper: 180)" in out
    whole = results.read_bytes()
    assert main(options(images, results, "--pairs", "2")) == 0
    assert results.read_bytes() == whole
    # Other epochs make another run.
    assert main(options(images, results, "--pairs", "1", "--epochs", "1")) == 0
    assert len(results.read_text().splitlines()) == 12


def test_a_torn_last_line_is_reported_and_its_run_trained_again(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "runs.jsonl"
    asked = options(images, results, "--pairs", "1", "--cells", "gamma=0.1,lr=0.1")
    assert main(asked) == 0
    whole = results.read_bytes()
    results.write_bytes(whole[:-20])
    assert main(["--verdict", "--results", str(results)]) == 0
    assert "torn" in capsys.readouterr().out
    assert results.read_bytes() == whole[:-20]
    assert main(asked) == 0
    assert "torn" in capsys.readouterr().out
    again = read_runs(results)
    assert [run["arm"] for run in again] == ARMS[:2]
    assert again[1]["curve"] == json.loads(whole.splitlines()[1])["curve"]


def test_no_run_starts_that_would_not_end_in_time(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "runs.jsonl"
    asked = options(images, results, "--cells", "gamma=0.1,lr=0.1")
    assert main([*asked, "--pairs", "1"]) == 0
    runs = read_runs(results)
    results.write_text("".join(json.dumps(run | {"duration_seconds": 7200.0}) + "\n" for run in runs))
    before = results.read_bytes()
    assert main([*asked, "--pairs", "3", "--minutes", "60"]) == 0
    assert "BASE, lr 0.1, seed 2: not started, it takes 7200 s" in capsys.readouterr().out
    assert main([*asked, "--pairs", "3", "--hours", "0"]) == 0
    out = capsys.readouterr().out
    assert "the time limit is reached; runs left: 4" in out
    assert ": starts" not in out
    assert results.read_bytes() == before
    # Of runs that took less time it is not said.
    results.write_text("".join(json.dumps(run | {"duration_seconds": 1.0}) + "\n" for run in runs))
    assert main([*asked, "--pairs", "2", "--minutes", "60"]) == 0
    assert len(read_runs(results)) == 4


def test_a_run_that_passes_the_limit_is_given_up_and_goes_on_in_a_later_call(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--pairs", "1", "--cells", "gamma=0.1,lr=0.1", "--epochs", "3"]
    assert main(options(images, tmp_path / "whole.jsonl", *asked)) == 0
    results = tmp_path / "parts.jsonl"
    capsys.readouterr()
    with monkeypatch.context() as patched:
        # Every epoch takes 100 s: the second would end after the limit.
        trained: list[float] = []
        original = reproduce_gpu.TrainingRun.train_epoch

        def slow(run: reproduce_gpu.TrainingRun) -> Any:
            trained.append(100.0)
            return original(run)

        patched.setattr(reproduce_gpu.TrainingRun, "train_epoch", slow)
        patched.setattr(reproduce_gpu, "now", lambda: sum(trained))
        assert main(options(images, results, *asked, "--minutes", "2.5")) == 0
    out = capsys.readouterr().out
    assert "BASE, lr 0.1, seed 1: given up at the time limit in epoch 1" in out
    assert "not started, the time limit is reached; runs left: 1" in out
    assert not read_runs(results)
    (kept,) = (tmp_path / ".reproduce_gpu").glob("*/latest.pt")
    assert (tmp_path / ".reproduce_gpu" / ".gitignore").read_text() == "*\n"
    assert main(options(images, results, *asked)) == 0
    assert not kept.exists()
    for ours, expected in zip(read_runs(results), read_runs(tmp_path / "whole.jsonl"), strict=True):
        assert (ours["scores"], ours["curve"]) == (expected["scores"], expected["curve"])


def test_runs_side_by_side_are_the_runs_alone(images: Path, tmp_path: Path) -> None:
    alone, side = tmp_path / "alone.jsonl", tmp_path / "side.jsonl"
    asked = ["--pairs", "1", "--cells", "gamma=0.1,lr=0.1"]
    assert main(options(images, alone, *asked)) == 0
    assert main(options(images, side, *asked, "--parallel", "2")) == 0
    found = [{run["arm"]: run["scores"] for run in read_runs(path)} for path in (alone, side)]
    assert found[0] == found[1]


def test_a_diverged_run_is_recorded_and_counts_as_chance(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = reproduce_gpu.TrainingRun.train_epoch

    def broken(run: reproduce_gpu.TrainingRun) -> Any:
        for parameter in run.model.parameters():
            parameter.data.fill_(float("nan"))
        return original(run)

    monkeypatch.setattr(reproduce_gpu.TrainingRun, "train_epoch", broken)
    results = tmp_path / "runs.jsonl"
    assert main(options(images, results, "--pairs", "1", "--cells", "gamma=0.1,lr=0.1")) == 0
    for run in read_runs(results):
        assert run["status"] == "diverged"
        assert run["scores"]["test_accuracy"] == run["scores"]["final_test_accuracy"] == 50.0
        assert run["curve"]["train_loss"] == [None]
    assert "Diverged, scored as chance: BASE, lr 0.1, seed 1" in capsys.readouterr().out


def test_the_verdict_is_that_of_a_table_of_the_same_scores(tmp_path: Path) -> None:
    cell = asked_cell("gamma=0.10,lr=0.1")
    table = tmp_path / "scores.csv"
    rows = [f'"{run["arm"]}",{run["seed"]},{run["scores"]["test_accuracy"]}' for run in PAIRS]
    table.write_text("\n".join(["arm,seed,score", *rows]) + "\n")
    expected = verdict_on_scores(read_scores(table), TableTest(baseline=ARMS[0]))
    # The fourth seed has no partner yet.
    runs = [*PAIRS, made_up_run(ARMS[0], 4, 89.0)]
    assert verdict_of(runs, cell, table.name) == expected
    text = report(runs, table.name)
    assert expected.is_supported
    assert "γ = 0.10, lr 0.1 against BASE: supported. Effect +1.33 percentage points" in text
    assert f"p = {expected.candidates[0].p_value:.2g}, 95 % lower bound" in text
    assert expected.reason in text
    assert "| BASE, lr 0.1 | 4 | 89.35 ± 0.40 | 89.44 ± 0.45 | 89.25 ± 0.40 | -0.09 |" in text
    assert "| γ = 0.10, lr 0.1 | 3 | 90.80 ± 0.10 | 90.80 ± 0.20 | 90.70 ± 0.10 | +0.00 |" in text
    assert "Differs from the paper's setting in: nothing that is known." in text


def test_a_run_stays_the_same_run_when_a_later_version_has_a_new_option() -> None:
    run = made_up_run(ARMS[1], 1, 90.0)
    older = {**run["config"], "data": {k: v for k, v in run["config"]["data"].items() if k != "crop_size"}}
    assert identity(older, run["images"], 1) == identity(run["config"], run["images"], 1)
    assert setting(run | {"config": older}) == setting(run)
    used = {**run["config"], "data": run["config"]["data"] | {"crop_size": 24}}
    assert identity(used, run["images"], 1) != identity(run["config"], run["images"], 1)
    # The arms of one setting differ as runs, and share their table.
    base = made_up_run(ARMS[0], 1, 90.0)
    assert setting(base) == setting(run)
    assert identity(base["config"], base["images"], 1) != identity(run["config"], run["images"], 1)


def test_runs_of_two_settings_are_never_paired() -> None:
    short = [made_up_run(run["arm"], run["seed"], 50.0 + run["seed"], epochs=5) for run in PAIRS if run["seed"] > 1]
    text = report([*(run for run in PAIRS if run["arm"] == ARMS[0]), *short], "runs.jsonl")
    assert text.count("ResNet-18, ") == 2
    assert "train.epochs=5 (paper: 180)" in text
    # Seeds 2 and 3 of the short setting differ by nothing; the long one has no run of the cell.
    assert text.count("against BASE") == 1
    assert "invalid" in text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--data", "nowhere"], "error: --data: got 'nowhere'; accepted: a folder with cifar-10-batches-py, or"),
        ([], "error: --data: got None; accepted: the folder with cifar-10-batches-py, or"),
        (["--verdict", "--cells", "gamma=0.2,lr=0.1"], "error: --cells: got 'gamma=0.2,lr=0.1'; accepted: gamma=G"),
        (["--verdict", "--cells", "BASE"], "error: --cells: got 'BASE'; accepted: gamma=G"),
    ],
)
def test_what_is_not_acceptable_is_one_line_and_status_2(
    wrong: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*wrong, "--results", str(tmp_path / "runs.jsonl")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(words)
    assert err.count("\n") == 1


def test_a_line_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs.jsonl").write_text('{"arm": "BASE"}\n')
    assert main(["--verdict", "--results", str(tmp_path / "runs.jsonl")]) == 2
    assert f"{tmp_path / 'runs.jsonl'}:1: not a run" in capsys.readouterr().err


def test_torchvisions_layout_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    config = reproduce_gpu.data_config(tmp_path, paper_config(asked_cell("gamma=0.1,lr=0.1")).data)
    assert (config.source, config.root, config.flip) == ("cifar10", str(tmp_path), True)


def test_it_loads_nothing_but_torch_torchvision_numpy_and_scipy() -> None:
    names = ("ray", "optuna", "mlflow", "pydantic", "yaml", "sklearn", "matplotlib")
    code = f"import sys, benchmarks.gpu.reproduce_gpu; print([name for name in {names} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
