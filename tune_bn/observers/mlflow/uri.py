"""Which store tracks the runs, and which tracking URIs are accepted: decided without MLflow or a server."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tune_bn.errors import TrackingError

ACCEPTED = "sqlite:///PATH, postgresql://…, mysql://…, mssql://…, http://HOST:PORT or https://HOST"

_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")
_SQLITE_MAGIC = b"SQLite format 3\0"
_LONGEST_SQLITE = 504
"""Bytes of a path that SQLite opens: 512, of which it keeps eight for the names of its journals."""
_SQLITE_OPTIONS = {"cache", "immutable", "mode", "nolock", "psow", "timeout", "uri", "vfs"}

KEY, VARIABLE = "tracking.uri", "MLFLOW_TRACKING_URI"
"""Who may name the store, the first one first."""


@dataclass(frozen=True)
class NamedUri:
    """A tracking URI, and where it was named: a key, an environment variable or an option."""

    uri: str
    place: str


def named_uri(given: str | None, environment: Mapping[str, str] = os.environ) -> NamedUri | None:
    """The URI of the space file, else that of the environment; None: SQLite beside the studies."""
    if given is not None:
        return NamedUri(given, KEY)
    # Empty counts as unset, as it does for MLflow.
    uri = environment.get(VARIABLE, "")
    return NamedUri(uri, VARIABLE) if uri.strip() else None


def store_uri(given: str | None, output: Path, environment: Mapping[str, str] = os.environ) -> str:
    """The URI of the store that tracks the studies in ``output``, as it can be handed to MLflow."""
    named = named_uri(given, environment)
    return default_tracking_uri(output) if named is None else for_mlflow(named.uri)


def check_store(given: str | None, studies_dir: Path) -> None:
    """Refuse a store that cannot be opened, also that beside the studies.

    Raises:
        TrackingError: see :func:`check_tracking_uri`.
    """
    if (named := named_uri(given)) is not None:
        check_tracking_uri(named.uri, named.place)
        return
    if reason := _against_sqlite(default_tracking_uri(studies_dir), folder_comes=True):
        raise TrackingError(
            f"--output: {studies_dir} cannot have mlflow.db in it: {reason}; accepted: another folder, or {KEY} or "
            f"{VARIABLE}, which names another store"
        )


def default_tracking_uri(studies_dir: Path) -> str:
    """SQLite beside the studies, by its absolute path."""
    return sqlite_uri((studies_dir / "mlflow.db").resolve())


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file, whatever characters its path has.

    SQLAlchemy decodes the path and cuts it at a question mark. MLflow makes the folder of a ``sqlite:///`` URI as it
    reads before it is decoded, which would leave a second one behind; a URI that names the driver too is left alone.
    """
    quoted = re.sub(r"[%?#\x00-\x1f\x7f]", lambda found: quote(found[0], safe=""), str(path))
    return f"sqlite{'+pysqlite' if '%' in quoted else ''}:///{quoted}"


def for_mlflow(uri: str) -> str:
    """A URI of the user's as MLflow takes it from any folder: an SQLite file by its absolute path."""
    path = sqlite_path(uri)
    return uri if path is None or "?" in uri else sqlite_uri(path.absolute())


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite URI, decoded as SQLAlchemy does; None where it names none."""
    head, colon, rest = uri.partition(":")
    location = rest.partition("?")[0]
    if head.partition("+")[0] != "sqlite" or not colon or not location.startswith("///"):
        return None
    return None if location in ("///", "///:memory:") else Path(unquote(location.removeprefix("///")))


def is_server(uri: str) -> bool:
    """True where a tracking server answers, so that it, not this process, decides where artifacts lie."""
    return urlsplit(uri).scheme in _SERVERS


def shown(uri: str) -> str:
    """The URI as it may be printed: without a password."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        # What cannot be split cannot be cleared of a password either.
        return uri.partition("//")[0]
    if parts.password is None:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.split(':', 1)[0]}:***@{host}").geturl()


def check_tracking_uri(uri: str, place: str = KEY) -> None:
    """Refuse what MLflow would not take. The server behind the URI need not be up.

    Args:
        uri: the URI.
        place: where it was named, for the message.

    Raises:
        TrackingError: the scheme is unknown, the address is incomplete, the file is no SQLite database, or the driver
            of the database is not installed.
    """
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
        reason = _reason_against(uri, parts.scheme, host)
    except ValueError as error:
        reason = str(error)
    if reason:
        # Other programs may need the variable as it is.
        instead = f", or {KEY} in the space file, which counts first" if place == VARIABLE else ""
        raise TrackingError(f"{place}: got {shown(uri)!r}: {reason}; accepted: {ACCEPTED}{instead}")


def _reason_against(uri: str, full_scheme: str, host: str | None) -> str:
    scheme, _, driver = full_scheme.partition("+")
    if scheme in _SERVERS and not driver:
        return "" if host else "it names no host"
    if scheme == "sqlite":
        return _against_sqlite(uri)
    if scheme in _DATABASES:
        return _against_driver(uri)
    if scheme == "databricks" or uri in ("databricks", "databricks-uc", "uc"):
        return "Databricks names experiments by paths of a workspace, which tune_bn does not make"
    if scheme in ("", "file"):
        return "MLflow no longer keeps runs in plain folders"
    stores = {point.name for point in entry_points(group="mlflow.tracking_store")}
    return "" if full_scheme in stores else f"MLflow has no store for {full_scheme}:"


def _against_sqlite(uri: str, *, folder_comes: bool = False) -> str:
    """Why a file cannot be the store, if so; ``folder_comes``: whoever asks makes its folder before MLflow opens it."""
    path = sqlite_path(uri)
    if path is None:
        return "it names no file (three slashes before a relative path, four before an absolute one)"
    if (size := len(os.fsencode(path.absolute()))) > _LONGEST_SQLITE:
        return f"its path has {size} bytes, and SQLite opens at most {_LONGEST_SQLITE}"
    if os.path.expanduser(path) != str(path) and not Path(path.parts[0]).exists():
        return f"nothing makes a home of its {path.parts[0]} (an absolute path begins with four slashes)"
    options = uri.partition("?")[2]
    known = {key for key, _ in parse_qsl(options)}
    if "?" in uri and not (known and known <= _SQLITE_OPTIONS):
        return f"after its question mark stands no option of SQLite, but {options!r} (a ? of a path is written %3F)"
    if "uri=true" in options:
        return ""
    try:
        with path.open("rb") as handle:
            start = handle.read(len(_SQLITE_MAGIC))
    except FileNotFoundError:
        # MLflow makes the folder, but by its name before it is decoded.
        if "%" in uri and not folder_comes and not path.parent.exists():
            return f"there is no folder {path.parent} (a % of a path is written %25)"
        return ""
    except (OSError, ValueError) as error:
        return f"{path} cannot be opened ({getattr(error, 'strerror', None) or error})"
    return f"{path} is not an SQLite database" if start and start != _SQLITE_MAGIC else ""


def _against_driver(uri: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        return f"its database driver is not installed ({error})"
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        return str(error)
    return ""
