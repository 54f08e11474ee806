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
from mlflow import MlflowClient

from tune_bn.records import RecordLog

SEARCH = Path(__file__).parents[2] / "cluster" / "search.py"


@pytest.mark.system
def test_ray_submit_runs_a_search_on_the_head_and_ray_down_ends_the_cluster(
    run_sandboxed: Callable[..., Path],
) -> None:
    run = run_sandboxed(
        "ray_submit.sh",
        tools=["sshd", "ssh", "ssh-keygen", "rsync", "ps", "pgrep"],
        SCRIPT=str(SEARCH),
        NAME=f"loopback-{os.getpid()}",
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

    assert sorted(path.name for path in studies.iterdir() if path.is_dir() and (path / "space.yaml").exists()) == [
        "cut",
        "over-ssh",
    ]
    assert RecordLog(studies / "cut" / "records.jsonl").read(), "what finished before the connection was lost is kept"
    statuses = _statuses(studies / "mlflow.db", "cut")
    assert statuses["KILLED"] >= 1
    assert statuses["RUNNING"] == 0, "a lost connection ends the search as Ctrl-C does"

    left = set((run / "processes").read_text(encoding="utf-8").split())
    assert "sshd" in left
    assert not left & {"raylet", "gcs_server"}


def _statuses(store: Path, study: str) -> Counter[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    parents = {run.info.run_id for run in runs if run.info.run_name == study}
    family = [run for run in runs if run.info.run_id in parents or run.data.tags.get("mlflow.parentRunId") in parents]
    return Counter(run.info.status for run in family)
