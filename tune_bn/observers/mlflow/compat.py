"""The one place for what MLflow does not promise: private names, and variables that are not in its documentation.

``tests/observers/mlflow/test_mlflow_compat.py`` asks for each by its name. Importing this module loads no MLflow.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tune_bn.errors import ServiceError, own_fault

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""For a client: nobody is told how it is used, and standard output stays the verb's."""

# Its job service would start a pool of processes that nothing here uses.
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""For a server."""

FILE_STORE_VARIABLE = "MLFLOW_ALLOW_FILE_STORE"
"""A folder of files as a store is refused where this is not set."""

STORE_VARIABLE, HOSTS_VARIABLE = "MLFLOW_BACKEND_STORE_URI", "MLFLOW_SERVER_ALLOWED_HOSTS"
"""The store of a server, and the names by which it lets itself be asked for."""

PASSPHRASE_VARIABLE = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
"""What a server encrypts its users' keys with."""

SHARED_VIEW = "mlflow.sharedViewState."
"""Tag of an experiment whose rest is the ``viewStateShareKey`` of an address: which runs and columns its page shows."""

WORKFLOW = ("workflowType", "machine_learning")
"""Of an address: MLflow's pages are those for training, and not those for language models, on which it opens."""

TRAINING_EXPERIMENT = ("mlflow.experimentKind", "custom_model_development")
"""Tag of an experiment that its list opens on those pages."""

LOGGERS = ("mlflow", "alembic", "urllib3.connectionpool")
"""Who speaks where a client is used."""

VARIABLES = (*QUIET, *SERVER, FILE_STORE_VARIABLE, STORE_VARIABLE, HOSTS_VARIABLE, PASSPHRASE_VARIABLE)


def hush(level: int) -> None:
    """Let its loggers say what is of this level or above alone."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(level)


def client_settings(*, retries: int, seconds: int) -> dict[str, str]:
    """Environment of a client that asks a silent server ``1 + retries`` times, for ``seconds`` each."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    return QUIET | patience


def apply(settings: Mapping[str, str]) -> None:
    """Set variables that the user has not set."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def experiment_of(database: Path, study_id: str) -> tuple[str, bool] | None:
    """The experiment that has a study's runs, and whether it has the study's :data:`SHARED_VIEW`; None: none has.

    Asked of the file itself: to load MLflow and open the store takes seconds.

    Args:
        database: a store of SQLite; one that cannot be read has no study.
        study_id: a tag of the study's runs.
    """
    found = (
        "SELECT runs.experiment_id, EXISTS (SELECT 1 FROM experiment_tags AS shared WHERE shared.key = ? "
        "AND shared.experiment_id = runs.experiment_id) FROM tags JOIN runs ON runs.run_uuid = tags.run_uuid "
        "WHERE tags.key = 'study_id' AND tags.value = ? AND runs.lifecycle_stage = 'active' LIMIT 1"
    )
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as store:
            row = store.execute(found, (SHARED_VIEW + study_id, study_id)).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else (str(row[0]), bool(row[1]))


def make_tables(uri: str) -> None:
    """MLflow's tables in the empty database at ``uri``; the connection is closed."""
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine(uri)
    try:
        utils._initialize_tables(engine)
    finally:
        engine.dispose()


def system_monitors() -> list[Any]:
    """What measures this machine for MLflow, as its ``SystemMetricsMonitor`` has it, which logs into one run alone.

    Each has ``collect_metrics``, ``aggregate_metrics`` and ``clear_metrics``. Graphics cards are left out where they
    cannot be measured.
    """
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    # ImportError without pynvml, RuntimeError without a card, and NVML's own.
    except Exception as error:
        if own_fault(error) is not None and not isinstance(error, ImportError):
            raise
    return monitors


def serve(arguments: list[str], become: Callable[..., Any]) -> None:
    """``mlflow ARGUMENTS``, where the server that it would start as a child is given to ``become`` instead.

    Args:
        arguments: of the command line, ``server`` first.
        become: takes the command, and by keyword ``extra_env``.

    Raises:
        ServiceError: this MLflow starts its server in another way.
    """
    import mlflow
    import mlflow.server
    from mlflow.cli import cli

    if not callable(getattr(mlflow.server, "_exec_cmd", None)):
        # Setting a name that nothing reads would start the server as a child, which outlives a parent that is killed.
        raise ServiceError(
            f"mlflow: got version {mlflow.__version__}, which lacks mlflow.server._exec_cmd; accepted: that of "
            "constraints.txt"
        )
    mlflow.server._exec_cmd = become
    cli(arguments)
