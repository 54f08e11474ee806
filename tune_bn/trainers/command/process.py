"""A script that runs, as its worker sees it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_bn.script.folder import ATTEMPT_VARIABLE
from tune_bn.trainers.command import keeper
from tune_bn.trainers.command.settings import PRINTED, Tap

LOG_BYTES = 4 * 2**20
"""The log of a script is kept in pieces of this size: its beginning, and its end."""


@dataclass(frozen=True)
class End:
    """How a script has ended, with all that it had started."""

    status: int | None
    """Its exit status; −9 where a signal 9 ended it; None where its keeper was lost."""
    reason: str | None
    """Why it was asked to stop; ``timeout`` where it took too long; None: it ended by itself."""
    by: str
    """What made it end: itself, the stop file, SIGTERM or SIGKILL."""
    left: int
    """Processes that it left behind, and that were ended."""
    survivors: tuple[int, ...]
    """Those that could not be."""
    seconds: float


def printed_rows(tap: Tap | None, to: Path, *, final: bool = False) -> dict[str, Any] | None:
    """What the keeper looks for in the words of a script; None: nothing.

    Args:
        tap: of the script.
        to: where it puts the rows, in the helper's form.
        final: whether they are known at the end alone, as a test's are.
    """
    if tap is None or tap.kind != PRINTED:
        return None
    patterns = tap.pattern.split("\n")
    return {"patterns": patterns, "step": tap.step, "rename": dict(tap.rename), "to": str(to), "final": final}


class Process:
    """Starts a script. :meth:`end` must be called wherever it is let go of.

    Args:
        argv: the command.
        folder: its current folder.
        env: its whole environment.
        attempt: a name that no other attempt has, anywhere.
        log: where what it prints goes.
        stop: the stop file.
        helper: a file that is there once the script has used the helper.
        grace: seconds between the ways of asking it to stop.
        timeout: seconds that it may take; None: as long as it likes.
        terminal: let it believe that it writes to a terminal.
        printed: what of its words are rows of metrics, see :func:`printed_rows`; None: nothing.

    Raises:
        OSError: no process can be started here.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        attempt: str,
        log: Path,
        stop: Path,
        helper: Path,
        grace: float = 30.0,
        timeout: float | None = None,
        terminal: bool = False,
        printed: Mapping[str, Any] | None = None,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        self.attempt = attempt
        self.grace = grace
        self.leader: int | None = None
        self._end: End | None = None
        self._buffer = b""
        self._started = time.monotonic()
        self._asked: str | None = None
        order = {
            "argv": list(argv),
            "cwd": str(folder),
            "env": {**env, ATTEMPT_VARIABLE: attempt},
            "variable": ATTEMPT_VARIABLE,
            "attempt": attempt,
            "log": str(log),
            "log_bytes": log_bytes,
            "stop": str(stop),
            "helper": str(helper),
            "grace": grace,
            "timeout": timeout,
            "pty": terminal,
            "printed": printed,
        }
        self._control, theirs = socket.socketpair()
        try:
            command = [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())]
            # What a keeper says goes where the script's words go: nobody reads this process's own streams.
            with open(log, "ab") as words:
                started = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=words, stderr=words, cwd="/"
                )
            started.wait()
        finally:
            theirs.close()
        self._control.sendall(json.dumps(order).encode() + b"\n")

    def poll(self, seconds: float = 0.0) -> End | None:
        """How it has ended, once it has; waits so long for it."""
        until = time.monotonic() + seconds
        while self._end is None:
            ready, _, _ = select.select([self._control], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            try:
                data = self._control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self._keeper_lost()
            self._buffer += data
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                self._hear(json.loads(line))
        return self._end

    def stop(self, reason: str) -> None:
        """Ask it to stop, in the order of the contract; does not wait."""
        if self._end is None and self._asked is None:
            self._asked = reason
            with suppress(OSError):  # It may have ended just now; poll tells.
                self._control.sendall(json.dumps({"stop": reason}).encode() + b"\n")

    def end(self, reason: str) -> End:
        """Ask it to stop, and wait until nothing of it is left."""
        self.stop(reason)
        found = self.poll(2 * self.grace + 2 * keeper.SECONDS_TO_DIE)
        if found is None:
            self._keeper_lost()
            found = self._end
        assert found is not None
        return found

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "started" in message:
            self.leader = message["started"]
        if "ended" in message:
            ended = message["ended"]
            survivors = tuple(ended.pop("survivors"))
            self._end = End(**ended, survivors=survivors)
            self._control.close()

    def _keeper_lost(self) -> None:
        """The keeper was killed, or cannot end what it keeps: what is known by its environment is ended from here."""
        self._control.close()
        if self.leader is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.leader, 9)
        left = len(keeper.marked(ATTEMPT_VARIABLE, self.attempt))
        survivors = tuple(keeper.end_marked(ATTEMPT_VARIABLE, self.attempt))
        seconds = time.monotonic() - self._started
        self._end = End(None, self._asked, "SIGKILL", left, survivors, seconds)
