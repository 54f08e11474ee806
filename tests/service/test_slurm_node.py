"""What a node of a Slurm job says where its Ray does not start."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tune_bn.errors import RunnerError
from tune_bn.runners.ray.folder import RayFolder
from tune_bn.service import slurm_node


def test_what_rays_daemons_wrote_of_an_error_is_told_where_ray_start_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = "$folder/session_2026-11-30_10-20-16_1_1/logs"
    cause = "[2026-11-30 10:20:16,730 E 12 12] (raylet) main.cc:5: the disk is full"
    script = tmp_path / "ray"
    script.write_text(
        "#!/bin/sh\nfor word; do case $word in --temp-dir=*) folder=${word#--temp-dir=} ;; esac; done\n"
        f"mkdir -p {logs}; echo '{cause}' > {logs}/raylet.out; echo all is well > {logs}/gcs_server.out\n"
        "echo 'Exception: The current node timed out' >&2; exit 1\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("RAY_TMPDIR", tempfile.mkdtemp(prefix="f", dir="/tmp"))
    node = slurm_node._Node(os.getpid())
    node.folder = RayFolder(tell=print)
    monkeypatch.setattr(node, "_wait", lambda **given: time.sleep(0.01))
    try:
        with pytest.raises(RunnerError) as raised:
            node._start(["--head"], "127.0.0.1")
    finally:
        node.folder.remove()
        os.rmdir(os.environ["RAY_TMPDIR"])
    assert str(raised.value) == (
        "`ray start` ended with 1: Exception: The current node timed out; raylet: the disk is full"
    )
