"""What a node of a Slurm job says where its Ray does not start."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune_bn.errors import RunnerError
from tune_bn.runners.ray.folder import RayFolder
from tune_bn.service import slurm_node


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[slurm_node._Node]:
    """One whose folder is there, and to which nobody talks."""
    place = tempfile.mkdtemp(prefix="f", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", place)
    made = slurm_node._Node(os.getpid())
    made.folder = RayFolder(tell=print)
    monkeypatch.setattr(made, "_wait", lambda **given: time.sleep(0.01))
    # The children of this process are pytest's own too.
    monkeypatch.setattr(made, "_kill_all_below", lambda: None)
    yield made
    made.folder.remove()
    os.rmdir(place)


def ray_that(does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of Python a shell script; ``$folder`` is Ray's."""
    script = tmp_path / "ray"
    find = "for word; do case $word in --temp-dir=*) folder=${word#--temp-dir=} ;; esac; done"
    script.write_text(f"#!/bin/sh\n{find}\n{does}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_what_rays_daemons_wrote_of_an_error_is_told_where_ray_start_fails(
    node: slurm_node._Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = "$folder/session_2026-11-30_10-20-16_1_1/logs"
    cause = "[2026-11-30 10:20:16,730 E 12 12] (raylet) main.cc:5: the disk is full"
    does = f"mkdir -p {logs}; echo '{cause}' > {logs}/raylet.out; echo all is well > {logs}/gcs_server.out"
    ray_that(f"{does}; echo 'Exception: no node' >&2; exit 1", tmp_path, monkeypatch)
    with pytest.raises(RunnerError) as raised:
        node._start(["--head"], "127.0.0.1")
    assert str(raised.value) == "`ray start` ended with 1: Exception: no node; raylet: the disk is full"


@pytest.mark.parametrize("times", [1, 2])
def test_a_node_that_is_too_busy_to_start_ray_in_time_tries_once_more(
    times: int, node: slurm_node._Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node.folder is not None
    told: list[dict[str, str]] = []
    monkeypatch.setattr(slurm_node, "_tell", lambda **content: told.append(content))
    count = f"echo >> {tmp_path}/count; test -e $folder/session && echo left >> {tmp_path}/count; touch $folder/session"
    late = f"test $(wc -l < {tmp_path}/count) -gt {times}"
    ray_that(f"{count}; {late} || {{ echo 'Exception: The node timed out' >&2; exit 1; }}", tmp_path, monkeypatch)
    if times == 1:
        node._start(["--head"], "127.0.0.1")
    else:
        with pytest.raises(RunnerError, match="timed out"):
            node._start(["--head"], "127.0.0.1")
    assert told == [{"remark": "`ray start` ended with 1: Exception: The node timed out; it is tried once more"}]
    assert "left" not in (tmp_path / "count").read_text()
