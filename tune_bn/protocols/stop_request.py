"""That the work is to stop: a state which its loop sees. Signals set it, as do limits and ``tune_bn stop``.

A process may be started with its signals blocked or ignored, as every driver in a Ray job is, so a stop must reach the
loop without one.
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tune_bn.errors import Interrupted

INTERRUPTED = "interrupted"

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""By which a person, a terminal that closes, and batch systems (a notice before the end; a limit) end a process."""

_MEANS = {"SIGXCPU": ": the time of a core that this process may use is nearly used up (ulimit -t)"}


class StopRequest:
    """A request to stop, which stays. Any thread may make it, and a signal's handler."""

    def __init__(self) -> None:
        # No lock and no event: a handler may come while this thread holds it.
        self._reason = ""
        self._watched = False
        self._heard: tuple[signal.Signals, ...] = ()

    @property
    def asked(self) -> bool:
        """Whether the work is to stop."""
        return bool(self._reason)

    @property
    def reason(self) -> str:
        """Why, in the words of who asked first; empty where nobody did."""
        return self._reason

    def ask(self, reason: str = INTERRUPTED) -> None:
        """The work is to stop."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raise :class:`Interrupted` where the work is to stop."""
        if self.asked:
            raise Interrupted(self._reason)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In this block a loop calls :meth:`check`, at least once a second or so."""
        self._watched = True
        try:
            self.check()
            yield
        finally:
            self._watched = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """In this block signals that end a process make the request; in other threads nothing does.

        Signals that whoever started the process wants ignored stay so (``nohup`` and SIGHUP, a shell's background jobs
        and SIGINT), but for SIGTERM, by which batch systems and service managers end what they run.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
        former = {number: signal.getsignal(number) for number in numbers}
        before, self._heard = (
            self._heard,
            tuple(number for number in numbers if number == signal.SIGTERM or former[number] is not signal.SIG_IGN),
        )
        self.listen()
        try:
            yield
        finally:
            heard, self._heard = self._heard, before
            for number in heard:
                # None: a handler that is not Python's.
                signal.signal(number, signal.SIG_DFL if former[number] is None else former[number])

    def listen(self) -> None:
        """Take the signals of :meth:`on_signals` again: Ray takes SIGTERM for itself, and Tune SIGUSR1."""
        if threading.current_thread() is threading.main_thread():
            for number in self._heard:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self.asked
        if number == signal.SIGXCPU:
            # It would come again each second, and after the clean end find nobody who hears it.
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        why = f"{INTERRUPTED} by {signal.Signals(number).name}{_MEANS.get(signal.Signals(number).name, '')}"
        self.ask(INTERRUPTED if number == signal.SIGINT else why)
        # Where nobody looks, and for a person who loses patience. Of other signals more than one may come of one wish:
        # from the kernel and the shell when a terminal closes, from a batch system to a step and through its script.
        if (number == signal.SIGINT) if again else not self._watched:
            raise KeyboardInterrupt
