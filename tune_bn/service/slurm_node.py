"""One node of a Slurm job: Ray in a folder of its own, which ends with all its processes and leaves nothing behind.

``srun`` starts it on each node of the job; :mod:`tune_bn.service.slurm` talks to it: through its standard input, whose
first line tells where the head is, and whose end is the order to end, and through lines on its standard output.

Slurm signals every process of a step. A Ray that died of it would take the study with it before that could stop
cleanly, so Ray starts with these signals blocked, this process alone hears and reports them, and Ray ends by SIGKILL
once the study has come to rest, or nobody is there any more to say so.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tune_bn.errors import RunnerError, TuneBNError
from tune_bn.host.machine import CORES_VARIABLE, usable_cores
from tune_bn.runners.ray.folder import RayFolder
from tune_bn.runners.ray.words import last_words, logged_cause, tight_limits

MARK = "tune_bn-node "
"""What a line for the job begins with; a site's prologues print others."""
END = "end"
"""A file in the head's folder: the order to end, where ``srun`` carries none any more."""
NETWORK_VARIABLE, PORT_VARIABLE = "TUNE_BN_NETWORK", "TUNE_BN_PORT"
REPORTED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
_DAEMONS = {"gcs_server", "raylet"}
_PR_SET_CHILD_SUBREAPER = 36


class Told(Exception):
    """The job wants this node to end."""


def main(arguments: Sequence[str]) -> int:
    """Be a node until the job says that it is enough.

    Args:
        arguments: JSON: ``supervisor``, the process id of the job's script where this is its node, else null;
            ``names``, by which Slurm reaches this node; ``others``, those of other nodes.
    """
    given = json.loads(arguments[0])
    node = _Node(given["supervisor"])
    for number in REPORTED:
        signal.signal(number, node.report)
    # Whatever loses its parent becomes ours, so that none can be missed at the end.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        node.work(given)
    except Told:
        return 0
    except TuneBNError as error:
        _tell(error=str(error))
        return 1
    finally:
        node.end()
    return 0


class _Node:
    def __init__(self, supervisor: int | None) -> None:
        self.supervisor = supervisor
        self.folder: RayFolder | None = None
        self.head: tuple[str, int] | None = None
        self.warned = False
        self._input = b""

    def report(self, number: int, frame: object) -> None:
        self.warned = True
        _tell(signal=signal.Signals(number).name)

    def work(self, given: Mapping[str, Any]) -> None:
        if self.supervisor is not None:
            self.folder = RayFolder(tell=lambda line: _tell(remark=line))
            address = own_address(given["names"], given["others"])
            self._start(["--head", f"--node-ip-address={address}", f"--port={_port(address)}"], address)
            where = (self.folder.ray / "ray_current_cluster").read_text(encoding="utf-8").strip()
        else:
            head = json.loads(self._line())
            self.folder = RayFolder(place=Path(head["folder"]), tell=lambda line: None)
            host, _, port = (where := head["address"]).rpartition(":")
            self.head = host, int(port)
            address = _towards(host) or own_address(given["names"], [host])
            self._start([f"--address={where}", f"--node-ip-address={address}"], address)
        _tell(up={"address": where, "folder": str(self.folder.path), "own": address})
        daemons = {pid for pid, name in _children() if name in _DAEMONS}
        while True:
            self._wait()
            if gone := daemons - {pid for pid, _ in _children()}:
                raise RunnerError(f"Ray ended on this node (process {min(gone)}); its files are gone with it")

    def _start(self, options: list[str], address: str) -> None:
        """A Ray that belongs to the cluster; tried twice where half a minute, which Ray waits, is too short."""
        assert self.folder is not None
        try:
            self._attempt(options, address)
        except RunnerError as error:
            if "timed out" not in str(error).lower():
                raise
            _tell(remark=f"{error}; it is tried once more")
            self._kill_all_below()
            shutil.rmtree(self.folder.ray, ignore_errors=True)
            self.folder.ray.mkdir(exist_ok=True)
            self._attempt(options, address)

    def _attempt(self, options: list[str], address: str) -> None:
        """``ray start``, which comes back once the node belongs to the cluster."""
        assert self.folder is not None
        temporary = self.folder.path / "tmp"
        temporary.mkdir(exist_ok=True)
        # What runs at Ray's side (torch's compiler, Tune) keeps its temporary files here too.
        variables = {"TMPDIR": str(temporary), "RAY_TMPDIR": str(self.folder.path), "RAY_USAGE_STATS_ENABLED": "0"}
        # How long Ray waits for a worker that it ends by SIGTERM, to which all are deaf here.
        variables["RAY_kill_worker_timeout_milliseconds"] = "100"
        command = [
            sys.executable,
            # What it prints and what it raises come in their order.
            "-u",
            "-m",
            "ray.scripts.scripts",
            "start",
            *options,
            *ray_options(self.folder.ray),
        ]
        if "--head" in options:
            command += ["--include-dashboard=false", f"--ray-client-server-port={_free_port(address)}"]
        command += [f"--dashboard-agent-listen-port={_free_port(address)}"]
        said = self.folder.path / "start.log"
        with said.open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, REPORTED),
            )
            while process.poll() is None:
                self._wait(reap=False)
        if process.returncode != 0:
            causes = (last_words(said.read_bytes()), logged_cause(self.folder.ray), tight_limits())
            words = "; ".join(filter(None, causes))
            raise RunnerError(f"`ray start` ended with {process.returncode}: {words}")

    def _line(self) -> bytes:
        """The first line that the job sends."""
        while b"\n" not in self._input:
            self._wait()
        return self._input.partition(b"\n")[0]

    def _wait(self, *, reap: bool = True) -> None:
        """Half a second, or until the job has something to say."""
        if select.select([0], [], [], 0.5)[0]:
            received = os.read(0, 4096)
            if not received:
                raise Told
            self._input += received
        # An end without a word: after a signal, or where the script on this node is gone.
        if self.supervisor is not None and not os.path.exists(f"/proc/{self.supervisor}"):
            raise Told
        if self.supervisor is not None and self.folder is not None and (self.folder.path / END).exists():
            raise Told
        if self.warned and self.head is not None and not _answers(self.head):
            raise Told
        while reap:
            with suppress(ChildProcessError):
                if os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            return

    def end(self) -> None:
        """Every process below this one, then the folder."""
        for number in REPORTED:
            signal.signal(number, signal.SIG_IGN)
        self._kill_all_below()
        if self.folder is not None:
            self.folder.remove()

    def _kill_all_below(self) -> None:
        deadline = time.monotonic() + 5
        while (children := list(_children())) and time.monotonic() < deadline:
            for pid in [pid for pid, _ in children] + list(_below({pid for pid, _ in children})):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.02)


def ray_options(folder: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Options of ``ray start`` that every node of a job has.

    Ports that Ray would fix are left to the system, so that several jobs fit one node.
    """
    cores = environment.get("SLURM_CPUS_PER_TASK", "")
    if environment.get(CORES_VARIABLE) or not (cores.isascii() and cores.isdigit()):
        cores = str(usable_cores(environment=environment))
    return [
        f"--num-cpus={cores}",
        f"--temp-dir={folder}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--disable-usage-stats",
        "--log-color=false",
    ]


def own_address(names: Sequence[str], others: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """The address at which the other nodes reach this one.

    ``$TUNE_BN_NETWORK`` says in which network it is; else it is what Slurm itself calls this node by, where that is an
    address of an interface here, or the one from which the other nodes are reached. Loopback and link-local addresses
    are none that others reach.

    Args:
        names: names or addresses by which Slurm reaches this node.
        others: the same of other nodes; where there are none, loopback will do.
        environment: the environment variables.

    Raises:
        RunnerError: there is no such address, or the variable is no network.
    """
    if wanted := environment.get(NETWORK_VARIABLE, "").strip():
        try:
            network = ipaddress.ip_network(wanted, strict=False)
        except ValueError:
            raise RunnerError(
                f"{NETWORK_VARIABLE}: got {wanted!r}; accepted: a network of the nodes, such as 10.0.0.0/8"
            ) from None
        here = _interfaces()
        for address in here:
            if ipaddress.ip_address(address) in network:
                return address
        raise RunnerError(
            f"{NETWORK_VARIABLE}: got {wanted}, and {socket.gethostname()} has no address in it; accepted: a network "
            f"of one of {', '.join(here)}"
        )
    candidates = [address for name in names for address in _resolved(name)]
    candidates += filter(None, map(_towards, others))
    candidates += _interfaces()
    for address in candidates:
        parsed = ipaddress.ip_address(address)
        # Nor will 127.0.1.1 do for a node that is alone: its driver would look for a Ray at 127.0.0.1.
        if not (parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified) and _is_own(address):
            return address
    if not others:
        return "127.0.0.1"
    raise RunnerError(
        f"{socket.gethostname()} has no address that other nodes reach (found {', '.join(candidates) or 'none'}); "
        f"accepted: {NETWORK_VARIABLE}=NETWORK that the nodes share"
    )


def _resolved(name: str) -> list[str]:
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return []


def _towards(name: str) -> str | None:
    """The address that packets from here to another host carry; nothing is sent."""
    with suppress(OSError, UnicodeError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((name, 9))
        return str(probe.getsockname()[0])
    return None


def _interfaces() -> list[str]:
    with suppress(OSError):
        done = subprocess.run(["hostname", "--all-ip-addresses"], capture_output=True, text=True, check=False)
        return [word for word in done.stdout.split() if ":" not in word]
    return []


def _is_own(address: str) -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _port(address: str, environment: Mapping[str, str] = os.environ) -> int:
    """The port of the head: ``$TUNE_BN_PORT``, or 0, at which Ray takes a free one."""
    given = environment.get(PORT_VARIABLE, "").strip()
    if not given:
        return 0
    instead = f"accepted: a free port from 1024 to 65535, or no {PORT_VARIABLE}, for one that is free"
    if not (given.isascii() and given.isdigit() and 1024 <= int(given) <= 65535):
        raise RunnerError(f"{PORT_VARIABLE}: got {given!r}; {instead}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, int(given)))
        except OSError as error:
            raise RunnerError(f"{PORT_VARIABLE}: got {given} ({error.strerror} on this node); {instead}") from None
    return int(given)


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _answers(address: tuple[str, int]) -> bool:
    for _ in range(3):
        with suppress(OSError):
            socket.create_connection(address, timeout=2).close()
            return True
        time.sleep(0.3)
    return False


def _processes() -> Iterator[tuple[int, int, str]]:
    """Process id, that of the parent, and name, of all that there are."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, ValueError):
                text = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
                name, _, rest = text.partition("(")[2].rpartition(")")
                yield int(entry), int(rest.split()[1]), name


def _children() -> Iterator[tuple[int, str]]:
    own = os.getpid()
    return ((pid, name) for pid, parent, name in _processes() if parent == own)


def _below(parents: set[int]) -> Iterator[int]:
    everyone = list(_processes())
    while parents:
        parents = {pid for pid, parent, _ in everyone if parent in parents}
        yield from parents


def _tell(**content: Any) -> None:
    # One write, so that a signal's line cannot come into the middle of another.
    with suppress(OSError):
        os.write(1, (MARK + json.dumps(content) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
