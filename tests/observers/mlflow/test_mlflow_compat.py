"""Each name that MLflow does not promise, asked of the MLflow that is installed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import mlflow.cli
import mlflow.server
import pytest

from tune_bn.errors import ServiceError
from tune_bn.observers.mlflow import compat

UPGRADE = f"MLflow {mlflow.__version__} lacks it: mend tune_bn/observers/mlflow/compat.py"


def sources() -> str:
    package = Path(mlflow.__file__).parent
    paths = [package / "environment_variables.py", *(package / "server").glob("*.py")]
    return "\n".join(path.read_text("utf-8") for path in paths)


def test_mlflow_still_reads_the_variables() -> None:
    text = sources()
    names = {*compat.VARIABLES, *compat.client_settings(retries=1, seconds=1)}
    assert [name for name in sorted(names) if f'"{name}"' not in text] == [], UPGRADE


def test_mlflows_pages_still_read_the_state_of_a_shared_view() -> None:
    (main,) = (Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js").glob("main.*.js")
    text = main.read_text(encoding="utf-8")
    assert f'"{compat.SHARED_VIEW}"' in text, UPGRADE
    assert '"viewStateShareKey"' in text, UPGRADE
    for word in (*compat.WORKFLOW, *compat.TRAINING_EXPERIMENT):
        assert f'"{word}"' in text, UPGRADE


def test_tables_can_be_made_in_an_empty_database(tmp_path: Path) -> None:
    database = tmp_path / "made.db"
    compat.make_tables(f"sqlite:///{database}")
    with closing(sqlite3.connect(database)) as opened:
        names = {row[0] for row in opened.execute("SELECT name FROM sqlite_master")}
    assert {"experiments", "runs", "alembic_version"} <= names


def test_the_machine_is_measured_as_mlflow_measures_it() -> None:
    found = dict[str, float]()
    for monitor in compat.system_monitors():
        monitor.collect_metrics()
        found |= monitor.aggregate_metrics()
        monitor.clear_metrics()
        assert not monitor.metrics, UPGRADE
    kinds = {"cpu_utilization_percentage", "system_memory_usage_percentage", "disk_usage_percentage"}
    assert kinds <= set(found), UPGRADE


def test_the_server_is_what_this_process_becomes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[list[str], dict[str, str]]] = []

    def become(command: list[str], *, extra_env: dict[str, str], **_: Any) -> None:
        seen.append((command, extra_env))
        # As `exec` does, it comes back to nobody.
        raise SystemExit(0)

    for name, value in compat.SERVER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mlflow.server, "_exec_cmd", mlflow.server._exec_cmd)
    arguments = ["server", "--backend-store-uri", f"sqlite:///{tmp_path}/a.db", "--port", "1", "--workers", "1"]
    # MLflow tells its server by the environment, which the tests after this one share.
    with mock.patch.dict(os.environ), pytest.raises(SystemExit) as ended:
        compat.serve(arguments, become)
    assert ended.value.code == 0
    assert any("uvicorn" in word for command, _ in seen for word in command), UPGRADE


def test_a_server_that_would_be_a_child_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mlflow.server, "_exec_cmd")
    line = r"^mlflow: got version \S+, which lacks mlflow\.server\._exec_cmd; accepted: that of constraints.txt$"
    with pytest.raises(ServiceError, match=line):
        compat.serve(["server"], print)
