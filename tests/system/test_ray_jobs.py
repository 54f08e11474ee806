"""A Ray job is stopped by whatever is meant to stop it, says so, and is begun again by nobody but a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.harness import HERE, FaultTable, References, outcome_in_sandbox, space_with

TOLD = "tune_bn stop asked for it"
REASONS = {
    "search": TOLD,
    "early": TOLD,
    "hours": "budget.total_hours = ",
    "cost": "budget.cost = ",
    "select": "interrupted by SIGTERM",
    "term": "interrupted by SIGTERM",
}


@pytest.mark.system
def test_a_ray_job_stops_when_it_is_told_to_in_every_stage_and_at_every_limit(
    run_sandboxed: Callable[..., Path], tmp_path: Path, undisturbed: References, fault_table: FaultTable
) -> None:
    content = space_with(resources={"price_per_device_hour": 3600})
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(content), encoding="utf-8")
    reference = undisturbed(content)
    run = run_sandboxed("ray_jobs.sh", tools=["ps", "pgrep"], SPACE=str(space), COUNTING=str(HERE))
    study = run / "home" / "studies" / "one"

    def text(name: str) -> str:
        return (run / name).read_text(encoding="utf-8").strip()

    for name, reason in REASONS.items():
        state: dict[str, Any] = json.loads(text(f"{name}.json"))
        assert (state["state"], state["reason"][: len(reason)]) == ("stopped", reason), name
        # `ray job submit` ends with 1 whatever its driver said.
        assert text(f"{name}.status") == ("1" if name == "term" else "130"), name
        assert text(f"{name}.resumed") == "", f"{name}: nobody starts it again"
        said = f"{reason}" if reason != TOLD else f"{TOLD}; nothing that finished is lost. To go on: tune_bn search"
        assert said in text(f"logs/{name}"), name
        assert "Traceback" not in text(f"logs/{name}"), name
    assert "RAY_JOB_STOP_WAIT_TIME_S=60" in text("environment").splitlines(), "Ray gives it time to end"
    assert json.loads(text("confirm.json"))["reason"] == TOLD
    assert text("confirm.resumed") == ""
    assert text("restarted.resumed").startswith("one: goes on as the job tune_bn-one-")
    for name in ("search", "early", "confirm"):
        assert text(f"{name}.stop.status") == "0"
        assert text(f"{name}.stop").startswith("one stopped. To go on: tune_bn search --study one")
        assert text(f"{name}.stop").endswith(" --job --resume")
    assert text("killed.stop.status") == "0"
    assert text("killed.stop").startswith("one does not run, and no driver of it begins again by itself. To go on: ")
    assert text("killed.resumed") == ""
    assert text("finish.stop.status") == "2"
    assert "no driver works on" in text("finish.stop")
    assert json.loads(text("finish.json"))["state"] == "finished"

    row = fault_table.add("a Ray job told to stop, and at its limits", 9, reference, outcome_in_sandbox(run, study))
    assert (row.lost, row.duplicates) == (0, 0)
    assert json.loads((study / "verdict.json").read_text(encoding="utf-8"))["verdict"] != "invalid"
    left = [line for line in text("processes").splitlines() if "ray" in line or "tune_bn" in line]
    assert not [line for line in left if "ray_jobs.sh" not in line]
