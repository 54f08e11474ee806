"""A study on two hosts behind ssh outlives a lost connection, a partition, its driver and its head."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.harness import FaultTable, References, essence, outcome_in_sandbox, run_on_hosts, space_with

REPOSITORY = Path(__file__).parents[2]


def _cluster(name: str) -> dict[str, Any]:
    """cluster/onprem.yaml with the hosts of the sandbox filled in; what it installs is installed."""
    cluster: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster" / "onprem.yaml").read_text(encoding="utf-8"))
    cluster["cluster_name"] = name
    cluster["provider"] |= {"head_ip": "10.77.0.1", "worker_ips": ["10.77.0.2"]}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "/run/ssh/user_key"}
    for kind in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        cluster[kind] = []
    del cluster["file_mounts"]
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        cluster[kind] = [command for command in cluster[kind] if "/shared/studies" not in command]
    return cluster


@pytest.mark.system
def test_nothing_is_lost_on_a_fleet_that_loses_connection_network_driver_and_head(
    run_sandboxed: Callable[..., Path], tmp_path: Path, undisturbed: References, fault_table: FaultTable
) -> None:
    name = f"fleet-{os.getpid()}"
    content = space_with(resources={"price_per_device_hour": 0.5})
    reference = undisturbed(content)
    run = run_on_hosts(run_sandboxed, "fleet.sh", folder=tmp_path, cluster=_cluster(name), content=content, name=name)
    studies = run / "hosts" / "head" / "home" / "studies"
    outcome = outcome_in_sandbox(run, studies / "fleet")
    row = fault_table.add("connection, network, driver and head lost", 4, reference, outcome)
    assert (row.lost, row.duplicates) == (0, 0)

    (status,) = json.loads((run / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "finished"
    assert status["cost"] == pytest.approx(0.5 * status["device_hours"], abs=1e-4)
    assert {record.device for record in outcome.records} == {"cpu"}
    story = (run / "logs" / "story").read_text(encoding="utf-8")
    assert "died" in story.partition("== the driver is killed")[2].partition("==")[0]

    runs = json.loads((run / "mlflow.json").read_text(encoding="utf-8"))
    children = Counter(run_name for run_name, _, parent in runs if parent is not None)
    assert children == Counter(essence(outcome.records).keys()), "MLflow holds every record once"
    assert {status for _, status, _ in runs} == {"FINISHED"}

    tokens = dict(line.split()[::-1] for line in (run / "tokens").read_text().splitlines())
    assert set(tokens.values()) == {"600"}
    assert len(tokens) == 2, "the token that the head made reaches the worker"
    assert not set((run / "processes").read_text().split()) & {"raylet", "gcs_server"}
