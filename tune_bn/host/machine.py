"""What of this machine the process may use: batch systems, containers and ``taskset`` grant less than there is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from tune_bn.errors import RunnerError

CORES_VARIABLE = "TUNE_BN_CORES"
_MOST_CORES = 100_000


def usable_cores(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """CPU cores that this process may use, at least 1.

    As ``$TUNE_BN_CORES`` says; else the least of the cores that its affinity mask has (``taskset``, cpusets of Slurm
    and of containers), of the CPU quota of its control groups (``docker --cpus``, Kubernetes limits; a part of a core
    does not count), and of what Slurm gave the job on this node.

    Args:
        root: where the file system of ``/proc`` and ``/sys`` begins.
        environment: the environment variables.

    Raises:
        RunnerError: the variable is no whole number of cores.
    """
    given = environment.get(CORES_VARIABLE, "")
    if given.strip():
        if given.isascii() and given.isdigit() and 0 < int(given) <= _MOST_CORES:
            return int(given)
        raise RunnerError(f"{CORES_VARIABLE}: got {given!r}; accepted: a whole number of CPU cores, 1 or more")
    try:
        found = [float(len(os.sched_getaffinity(0)))]
    except (AttributeError, OSError):
        found = [float(os.cpu_count() or 1)]
    found += _quotas(root)
    slurm = environment.get("SLURM_CPUS_ON_NODE", "")
    if slurm.isascii() and slurm.isdigit():
        found.append(float(slurm))
    return max(1, math.floor(min(found) + 1e-6))


def _quotas(root: Path) -> Iterator[float]:
    """CPU time per time that each control group above this process grants, where it grants a limited one."""
    mounts = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        kinds = controllers.split(",")
        if not controllers:
            folder, quota = mounts, _quota_of_version_2
            if (mounts / "unified").is_dir():
                folder = mounts / "unified"
        elif "cpu" in kinds:
            folder, quota = mounts / controllers, _quota_of_version_1
            if not folder.is_dir():
                folder = mounts / "cpu"
        else:
            continue
        # Inside of a container the path may be that of the host, which is not to be seen: then the root is our group.
        inner = PurePosixPath(path.lstrip("/") or ".")
        for part in (inner, *inner.parents):
            with suppress(ValueError, ZeroDivisionError):
                if (found := quota(folder / part)) > 0:
                    yield found


def _quota_of_version_2(folder: Path) -> float:
    quota, period = _text(folder / "cpu.max").split()
    return float(quota) / float(period)  # "max" is no number


def _quota_of_version_1(folder: Path) -> float:
    return float(_text(folder / "cpu.cfs_quota_us")) / float(_text(folder / "cpu.cfs_period_us"))  # -1: none


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cuda_devices(given: str) -> str:
    """A value of ``$CUDA_VISIBLE_DEVICES`` as CUDA reads it, without what follows the first entry that is no device.

    So ``-1``, which many write for no GPU, becomes empty; Ray would count it. Names of GPUs (``GPU-…``) and of their
    parts (``MIG-…``) are devices.
    """
    found = []
    for entry in map(str.strip, given.split(",")):
        if not (entry.isascii() and entry.isdigit()) and not entry.upper().startswith(("GPU-", "MIG-")):
            break
        found.append(entry)
    return ",".join(found)
