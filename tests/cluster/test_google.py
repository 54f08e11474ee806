"""cluster/gcp.yaml against what Google publishes of its Compute API."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.schema_facts import Table

FILE = Path(__file__).parents[2] / "cluster" / "gcp.yaml"
COMPUTE = Table(Path(__file__).with_name("compute_facts.tsv"))
NODES: dict[str, dict[str, Any]] = {
    name: kind["node_config"]
    for name, kind in yaml.safe_load(FILE.read_text(encoding="utf-8"))["available_node_types"].items()
}


@pytest.mark.parametrize("name", NODES)
def test_google_knows_every_key_of_its_instances(name: str) -> None:
    assert COMPUTE.faults("Instance", NODES[name]) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda node: node.update(machinetype="g2-standard-4"), "machinetype: unknown"),
        (lambda node: node["disks"][0].update(size=1), r"disks\[\].size: unknown"),
        (lambda node: node["disks"][0]["initializeParams"].update(image="x"), r"initializeParams.image: unknown"),
        (lambda node: node["disks"][0].update(type="persistent"), "accepted: PERSISTENT, SCRATCH"),
        (lambda node: node["scheduling"].update(provisioningModel="spot"), "accepted: .*SPOT"),
        (lambda node: node["scheduling"].update(preemptible="yes"), "accepted: boolean"),
    ],
)
def test_what_google_does_not_know_is_noticed(change: Callable[[dict[str, Any]], Any], fault: str) -> None:
    node = copy.deepcopy(NODES["gpu_worker"])
    change(node)
    (said,) = COMPUTE.faults("Instance", node)
    assert re.search(fault, said), said


def test_a_worker_is_one_that_google_may_take_and_one_with_a_gpu_does_not_move() -> None:
    scheduling = NODES["gpu_worker"]["scheduling"]
    assert scheduling == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",  # stopped, it would keep a disk that costs
        "onHostMaintenance": "TERMINATE",
    }
    assert "scheduling" not in NODES["head"]


def test_the_table_names_its_source_and_its_licence() -> None:
    assert re.search(r"discovery document compute:v1, revision \d{8}", COMPUTE.source)
    assert "Apache License 2.0" in COMPUTE.licence
