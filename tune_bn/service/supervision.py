"""supervisord, which keeps the head's programs alive. It is spoken with over a Unix socket of its owner alone."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.errors import ServiceError
from tune_bn.service.secret_files import write_private

_STOP_SECONDS = 90.0


@dataclass(frozen=True)
class Program:
    """One program that is started again whenever it ends."""

    name: str
    command: Sequence[str]
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"


class Supervisor:
    """A supervisord with its files in one folder.

    Args:
        folder: where its socket, its configuration and the logs are.
    """

    def __init__(self, folder: Path) -> None:
        self._configuration = folder / "supervisord.conf"
        self._socket = folder / "supervisor.sock"
        self._pid_file = folder / "supervisord.pid"
        self.logs = folder / "logs"

    @property
    def longest_socket(self) -> Path:
        """The longest path of a socket that it makes: it binds one with its process id, and renames it."""
        return self._socket.with_name(f"{self._socket.name}.4194304")

    def is_running(self) -> bool:
        """Whether it answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
            except OSError:
                return False
            return True

    def start(self, programs: Sequence[Program]) -> None:
        """Start it and its programs, the first one first; it goes on when this process ends.

        Raises:
            ServiceError: it does not start.
        """
        self.logs.mkdir(mode=0o700, exist_ok=True)
        write_private(self._configuration, self._written(programs))
        command = [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            umask=0o077,
        )
        if done.returncode:
            said = " ".join(done.stderr.split())[-300:]
            raise ServiceError(f"supervisord does not start ({said}); {self.logs} may say more")
        deadline = time.monotonic() + 20
        while not self.is_running():
            if time.monotonic() > deadline:
                raise ServiceError(f"supervisord does not answer on {self._socket}; {self.logs} may say more")
            time.sleep(0.05)

    def states(self) -> dict[str, str]:
        """What its programs do, each as RUNNING, STARTING, BACKOFF, …; empty where it does not run."""
        return {name: str(info["statename"]) for name, info in self._ask().items()}

    def pids(self) -> dict[str, int]:
        """The process of each program that has one."""
        return {name: int(info["pid"]) for name, info in self._ask().items() if info["pid"]}

    def stop_program(self, name: str) -> None:
        """Stop one program, until it is started again."""
        self._remote().stopProcess(name)

    def start_program(self, name: str) -> None:
        """Start one program that was stopped."""
        self._remote().startProcess(name)

    def stop(self) -> None:
        """Stop its programs, the last one first, and itself.

        Raises:
            ServiceError: it is still there after a while.
        """
        pid = int(self._remote().getPID())
        self._remote().shutdown()
        deadline = time.monotonic() + _STOP_SECONDS
        while _lives(pid):
            if time.monotonic() > deadline:
                raise ServiceError(f"supervisord ({pid}) does not end; {self.logs} may say more")
            time.sleep(0.05)

    def last_line(self, program: str) -> str:
        """The last line of a program's log that says something."""
        with suppress(OSError):
            lines = (self.logs / f"{program}.log").read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return "nothing"

    def _remote(self) -> Any:
        from xmlrpc.client import ServerProxy

        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        return ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def _ask(self) -> dict[str, Any]:
        from http.client import HTTPException

        try:
            return {info["name"]: info for info in self._remote().getAllProcessInfo()}
        except (OSError, HTTPException):
            return {}

    def _written(self, programs: Sequence[Program]) -> str:
        lines = [
            "[unix_http_server]",
            f"file = {_escaped(self._socket)}",
            "chmod = 0700",
            "[supervisord]",
            f"logfile = {_escaped(self.logs / 'supervisord.log')}",
            f"pidfile = {_escaped(self._pid_file)}",
            f"childlogdir = {_escaped(self.logs)}",
            "umask = 077",
            # What a configuration outside of this file could add is none of ours.
            "nocleanup = true",
            *(["user = root"] if os.geteuid() == 0 else []),
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for priority, program in enumerate(programs, start=1):
            environment = ",".join(f'{name}="{_escaped(value)}"' for name, value in program.environment.items())
            lines += [
                f"[program:{program.name}]",
                f"command = {_escaped(shlex.join(_bound(program)))}",
                *([f"environment = {environment}"] if environment else []),
                "directory = /",
                f"priority = {priority}",
                "autorestart = true",
                "startsecs = 1",
                "startretries = 1000000",
                f"stopsignal = {program.stop_signal}",
                "stopwaitsecs = 60",
                "killasgroup = true",
                "redirect_stderr = true",
                f"stdout_logfile = {_escaped(self.logs / program.name)}.log",
                "stdout_logfile_maxbytes = 10MB",
                "stdout_logfile_backups = 3",
            ]
        return "\n".join(lines) + "\n"


def _bound(program: Program) -> list[str]:
    """The command of a program that ends with supervisord: a leftover would keep port and data from the next start."""
    identity = [] if program.user is None else [f"--reuid={program.user}", f"--regid={program.user}", "--init-groups"]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServiceError("setpriv is not installed; accepted: Debian's package util-linux")
    return [setpriv, "--pdeathsig", program.stop_signal, *identity, *program.command]


def _escaped(value: object) -> str:
    """``%`` starts an expansion in supervisord's configuration, and ``;`` after a blank a comment."""
    return str(value).replace("%", "%%")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
