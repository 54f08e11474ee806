"""Searches of one machine are reached by nobody else, share their mlflow.db, and leave no port behind."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tune_bn.records.log import RecordLog


@pytest.mark.system
def test_two_local_searches_listen_to_nobody_else_and_share_one_database(run_sandboxed: Callable[..., Path]) -> None:
    run = run_sandboxed("local_search.sh", tools=["ss"])
    studies = run / "home" / "studies"
    expected: Counter[tuple[str, str | None]] = Counter()
    for name in ("one", "two"):
        assert json.loads((studies / name / "verdict.json").read_text(encoding="utf-8"))["n"] == 2
        expected.update((name, record.key) for record in RecordLog(studies / name / "records.jsonl").read())
        expected[(name, None)] = 1
        said = (run / "logs" / name).read_text(encoding="utf-8")
        assert "MLflow at" not in said, "no outage, and nothing that was not delivered"

    # A second Ray finds the ports taken that are Ray's where nobody asks for others.
    listening = [line.split() for line in (run / "listening").read_text(encoding="utf-8").splitlines()]
    programs = Counter(columns[-1].split('"')[1] for columns in listening)
    assert min(programs["gcs_server"], programs["raylet"], programs["tune_bn"]) >= 2
    addresses = {columns[3].rpartition(":")[0].removeprefix("[::ffff:").rstrip("]") for columns in listening}
    assert addresses == {"127.0.0.1"}
    assert (run / "listening.after").read_text(encoding="utf-8") == ""

    with closing(sqlite3.connect(studies / "mlflow.db")) as database:
        query = (
            "SELECT (SELECT value FROM tags WHERE run_uuid = runs.run_uuid AND key = 'study'), "
            "(SELECT value FROM tags WHERE run_uuid = runs.run_uuid AND key = 'run_key'), status FROM runs"
        )
        rows = database.execute(query).fetchall()
    assert Counter((study, key) for study, key, _ in rows) == expected
    assert {status for *_, status in rows} == {"FINISHED"}
