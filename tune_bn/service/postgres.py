"""A PostgreSQL of the head's own: its data in the state folder, reached over a Unix socket by its owner alone."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tune_bn.errors import ServiceError

DATABASE = "mlflow"
ADMINISTRATOR = "postgres"
"""The database's superuser; MLflow itself connects as the owner of its one database."""
SYSTEM_USER = "postgres"
LONGEST_SOCKET = 107
DEBIAN = Path("/usr/lib/postgresql")

_CONFIGURATION = """\
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 100
"""


@dataclass(frozen=True)
class Postgres:
    """Where it lies.

    Args:
        data: its data folder.
        sockets: the folder of its socket.
    """

    data: Path
    sockets: Path

    @property
    def socket(self) -> Path:
        """Its socket; the port is a part of the name and nothing else."""
        return self.sockets / ".s.PGSQL.5432"

    def uri(self, user: str = DATABASE, database: str = DATABASE) -> str:
        """The URI of a database in it, for SQLAlchemy and psycopg. It holds no password: the kernel vouches."""
        return f"postgresql://{user}@/{database}?host={quote(str(self.sockets))}"

    def prepare(self) -> None:
        """Make the data folder if there is none.

        Raises:
            ServiceError: PostgreSQL is not installed, or cannot work here.
        """
        check_socket(self.socket)
        user = run_as()
        programs = find_programs(self.data)
        for folder in (self.data.parent, self.sockets):
            folder.mkdir(mode=0o700, exist_ok=True)
            if user is not None:
                shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        if (self.data / "PG_VERSION").exists():
            return
        aside = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            _initialize(programs / "initdb", aside, user)
        except (OSError, subprocess.CalledProcessError) as error:
            said = " ".join((getattr(error, "stderr", None) or str(error)).split())[-300:]
            hint = f" and whose parents let the user {user} in" if user else ""
            raise ServiceError(
                f"--state: initdb fails in {aside.parent} ({said}); accepted: a local folder{hint}"
            ) from None
        os.replace(aside, self.data)

    def command(self) -> list[str]:
        """The server's command line, for supervisord."""
        return [str(find_programs(self.data) / "postgres"), "-D", str(self.data), "-k", str(self.sockets)]

    def wait(self) -> None:
        """Until the server takes connections and holds MLflow's database."""
        import psycopg
        from psycopg import errors

        while True:
            try:
                connection = psycopg.connect(self.uri(ADMINISTRATOR, "postgres"))
            except psycopg.OperationalError:
                # It starts, or goes through its journal after a crash; supervisord sees to it.
                time.sleep(0.2)
                continue
            try:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    with suppress(errors.DuplicateObject):
                        cursor.execute(f"CREATE ROLE {DATABASE} LOGIN")
                    with suppress(errors.DuplicateDatabase):
                        cursor.execute(f"CREATE DATABASE {DATABASE} OWNER {DATABASE}")
            finally:
                connection.close()
            return


def check_socket(path: Path) -> None:
    """Raises :class:`ServiceError` where a path is too long for a Unix socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_SOCKET:
        raise ServiceError(
            f"--state: the socket {path} has a path of {length} bytes; accepted: a folder whose sockets stay within "
            f"{LONGEST_SOCKET}"
        )


def run_as() -> str | None:
    """The system user that PostgreSQL runs as where this user is root, as whom it refuses to run; None: as this user.

    Raises:
        ServiceError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER).pw_name
    except KeyError:
        raise _not_installed(f"there is no user {SYSTEM_USER}, and PostgreSQL does not run as root") from None


def find_programs(data: Path) -> Path:
    """The folder of PostgreSQL's server programs: of the version of the data, else the newest.

    Raises:
        ServiceError: there is none, or none of that version.
    """
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(DEBIAN.glob("*/bin"), key=lambda folder: _number(folder.parent.name), reverse=True)
    folders = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if not folders:
        raise _not_installed("no initdb in PATH or /usr/lib/postgresql")
    version_file = data / "PG_VERSION"
    if not version_file.exists():
        return folders[0]
    wanted = version_file.read_text(encoding="ascii").strip()
    for folder in folders:
        if _version(folder) == wanted:
            return folder
    raise ServiceError(
        f"--state: {data} was written by PostgreSQL {wanted}, which is not installed; accepted: the package "
        f"postgresql-{wanted}, or pg_upgrade of that folder"
    )


def _initialize(initdb: Path, folder: Path, user: str | None) -> None:
    command = [str(initdb), "-D", str(folder), "-U", ADMINISTRATOR, "--auth=reject", "--encoding=UTF8", "--locale=C"]
    identity = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": ()}
    subprocess.run(command, cwd="/", umask=0o077, check=True, capture_output=True, text=True, **identity)  # type: ignore[call-overload]
    owner = pwd.getpwuid(os.geteuid()).pw_name
    system_users = dict.fromkeys([owner, user or owner])
    lines = [f"head {system_user} {role}\n" for system_user in system_users for role in (ADMINISTRATOR, DATABASE)]
    # The files exist and belong to the server's user; they are only written into.
    (folder / "pg_ident.conf").write_text("".join(lines), encoding="utf-8")
    (folder / "pg_hba.conf").write_text("local all all peer map=head\n", encoding="utf-8")
    with (folder / "postgresql.conf").open("a", encoding="utf-8") as handle:
        handle.write(_CONFIGURATION)


def _version(folder: Path) -> str:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return found[1] if found else ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _not_installed(reason: str) -> ServiceError:
    return ServiceError(
        f"PostgreSQL is not installed ({reason}); accepted: Debian's package postgresql, or --store with the URI of a "
        "database that is there"
    )
