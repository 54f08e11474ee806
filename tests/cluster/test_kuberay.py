"""cluster/kuberay.yaml against KubeRay's CRDs, Pod Security "restricted", and who gets in."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.cluster import pod_security
from tests.cluster.kuberay_facts import RELEASES
from tests.cluster.schema_facts import Table

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "cluster" / "kuberay.yaml").read_text(encoding="utf-8")
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(TEXT))
SPECS = {document["kind"]: document["spec"] for document in DOCUMENTS if document["apiVersion"] == "ray.io/v1"}
NEWEST = "1.36"
KUBERAY = Table(Path(__file__).with_name("kuberay_facts.tsv"))


def pods() -> dict[str, dict[str, Any]]:
    """Every pod with its labels and its spec, as it reaches the API server: KubeRay 1.7 adds containers to some."""
    cluster, job = copy.deepcopy(SPECS["RayCluster"]), copy.deepcopy(SPECS["RayJob"])
    found = {"submitter": job["submitterPodTemplate"]}
    for document in DOCUMENTS:
        if document["kind"] in ("Deployment", "StatefulSet"):
            found[document["metadata"]["name"]] = copy.deepcopy(document["spec"]["template"])
    groups = {"head": cluster["headGroupSpec"], **{group["groupName"]: group for group in cluster["workerGroupSpecs"]}}
    for name, group in groups.items():
        found[name] = yaml.safe_load(json.dumps(group["template"]))  # what anchors share in the file is each one's own
        spec = found[name]["spec"]
        found[name]["metadata"]["labels"] |= {"ray.io/cluster": "tune-bn", "ray.io/node-type": "worker"}
        ray = spec["containers"][0]
        if name == "head":
            found[name]["metadata"]["labels"]["ray.io/node-type"] = "head"
            options = cluster["autoscalerOptions"]
            keys = ("env", "envFrom", "resources", "securityContext", "volumeMounts")
            taken = {key: options[key] for key in keys if key in options}
            spec["containers"].append({"name": "autoscaler", "image": ray["image"], **taken})
        else:
            waits = {key: ray[key] for key in ("image", "env", "volumeMounts", "securityContext") if key in ray}
            spec["initContainers"] = [{"name": "wait-gcs-ready", **waits}]
        spec["volumes"].append({"name": "shared-mem", "emptyDir": {"medium": "Memory"}})
    return found


PODS = pods()


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_the_crds_of_kuberay_accept_it(kind: str) -> None:
    assert KUBERAY.faults(kind, SPECS[kind]) == []


@pytest.mark.parametrize(
    ("kind", "change", "fault"),
    [
        ("RayCluster", lambda spec: spec.update(autoscaling=True), "autoscaling: unknown"),
        ("RayCluster", lambda spec: spec.pop("headGroupSpec"), "headGroupSpec: missing"),
        ("RayCluster", lambda spec: spec["workerGroupSpecs"][0].pop("groupName"), r"\[\].groupName: missing"),
        ("RayCluster", lambda spec: spec["workerGroupSpecs"][1].update(prio=1), r"\[\].prio: unknown"),
        (
            "RayCluster",
            lambda spec: spec["workerGroupSpecs"][1].update(priority="1"),
            r"priority: got '1'; accepted: int",
        ),
        (
            "RayCluster",
            lambda spec: spec["workerGroupSpecs"][1].update(replicas=True),
            "replicas: got True; accepted: int",
        ),
        ("RayCluster", lambda spec: spec["authOptions"].update(mode="password"), "accepted: disabled, token"),
        ("RayCluster", lambda spec: spec["autoscalerOptions"].update(version="v3"), "accepted: v1, v2"),
        (
            "RayCluster",
            lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
            "got 0; accepted: str",
        ),
        ("RayCluster", lambda spec: spec.update(rayVersion=2.6), "rayVersion: got 2.6"),
        ("RayJob", lambda spec: spec.update(clusterSelector="tune-bn"), "accepted: map"),
        ("RayJob", lambda spec: spec.update(submitterConfig={"retries": 1}), "submitterConfig.retries: unknown"),
    ],
)
def test_what_they_do_not_know_is_noticed(kind: str, change: Callable[[dict[str, Any]], Any], fault: str) -> None:
    spec = copy.deepcopy(SPECS[kind])
    change(spec)
    (said,) = KUBERAY.faults(kind, spec)
    assert re.search(fault, said), said


def test_the_file_and_the_page_name_the_oldest_operator_that_knows_every_key() -> None:
    needed = max(KUBERAY.since(kind, spec) for kind, spec in SPECS.items()).removesuffix(".0")
    page = (REPOSITORY / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    assert re.findall(r"operator (\d+\.\d+) or later", TEXT) == [needed]
    assert re.findall(r"operator\s+(\d+\.\d+)\s+or\s+later", page) == [needed]
    without = copy.deepcopy(SPECS["RayCluster"])
    for group in without["workerGroupSpecs"]:
        del group["priority"]
    assert KUBERAY.since("RayCluster", without) == "1.6.0", "priority is what the newer one is needed for"


def test_the_table_names_its_source_and_its_licence() -> None:
    assert all(f"v{release}" in KUBERAY.source for release in RELEASES)
    assert "Apache License 2.0" in KUBERAY.licence


@pytest.mark.parametrize("name", PODS)
def test_kubernetes_accepts_each_pod_as_it_is_filled_in(name: str) -> None:
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": PODS[name]["spec"]}
    kubernetes_validate.validate(document, NEWEST, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_every_pod_keeps_to_the_restricted_standard(name: str) -> None:
    assert pod_security.faults(PODS[name]["spec"]) == []


@pytest.mark.parametrize("name", PODS)
def test_the_standard_is_that_of_each_container_whatever_the_pod_says(name: str) -> None:
    bare = copy.deepcopy(PODS[name]["spec"])
    containers = [*bare["containers"], *bare.get("initContainers", ())]
    for container in containers:
        del container["securityContext"]
    assert pod_security.faults(bare) == [
        f"{container['name']}: {missing}"
        for container in containers
        for missing in ("allowPrivilegeEscalation", "capabilities.drop")
    ]
    del bare["securityContext"]
    assert len(pod_security.faults(bare)) == 4 * len(containers)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"hostNetwork": True}, "hostNetwork: true"),
        ({"hostPID": True}, "hostPID: true"),
        ({"volumes": [{"name": "disk", "hostPath": {"path": "/"}}]}, "volumes: hostPath"),
        ({"volumes": [{"name": "disk", "nfs": {"server": "a", "path": "/"}}]}, "volumes: nfs"),
    ],
)
def test_what_the_standard_forbids_a_pod_is_noticed(change: dict[str, Any], fault: str) -> None:
    assert pod_security.faults(PODS["submitter"]["spec"] | change) == [fault]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"privileged": True}, "privileged"),
        ({"runAsUser": 0}, "runAsUser"),
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "capabilities.add"),
        ({"capabilities": {"drop": ["KILL"]}}, "capabilities.drop"),
    ],
)
def test_what_the_standard_forbids_a_container_is_noticed(change: dict[str, Any], fault: str) -> None:
    pod = copy.deepcopy(PODS["submitter"]["spec"])
    pod["containers"][0]["securityContext"] |= change
    assert pod_security.faults(pod) == [f"ray-job-submitter: {fault}"]


# The labels of these pods, as KubeRay 1.7 and the two usual charts of Prometheus set them.
OPERATORS = {
    "helm": {"app.kubernetes.io/name": "kuberay-operator", "app.kubernetes.io/component": "kuberay-operator"},
    "helm with a name of one's own": {
        "app.kubernetes.io/name": "ours",
        "app.kubernetes.io/component": "kuberay-operator",
    },
    "kustomize": {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/component": "kuberay-operator"},
}
PROMETHEUS = {
    "operator": {"app.kubernetes.io/name": "prometheus", "app.kubernetes.io/managed-by": "prometheus-operator"},
    "chart": {"app.kubernetes.io/name": "prometheus", "app.kubernetes.io/component": "server"},
}
METRICS = {"head": [8080, 44217, 44227], "gpu-spot": [8080], "gpu-on-demand": [8080]}


def admitted(source: dict[str, str], to: str, port: int, *, inside: bool) -> bool:
    """Whether the policies let a pod with these labels, of this namespace or of another, reach a port of ours."""
    policies = [document["spec"] for document in DOCUMENTS if document["kind"] == "NetworkPolicy"]
    labels = PODS[to]["metadata"]["labels"].items()
    rules = [
        rule
        for policy in policies
        if policy["podSelector"].get("matchLabels", {}).items() <= labels
        for rule in policy.get("ingress", ())
    ]
    return any(
        (inside or peer.get("namespaceSelector") == {}) and peer["podSelector"]["matchLabels"].items() <= source.items()
        for rule in rules
        if "ports" not in rule or {"port": port, "protocol": "TCP"} in rule["ports"]
        for peer in rule["from"]
    )


@pytest.mark.parametrize("how", OPERATORS)
def test_the_operator_reaches_the_jobs_of_the_head_however_it_was_installed(how: str) -> None:
    assert admitted(OPERATORS[how], "head", 8265, inside=False)
    assert not admitted(OPERATORS[how], "head", 6379, inside=False)
    assert not admitted(OPERATORS[how], "tune-bn-mlflow", 5000, inside=False)


@pytest.mark.parametrize("how", PROMETHEUS)
@pytest.mark.parametrize("pod", METRICS)
def test_prometheus_reaches_metrics_and_nothing_else(pod: str, how: str) -> None:
    for port in METRICS[pod]:
        assert admitted(PROMETHEUS[how], pod, port, inside=False)
    for port in (6379, 8265, 8076, 10001, 10002, 52365):
        assert not admitted(PROMETHEUS[how], pod, port, inside=False)
    for other, port in (("tune-bn-mlflow", 5000), ("tune-bn-postgres", 5432)):
        assert not admitted(PROMETHEUS[how], other, port, inside=False)


@pytest.mark.parametrize("pod", METRICS)
def test_the_ports_of_metrics_have_the_names_by_which_a_monitor_asks(pod: str) -> None:
    ports = {port["name"]: port["containerPort"] for port in PODS[pod]["spec"]["containers"][0]["ports"]}
    names = ["metrics", "as-metrics", "dash-metrics"][: len(METRICS[pod])]
    assert [ports[name] for name in names] == METRICS[pod]


def test_what_must_talk_to_each_other_does_and_a_stranger_does_not() -> None:
    def labels(pod: str) -> dict[str, str]:
        found: dict[str, str] = PODS[pod]["metadata"]["labels"]
        return found

    assert admitted(labels("submitter"), "head", 8265, inside=True)
    assert admitted(labels("gpu-spot"), "head", 6379, inside=True)
    assert admitted(labels("head"), "gpu-on-demand", 10002, inside=True)
    assert admitted(labels("head"), "tune-bn-mlflow", 5000, inside=True)
    assert not admitted(labels("gpu-spot"), "tune-bn-mlflow", 5000, inside=True)
    assert admitted(labels("tune-bn-mlflow"), "tune-bn-postgres", 5432, inside=True)
    assert not admitted(labels("head"), "tune-bn-postgres", 5432, inside=True)
    for pod in PODS:
        for port in (5000, 5432, 6379, 8080, 8265, 44217):
            assert not admitted({"app.kubernetes.io/name": "stranger"}, pod, port, inside=True)
            # The label of another namespace's pods opens nothing here.
            assert not admitted(labels("head"), pod, port, inside=False)
