"""Kubernetes' Pod Security Standard "restricted", its own rules and those of "baseline" below it.

Source: kubernetes.io/docs/concepts/security/pod-security-standards, read for Kubernetes 1.36. Rules of Windows pods are
left out: a pod without ``os`` is held to Linux's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = {"RuntimeDefault", "Localhost"}


def faults(pod: dict[str, Any]) -> list[str]:
    """What an API server that enforces the standard refuses in the ``spec`` of a pod."""
    return [*_of_the_pod(pod), *(fault for container in _containers(pod) for fault in _of_a_container(container, pod))]


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for key in ("containers", "initContainers", "ephemeralContainers") for entry in pod.get(key, ())]


def _of_the_pod(pod: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key}: true" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    for volume in pod.get("volumes", ()):
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volumes: {kind}"
    for setting in pod.get("securityContext", {}).get("sysctls", ()):
        yield f"sysctls: {setting['name']}"


def _of_a_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    name, own, shared = container["name"], container.get("securityContext", {}), pod.get("securityContext", {})
    both = {**shared, **own}
    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation"
    if "ALL" not in own.get("capabilities", {}).get("drop", ()):
        yield f"{name}: capabilities.drop"
    if set(own.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities.add"
    if both.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot"
    if both.get("runAsUser") == 0:
        yield f"{name}: runAsUser"
    if both.get("seccompProfile", {}).get("type") not in SECCOMP:
        yield f"{name}: seccompProfile"
    if both.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in SECCOMP:
        yield f"{name}: appArmorProfile"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield f"{name}: hostPort"
    probes = [container.get(key, {}) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = container.get("lifecycle", {}).values()
    if any(action.get("host") for asked in [*probes, *hooks] for action in asked.values() if isinstance(action, dict)):
        yield f"{name}: host of a probe or hook"
