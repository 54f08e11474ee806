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

from tune_bn.records.log import RecordLog

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
        tools=["sshd", "ssh", "ssh-keygen", "rsync", "ps", "pgrep", "setpriv", "ss"],
        SCRIPT=str(REPOSITORY / "cluster" / "search.py"),
        CLUSTER=str(cluster),
        NAME=name,
        EXAMPLE=str(REPOSITORY / "examples" / "no_torch"),
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

    own = json.loads((studies / "own" / "verdict.json").read_text(encoding="utf-8"))
    assert own["verdict"] in ("supported", "not_supported")
    assert own["seeds"] == [1, 2, 3]
    assert "WRONG" not in (run / "logs" / "check").read_text(encoding="utf-8")
    assert f"verdict: {own['verdict']}" in (run / "logs" / "own").read_text(encoding="utf-8")

    refused = (run / "logs" / "refused").read_text(encoding="utf-8")
    assert int((run / "refused.status").read_text()) != 0
    assert re.search(r"^error: --space: .*no such space\.yaml", refused, re.MULTILINE)
    assert "Traceback" not in refused

    status = (run / "logs" / "status").read_text(encoding="utf-8")
    assert re.search(r"^over-ssh +finished", status, re.MULTILINE)
    assert re.search(r"^MLflow: http://127\.0\.0\.1:5000 answers", status, re.MULTILINE)
    assert space["tracking"]["uri"] == "http://127.0.0.1:5000", "the head's own server"

    # The head's own page, with the way to it; and, where it does not run, how it is started.
    assert re.search(r"^the head's own server has its page at the address below", status, re.MULTILINE)
    assert re.search(r"^user admin, password in /run/state/head/secrets/mlflow_admin_password", status, re.MULTILINE)
    stopped = (run / "logs" / "ui-stopped").read_text(encoding="utf-8")
    assert re.search(r"^error: --output: studies has no mlflow\.db, and .* tune_bn head start", stopped, re.MULTILINE)

    # This machine has an address of a network besides; a listener there that is not sshd's is one too many.
    listening = [line.split() for line in (run / "listening").read_text(encoding="utf-8").splitlines()]
    addresses = {columns[3]: columns[-1].split('"')[1] for columns in listening}
    assert {"gcs_server", "raylet"} <= set(addresses.values())
    assert any(name.startswith("ray::") for name in addresses.values()), "the workers' too"
    assert {address.rpartition(":")[0].removeprefix("[::ffff:").rstrip("]") for address in addresses} == {"127.0.0.1"}
    assert {"6379", "8076", "8265", "10001", "52365", "5000"} <= {a.rpartition(":")[2] for a in addresses}
    assert int((run / "taken.status").read_text()) != 0
    taken = (run / "logs" / "taken").read_text(encoding="utf-8")
    assert re.search(
        r"^error: PORT: 6379 is taken by gcs_server \(process \d+, user root\); 10001 is", taken, re.MULTILINE
    )

    left = set((run / "processes").read_text(encoding="utf-8").split())
    assert "sshd" in left
    assert not left & {"raylet", "gcs_server"}
