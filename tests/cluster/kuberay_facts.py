"""What KubeRay's CRDs say of the keys of a RayCluster and a RayJob, as a table.

``kuberay_facts.tsv`` beside this file is made from the CRDs themselves, so no name in it was written by hand:

    git clone https://github.com/ray-project/kuberay
    python tests/cluster/kuberay_facts.py kuberay > tests/cluster/kuberay_facts.tsv

It keeps, for each key of ``spec`` in ray.io/v1, its path, its type, the first of :data:`RELEASES` that knows it,
whether it must be there, and the values that it takes where they are counted. Where Kubernetes' own types begin (a pod,
a security context) the table stops with their name: `kubernetes-validate` knows those.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.schema_facts import HEADING, Fact

RELEASES = ("1.5.0", "1.6.0", "1.6.2", "1.7.0")
KINDS = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}
KUBERNETES = {
    "template": "PodTemplateSpec",
    "submitterPodTemplate": "PodTemplateSpec",
    "headService": "Service",
    "env": "EnvVar",
    "envFrom": "EnvFromSource",
    "volumeMounts": "VolumeMount",
    "securityContext": "SecurityContext",
    "ingressRules": "NetworkPolicyIngressRule",
    "egressRules": "NetworkPolicyEgressRule",
    "tls": "IngressTLS",
    "valueFrom": "EnvVarSource",
}
"""Keys under which a type of Kubernetes itself stands; ``resources`` is one where it has ``limits``."""


def facts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, Fact]]:
    """The keys below one part of a CRD's schema; list items are at ``path[]``."""
    for name, child in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        kind = child.get("type", "any")
        foreign = KUBERNETES.get(name)
        if name == "resources" and "limits" in child.get("properties", {}):
            foreign = "ResourceRequirements"
        if where == "rayClusterSpec":
            foreign = "RayCluster"
        if foreign is not None:
            kind = f"other:{foreign}"
        elif "additionalProperties" in child:
            kind = "map"
        yield where, Fact(kind, tuple(child.get("enum", ())), name in schema.get("required", ()))
        if foreign is None:
            yield from facts(child, where)
            yield from facts(child.get("items", {}), f"{where}[]")


def make(checkout: Path) -> Iterator[str]:
    """The table's lines, from a checkout of KubeRay with its tags."""
    yield "# Source: ray-project/kuberay, helm-chart/kuberay-operator/crds, tags " + ", ".join(
        f"v{r}" for r in RELEASES
    )
    yield "# Licence of the source: Apache License 2.0. Made by kuberay_facts.py; nothing but the facts is copied."
    yield HEADING
    for kind, file in KINDS.items():
        since: dict[str, str] = {}
        for release in RELEASES:
            named = f"v{release}:helm-chart/kuberay-operator/crds/{file}"
            text = subprocess.run(
                ["git", "-C", checkout, "show", named], capture_output=True, text=True, check=True
            ).stdout
            (version,) = (entry for entry in yaml.safe_load(text)["spec"]["versions"] if entry["name"] == "v1")
            known = dict(facts(version["schema"]["openAPIV3Schema"]["properties"]["spec"], ""))
            since = {path: since.get(path, release) for path in known}
        for path, fact in known.items():
            yield replace(fact, since=since[path]).line(kind, path)


if __name__ == "__main__":
    print(*make(Path(sys.argv[1])), sep="\n")
