"""The cluster files of Ray, checked offline against the installed Ray's own schema."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "cluster"
CLOUDS = ["config.yaml", "gcp.yaml"]
INSTALLED = [*CLOUDS, "onprem.yaml"]
RAY_FILES = [*INSTALLED, "onprem-loopback.yaml"]
SLURM = sorted((REPOSITORY / "tune_bn" / "service").glob("slurm*.py"))
"""What ``slurm.sh`` becomes."""
WITH_PLACES_TO_FILL = [*RAY_FILES, "kuberay.yaml", "slurm.sh"]


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return content


def _prepared(name: str) -> dict[str, Any]:
    """With Ray's defaults filled in, as ``ray up`` does before it asks anybody anything."""
    filled: dict[str, Any] = prepare_config(copy.deepcopy(_load(name)))
    return filled


@pytest.mark.parametrize("name", RAY_FILES)
def test_ray_accepts_it(name: str) -> None:
    prepared = _prepared(name)
    validate_config(prepared)
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepared | {"idle_timeout": 5})


@pytest.mark.parametrize("name", WITH_PLACES_TO_FILL)
def test_it_begins_with_what_to_fill_in_and_every_place_to_fill_is_named_there(name: str) -> None:
    comment, _, content = (
        (FOLDER / name).read_text(encoding="utf-8").removeprefix("#!/usr/bin/env bash\n").partition("\n\n")
    )
    named = re.findall(r"^#\s+(\d)\. ", comment, re.MULTILINE)
    assert all(line.startswith("#") for line in comment.splitlines())
    assert named == [str(number) for number in range(1, len(named) + 1)]
    assert named
    marked = set(re.findall(r"#.*\((\d)\)", content))
    if name == "slurm.sh":
        content += "".join(path.read_text(encoding="utf-8") for path in SLURM)
        marked |= {
            number
            for number, variable in re.findall(r"^#\s+(\d)\. (\w+):", comment, re.MULTILINE)
            if f"{variable}:-" in content or f'"{variable}"' in content
        }
    assert marked == set(named)
    assert "FILL-IN" not in content or re.search(r"FILL-IN.*#.*\(\d\)|\(\d\)(.*\n){1,6}.*FILL-IN", content)


@pytest.mark.parametrize("name", CLOUDS)
def test_trials_run_on_spot_gpus_that_come_and_go_and_never_on_the_head(name: str) -> None:
    prepared = _prepared(name)
    types = dict(prepared["available_node_types"])
    head = types.pop(prepared["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert types
    for kind in types.values():
        assert kind["min_workers"] == 0 < kind["max_workers"] <= prepared["max_workers"]
        assert kind["resources"]["GPU"] >= 1
        assert "spot" in str(kind["node_config"]).lower()
    assert "spot" not in str(head["node_config"]).lower()
    assert 0 < prepared["idle_timeout_minutes"] <= 15


def test_amazon_is_asked_in_several_zones_and_by_the_provider_that_falls_back() -> None:
    provider = _load("config.yaml")["provider"]
    zones = provider["availability_zone"].split(",")
    assert len(zones) > 1
    assert all(zone.startswith(provider["region"]) for zone in zones)
    assert provider["module"] == "tune_bn.service.spot.SpotFirstProvider"


def test_it_states_all_that_ray_fills_in_for_its_own_providers_alone() -> None:
    defaults = Path(ray.autoscaler.__file__).parent / "aws" / "defaults.yaml"
    assert set(yaml.safe_load(defaults.read_text(encoding="utf-8"))) <= set(_load("config.yaml"))


@pytest.mark.parametrize("name", INSTALLED)
def test_every_node_installs_the_ray_that_the_project_pins(name: str) -> None:
    prepared = _prepared(name)
    assert re.search(r"^ray==\d", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert prepared["file_mounts"]["~/tune_bn-install/constraints.txt"] == "constraints.txt"
    assert prepared["file_mounts"]["~/tune_bn-install/install.sh"] == "cluster/install.sh"
    # Ray's own default commands fetch a nightly build where no Ray is found.
    assert "://" not in str([prepared["setup_commands"], prepared["initialization_commands"]])
    for kind in ("head", "worker"):
        installs = [command for command in prepared[f"{kind}_setup_commands"] if "install.sh" in command]
        assert len(installs) == 1
        assert "pip install" not in str(prepared[f"{kind}_setup_commands"])


@pytest.mark.parametrize("name", CLOUDS)
def test_nothing_is_open_but_ssh(name: str) -> None:
    # Without rules of its own the security group that Ray makes admits SSH, and the nodes to each other.
    assert not _prepared(name)["provider"].get("security_group", {}).get("IpPermissions")


@pytest.mark.parametrize("name", RAY_FILES)
def test_the_head_starts_its_services_then_a_ray_with_its_dashboard_on_loopback_then_what_was_interrupted(
    name: str,
) -> None:
    prepared = _prepared(name)
    commands = prepared["head_start_ray_commands"]
    *_, stop, ports, services, start, resume = commands
    assert (stop, services, resume) == ("ray stop", "tune_bn head start", "tune_bn head resume")
    # Every port that Ray would take whatever happens: said at once where it is taken.
    assert re.fullmatch(r"tune_bn head ports( --host 127\.0\.0\.1)? 6379 8076 8265 10001 52365", ports)
    assert set(re.findall(r"port=(\d+)", start)) == {"6379", "8076"}
    assert "ray start --head" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert re.findall(r"--dashboard-host=(\S+)", str(commands)) == ["127.0.0.1"]
    assert "0.0.0.0" not in str([commands, prepared["worker_start_ray_commands"]])


def test_machines_of_ones_own_have_the_autoscaler_that_starts_all_of_them() -> None:
    (start,) = [command for command in _load("onprem.yaml")["head_start_ray_commands"] if "--head" in command]
    assert "RAY_enable_autoscaler_v2=0 ray start" in start


@pytest.mark.parametrize("name", INSTALLED)
def test_the_token_of_the_head_reaches_the_workers(name: str) -> None:
    assert _load(name)["cluster_synced_files"] == ["~/.ray/auth_token"]


@pytest.mark.parametrize("name", INSTALLED)
def test_head_and_workers_see_the_studies_at_the_same_path(name: str) -> None:
    prepared = _prepared(name)
    head, worker = prepared["head_start_ray_commands"][0], prepared["worker_start_ray_commands"][0]
    assert head == worker
    assert "~/studies" in head
    # Ray wraps a command in parentheses on one line: a comment in it would take the last of them away.
    for command in [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]:
        assert "#" not in command
        assert "\n" not in command.strip()


@pytest.mark.parametrize("name", CLOUDS)
def test_a_device_hour_has_a_price(name: str) -> None:
    assert 0 < _load(name)["provider"]["price_per_device_hour"] < 100


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_holds_a_secret_or_the_host_of_a_registry(path: Path) -> None:
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|\b[0-9a-f]{32,}\b", text)
    assert not re.search(
        r"(password|secret|token)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{8,}['\"]?\s*$", text, re.IGNORECASE | re.MULTILINE
    )
    assert not re.search(r"(index-url|extra-index|pypi\.|docker\.io|ghcr\.io|gcr\.io|quay\.io|\.pkg\.dev)", text)
