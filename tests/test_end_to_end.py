"""The plain study beside ours: it runs as a whole, and the tables compare what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from benchmarks.speed.end_to_end import (
    FULL,
    OURS,
    PLAIN,
    REUSED,
    SAME_WORK,
    ours_columns,
    parity_line,
    plain_columns,
    result_table,
    speed_table,
    stage_seconds,
    stage_table,
    timed_lines,
)
from benchmarks.speed.plain_tune import BASELINE, SEARCH_SEED, make_optimizer
from tests.study.local_studies import CONTENT, study_in, tiny_dataset
from tune_bn.analysis.verdict import write_verdict
from tune_bn.method.build import build_model
from tune_bn.space.loading import load_space, parse_space
from tune_bn.space.locate import find_space
from tune_bn.training.optimizer import make_optimizer as our_optimizer

LINES = [
    (4.0, "power  15 seeds find a true gain of ..."),
    (5.0, "search  24 runs planned"),
    (9.5, "search  trial 0 seed 101  gamma=0.01 c=100  completed 40/40 epochs"),
    (30.0, "select  9 runs planned"),
    (40.25, "plan  b983f1150eb0 locked: candidate-1 on 15 seeds, fixed"),
    (40.5, "confirm  30 runs planned"),
    (60.0, "confirm  baseline seed 1  c=1 gamma=1  completed 40/40 epochs"),
    (70.5, "confirm  candidate-1 seed 15  c=100 gamma=0.01  completed 40/40 epochs"),
    (75.0, "verdict: supported"),
]


def row(number: int, contender: str, seconds: float, **others: Any) -> dict[str, Any]:
    columns = {"runs": 54, "epochs_trained": 1800, "gamma": 0.1, "c": 100.0, "p_value": 0.001, "verdict": None}
    columns |= {"search_seconds": 20.0, "select_seconds": 0.0, "confirm_seconds": 30.0}
    columns |= {"baseline_scores": '{"1": 90.0, "2": 92.0}', "candidate_scores": '{"1": 94.0, "2": 96.0}'}
    return {"round": number, "contender": contender, "seconds": seconds} | columns | others


ROWS = [
    *(row(number, PLAIN, seconds) for number, seconds in enumerate((100.0, 120.0, 90.0))),
    *(row(number, REUSED, seconds) for number, seconds in enumerate((60.0, 60.0, 60.0))),
    *(row(number, OURS, seconds, verdict="supported") for number, seconds in enumerate((50.0, 40.0, 60.0))),
]


def cells(table: str, name: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, Any]:
    """What a plain study of the smallest size prints."""
    amounts = ["--trials=2", "--pairs=2", "--epochs=2", "--grace=1", "--reuse-actors"]
    lines = timed_lines(["-m", "benchmarks.speed.plain_tune", "--folder", str(folder), *amounts])
    (line,) = [line for _, line in lines if line.startswith("{")]
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_plain_study_prints_its_seconds_its_best_configuration_and_both_arms(printed: dict[str, Any]) -> None:
    assert printed["total_seconds"] >= printed["search_seconds"] > 0
    assert printed["total_seconds"] == pytest.approx(printed["search_seconds"] + printed["confirm_seconds"], abs=0.02)
    assert 0.01 <= printed["best"]["gamma"] <= 1
    assert 1 <= printed["best"]["c"] <= 1000
    assert printed["runs"] == 2 + 2 * 2
    assert 2 * 1 + 4 * 2 <= printed["epochs_trained"] <= 2 * 2 + 4 * 2
    for arm in ("baseline", "candidate"):
        scores = list(printed[arm]["scores"].values())
        assert printed[arm]["mean"] == pytest.approx(sum(scores) / 2)
        # Whole images of 897.
        assert all(round(score * 8.97) == pytest.approx(score * 8.97) for score in scores)
    assert 0 <= printed["p_value"] <= 1


def test_baseline_and_candidate_of_the_plain_study_share_their_seeds(printed: dict[str, Any]) -> None:
    assert list(printed["baseline"]["scores"]) == list(printed["candidate"]["scores"]) == ["1", "2"]
    assert printed["baseline"]["scores"] != printed["candidate"]["scores"]


def test_mlflow_has_every_run_of_the_plain_study(printed: dict[str, Any], folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")

    def runs(name: str) -> list[Any]:
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id]))

    searched, confirmed = runs("digits-search"), runs("digits-confirm")
    assert [run.info.status for run in searched + confirmed] == ["FINISHED"] * 6
    assert {run.data.params["seed"] for run in searched} == {str(SEARCH_SEED)}
    assert not any("test_accuracy" in run.data.metrics for run in searched)
    arms = {"baseline": BASELINE, "candidate": printed["best"]}
    expected = {
        (float(arms[name]["gamma"]), int(seed)): score
        for name in arms
        for seed, score in printed[name]["scores"].items()
    }
    assert {
        (float(run.data.params["arm/gamma"]), int(run.data.params["seed"])): run.data.metrics["test_accuracy"]
        for run in confirmed
    } == pytest.approx(expected)


def test_the_plain_optimizer_has_the_groups_of_ours() -> None:
    space = load_space(find_space("digits.yaml"))
    config = space.run_config({"gamma": 0.1, "c": 50.0})
    model = build_model(config.model, in_channels=1, num_classes=10, generator=torch.Generator().manual_seed(1))

    def groups(optimizer: torch.optim.SGD) -> dict[frozenset[int], tuple[float, ...]]:
        return {
            frozenset(map(id, group["params"])): (group["lr"], group["weight_decay"], group["momentum"])
            for group in optimizer.param_groups
        }

    assert groups(make_optimizer(model, 50.0)) == groups(our_optimizer(model, config))


def test_both_studies_are_of_the_size_of_the_space_file() -> None:
    space = load_space(find_space("digits.yaml"))
    # Both stop from the same epoch on: Tune's ASHA has no automatic grace.
    assert (FULL.trials, FULL.epochs) == (space.budget.trials, space.train.epochs)
    assert list(range(1, FULL.pairs + 1)) == space.seeds.confirm
    assert space.seeds.search == [SEARCH_SEED]
    assert space.claim.baseline == BASELINE
    assert (space.data.train_size, space.data.val_size, space.data.test_size) == (300, 600, 897)


def test_the_stages_of_ours_are_read_off_the_lines_that_announce_them() -> None:
    assert stage_seconds(LINES) == {"search_seconds": 25.0, "select_seconds": 10.5, "confirm_seconds": 30.0}


def test_the_columns_of_ours_are_those_of_the_plain_study(tmp_path: Path, printed: dict[str, Any]) -> None:
    study = study_in(tmp_path / "tiny-1", tiny_dataset(), parse_space(CONTENT, "tiny"))
    study.run()
    verdict = write_verdict(study.folder.path)
    lines = [(float(index), f"{stage}  3 runs planned") for index, stage in enumerate(("search", "select", "confirm"))]
    runs = study.folder.records.read()
    lines += [(10.0 + index, f"{run.stage}  trial 0 seed {run.seed}  c=1  completed") for index, run in enumerate(runs)]
    found = ours_columns(study.folder.path, lines, 40.0)
    assert found["prompt_seconds"] == 40 - (10 + len(runs) - 1)
    assert list(found) == list(plain_columns(printed))
    # Four trials on two seeds, two finalists on two, two arms on three.
    assert (found["runs"], found["epochs_trained"]) == (8 + 4 + 6, 2 * 18)
    assert found["verdict"] == verdict["verdict"]
    assert json.loads(found["baseline_scores"]) == verdict["baseline"]["scores"]
    assert {"gamma": found["gamma"], "c": found["c"]} == verdict["candidates"][0]["config"]


def test_a_command_that_fails_says_how() -> None:
    with pytest.raises(RuntimeError, match=r"exit status 3\nlast words"):
        timed_lines(["-c", "print('last words'); raise SystemExit(3)"])


def test_no_command_joins_a_cluster_that_runs_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://nowhere:1")
    assert timed_lines(["-c", "import os; print('RAY_ADDRESS' in os.environ)"])[-1][1] == "False"


def test_the_speed_table_has_medians_and_the_ratios_within_a_round() -> None:
    table = speed_table(ROWS)
    assert cells(table, PLAIN)[1:] == ["100.0 (90.0 to 120.0)", "54", "1800", "", "0.60 (0.50 to 0.67)"]
    assert cells(table, REUSED)[4:] == ["1.67 (1.50 to 2.00)", ""]
    # 100 / 50, 120 / 40 and 90 / 60: not the ratio of the medians' order.
    assert cells(table, OURS)[4:] == ["2.00 (1.50 to 3.00)", "1.20 (1.00 to 1.50)"]
    assert SAME_WORK not in table


def test_the_rest_of_a_study_is_what_no_stage_took() -> None:
    assert cells(stage_table(ROWS), OURS) == [OURS, "20.0", "0.0", "30.0", "0.0"]
    assert cells(stage_table(ROWS), PLAIN) == [PLAIN, "20.0", "0.0", "30.0", "50.0"]


def test_the_results_are_those_of_the_first_round() -> None:
    later = [row(3, OURS, 50.0, gamma=0.5, verdict="invalid")]
    expected = [OURS, "γ = 0.1, c = 100", "91.00 ± 1.41", "95.00 ± 1.41", "0.001", "supported"]
    assert cells(result_table([*later, *ROWS]), OURS) == expected


def test_the_parity_line_compares_the_baselines_by_welchs_test() -> None:
    other = [row(0, PLAIN, 1.0), row(0, OURS, 1.0, baseline_scores='{"1": 91.0, "2": 95.0}')]
    # t = 2 / √5 with 1.47 degrees of freedom.
    assert "plain 91.00 ± 1.41 %, ours 93.00 ± 2.83 %" in parity_line(other)
    assert "(2 seeds each, mean ± standard deviation; two-sided Welch p = 0.49)" in parity_line(other)
    assert "Welch p = 1.00" in parity_line(ROWS)
