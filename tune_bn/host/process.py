"""What a process must set right that was not started by a person's shell: by cron, a service manager, a container, Ray.

Such starters block or ignore signals, close streams, run a command as the first process of a container, or remove the
folder in which it stands.
"""

from __future__ import annotations

import errno
import getpass
import io
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SILENCE = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
"""For Ray, MLflow and the processes that they start: nobody is told that, and how, they are used."""
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"}
"""For torch and the processes that load it: threads that wait for each other spin for some microseconds, then sleep.

They would spin a hundred times as long, hundreds of times in a step, and where another process has one of their cores,
all of them spin until it is given back. Threads that sleep at once are woken hundreds of times in a step, for which
tiny networks wait longer than they compute. The count is that of GNU's library, which torch has on Linux; another one
lets them sleep at once. ``benchmarks.speed.thread_waiting`` measures it.
"""
CPU_NOTICE_SECONDS = 10
"""Time of a core in which a driver ends cleanly."""
_ERRORS = "backslashreplace"
"""γ and ± are no reason to end with a traceback on a terminal that lacks them."""
_READER_GONE = (errno.EPIPE, errno.EIO)
"""What writing meets where a pipe has no reader any more, or its terminal was closed."""


def let_signals_in() -> None:
    """Let in the signals that whoever started the process blocks, as Ray blocks SIGINT in its jobs."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Where it is ignored the system keeps no exit status, and every process that fails seems to have gone well.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def hear_of_limit_on_time() -> None:
    """Hear of the limit on the time of a core (SIGXCPU) early enough to end cleanly: at it the system kills.

    ``ulimit -t`` of a shell sets both, the one at which the signal comes and the one at which the process is killed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY:
        return
    notice = max(1, hard - min(CPU_NOTICE_SECONDS, hard // 2))
    if soft == resource.RLIM_INFINITY or soft > notice:
        resource.setrlimit(resource.RLIMIT_CPU, (notice, hard))


def out_of_processes(error: BaseException) -> str | None:
    """The line where the system let no further process or thread begin; None where the error is another one."""
    no_thread = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    # Of a fork. A stream that would block says how much of its letters it took.
    no_process = isinstance(error, BlockingIOError) and not hasattr(error, "characters_written")
    if not (no_thread or no_process):
        return None
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    limit = "no limit of its own" if most == resource.RLIM_INFINITY else f"ulimit -u: {most}"
    return (
        f"processes and threads of this user: no further one begins ({limit}); accepted: room for more, by a higher "
        "limit (ulimit -u, that of the container or the job), or --local, which needs few"
    )


def is_suspended(pid: int) -> bool:
    """Whether a process of this machine is halted, as by Ctrl-Z, and does nothing until it is let go on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] == ["T"]


def settle_environment() -> None:
    """State what libraries read from the environment when they are loaded, where the user states nothing."""
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)
    os.environ.update(waiting(os.environ))
    name_user()


def waiting(*environments: Mapping[str, str]) -> dict[str, str]:
    """:data:`WAITING` as the first of these has it that states one of its variables: who states one states all."""
    stated = ({name: one[name] for name in WAITING if name in one} for one in environments)
    return next(filter(None, stated), dict(WAITING))


def name_user() -> None:
    """Give a user whom the system does not list a name and a home, as libraries ask for both when they are loaded.

    Containers run under such users (OpenShift takes any number), and service managers start processes without either.
    The home is one that is not there: what would be kept in it is not kept.
    """
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/nonexistent"
    try:
        getpass.getuser()
    # KeyError before Python 3.13.
    except (KeyError, OSError):
        os.environ["USER"] = f"uid{os.geteuid()}"


class _Output(io.RawIOBase):
    """A standard stream that takes whatever is written.

    What cannot be written is lost: a study, or a run that takes hours, must not end because nobody looks on. Whether
    that is a fault is asked at the end.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.error: OSError | None = None

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size = left.nbytes
        while left:
            try:
                left = left[os.write(self._number, left) :]
            except BlockingIOError:
                select.select((), (self._number,), ())
            except OSError as error:
                self.error = self.error or error
                break
        return size

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)


def open_standard_streams() -> None:
    """Make the standard streams such that all code may use them.

    Where one was closed, as some job starters do, the next file that is opened would be taken for it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number)
                os.close(file)
            # For what this process starts, or becomes, it would be closed again.
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream is not getattr(sys, f"__{name}__"):
            # Somebody put another one in its place, which stays.
            stream.reconfigure(errors=_ERRORS)
        else:
            stream.flush()
            output = _Output(number)
            # A text stream asks no more of what it writes to.
            buffer: Any = output if stream.write_through else io.BufferedWriter(output)
            fresh = io.TextIOWrapper(
                buffer,
                encoding=stream.encoding,
                errors=_ERRORS,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, fresh)
            # Their numbers stay open: libraries have copies of them.
            _outputs[name] = output, stream


_outputs: dict[str, tuple[_Output, io.TextIOWrapper]] = {}


def output_error() -> OSError | None:
    """Why not all that was printed was written, where it was not."""
    return _outputs["stdout"][0].error if "stdout" in _outputs else None


def exit_status(status: int) -> int:
    """The status to end with, once all is printed: 2 at least where that could not be written, which is said."""
    sys.stdout.flush()
    error = output_error()
    if error is None or unread():
        return status
    print(
        f"error: standard output: cannot be written ({error.strerror}), and is not whole; accepted: a place with room",
        file=sys.stderr,
    )
    return status or 2


def unread() -> bool:
    """Whether nobody reads what is printed any more: the pipe's reader has gone, or the terminal was closed."""
    error = output_error()
    return error is not None and error.errno in _READER_GONE


@contextmanager
def apart() -> Iterator[None]:
    """What is started in this block is in a process group of its own, and dies of no signal that is meant for ours.

    A terminal that closes, ``timeout`` and many service managers signal a whole group. Where the helpers of this
    process died of that, it could not end cleanly. Nothing changes where this process leads a session.

    To a terminal that stops background jobs which write (``stty tostop``) we are one meanwhile, and of this group the
    shell knows nothing: it could not let us go on. So what this thread writes is let through.
    """
    own = os.getpgrp()
    # A group lasts as long as somebody is in it: one waits in the new group, and one for us in the old one.
    wait = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(wait, process_group=0, **quiet) as there, subprocess.Popen(wait, **quiet) as here:  # type: ignore[call-overload]
        moved = False
        former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with suppress(PermissionError):
            os.setpgid(0, there.pid)
            moved = True
        try:
            yield
        finally:
            if moved:
                os.setpgid(0, own)
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            if moved:
                # What came for the old group meanwhile came for this process.
                here.communicate()
                if here.returncode < 0:
                    os.kill(os.getpid(), -here.returncode)


@contextmanager
def without_empty_caches() -> Iterator[None]:
    """Take away what is left empty of the folder that torch makes beside other temporary files.

    It is made as soon as torch's compiler is loaded, for an optimizer too, by this process and its workers, and is used
    where something is compiled alone. One that was there before, holds anything or is another user's stays.
    """
    before = set(_torch_caches())
    try:
        yield
    finally:
        for path in set(_torch_caches()) - before:
            with suppress(OSError):
                path.rmdir()


def _torch_caches() -> list[Path]:
    try:
        found = list(Path(tempfile.gettempdir()).glob("torchinductor_*"))
        return [path for path in found if path.lstat().st_uid == os.geteuid()]
    except OSError:
        return []


def leave_first_process() -> None:
    """Go on in a child where this is the first process of a container, process 1.

    The system ignores signals for that one which would end any other, and it must collect the exit status of every
    orphan. So it does that alone: hands signals on to the child, and ends as it ends.
    """
    if os.getpid() != 1:
        return
    # None is lost that comes before somebody listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        # Ctrl-C of a terminal is for the child, and for it once.
        os.setpgid(0, 0)
        _take_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return
    with suppress(OSError):
        os.setpgid(child, child)

    def hand_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        # Those that are ignored stay so in the child, too, but for SIGTERM, which a driver hears in any case.
        if number == signal.SIGTERM or signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            with suppress(OSError, ValueError):
                signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _take_terminal() -> None:
    """Be the terminal's foreground group, where there is a terminal."""
    former = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):
        os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, former)


def sign_of_life(text: str) -> None:
    """Tell a person who waits what is being done; a file or a program would take it for a result or an error."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)
