"""Watches over one script: starts it, keeps its log short, and ends it with everything that it has started.

A process of its own between a worker and a script, so that a worker that is killed leaves nothing behind. It is run by
its path, by a Python without site-packages, and imports nothing of this package: so it is one file, however long. The
worker talks to it by lines of JSON over a socket; when that closes without a word, the worker is gone and everything
ends at once.

Orphans of the script become its children (``PR_SET_CHILD_SUBREAPER``), so whatever the script has started stays below
it, in whichever session. Where the keeper is killed too, the kernel kills the script, and whoever tries the run again
ends the rest by :func:`end_marked`, which knows them by a variable of their environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import pty
import re
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

SECONDS_TO_DIE = 20.0
"""A process that outlives SIGKILL for so long waits for a device, and is reported."""
COURTESY = 0.5
"""What a script's helpers, such as a pool's, have to end by themselves after it."""
LONGEST_LINE = 1 << 14
"""Of what is printed; what comes after is not looked at for metrics."""
_TICK = 0.05
_SIZE = (24, 80)
_ENDS = 1024
"""An end of input is read once."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PDEATHSIG, _SUBREAPER = 1, 36


def marked(variable: str, value: str) -> list[int]:
    """The processes that live and have ``variable=value`` in their environment, this one left out."""
    wanted = f"{variable}={value}".encode()
    return [pid for pid in _processes() if pid != os.getpid() and _has(pid, wanted) and _lives(pid)]


def end_marked(variable: str, value: str, seconds: float = SECONDS_TO_DIE) -> list[int]:
    """Kill them until there is none; returns those that could not be killed."""
    return _end(lambda: marked(variable, value), seconds)


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _has(pid: int, wanted: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as handle:
            return wanted in handle.read().split(b"\0")
    except OSError:
        return False


def _state(pid: int) -> tuple[str, int] | None:
    """State and parent of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            fields = handle.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[1])
    except (OSError, IndexError, ValueError):
        return None


def _lives(pid: int) -> bool:
    found = _state(pid)
    return found is not None and found[0] not in "ZX"


def _below(root: int) -> list[int]:
    """Processes that live and descend from ``root``."""
    parents = {pid: found for pid in _processes() if (found := _state(pid)) is not None}
    below = {root}
    grown = True
    while grown:
        more = {pid for pid, (_, parent) in parents.items() if parent in below} - below
        below |= more
        grown = bool(more)
    return [pid for pid in below - {root} if parents[pid][0] not in "ZX"]


def _end(who: Callable[[], list[int]], seconds: float, *, reap: bool = False) -> list[int]:
    end = time.monotonic() + seconds
    pause = 0.005
    while left := who():
        if time.monotonic() > end:
            return list(left)
        for pid in left:
            _kill(pid, signal.SIGKILL)
        if reap:
            _reap()
        time.sleep(pause)
        pause = min(0.1, pause * 2)
    return []


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


_ended: list[tuple[int, int]] = []
"""Children of the keeper that were reaped, with their status."""


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _ended.append((pid, status))


def _furnish(output: int, inner: int) -> None:
    """Give a terminal a size, and end its input: who reads from it hears that there is none, as from /dev/null."""
    settings = termios.tcgetattr(inner)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(inner, termios.TCSANOW, settings)
    termios.tcsetwinsize(inner, _SIZE)
    os.write(output, b"\x04" * _ENDS)


def _why(error: BaseException, program: str) -> str:
    """Why a program cannot be started, in a line: of most the system says alone that there is no such file."""
    if not isinstance(error, OSError):
        return str(error)
    accepted = f"its interpreter before it, as [sh, {program}]"
    if "/" not in program:
        accepted = (
            f"[python, {program}] or ./{program}" if os.path.isfile(program) else "one that is there, or its path"
        )
        accepted = "variables in trainer.env, and then the program" if "=" in program else accepted
        return f"{program}: no program on the PATH; accepted: {accepted}"
    try:
        with open(program, "rb") as file:
            first = file.readline(500)
    except OSError:
        return str(error)
    if first.startswith(b"#!") and first.endswith(b"\r\n"):
        return f"{program}: its lines end as those of Windows do; accepted: Unix line endings"
    if not os.access(program, os.X_OK):
        return f"{program}: may not be executed; accepted: chmod +x, or {accepted}"
    if error.errno == errno.ENOENT:
        return f"{program}: {first[2:].decode(errors='replace').strip()}: no such interpreter ({error})"
    return f"{program}: no #! line; accepted: one, or {accepted}" if error.errno == errno.ENOEXEC else str(error)


class Log:
    """What a script prints: the beginning in ``log.1`` once there is too much, and always the end in ``log``."""

    def __init__(self, path: str, most: int) -> None:
        self.path, self.most = path, most
        self.file = open(path, "ab", buffering=0)  # noqa: SIM115
        self.bytes = os.path.getsize(path)
        self.kept_first = os.path.exists(path + ".1")

    def write(self, data: bytes) -> None:
        try:
            if self.bytes + len(data) > self.most:
                self._turn()
            self.file.write(data)
            self.bytes += len(data)
        except OSError:
            pass  # A full disk must not stop the script; who reads the log sees where it ends.

    def _turn(self) -> None:
        self.file.close()
        os.replace(self.path, self.path + (".2" if self.kept_first else ".1"))
        self.kept_first = True
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        note = b"[tune_bn: the log was too long; its beginning is in log.1, what came right before this in log.2]\n"
        self.file.write(note)
        self.bytes = len(note)


class PrintedRows:
    """Finds rows of metrics in what a script prints, and writes them as the helper would have.

    A line counts where one of the patterns is found in it. Of one without the step the step is the last that was named;
    where no pattern names it, the lines are counted from 1 on.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.patterns = [re.compile(pattern) for pattern in order["patterns"]]
        self.name, self.rename, self.to, self.final = order["step"], order["rename"], order["to"], order["final"]
        self.counts = not any(self.name in pattern.groupindex for pattern in self.patterns)
        self.step: str | int | None = 0 if self.counts else None
        self.rest, self.unwritten = b"", b""

    def take(self, data: bytes, *, last: bool = False) -> None:
        """What was printed next; progress bars end their lines by a carriage return."""
        *lines, self.rest = (self.rest + data).replace(b"\r", b"\n").split(b"\n")
        if last or len(self.rest) > LONGEST_LINE:
            lines.append(self.rest)
            self.rest = b""
        self.unwritten += b"".join(row for line in lines if line for row in self._rows(line[:LONGEST_LINE]))
        if self.unwritten:
            # What a full disk does not take now it may take later; a run whose last rows are lost has failed.
            with contextlib.suppress(OSError), open(self.to, "ab", buffering=0) as file:
                self.unwritten = self.unwritten[file.write(self.unwritten) :]

    def _rows(self, line: bytes) -> list[bytes]:
        text, metrics = _COLOURS.sub("", line.decode("utf-8", "replace")), {}
        for pattern in self.patterns:
            found = pattern.search(text)
            for name, value in ({} if found is None else found.groupdict()).items():
                if value is None:
                    continue
                if name == self.name:
                    self.step = value
                else:
                    metrics[self.rename.get(name, name)] = value.strip(" %,;:|")
        if not metrics:
            return []
        if self.final:
            return [json.dumps({"final": True, **metrics}).encode() + b"\n"]
        if self.counts and isinstance(self.step, int):
            self.step += 1
        # Before the first step nothing was trained.
        return [] if self.step is None else [json.dumps({"step": self.step, **metrics}).encode() + b"\n"]


class Keeper:
    def __init__(self, control: socket.socket, order: dict[str, Any]) -> None:
        self.control, self.order = control, order
        self.buffer = b""
        self.reason: str | None = None
        self.status: int | None = None
        self.log = Log(order["log"], order["log_bytes"])
        self.rows = PrintedRows(order["printed"]) if order["printed"] else None
        self.output, self.leader = self._start()
        self.started = time.monotonic()
        self.tell({"started": self.leader})

    def tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.control.sendall(json.dumps(message).encode() + b"\n")

    def _start(self) -> tuple[int, int]:
        if self.order["pty"]:
            output, inner = pty.openpty()
            _furnish(output, inner)
        else:
            output, inner = os.pipe()
        failed_out, failed_in = os.pipe()
        own = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                # The thread that has forked is the keeper's only one, so this is the keeper's own death.
                ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != own:
                    os._exit(1)
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, [])
                null = os.open(os.devnull, os.O_RDONLY)
                # Many ask for the size of their standard input, as `stty size` does.
                os.dup2(inner if self.order["pty"] else null, 0)
                os.dup2(inner, 1)
                os.dup2(inner, 2)
                os.set_inheritable(failed_in, False)
                os.closerange(3, failed_in)
                os.closerange(failed_in + 1, 1024)
                os.chdir(self.order["cwd"])
                os.execvpe(self.order["argv"][0], self.order["argv"], self.order["env"])
            except BaseException as error:
                os.write(failed_in, _why(error, self.order["argv"][0]).encode()[:500])
            finally:
                os._exit(127)
        os.close(inner)
        os.close(failed_in)
        problem = b""
        while piece := os.read(failed_out, 500):
            problem += piece
        os.close(failed_out)
        if problem:
            self.log.write(b"tune_bn: cannot be started: " + problem + b"\n")
        os.set_blocking(output, False)
        return output, pid

    def wait(self, seconds: float, until_stop: bool = False) -> bool:
        """Pump the log until the script has ended (True), time is over, or the worker asks for a stop or is gone."""
        end = time.monotonic() + seconds
        while True:
            self._reaped()
            if self.status is not None:
                return True
            if until_stop and self.reason is not None:
                return False
            left = end - time.monotonic()
            if left <= 0:
                return False
            watched = [fd for fd in (self.output, self.control.fileno()) if fd >= 0]
            ready, _, _ = select.select(watched, [], [], min(left, _TICK))
            if self.output in ready:
                self._pump()
            if self.control.fileno() in ready and self.control.fileno() >= 0:
                self._hear()

    def _reaped(self) -> None:
        _reap()
        for pid, status in _ended:
            if pid == self.leader:
                self.status = os.waitstatus_to_exitcode(status)
        _ended.clear()

    def _pump(self) -> None:
        # Bounded, so that a script that prints without end does not keep the keeper from hearing.
        for _ in range(64):
            try:
                data = os.read(self.output, 1 << 16)
            except BlockingIOError:
                return
            except OSError:  # of a terminal whose other end is closed
                data = b""
            if not data:
                os.close(self.output)
                self.output = -1
                return
            self.log.write(data)
            if self.rows is not None:
                self.rows.take(data)

    def _hear(self) -> None:
        try:
            data = self.control.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.reason = "gone"
            self.control.close()
            return
        self.buffer += data
        while b"\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\n")
            self.reason = self.reason or json.loads(line)["stop"]

    def run(self) -> None:
        """Until nothing of the script is left."""
        timeout = self.order["timeout"]
        ended = self.wait(timeout or 1e9, until_stop=True)
        by = "itself"
        if not ended:
            if self.reason is None:
                self.reason = "timeout"
            by = self._ask()
        left, survivors = self._sweep(courtesy=by == "itself")
        while self.output >= 0:  # what was printed last
            before = self.output
            self._pump()
            if self.output == before:
                break
        if self.rows is not None:
            self.rows.take(b"", last=True)
        self.tell(
            {
                "ended": {
                    "status": self.status,
                    "reason": self.reason,
                    "by": by,
                    "left": left,
                    "survivors": survivors,
                    "seconds": time.monotonic() - self.started,
                }
            }
        )

    def _ask(self) -> str:
        """The stop file, then SIGTERM to the script alone, each with its time; what made the script end."""
        grace = self.order["grace"]
        if self.reason == "gone":
            return "SIGKILL"
        try:
            with open(self.order["stop"], "a", encoding="utf-8"):
                pass
        except OSError:
            pass
        # A script without the helper does not know the file.
        if os.path.exists(self.order["helper"]) and self._wait_for_end(grace):
            return "the stop file"
        if self.reason != "gone":
            _kill(self.leader, signal.SIGTERM)
            if self._wait_for_end(grace):
                return "SIGTERM"
        return "SIGKILL"

    def _wait_for_end(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self.reason != "gone" and (left := end - time.monotonic()) > 0:
            if self.wait(min(left, 0.2)):
                return True
        return self.status is not None

    def _sweep(self, courtesy: bool) -> tuple[int, list[int]]:
        """End all that is left: how many there were besides the script, and who could not be killed."""
        own = os.getpid()

        def rest() -> list[int]:
            self._pump_if_open()
            found = {*_below(own), *marked(self.order["variable"], self.order["attempt"])}
            return [pid for pid in found if pid not in (own, self.order["parent"])]

        end = time.monotonic() + COURTESY
        while courtesy and rest() and time.monotonic() < end:
            self._reaped()
            time.sleep(0.01)
        left = [pid for pid in rest() if pid != self.leader]
        with contextlib.suppress(OSError):
            os.killpg(self.leader, signal.SIGKILL)
        survivors = _end(rest, SECONDS_TO_DIE, reap=True)
        if self.status is None:
            self._reaped()
        return len(left), survivors

    def _pump_if_open(self) -> None:
        if self.output >= 0:
            self._pump()


def main(descriptor: int) -> None:
    control = socket.socket(fileno=descriptor)
    # Not the worker's child: Ray kills those of a worker that ends, which would leave the script's own alone.
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    data = b""
    while not data.endswith(b"\n"):
        piece = control.recv(1 << 16)
        if not piece:
            return
        data += piece
    order = json.loads(data)
    order["parent"] = os.getppid()
    Keeper(control, order).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
