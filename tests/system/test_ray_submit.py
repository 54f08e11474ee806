"""The way to a cluster, over a real ssh connection: ``ray up``, ``ray submit``, ``ray down``."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tune_bn.records import RecordLog

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.system
def test_ray_submit_runs_a_search_on_the_head_and_ray_down_ends_the_cluster(
    run_sandboxed: Callable[..., Path], tmp_path: Path
) -> None:
    name = f"loopback-{os.getpid()}"
    content = yaml.safe_load((REPOSITORY / "cluster" / "onprem-loopback.yaml").read_text(encoding="utf-8"))
    content |= {"cluster_name": name, "auth": {"ssh_user": "root", "ssh_private_key": "/run/ssh/user_key"}}
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(yaml.safe_dump(content), encoding="utf-8")
    run = run_sandboxed(
        "ray_submit.sh",
        tools=["sshd", "ssh", "ssh-keygen", "rsync", "ps", "setpriv"],
        SCRIPT=str(REPOSITORY / "cluster" / "search.py"),
        CLUSTER=str(cluster),
        NAME=name,
    )
    studies = run / "home" / "studies"

    verdict = json.loads((studies / "over-ssh" / "verdict.json").read_text(encoding="utf-8"))
    space = yaml.safe_load((studies / "over-ssh" / "space.yaml").read_text(encoding="utf-8"))
    records = RecordLog(studies / "over-ssh" / "records.jsonl").read()
    assert verdict["verdict"] in ("supported", "not_supported")
    assert verdict["seeds"] == [1, 2], "an argument with braces and spaces must arrive as one"
    assert space["seeds"]["select"] == [201]
    assert space["train"]["epochs"] == 3
    assert Counter(record.stage for record in records) == {"search": 3, "select": 1, "confirm": 4}
    log = (run / "logs" / "search").read_text(encoding="utf-8")
    assert f"verdict: {verdict['verdict']}" in log, "the one who submits reads the verdict"

    refused = (run / "logs" / "refused").read_text(encoding="utf-8")
    assert int((run / "refused.status").read_text()) != 0
    assert re.search(r"^error: --space: .*no such space\.yaml", refused, re.MULTILINE)
    assert "Traceback" not in refused

    status = (run / "logs" / "status").read_text(encoding="utf-8")
    assert re.search(r"^over-ssh +finished", status, re.MULTILINE)
    assert re.search(r"^MLflow: http://127\.0\.0\.1:5000 answers", status, re.MULTILINE)
    assert space["tracking"]["uri"] == "http://127.0.0.1:5000", "the head's own server"

    left = set((run / "processes").read_text(encoding="utf-8").split())
    assert "sshd" in left
    assert not left & {"raylet", "gcs_server"}
