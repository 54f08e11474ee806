"""cluster/config.yaml, checked offline against the installed Ray's own schema."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "cluster" / "config.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """With Ray's defaults filled in, as ``ray up`` does before it asks Amazon anything."""
    filled: dict[str, Any] = prepare_config(copy.deepcopy(config))
    return filled


def test_ray_accepts_it(prepared: dict[str, Any]) -> None:
    validate_config(prepared)
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepared | {"idle_timeout": 5})


def test_it_begins_with_what_to_fill_in_and_every_place_to_fill_is_named_there() -> None:
    comment, _, content = FILE.read_text(encoding="utf-8").partition("\n\n")
    named = re.findall(r"^#\s+(\d)\. ", comment, re.MULTILINE)
    assert all(line.startswith("#") for line in comment.splitlines())
    assert named
    assert set(re.findall(r"#.*\((\d)\)", content)) == set(named)


def test_trials_run_on_gpu_workers_that_come_and_go_and_never_on_the_head(prepared: dict[str, Any]) -> None:
    types = dict(prepared["available_node_types"])
    head = types.pop(prepared["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert types
    assert all(kind["min_workers"] == 0 < kind["max_workers"] <= prepared["max_workers"] for kind in types.values())
    assert 0 < prepared["idle_timeout_minutes"] <= 15


def test_every_node_installs_the_ray_that_the_project_pins(prepared: dict[str, Any]) -> None:
    installs = [command for command in prepared["setup_commands"] if "pip install" in command]
    with_ray = [command for command in installs if "ray[" in command]
    assert len(with_ray) == 1
    assert "--constraint ~/tune_bn-install/constraints.txt" in with_ray[0]
    assert prepared["file_mounts"]["~/tune_bn-install/constraints.txt"] == "constraints.txt"
    assert re.search(r"^ray==\d", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    # Ray's own default commands fetch a nightly build where no Ray is found.
    assert not [command for command in installs if "://" in command]
    for kind in ("head", "worker"):
        assert prepared[f"{kind}_setup_commands"] == prepared["setup_commands"]


def test_nothing_is_open_but_ssh(prepared: dict[str, Any]) -> None:
    # Without rules of its own the security group that Ray makes admits SSH, and the nodes to each other.
    assert not prepared["provider"].get("security_group", {}).get("IpPermissions")
    starts = [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]
    assert not [command for command in starts if "--dashboard-host" in command or "0.0.0.0" in command]


def test_the_head_runs_the_autoscaler(prepared: dict[str, Any]) -> None:
    (start,) = [command for command in prepared["head_start_ray_commands"] if "ray start" in command]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
