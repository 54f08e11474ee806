"""cluster/config.yaml, whole: up, workers for a study, instances taken with and without notice, idle ones gone."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.harness import FaultTable, References, outcome_in_sandbox, run_on_hosts, space_with

REPOSITORY = Path(__file__).parents[2]
PRICE = yaml.safe_load((REPOSITORY / "cluster" / "config.yaml").read_text(encoding="utf-8"))["provider"][
    "price_per_device_hour"
]


def _cluster(name: str) -> dict[str, Any]:
    """cluster/config.yaml with hosts of this machine for instances; what it installs is installed."""
    cluster: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster" / "config.yaml").read_text(encoding="utf-8"))
    cluster["cluster_name"] = name
    cluster["provider"]["use_internal_ips"] = True  # the hosts have no others
    cluster["max_workers"] = cluster["available_node_types"]["gpu_worker"]["max_workers"] = 2
    cluster["idle_timeout_minutes"] = 0.1
    for kind in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        cluster[kind] = []
    cluster["file_mounts"] = {}
    for kind in ("head_start_ray_commands", "worker_start_ray_commands"):
        mount, *commands = cluster[kind]
        assert "mount -t nfs4" in mount
        cluster[kind] = ["test -e ~/studies || ln -s /run/shared ~/studies", *commands]
    return cluster


@pytest.mark.system
def test_a_study_on_amazon_from_up_to_down_with_instances_taken(
    run_sandboxed: Callable[..., Path], tmp_path: Path, undisturbed: References, fault_table: FaultTable
) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("moto", "boto3")):
        pytest.skip("not installed: moto and boto3 (pip install '.[dev]')")
    name = f"cloud-{os.getpid()}"
    content = space_with(resources={"gpu": 1})
    del content["resources"]["max_concurrent"]  # as many as there may be workers
    reference = undisturbed(space_with())
    run = run_on_hosts(run_sandboxed, "cloud.sh", folder=tmp_path, cluster=_cluster(name), content=content, name=name)
    outcome = outcome_in_sandbox(run, run / "shared" / "cloud")
    row = fault_table.add("spot instance taken, without notice and with one", 2, reference, outcome)
    assert (row.lost, row.duplicates) == (0, 0)

    instances = [json.loads(line) for line in (run / "amazon" / "instances").read_text().splitlines()]
    (head,) = [instance for instance in instances if instance["type"] == "head"]
    workers = [instance for instance in instances if instance["type"] == "gpu_worker"]
    spot = [worker["state"] for worker in workers if worker["lifecycle"] == "spot"]
    full_price = [worker["state"] for worker in workers if worker["lifecycle"] == "on-demand"]
    assert len(spot) >= 2
    assert set(spot) == {"terminated"}
    assert set(full_price) == {"stopped"}, (
        "it came when no other was to be had, and stays with its disk as the file says"
    )
    assert (head["state"], head["lifecycle"]) == ("stopped", "on-demand")
    assert {instance["tokens"] for instance in instances} == {"required"}
    assert {tuple(instance["groups"]) for instance in instances} == {("tune-bn",)}
    assert not set((run / "processes").read_text().split()) & {"raylet", "gcs_server", "postgres", "sshd"}

    (status,) = json.loads((run / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "finished"
    assert status["cost"] == pytest.approx(PRICE * status["device_hours"], abs=1e-4)
    story = (run / "logs" / "story").read_text(encoding="utf-8")
    finished = story.partition("the study is finished")[2]
    assert not re.search(
        r'"gpu_worker", "lifecycle": "[^"]+", "state": "(running|pending)"',
        finished.partition("idle workers are gone")[2],
    )
