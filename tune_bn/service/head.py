"""The services of a cluster's head: MLflow behind a password, its database, and the secrets of both and of Ray."""

from __future__ import annotations

import base64
import getpass
import ipaddress
import json
import os
import secrets
import socket
import stat
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from tune_bn.errors import ServiceError
from tune_bn.host.ports import address_of, foreign, free_port, problem
from tune_bn.observers.mlflow.uri import check_tracking_uri, shown
from tune_bn.service.postgres import Postgres, check_socket, run_as
from tune_bn.service.secret_files import ensure_ray_token, read_or_make, write_mlflow_credentials, write_private
from tune_bn.service.supervision import Program, Supervisor

ADMINISTRATOR = "admin"
STATE_VARIABLE = "TUNE_BN_HEAD_STATE"
SYSTEM_STATE = Path("/var/lib/tune_bn/head")
_START_SECONDS = 180.0
# A tunnel may end at any port of the reader's machine, and the Host header names that one.
_LOOPBACK_HOSTS = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*")

# A proxy of the environment has no business between a host and itself.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Settings:
    """How the services were started; kept, so that a later start needs no options."""

    artifacts: str
    host: str = "127.0.0.1"
    port: int = 5000
    store: str | None = None
    """URI of a database that others keep; None: the PostgreSQL of the head."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers beyond those of loopback."""


class Head:
    """The services with their state in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.secrets = self.folder / "secrets"
        self.password_file = self.secrets / "mlflow_admin_password"
        self.postgres = Postgres(self.folder / "postgres" / "data", self.folder / "run")
        self.supervisor = Supervisor(self.folder)
        self.settings_file = self.folder / "head.json"

    def settings(self) -> Settings:
        """As the services were started.

        Raises:
            ServiceError: they never were, or the file was spoilt.
        """
        try:
            content: dict[str, Any] = json.loads(self.settings_file.read_text(encoding="utf-8"))
            return Settings(**{**content, "allowed_hosts": tuple(content["allowed_hosts"])})
        except FileNotFoundError:
            raise ServiceError(
                f"--state: {self.folder} has no services; accepted: what tune_bn head start made"
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ServiceError(
                f"{self.settings_file}: cannot be read ({error}); accepted: what tune_bn wrote"
            ) from None

    @staticmethod
    def allowed_hosts(settings: Settings) -> list[str]:
        """Host headers that the server answers to."""
        return [*_LOOPBACK_HOSTS, *settings.allowed_hosts]

    def start(self, home: Path, say: Callable[[str], None], **wanted: Any) -> None:
        """Start what does not run, wait until it answers, and say where it is.

        Args:
            home: where clients look for MLflow's credentials and Ray for its token.
            say: takes one line for the user.
            wanted: fields of :class:`Settings`; None: as at the last start.

        Raises:
            ServiceError: a setting is not acceptable, or a service does not start.
        """
        self._make_folder()
        with self._alone():
            settings = self._settled(wanted)
            running = self.supervisor.is_running()
            if running and settings != self.settings():
                raise ServiceError(
                    f"--state: the services in {self.folder} run with other settings; accepted: the same settings, or "
                    "tune_bn head stop first"
                )
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            token = ensure_ray_token(home)
            if not running:
                self._launch(settings, home)
            logged_in = write_mlflow_credentials(home, ADMINISTRATOR, read_or_make(self.password_file))
            self._wait_until_it_answers(settings)
        for line in self.directions(settings):
            say(line)
        if not logged_in:
            say(
                "~/.mlflow/credentials is your own and was left alone; for studies to log in, it must hold that user "
                "and password"
            )
        say(f"Ray's token: {token}; it is used where RAY_AUTH_MODE=token")

    def directions(self, settings: Settings) -> list[str]:
        """Where MLflow is, from here and from elsewhere, and who is let in."""
        store = "PostgreSQL" if settings.store is None else shown(settings.store)
        return [
            f"MLflow: {uri_of(settings)} on this machine, store {store}, artifacts {settings.artifacts}",
            f"from yours: {tunnel_to(uri_of(settings))}, and then the same address",
            f"user {ADMINISTRATOR}, password in {self.password_file}",
        ]

    def stop(self) -> bool:
        """Stop everything; False where nothing ran."""
        if not self.supervisor.is_running():
            return False
        with self._alone():
            self.supervisor.stop()
        return True

    def status(self) -> list[str]:
        """One line for each program, and where MLflow is; empty where nothing runs."""
        states = self.supervisor.states()
        if not states:
            return []
        settings = self.settings()
        answers = "answers" if self._answers(settings) else "does not answer"
        programs = [f"{name}: {state.lower()}" for name, state in states.items()]
        return [*programs, f"MLflow: {uri_of(settings)} {answers}; password in {self.password_file}"]

    def change_password(self, home: Path) -> None:
        """Give MLflow's administrator a new password, and tell this user's clients.

        Raises:
            ServiceError: the server does not take it.
        """
        settings = self.settings()
        if not self._answers(settings):
            raise ServiceError(f"--state: MLflow at {uri_of(settings)} does not answer; accepted: services that run")
        with self._alone():
            fresh = secrets.token_urlsafe(32)
            kept = self.password_file.with_name(f"{self.password_file.name}.next")
            # Before the server is asked: a password that nobody knows would lock everybody out.
            write_private(kept, fresh)
            old = read_or_make(self.password_file)
            body = json.dumps({"username": ADMINISTRATOR, "password": fresh, "current_password": old}).encode()
            try:
                self._request(settings, "/api/2.0/mlflow/users/update-password", method="PATCH", body=body)
            except OSError as error:
                raise ServiceError(f"MLflow at {uri_of(settings)} keeps its password ({error})") from None
            os.replace(kept, self.password_file)
            write_mlflow_credentials(home, ADMINISTRATOR, fresh)

    def _make_folder(self) -> None:
        # Where PostgreSQL runs as another user, it passes through to its own folder; nothing here can be listed.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            details = self.folder.stat()
            if details.st_uid != os.geteuid():
                raise ServiceError(f"--state: {self.folder} belongs to another user; accepted: a folder of your own")
            if stat.S_IMODE(details.st_mode) != mode:
                self.folder.chmod(mode)
        except OSError as error:
            raise ServiceError(
                f"--state: {self.folder} cannot be made ({error.strerror}); accepted: a folder that you may write to"
            ) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / ".lock", timeout=_START_SECONDS, mode=0o600):
                yield
        except Timeout:
            raise ServiceError(
                f"--state: another tune_bn head works on {self.folder}; accepted: one at a time"
            ) from None

    def _settled(self, wanted: dict[str, Any]) -> Settings:
        try:
            before = self.settings()
        except ServiceError:
            if self.settings_file.exists():
                raise
            before = Settings(artifacts=(self.folder / "artifacts").as_uri())
        settings = replace(before, **{key: value for key, value in wanted.items() if value is not None})
        if not _is_loopback(settings.host) and not settings.allowed_hosts:
            raise ServiceError(
                f"--host: got {settings.host!r}, which others reach, without --allowed-hosts; accepted: 127.0.0.1 (and "
                "ssh -L), or the names by which they reach it in --allowed-hosts"
            )
        if "*" in settings.allowed_hosts:
            raise ServiceError("--allowed-hosts: got '*'; accepted: names, with * as a part of them at most")
        if settings.store is not None:
            check_tracking_uri(settings.store)
        return settings

    def _launch(self, settings: Settings, home: Path) -> None:
        check_socket(self.supervisor.longest_socket)
        _check_port(settings)
        programs = []
        if settings.store is None:
            self.postgres.prepare()
            # INT is a fast shutdown: it does not wait for clients to go.
            programs.append(Program("postgres", self.postgres.command(), user=run_as(), stop_signal="INT"))
        if settings.artifacts.startswith("file:"):
            (self.folder / "artifacts").mkdir(mode=0o700, exist_ok=True)
        write_private(self.settings_file, json.dumps(asdict(settings), indent=2) + "\n")
        command = [sys.executable, "-P", "-m", "tune_bn.service.mlflow_server", str(self.folder)]
        unbuffered = {"PYTHONUNBUFFERED": "1"}
        programs.append(Program("mlflow", command, environment=unbuffered))
        # Who starts the studies' jobs again must outlive Ray, and the connection that started both.
        watch = [sys.executable, "-P", "-m", "tune_bn", "head", "resume", "--watch", "--output", str(home / "studies")]
        programs.append(Program("watch", watch, environment=unbuffered | {"HOME": str(home)}))
        self.supervisor.start(programs)

    def _wait_until_it_answers(self, settings: Settings) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers(settings):
            if time.monotonic() > deadline:
                states = self.supervisor.states()
                program = next((name for name, state in states.items() if state != "RUNNING"), "mlflow")
                raise ServiceError(
                    f"MLflow does not answer at {uri_of(settings)}; {program} says: "
                    f"{self.supervisor.last_line(program)[:200]} ({self.supervisor.logs} has more)"
                )
            time.sleep(0.2)

    def _answers(self, settings: Settings) -> bool:
        """Whether the server lets this password in: another server on that port would not."""
        try:
            return self._request(settings, "/api/2.0/mlflow/users/current", method="GET") == 200
        except OSError:
            return False

    def _request(self, settings: Settings, path: str, *, method: str, body: bytes | None = None) -> int:
        login = base64.b64encode(f"{ADMINISTRATOR}:{read_or_make(self.password_file)}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        request = urllib.request.Request(uri_of(settings) + path, data=body, headers=headers, method=method)
        with _opener.open(request, timeout=10) as answer:
            return int(answer.status)


def default_state() -> Path:
    """The folder of this user's services: ``$TUNE_BN_HEAD_STATE``, else one below the home.

    Root's home is closed to the user that PostgreSQL then runs as, so there it is one for services of the system.
    """
    if given := os.environ.get(STATE_VARIABLE):
        return Path(given)
    own = user_state_path("tune_bn")
    if os.geteuid() == 0 and not all(_lets_others_in(folder) for folder in own.parents):
        return SYSTEM_STATE
    return own / "head"


def tracking_uri() -> str | None:
    """The URI of this user's MLflow server on this machine; None where there is none."""
    head = Head(default_state())
    if not head.supervisor.is_running():
        return None
    return uri_of(head.settings())


def uri_of(settings: Settings) -> str:
    """Where the server is reached from this machine."""
    anywhere = settings.host in ("0.0.0.0", "::")
    host = "127.0.0.1" if anywhere else settings.host
    return f"http://{address_of(host, settings.port)}"


def tunnel_to(uri: str) -> str:
    """What makes a server of this machine reachable at the same port of another one."""
    address = uri.partition("//")[2]
    return f"ssh -N -L {address.rpartition(':')[2]}:{address} {getpass.getuser()}@{socket.gethostname()}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_port(settings: Settings) -> None:
    if reason := foreign(settings.host):
        raise ServiceError(f"--host: {settings.host!r} is {reason}; accepted: an address of this machine")
    if reason := problem(settings.host, settings.port):
        raise ServiceError(
            f"--port: {settings.host}:{settings.port} is {reason}; accepted: a free port, such as "
            f"{free_port(settings.host, settings.port + 1)}"
        )


def _lets_others_in(folder: Path) -> bool:
    return not folder.exists() or bool(folder.stat().st_mode & stat.S_IXOTH)
