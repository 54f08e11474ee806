"""Which tracking URIs are accepted, decided before anything starts and without MLflow or a server."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tune_bn.errors import TrackingError

ACCEPTED = "sqlite:///PATH, postgresql://…, mysql://…, mssql://…, http://HOST:PORT or https://HOST"

_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")
_SQLITE_MAGIC = b"SQLite format 3\0"


def default_tracking_uri(studies_dir: Path) -> str:
    """SQLite beside the studies, by its absolute path."""
    return f"sqlite:///{(studies_dir / 'mlflow.db').resolve()}"


def is_server(uri: str) -> bool:
    """True where a tracking server answers, so that it, not this process, decides where artifacts lie."""
    return urlsplit(uri).scheme in _SERVERS


def shown(uri: str) -> str:
    """The URI as it may be printed: without a password."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.split(':', 1)[0]}:***@{host}").geturl()


def check_tracking_uri(uri: str) -> None:
    """Refuse what MLflow would not take. The server behind the URI need not be up.

    Raises:
        TrackingError: the scheme is unknown, the address is incomplete, the file is no SQLite database, or the driver
            of the database is not installed.
    """
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _refused(uri, str(error)) from None
    scheme, _, driver = parts.scheme.partition("+")
    if scheme in _SERVERS and not driver:
        if not host:
            raise _refused(uri, "it names no host")
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in _DATABASES:
        _check_driver(uri)
    elif parts.scheme in ("", "file"):
        raise _refused(uri, "MLflow no longer keeps runs in plain folders")
    elif parts.scheme not in {point.name for point in entry_points(group="mlflow.tracking_store")}:
        raise _refused(uri, f"MLflow has no store for {parts.scheme}:")


def _refused(uri: str, reason: str) -> TrackingError:
    return TrackingError(f"tracking.uri: got {_printable(uri)!r}: {reason}; accepted: {ACCEPTED}")


def _printable(uri: str) -> str:
    try:
        return shown(uri)
    except ValueError:
        # What cannot be split cannot be cleared of a password either.
        return uri.partition("//")[0]


def _check_sqlite(uri: str) -> None:
    location = uri.partition("?")[0].partition(":")[2]
    if not location.startswith("///") or location in ("///", "///:memory:"):
        raise _refused(uri, "it names no file (three slashes before a relative path, four before an absolute one)")
    path = Path(unquote(location.removeprefix("///")))
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_SQLITE_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(uri, f"{path} cannot be opened ({error.strerror})") from None
    if start and start != _SQLITE_MAGIC:
        raise _refused(uri, f"{path} is not an SQLite database")


def _check_driver(uri: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        raise _refused(uri, f"its database driver is not installed ({error})") from None
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise _refused(uri, str(error)) from None
