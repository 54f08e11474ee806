"""Ray on this machine's loopback alone: that of a study of this machine, and a head that was started so.

Ray takes 127.0.0.1 for a mistake and replaces it by another address of the machine; what it starts then listens on all
of them, and where RAY_AUTH_MODE is not token, whoever reaches it may run code. A variable of Ray's, made for the
firewalls of macOS and Windows, keeps it on loopback on every system.
"""

from __future__ import annotations

import ipaddress
import os
import socket

import ray

from tune_bn.runners.ray import compat
from tune_bn.runners.ray.compat import LOOPBACK_VARIABLE as VARIABLE

_before: list[tuple[bool, str | None]] = []


def stay_on_loopback() -> None:
    """Until :func:`leave_loopback` Ray starts, and looks for a cluster, on 127.0.0.1. May be called twice."""
    if not _before:
        _before.append((compat.loopback_only(True), os.environ.get(VARIABLE)))
    compat.loopback_only(True)
    os.environ[VARIABLE] = "0"


def leave_loopback() -> None:
    """As before :func:`stay_on_loopback`. May be called twice."""
    if _before:
        alone, value = _before.pop()
        compat.loopback_only(alone)
        if value is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = value


def on_loopback_alone(address: str) -> bool:
    """Whether the head of this address is this machine's, and listens on its loopback alone.

    Args:
        address: as ``ray.init`` takes it, ``auto`` among them.
    """
    if address == "auto":
        try:
            address = compat.address_of_this_machine() or ""
        except ConnectionError:
            return False
    if "://" in address:
        return False
    host, _, port = address.rpartition(":")
    if not port.isdigit() or not _is_loopback(host.strip("[]")):
        return False
    elsewhere = ray.util.get_node_ip_address()
    return not _is_loopback(elsewhere) and not _listens(elsewhere, int(port))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True
