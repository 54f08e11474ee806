"""That the work is to stop: a state which its loop sees. Signals set it, as do limits and ``tune_bn stop``.

A process may be started with its signals blocked or ignored, as every driver in a Ray job is, so a stop must reach the
loop without one.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tune_bn.errors import Interrupted


class StopRequest:
    """A request to stop, which stays. Any thread may make it."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._watched = False

    @property
    def asked(self) -> bool:
        """Whether the work is to stop."""
        return self._asked.is_set()

    def ask(self) -> None:
        """The work is to stop."""
        self._asked.set()

    def check(self) -> None:
        """Raise :class:`Interrupted` where the work is to stop."""
        if self.asked:
            raise Interrupted("interrupted")

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
    def on_sigterm(self) -> Iterator[None]:
        """In this block SIGTERM, by which batch systems end a job, makes the request; in other threads nothing does."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = signal.signal(signal.SIGTERM, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, former)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self.asked
        self.ask()
        # Where nobody looks, and for whoever loses patience, as Ctrl-C does it.
        if again or not self._watched:
            raise KeyboardInterrupt


def unblock_signals() -> None:
    """Let in the signals that stop a process, where whoever started it blocks them: Ray blocks SIGINT in its jobs."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
