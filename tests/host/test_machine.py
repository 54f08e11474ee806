"""What of a machine a process may use: masks, quotas of control groups, Slurm, and a word of the user."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tune_bn.errors import RunnerError
from tune_bn.host.machine import cuda_devices, usable_cores


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def files(root: Path, content: Mapping[str, str]) -> Path:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


QUOTAS = {
    "docker --cpus=2, version 2, seen from inside": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2,
    ),
    "a part of a core more": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
    "less than one core": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
    "the limit of a group above": (
        {
            "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n",
            "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/cpu.max": "800000 100000",
            "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/cpu.max": "max 100000",
            "sys/fs/cgroup/system.slice/cpu.max": "max 100000",
        },
        8,
    ),
    "the least of several": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "400000 100000",
            "sys/fs/cgroup/a/b/cpu.max": "1600000 100000",
        },
        4,
    ),
    "version 1, the path of the host not to be seen": (
        {
            "proc/self/cgroup": "12:memory:/docker/0af\n4:cpu,cpuacct:/docker/0af\n1:name=systemd:/docker/0af\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
        },
        3,
    ),
    "version 1, under another name": (
        {
            "proc/self/cgroup": "3:cpuacct,cpu:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "700000",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
        },
        7,
    ),
    "version 1 without a limit": (
        {
            "proc/self/cgroup": "3:cpu:/\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
        64,
    ),
    "nothing that makes sense": ({"proc/self/cgroup": "x\n0::/..\n::\n", "sys/fs/cgroup/cpu.max": "1 0"}, 64),
    "no such files": ({}, 64),
}


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize("name", QUOTAS)
def test_a_quota_limits_the_cores(name: str, tmp_path: Path) -> None:
    content, cores = QUOTAS[name]
    assert usable_cores(files(tmp_path, content), {}) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_an_affinity_mask_limits_the_cores(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path, {}) == 1
        assert usable_cores(tmp_path, {"TUNE_BN_CORES": "3"}) == 3
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cores(tmp_path, {}) == len(before)


@pytest.mark.usefixtures("many_cores")
def test_slurm_says_what_a_job_has_where_it_sets_no_mask(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, {"SLURM_CPUS_ON_NODE": "4"}) == 4
    assert usable_cores(tmp_path, {"SLURM_CPUS_ON_NODE": "128"}) == 64
    assert usable_cores(tmp_path, {"SLURM_CPUS_ON_NODE": "many"}) == 64


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1e3", "²", "9999999"])
def test_a_bad_number_of_cores_is_refused_by_the_name_of_its_variable(value: str) -> None:
    with pytest.raises(RunnerError, match=rf"^TUNE_BN_CORES: got '{value}'; accepted: a whole number"):
        usable_cores(environment={"TUNE_BN_CORES": value})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("", ""),
        ("-1", ""),
        ("NoDevFiles", ""),
        ("none", ""),
        ("0,1", "0,1"),
        (" 2 , 3", "2,3"),
        ("1,-1,0", "1"),
        ("GPU-8932f937-d72c-4106,MIG-GPU-9a/1/0", "GPU-8932f937-d72c-4106,MIG-GPU-9a/1/0"),
    ],
)
def test_devices_are_those_that_cuda_reads(given: str, read: str) -> None:
    assert cuda_devices(given) == read
