import subprocess
import sys
from pathlib import Path

import pytest

from tune_bn.errors import TrackingError
from tune_bn.tracking.mlflow_uri import check_tracking_uri, default_tracking_uri, shown


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "mlruns",
        "file:///tmp/mlruns",
        "ftp://host/x",
        "htp://localhost:5000",
        "http://",
        "http://host:port",
        "http://[::1",
        "sqlite:mlflow.db",
        "sqlite://mlflow.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql+nosuchdriver://host/db",
        "postgresql://host:port/db",
    ],
)
def test_a_uri_that_mlflow_does_not_take_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(TrackingError) as caught:
        check_tracking_uri(uri)
    message = str(caught.value)
    assert message.startswith("tracking.uri: got ")
    assert "accepted: sqlite:///PATH" in message
    assert "\n" not in message


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "https://user:secret@mlflow.example/base", "sqlite:///new/m.db"])
def test_a_good_uri_is_accepted_although_nothing_is_there_yet(uri: str) -> None:
    check_tracking_uri(uri)


def test_a_file_that_is_no_database_is_refused_before_anything_is_written_to_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("not a database at all")
    with pytest.raises(TrackingError, match="not an SQLite database"):
        check_tracking_uri(f"sqlite:///{path}")
    with pytest.raises(TrackingError, match="cannot be opened"):
        check_tracking_uri(f"sqlite:///{tmp_path}")
    assert path.read_text() == "not a database at all"


def test_the_default_uri_is_absolute_and_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = default_tracking_uri(Path("studies"))
    assert uri == f"sqlite:///{tmp_path.resolve()}/studies/mlflow.db"
    check_tracking_uri(uri)


def test_passwords_are_never_shown() -> None:
    assert shown("postgresql://me:secret@host:5432/db") == "postgresql://me:***@host:5432/db"
    with pytest.raises(TrackingError) as caught:
        check_tracking_uri("ftp://me:secret@host/x")
    assert "secret" not in str(caught.value)
    with pytest.raises(TrackingError) as caught:
        check_tracking_uri("http://me:secret@[host/x")
    assert "secret" not in str(caught.value)


def test_neither_the_package_nor_the_check_loads_mlflow() -> None:
    script = (
        "import sys, tune_bn.tracking, tune_bn.tracking.mlflow_observer as m;"
        "m.check_tracking_uri('http://127.0.0.1:1');"
        "print(sorted({'mlflow', 'ray', 'torch', 'optuna'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
