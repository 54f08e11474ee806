import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tune_bn.errors import StudyError, TrackingError
from tune_bn.observers.mlflow.uri import (
    VARIABLE,
    NamedUri,
    check_store,
    check_tracking_uri,
    default_tracking_uri,
    for_mlflow,
    named_uri,
    shown,
    sqlite_path,
    store_uri,
)
from tune_bn.study.folder import require_writable


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
        "import sys, tune_bn.observers, tune_bn.observers.mlflow.observer as m;"
        "m.check_tracking_uri('http://127.0.0.1:1');"
        "print(sorted({'mlflow', 'ray', 'torch', 'optuna'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


NAMES = [
    "My%20Project",
    "a?b",
    "a?mode=ro",
    "a#b",
    "%",
    "%25",
    "new\nline",
    "ta\tb",
    "a b;c&d",
    "ü@h:1",
    "-x",
    "~",
    "q'\"",
]


@pytest.mark.parametrize("name", NAMES)
def test_sqlalchemy_opens_the_file_that_a_uri_was_made_for(name: str, tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    folder = tmp_path / name
    folder.mkdir()
    uri = default_tracking_uri(folder)
    assert make_url(uri).database == str(folder.resolve() / "mlflow.db")
    assert sqlite_path(uri) == folder.resolve() / "mlflow.db"
    check_tracking_uri(uri)
    assert for_mlflow(uri) == uri


def test_a_uri_of_the_user_is_for_mlflow_the_same_file_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert for_mlflow("sqlite:///runs/m.db") == f"sqlite:///{tmp_path}/runs/m.db"
    (tmp_path / "My Project").mkdir()
    check_tracking_uri("sqlite:///My%20Project/m.db")
    assert for_mlflow("sqlite:///My%20Project/m.db") == f"sqlite:///{tmp_path}/My Project/m.db"
    for other in ("http://host:5000/a%20b", "postgresql://me:p%40w@host/db", f"sqlite:///{tmp_path}/m.db?timeout=60"):
        assert for_mlflow(other) == other


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///a?b/m.db", "after its question mark stands no option of SQLite, but 'b/m.db'"),
        ("sqlite:///a?b=c/m.db", "(a ? of a path is written %3F)"),
        ("sqlite:///My%20Project/m.db", "/My Project (a % of a path is written %25)"),
        ("sqlite:///a%00b.db", "cannot be opened (embedded null byte)"),
        ("sqlite:///" + "x/" * 250 + "m.db", "bytes, and SQLite opens at most 504"),
        ("databricks", "Databricks names experiments"),
        ("databricks://profile", "Databricks names experiments"),
        ("databricks-uc", "Databricks names experiments"),
        ("./mlruns", "MLflow no longer keeps runs in plain folders"),
    ],
)
def test_what_would_lie_elsewhere_is_refused_and_says_how_it_is_written(
    uri: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My%20Project").mkdir()
    uri = uri.replace("sqlite:///", f"sqlite:///{tmp_path}/")
    with pytest.raises(TrackingError) as caught:
        check_tracking_uri(uri)
    assert reason in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["My%20Project"]


def test_the_space_names_the_store_before_the_environment_and_that_before_the_folder(tmp_path: Path) -> None:
    server, other = "http://127.0.0.1:5000", "http://elsewhere:5000"
    environment = {VARIABLE: server}
    assert store_uri(other, tmp_path, environment) == other
    assert store_uri(None, tmp_path, environment) == server
    assert named_uri(None, environment) == NamedUri(server, VARIABLE)
    for empty in ({}, {VARIABLE: ""}, {VARIABLE: " "}):
        assert named_uri(None, empty) is None
        assert store_uri(None, tmp_path, empty) == default_tracking_uri(tmp_path)


def test_a_bad_uri_of_the_environment_is_refused_by_the_name_of_its_variable() -> None:
    with pytest.raises(TrackingError) as caught:
        check_tracking_uri("file:./mlruns", VARIABLE)
    assert str(caught.value).startswith(f"{VARIABLE}: got 'file:./mlruns': MLflow no longer keeps")
    assert str(caught.value).endswith("or tracking.uri in the space file, which counts first")


@pytest.mark.parametrize("home", ["~", "~root"])
def test_a_home_that_no_shell_expanded_is_refused_unless_it_is_there(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingError, match=f"nothing makes a home of its {home} "):
        check_tracking_uri(f"sqlite:///{home}/m.db")
    with pytest.raises(
        StudyError, match=rf"--output: got '{home}/x', which no shell expanded; accepted: /.*/x, or a fol"
    ):
        require_writable(Path(home) / "x")
    (tmp_path / home).mkdir()
    check_tracking_uri(f"sqlite:///{home}/m.db")
    require_writable(Path(home) / "x")


def test_a_folder_whose_database_would_not_open_is_refused_unless_another_store_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def padded(size: int) -> Path:
        folder = tmp_path / ("x" * 200) / ("y" * 100)
        return folder / ("z" * (size - len(str(folder / "mlflow.db")) - 1))

    fits, too_long = padded(504), padded(505)
    for folder in (fits, too_long):
        folder.mkdir(parents=True)
    with closing(sqlite3.connect(fits / "mlflow.db")) as database:
        database.execute("create table a(b)")
    with pytest.raises(sqlite3.OperationalError), closing(sqlite3.connect(too_long / "mlflow.db")) as database:
        database.execute("create table a(b)")
    check_store(None, fits)
    with pytest.raises(TrackingError, match=r"^--output: .* cannot have mlflow\.db in it: its path has 505 bytes"):
        check_store(None, too_long)
    check_store("http://127.0.0.1:5000", too_long)
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:5000")
    check_store(None, too_long)


@pytest.mark.parametrize("name", ["new", "My%20Project", "a?b", "50%", "o %20?#ü;&=[a]/deeper"])
def test_a_folder_of_studies_may_be_new_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    check_store(None, tmp_path / name)


def test_a_path_that_is_not_in_utf_8_is_refused() -> None:
    with pytest.raises(StudyError, match=r"--output: got '.*/studies\\udcff', which is not in UTF-8"):
        require_writable(Path("studies\udcff"))
