"""Ports of this machine that are taken, and by whom: said at once and in one line, before a server fails over it."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def address_of(host: str, port: int | str) -> str:
    """``HOST:PORT``, an address of IPv6 in brackets."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def problem(host: str, port: int) -> str | None:
    """Why nothing can listen there, such as ``taken by redis-server (process 71, user anna)``; None: it can.

    Args:
        host: an address or a name of this machine, for which :func:`foreign` has nothing to say.
        port: from 1 to 65535.
    """
    if reason := foreign(host):
        return reason
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family) as probe:
        # As servers do, so that connections that are fading away do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            # Two sockets that share a port may both be bound to it; only one of them listens.
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"taken by {' and '.join(sorted(set(_holders(port)))) or 'another process'}"
            return f"not to be listened on ({error.strerror})"
    return None


def foreign(host: str) -> str | None:
    """Why ``host`` is no address of this machine; None: it is one."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        return f"no address of this machine ({getattr(error, 'strerror', None) or error})"
    return None


def free_port(host: str, first: int, many: int = 100) -> int:
    """The first port from ``first`` on, of so ``many``, on which one can listen; ``first`` where there is none."""
    return next((port for port in range(first, min(first + many, 65536)) if problem(host, port) is None), first)


def _holders(port: int) -> Iterator[str]:
    """Whoever listens on a port, as far as this user may know; nothing where there is no /proc."""
    sockets = dict(_listening(port))
    # Of a process and its children that share a socket, the first one.
    owners: dict[str, int] = {}
    for inode, pid in _owners(sockets):
        owners[inode] = min(pid, owners.get(inode, pid))
    for inode, uid in sockets.items():
        try:
            yield f"{_command(owners[inode])} (process {owners[inode]}, user {_user(uid)})"
        except (KeyError, OSError):
            yield f"a process of user {_user(uid)}"


def _listening(port: int) -> Iterator[tuple[str, int]]:
    """Inode and user of each socket that listens on a port."""
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text(encoding="ascii", errors="replace").splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENS and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9], int(columns[7])


def _owners(inodes: Iterable[str]) -> Iterator[tuple[str, int]]:
    names = {f"socket:[{inode}]": inode for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for entry in os.scandir(process / "fd"):
                with suppress(OSError):
                    if (name := os.readlink(entry.path)) in names:
                        yield names[name], int(process.name)


def _command(pid: int) -> str:
    """What a process is called: the module or script that Python runs rather than Python."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    if name.startswith("python") and "-c" not in words:
        name = next((word.rpartition("/")[2] for word in words[1:] if word and not word.startswith("-")), name)
    return name[:40]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
