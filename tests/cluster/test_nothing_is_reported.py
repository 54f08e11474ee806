"""Ray and MLflow report how they are used, unless they are told not to, as they are wherever something starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_bn.host.process import WAITING

ROOT = Path(__file__).parents[2]


def texts() -> Iterator[Path]:
    for folder in ("cluster", "docs", "tune_bn", "benchmarks", "."):
        found = (ROOT / folder).iterdir() if folder in (".", "cluster") else (ROOT / folder).rglob("*")
        yield from (path for path in found if path.suffix in (".yaml", ".sh", ".md", ".py", "") and path.is_file())
    yield ROOT / "Makefile"


def started(path: Path) -> list[str]:
    """The commands of a file that start Ray, each on one line, without what is said about them in words."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    if path.suffix == ".yaml":
        # Folded scalars are one line.
        text = re.sub(r"\n {4,}(?=[-\w~$&(])", " ", text)
    lines = (line for line in text.splitlines() if not line.lstrip().startswith(("#", "//")))
    return [line for line in lines if re.search(r"(?<![`\"])\bray\"? start( --|$)", line)]


@pytest.mark.parametrize("path", sorted(set(texts())), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_ray_that_a_file_starts_is_told_not_to_report(path: Path) -> None:
    for command in started(path):
        assert "--disable-usage-stats" in command, command


def test_the_search_for_them_finds_those_that_there_are() -> None:
    found = {path.name: len(started(path)) for path in texts() if started(path)}
    assert found == {
        "config.yaml": 2,
        "gcp.yaml": 2,
        "onprem.yaml": 2,
        "onprem-loopback.yaml": 1,
    }


def containers(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield from node.get("containers", ())
        for value in node.values():
            yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


def test_every_container_is_told() -> None:
    documents = list(yaml.safe_load_all((ROOT / "cluster/kuberay.yaml").read_text(encoding="utf-8")))
    seen = set()
    for container in containers(documents):
        given = {entry["name"]: entry.get("value") for entry in container.get("env", ())}
        if container["name"].startswith("ray"):
            assert given["RAY_USAGE_STATS_ENABLED"] == "0"
        elif container["name"] == "mlflow":
            assert given["MLFLOW_DISABLE_TELEMETRY"] == "true"
        seen.add(container["name"])
    assert seen == {"ray-head", "ray-worker", "ray-job-submitter", "mlflow", "postgres"}


@pytest.mark.parametrize("name", ["cluster/install.sh", "cluster/Dockerfile"])
def test_what_is_installed_is_told(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true" in text


def test_a_verb_and_what_it_starts_are_told_unless_the_user_says_otherwise() -> None:
    script = (
        "import os, sys; from tune_bn import cli; from tune_bn.host import process\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: print({name: os.environ[name] for name in sorted(process.SILENCE | process.WAITING)})"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("DO_NOT_TRACK", *WAITING)}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "", "RAY_USAGE_STATS_ENABLED": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == (
        "{'DO_NOT_TRACK': 'true', 'GOMP_SPINCOUNT': '20000', 'MLFLOW_DISABLE_TELEMETRY': '', "
        "'OMP_WAIT_POLICY': 'PASSIVE', 'RAY_USAGE_STATS_ENABLED': '1'}"
    )
