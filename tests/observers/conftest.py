"""What tests of observers share: a database with MLflow's tables, a study that is followed into it, and screens.

MLflow is loaded where it is asked for: that takes seconds, and most tests here need none of it.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.observers.screens import Screen


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: the migrations take seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def study(tmp_path: Path, fresh_database: Path) -> Any:
    """Of :mod:`tests.observers.mlflow.followed_studies`."""
    from tests.observers.mlflow.followed_studies import Study

    shutil.copy(fresh_database, tmp_path / "mlflow.db")
    return Study(tmp_path / "first", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def pipe() -> Screen:
    return Screen(terminal=False)


@pytest.fixture
def terminal() -> Screen:
    return Screen(terminal=True)
