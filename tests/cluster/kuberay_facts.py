"""What KubeRay's CRDs say of the keys of a RayCluster and a RayJob, as a table, and a document checked against it.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RELEASES = ("1.5.0", "1.6.0", "1.6.2", "1.7.0")
TABLE = Path(__file__).with_suffix(".tsv")
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
JSON_TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "map": dict}


@dataclass(frozen=True)
class Fact:
    """One key; ``type`` is one of JSON's, ``map`` for keys of the user's own, or ``k8s:`` and a name."""

    type: str
    since: str
    required: bool
    values: tuple[str, ...]


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
            kind = f"k8s:{foreign}"
        elif "additionalProperties" in child:
            kind = "map"
        yield where, Fact(kind, "", name in schema.get("required", ()), tuple(child.get("enum", ())))
        if foreign is None:
            yield from facts(child, where)
            yield from facts(child.get("items", {}), f"{where}[]")


def make(checkout: Path) -> Iterator[str]:
    """The table's lines, from a checkout of KubeRay with its tags."""
    yield "# Source: ray-project/kuberay, helm-chart/kuberay-operator/crds, tags " + ", ".join(
        f"v{r}" for r in RELEASES
    )
    yield "# Licence of the source: Apache License 2.0. Made by kuberay_facts.py; nothing but the facts is copied."
    yield "kind\tpath\ttype\tsince\trequired\tvalues"
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
            required = "required" if fact.required else ""
            yield "\t".join([kind, path, fact.type, since[path], required, ",".join(fact.values)])


def table() -> dict[str, dict[str, Fact]]:
    """The table, by kind and path."""
    found: dict[str, dict[str, Fact]] = {kind: {} for kind in KINDS}
    for line in TABLE.read_text(encoding="utf-8").splitlines()[3:]:
        kind, path, type_, since, required, values = line.split("\t")
        found[kind][path] = Fact(type_, since, required == "required", tuple(filter(None, values.split(","))))
    return found


def faults(kind: str, spec: dict[str, Any]) -> list[str]:
    """What KubeRay's newest release would refuse or drop."""
    return [*_faults(table()[kind], spec, "")]


def since(kind: str, spec: dict[str, Any]) -> str:
    """The release that a spec without faults needs."""
    known = table()[kind]
    return max(known[path].since for path in _paths(known, spec, ""))


def _faults(known: dict[str, Fact], node: dict[str, Any], path: str) -> Iterator[str]:
    for where, fact in known.items():
        if fact.required and where.rpartition(".")[0] == path and where.rpartition(".")[2] not in node:
            yield f"{where}: missing"
    for name, value in node.items():
        where = f"{path}.{name}" if path else name
        fact = known.get(where)
        if fact is None:
            yield f"{where}: unknown"
        elif not fact.type.startswith("k8s:") and fact.type != "any":
            if type(value) is not JSON_TYPES[fact.type]:
                yield f"{where}: got {value!r}; accepted: {fact.type}"
            elif fact.values and value not in fact.values:
                yield f"{where}: got {value!r}; accepted: {', '.join(fact.values)}"
            elif fact.type == "map":
                yield from (
                    f"{where}.{key}: got {item!r}; accepted: string"
                    for key, item in value.items()
                    if type(item) is not str
                )
            elif fact.type == "object":
                yield from _faults(known, value, where)
            elif fact.type == "array":
                for item in value:
                    yield from _faults(known, item, f"{where}[]") if isinstance(item, dict) else ()


def _paths(known: dict[str, Fact], node: dict[str, Any], path: str) -> Iterator[str]:
    for name, value in node.items():
        where = f"{path}.{name}" if path else name
        yield where
        if known[where].type == "object":
            yield from _paths(known, value, where)
        elif known[where].type == "array":
            for item in value:
                yield from _paths(known, item, f"{where}[]") if isinstance(item, dict) else ()


if __name__ == "__main__":
    print(*make(Path(sys.argv[1])), sep="\n")
