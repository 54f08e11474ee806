"""What a process must set right that was not started by a person's shell: by cron, a service manager, a container, Ray.

Such starters block or ignore signals, close streams, run a command as the first process of a container, or remove the
folder in which it stands.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress

_READER_GONE = (errno.EPIPE, errno.EIO)
"""What writing meets where a pipe has no reader any more, or its terminal was closed."""


def let_signals_in() -> None:
    """Let in the signals that whoever started the process blocks, as Ray blocks SIGINT in its jobs."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Where it is ignored the system keeps no exit status, and every process that fails seems to have gone well.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def open_standard_streams() -> None:
    """Where a stream was closed, as some job starters do, the next file that is opened would be taken for it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, os.O_RDWR)
            if file != number:
                os.dup2(file, number)
                os.close(file)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # γ and ± are no reason to end with a traceback on a terminal that lacks them.
            stream.reconfigure(errors="backslashreplace")


def reader_gone(error: OSError) -> bool:
    """Whether an error of writing says that nobody reads any more, which is no fault."""
    return error.errno in _READER_GONE


def silence(number: int) -> None:
    """From now on nothing comes of what is written to that stream."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def leave_first_process() -> None:
    """Go on in a child where this is the first process of a container, process 1.

    The system ignores signals for that one which would end any other, and it must collect the exit status of every
    orphan. So it does that alone: hands signals on to the child, and ends as it ends.
    """
    if os.getpid() != 1:
        return
    child = os.fork()
    if child == 0:
        # Ctrl-C of a terminal is for the child, and for it once.
        os.setpgid(0, 0)
        _take_terminal()
        return
    with suppress(OSError):
        os.setpgid(child, child)

    def hand_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        # Those that are ignored stay so in the child, too.
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            with suppress(OSError, ValueError):
                signal.signal(number, hand_on)
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
