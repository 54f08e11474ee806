"""The address of a Ray cluster, tried before Ray is asked: Ray itself tries a dead one for a quarter of an hour."""

from __future__ import annotations

import os
import socket

from tune_bn.errors import RunnerError

DEFAULT_PORT = 6379
"""Where ``ray start --head`` listens."""
TIMEOUT_SECONDS = 10.0


def reachable_address(address: str) -> str:
    """The address as Ray takes it, ``HOST`` with its default port, once something answers there.

    ``auto`` and addresses with a scheme (``ray://…``) are left to Ray.

    Raises:
        RunnerError: nothing answers, or it is no address.
    """
    if not address.strip():
        raise unreachable(address, "it is empty")
    if address == "auto" or "://" in address:
        _one_attempt()
        return address
    host, colon, port = address.rpartition(":")
    if not colon:
        host, port = address, str(DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise unreachable(address, f"the port {port!r} is not a number from 1 to 65535")
    try:
        connect_once(f"{host}:{port}")
    except (OSError, UnicodeError) as error:
        raise unreachable(address, str(error)) from None
    _one_attempt()
    return f"{host}:{port}"


def connect_once(address: str) -> None:
    """Connect to ``HOST:PORT`` and let go of it.

    Raises:
        OSError: nothing answers there in time.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_SECONDS).close()


def unreachable(address: str, reason: str) -> RunnerError:
    """The error of an address that cannot be used."""
    return RunnerError(
        f"--address: got {address!r}, which cannot be reached ({reason}); accepted: auto or HOST[:PORT] of a running "
        "Ray cluster, or no --address for this machine"
    )


def _one_attempt() -> None:
    # Where something answers that is no Ray, twenty attempts of forty seconds would follow.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
