"""cluster/kuberay.yaml, checked offline: Kubernetes' own kinds against its schemas, and what the file promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FILE = REPOSITORY / "cluster" / "kuberay.yaml"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text(encoding="utf-8")))
CORE = [document for document in DOCUMENTS if not document["apiVersion"].startswith("ray.io/")]
KUBERNETES = "1.30"


def _one(kind: str) -> dict[str, Any]:
    (document,) = [document for document in DOCUMENTS if document["kind"] == kind]
    assert document["apiVersion"] == "ray.io/v1"
    spec: dict[str, Any] = document["spec"]
    return spec


CLUSTER, JOB = _one("RayCluster"), _one("RayJob")
WORKERS: list[dict[str, Any]] = CLUSTER["workerGroupSpecs"]
TEMPLATES = {
    "head": CLUSTER["headGroupSpec"]["template"],
    **{worker["groupName"]: worker["template"] for worker in WORKERS},
    "submitter": JOB["submitterPodTemplate"],
}
PODS: dict[str, dict[str, Any]] = {
    **{name: template["spec"] for name, template in TEMPLATES.items()},
    **{
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in CORE
        if document["kind"] in ("Deployment", "StatefulSet")
    },
}


@pytest.mark.parametrize("document", CORE, ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_kubernetes_accepts_it(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            document | {"spec": document["spec"] | {"no_such_key": 1}}, KUBERNETES, strict=True
        )


@pytest.mark.parametrize("name", TEMPLATES)
def test_kubernetes_accepts_the_pods_of_ray(name: str) -> None:
    document = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": TEMPLATES[name]}
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_ray_of_the_cluster_and_of_its_image_is_the_one_that_the_project_pins() -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    image = (REPOSITORY / "cluster" / "Dockerfile").read_text(encoding="utf-8")
    assert CLUSTER["rayVersion"] == pinned
    assert re.findall(r"^ARG BASE=\S+:([\d.]+)-", image, re.MULTILINE) == [pinned]


def test_gpu_workers_come_from_none_and_spot_ones_first() -> None:
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert CLUSTER["autoscalerOptions"]["version"] == "v2", "only v2 knows priorities"
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(worker["replicas"] == worker["minReplicas"] == 0 < worker["maxReplicas"] for worker in WORKERS)
    assert all(
        worker["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for worker in WORKERS
    )
    first = max(WORKERS, key=lambda worker: worker["priority"])
    assert "spot" in str(first["template"]["spec"]["nodeSelector"])


def test_ray_asks_for_a_token_and_no_secret_stands_in_the_file() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "tune-bn-ray"}
    assert "Secret" not in [document["kind"] for document in DOCUMENTS]
    comment = FILE.read_text(encoding="utf-8").partition("\n\n")[0]
    made = set(re.findall(r"kubectl create secret generic (\S+)", comment))
    used = {CLUSTER["authOptions"]["secretName"], *re.findall(r"'secretKeyRef': \{'name': '([^']+)'", str(DOCUMENTS))}
    assert made == used
    for pod in PODS.values():
        for variable in pod["containers"][0].get("env", []):
            if re.search("PASSWORD|SECRET|TOKEN", variable["name"]):
                assert set(variable) == {"name", "valueFrom"}


def test_nothing_is_reachable_that_need_not_be() -> None:
    services = [document for document in DOCUMENTS if document["kind"] == "Service"]
    assert {service["spec"]["type"] for service in services} == {"ClusterIP"}
    assert CLUSTER["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "Ingress" not in [document["kind"] for document in DOCUMENTS]
    policies = [document["spec"] for document in DOCUMENTS if document["kind"] == "NetworkPolicy"]
    (everything,) = [policy for policy in policies if policy["podSelector"] == {}]
    assert "ingress" not in everything
    for policy in policies:
        for rule in policy.get("ingress", []):
            assert rule["from"], "an empty list would admit everybody"
            assert all(peer.get("podSelector", {}).get("matchLabels") for peer in rule["from"])


@pytest.mark.parametrize("name", PODS)
def test_no_pod_may_more_than_it_must(name: str) -> None:
    pod = PODS[name]
    for container in pod["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["requests"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    if name != "head":  # its autoscaler asks Kubernetes for pods
        assert pod["automountServiceAccountToken"] is False


def test_head_and_workers_see_the_studies_at_the_same_path() -> None:
    for name in ("head", *(worker["groupName"] for worker in WORKERS)):
        pod = PODS[name]
        assert pod["volumes"] == [{"name": "studies", "persistentVolumeClaim": {"claimName": "tune-bn-studies"}}]
        assert pod["containers"][0]["volumeMounts"] == [{"name": "studies", "mountPath": "/home/ray/studies"}]
    assert JOB["clusterSelector"] == {"ray.io/cluster": "tune-bn"}
    assert "--output /home/ray/studies" in JOB["entrypoint"]
