"""The driver of a study is killed in every stage, asked to stop, and meets a second driver: on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests import warm
from tests.faults.harness import (
    BUILTIN,
    COMMAND,
    FUNCTION,
    ONE_STAGE,
    PACE,
    SPACE,
    FaultTable,
    References,
    Workplace,
    essence,
    named,
    survivors,
    trained_by,
)
from tune_bn.records.record import CONFIRM, SEARCH, SELECT

SLOW = 1.0
"""Seconds of a training forward while something else is looked at."""


def tune_bn(place: Workplace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(list(arguments), cwd=place.folder, timeout=200)


def row_of(place: Workplace) -> dict[str, Any]:
    (row,) = json.loads(tune_bn(place, "status", "--json").stdout)
    return dict(row)


def check_mlflow(place: Workplace) -> None:
    """One finished parent, and one finished child with a curve for every record."""
    client = MlflowClient(f"sqlite:///{place.folder / 'studies/mlflow.db'}")
    (experiment,) = [item for item in client.search_experiments() if item.name == place.content["name"]]
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert [parent.info.status for parent in parents] == ["FINISHED"]
    assert Counter(child.info.run_name for child in children) == Counter(essence(place.records()).keys())
    assert {child.info.status for child in children} == {"FINISHED"}
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parents[0].info.run_id}
    assert all("train_loss" in child.data.metrics for child in children)


@pytest.mark.timeout(1200)  # nine processes that load torch, one after the other
@pytest.mark.parametrize("trainer", [BUILTIN])
def test_a_driver_killed_in_every_stage_stopped_and_doubled_leaves_the_records_of_the_undisturbed_study(
    tmp_path: Path, undisturbed: References, fault_table: FaultTable, trainer: str
) -> None:
    content = trained_by(trainer, SPACE)
    place = Workplace(tmp_path / "place", content)
    reference = undisturbed(content)
    stages = Counter(key.partition("-")[0] for key in essence(reference.records))
    searched, selected = stages[SEARCH], stages[SEARCH] + stages[SELECT]

    for records, stage in ((1, SEARCH), (searched, SELECT), (selected + 1, CONFIRM)):
        process = place.start(*(() if stage == SEARCH else ("--resume",)))
        place.wait_for_records(records, process)
        # In the middle of the runs after that.
        place.wait_for_steps(place.steps + 15, process)
        place.set_pace(SLOW)
        if stage == CONFIRM:
            # The lock of the drivers that were killed is free, that of the living one is not.
            second = place.search("--resume")
            assert (second.returncode, second.stdout) == (2, "ray  starting on this machine …\n")
            assert "another process works on this study" in second.stderr
            assert len(second.stderr.splitlines()) == 1
            assert process.poll() is None
        running = row_of(place)
        assert (running["state"], running["driver"]["pid"]) == ("running", process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        place.set_pace(PACE)
        assert row_of(place)["state"] == "died"

    before = len(place.records())
    process = place.start("--resume")
    place.wait_for_records(before + 1, process)
    place.set_pace(SLOW)
    stopped = tune_bn(place, "stop", "one")
    assert stopped.returncode == 0, stopped.stderr
    assert "To go on: tune_bn search" in stopped.stdout
    _, said = process.communicate(timeout=200)
    place.set_pace(PACE)
    assert process.returncode == 130
    assert said.startswith("tune_bn stop asked for it; nothing that finished is lost")
    assert (row_of(place)["state"], row_of(place)["reason"]) == ("stopped", "tune_bn stop asked for it")

    finished = place.search("--resume")
    assert finished.returncode == 0, finished.stderr
    name = named("driver killed in each stage, then stopped", trainer)
    row = fault_table.add(name, 4, reference, place.outcome())
    assert (row.lost, row.duplicates) == (0, 0)
    assert survivors(place.study) == []
    check_mlflow(place)

    after = row_of(place)
    assert (after["state"], after["running"], after["seconds_left"]) == ("finished", 0, None)
    logged = tune_bn(place, "logs", "one").stdout.splitlines()
    assert sum("tune_bn stop asked for it" in line for line in logged) == 1
    assert logged[-1].split("  ", 1)[1].startswith("verdict: ")
    recorded = [line for line in logged if " epochs " in line and "completed" in line]
    assert len(recorded) >= len(essence(place.records())), "every driver adds its lines"


@pytest.mark.parametrize("trainer", [COMMAND, FUNCTION])
def test_a_driver_is_killed_without_a_ray_and_then_with_one_leaves_no_script_and_another_goes_on(
    tmp_path: Path, undisturbed: References, fault_table: FaultTable, trainer: str
) -> None:
    content = trained_by(trainer, ONE_STAGE)
    place = Workplace(tmp_path / "place", content)
    for how in (["--local"], ["--resume"]):
        process = place.start(*how)
        place.wait_for_records(len(place.records()) + 1, process)
        # In the middle of the runs after that, which have checkpoints behind them.
        place.wait_for_steps(place.steps + 30, process)
        # Beside each of them, or beside its script, is a process of its own.
        runs = 1 if "--local" in how else 2
        place.plant("rank", runs)
        expected = 2 * runs if trainer == COMMAND else runs
        place.wait_for(lambda: len(survivors(place.study)) >= expected, process)  # noqa: B023
        place.set_pace(SLOW)
        assert "--local" in how or len(place.processes()) > 2, "there is no Ray to be left behind"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        place.wait_for(lambda: place.processes() == [])
        if trainer == COMMAND:
            # What a function has started ends when its run is tried again.
            place.wait_for(lambda: survivors(place.study) == [])
        place.set_pace(PACE)
    place.set_pace(0)
    finished = place.search("--local", "--resume")
    assert finished.returncode in (0, 1), finished.stderr
    assert survivors(place.study) == place.processes() == []
    row = fault_table.add(
        named("driver killed, without and with Ray", trainer), 2, undisturbed(content), place.outcome()
    )
    assert (row.lost, row.duplicates) == (0, 0)
    # One run and then two lose what they did since their last checkpoint.
    assert 0 <= row.extra_work_percent <= 100 * 3 / 8
