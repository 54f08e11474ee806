"""A search begins on a cluster without a single GPU, and the autoscaler brings the workers that its trials wait for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

REPOSITORY = Path(__file__).parents[2]
HEAD_TYPE = "ray.head.default"  # the only head type that Ray's provider of nodes on one machine knows
HEAD_ID = "f" * 51 + "00000"


def _cluster_of_this_machine() -> dict[str, Any]:
    """cluster/config.yaml as ``ray up`` leaves it on the head, with raylets of this machine for Amazon's instances."""
    cluster: dict[str, Any] = prepare_config(
        yaml.safe_load((REPOSITORY / "cluster" / "config.yaml").read_text(encoding="utf-8"))
    )
    cluster["provider"] = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": "10.66.0.1:6379",  # LAN of sandbox.sh
        "head_node_id": HEAD_ID,
        "launch_multiple": True,
        "disable_node_updaters": True,
    }
    head, worker = cluster["available_node_types"]["head"], cluster["available_node_types"]["gpu_worker"]
    cluster["available_node_types"] = {
        HEAD_TYPE: {**head, "node_config": {}},
        "gpu_worker": {**worker, "node_config": {}, "resources": {"CPU": 1, "GPU": 1}, "max_workers": 2},
    }
    cluster["head_node_type"] = HEAD_TYPE
    cluster["idle_timeout_minutes"] = 0.1
    cluster["file_mounts"] = {}
    return cluster


@pytest.mark.system
def test_workers_come_when_trials_wait_and_go_when_they_are_idle(
    run_sandboxed: Callable[..., Path], tmp_path: Path
) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(yaml.safe_dump(_cluster_of_this_machine()), encoding="utf-8")
    run = run_sandboxed(
        "autoscaling.sh",
        tools=[],
        SCRIPT=str(REPOSITORY / "cluster" / "search.py"),
        CLUSTER=str(cluster),
        HEAD=HEAD_ID,
    )
    study = run / "home" / "studies" / "grown"
    nodes = json.loads((run / "nodes.json").read_text(encoding="utf-8"))
    resources = yaml.safe_load((study / "space.yaml").read_text(encoding="utf-8"))["resources"]

    assert json.loads((study / "verdict.json").read_text(encoding="utf-8"))["n"] == 2
    assert resources["elastic"] is True
    assert resources["max_concurrent"] == 2
    assert nodes["ever"] >= 3, "the head and both workers"
    assert nodes["now"] == 1
