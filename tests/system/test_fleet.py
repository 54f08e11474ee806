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

from tests.faults.harness import HERE, FaultTable, Outcome, References, essence, space_with
from tune_bn.records.log import RecordLog

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
@pytest.mark.timeout(900)
def test_nothing_is_lost_on_a_fleet_that_loses_connection_network_driver_and_head(
    run_sandboxed: Callable[..., Path], tmp_path: Path, undisturbed: References, fault_table: FaultTable
) -> None:
    name = f"fleet-{os.getpid()}"
    content = space_with(resources={"price_per_device_hour": 0.5})
    cluster, space = tmp_path / "cluster.yaml", tmp_path / "fleet.yaml"
    cluster.write_text(yaml.safe_dump(_cluster(name)), encoding="utf-8")
    space.write_text(yaml.safe_dump(content), encoding="utf-8")
    reference = undisturbed(content)
    run = run_sandboxed(
        "fleet.sh",
        tools=["sshd", "ssh", "ssh-keygen", "rsync", "ps", "pgrep", "nsenter"],
        timeout=880,
        REPOSITORY=str(REPOSITORY),
        CLUSTER=str(cluster),
        SPACE=str(space),
        COUNTING=str(HERE),
        NAME=name,
    )
    studies = run / "hosts" / "head" / "home" / "studies"
    records = tuple(RecordLog(studies / "fleet" / "records.jsonl").read())
    steps = (run / "counting" / "steps").stat().st_size
    row = fault_table.add("connection, network, driver and head lost", 4, reference, Outcome(records, steps))
    assert (row.lost, row.duplicates) == (0, 0)

    (status,) = json.loads((run / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "finished"
    assert status["cost"] == pytest.approx(0.5 * status["device_hours"], abs=1e-4)
    assert {record.device for record in records} == {"cpu"}
    story = (run / "logs" / "story").read_text(encoding="utf-8")
    assert "died" in story.partition("== the driver is killed")[2].partition("==")[0]

    runs = json.loads((run / "mlflow.json").read_text(encoding="utf-8"))
    children = Counter(run_name for run_name, _, parent in runs if parent is not None)
    assert children == Counter(essence(records).keys()), "MLflow holds every record once"
    assert {status for _, status, _ in runs} == {"FINISHED"}

    tokens = dict(line.split()[::-1] for line in (run / "tokens").read_text().splitlines())
    assert set(tokens.values()) == {"600"}
    assert len(tokens) == 2, "the token that the head made reaches the worker"
    assert not set((run / "processes").read_text().split()) & {"raylet", "gcs_server"}
