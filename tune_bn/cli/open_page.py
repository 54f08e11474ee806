"""Opens a page in the user's browser once its server answers: ``python -m tune_bn.cli.open_page HOST PORT PAGE``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import webbrowser

PATIENCE_SECONDS = 120.0
"""How long a server may take to start."""


def can_open() -> bool:
    """Whether the user sits before a screen of this machine; a browser in the terminal itself is not wanted."""
    screen = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and sys.stderr.isatty()


def open_later(host: str, port: int, page: str) -> None:
    """Start a process that opens the page when the server is there, and ends with it or without it."""
    subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, host, str(port), page],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def open_when_there(host: str, port: int, page: str, *, patience: float = PATIENCE_SECONDS) -> bool:
    """Wait for the server and open the page; False where it did not come, or no browser took it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return webbrowser.open(page)
    return False


if __name__ == "__main__":
    open_when_there(sys.argv[1], int(sys.argv[2]), sys.argv[3])
