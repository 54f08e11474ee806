"""cluster/Dockerfile: what it copies is what its install step needs, and whoever runs the image finds it."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
LINES = re.sub(
    r"^#.*\n", "", (REPOSITORY / "cluster" / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
).splitlines()


def _arguments(instruction: str) -> list[str]:
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{instruction} ")]


def test_it_installs_as_every_node_of_a_cluster_does() -> None:
    copies = {word for copy in _arguments("COPY") for word in copy.split()[:-1]}
    assert copies == {"constraints.txt", "cluster/install.sh", "dist/*.whl"}
    assert {copy.split()[-1] for copy in _arguments("COPY")} == {"/tmp/tune_bn/", "/tmp/tune_bn/dist/"}
    assert "PIP_NO_CACHE_DIR=1 bash /tmp/tune_bn/install.sh" in _arguments("RUN")


def test_nothing_but_what_it_copies_reaches_the_context_of_a_build() -> None:
    everything, *but = [
        line
        for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert everything == "*"
    copies = {word for copy in _arguments("COPY") for word in copy.split()[:-1]}
    assert {line.removeprefix("!") for line in but} == copies
    for kept in ("studies/one/records.jsonl", ".git/config", ".ray-token-1", "dist/tune_bn.tar.gz", "cluster/gcp.yaml"):
        assert not any(fnmatch.fnmatch(kept, pattern) for pattern in copies), kept


def test_its_user_is_the_one_of_the_pods_and_finds_its_programs_without_a_shell() -> None:
    documents = yaml.safe_load_all((REPOSITORY / "cluster" / "kuberay.yaml").read_text(encoding="utf-8"))
    (cluster,) = [document["spec"] for document in documents if document["kind"] == "RayCluster"]
    pod = cluster["headGroupSpec"]["template"]["spec"]["securityContext"]
    assert _arguments("USER") == [f"{pod['runAsUser']}:{pod['runAsGroup']}"]
    variables = dict(word.split("=", 1) for line in _arguments("ENV") for word in line.split())
    assert variables["PATH"].split(":")[0] == f"{variables['HOME']}/.tune_bn/bin", "where install.sh puts them"
    mounts = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert all(mount["mountPath"].startswith(f"{variables['HOME']}/") for mount in mounts)
