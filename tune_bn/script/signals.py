"""SIGTERM asks a script to stop at its next report. It ends nothing by itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

_asked = threading.Event()
_before: Any = None
_installed = False
_children_end = False
_forking = threading.local()


def listen() -> None:
    """Note a SIGTERM from now on, and hand it on to the handler that was there before. May be called twice."""
    global _before
    if threading.current_thread() is not threading.main_thread() or _is_of_a_pool():
        return
    if signal.getsignal(signal.SIGTERM) is not _on_term:
        # A library may have put its own handler over ours in between; it is chained like any other.
        _before = signal.signal(signal.SIGTERM, _on_term)
    _watch_forks()


def let_children_end() -> None:
    """From now on a process that is forked off is ended by SIGTERM, whatever this one does about it.

    Ray's workers and drivers raise SystemExit. What is raised in a child while Python itself, or a library, is at work
    after the fork is printed and forgotten, and a pool that ends its workers at that moment waits for ever.
    """
    global _children_end
    _children_end = True
    _watch_forks()


def _watch_forks() -> None:
    global _installed
    if not _installed:
        os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_reset)
        _installed = True


def _is_of_a_pool() -> bool:
    """Whether ``multiprocessing`` started this process, which then reads the script again: whoever started it ends it
    by SIGTERM, and waits for that."""
    found = sys.modules.get("multiprocessing.process")
    # While the script is read again only its name is known of a process.
    return found is not None and (found.current_process().name != "MainProcess" or found.parent_process() is not None)


def asked() -> bool:
    """Whether a SIGTERM has come."""
    return _asked.is_set()


def _on_term(number: int, frame: Any) -> None:
    _asked.set()
    if callable(_before):
        _before(number, frame)


def _hold_back() -> None:
    # A child that is asked to end before it is through with _reset would note it and forget it.
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _reset() -> None:
    # A pool ends its workers by SIGTERM: one that inherits a handler which only sets a flag would never end.
    handler = signal.getsignal(signal.SIGTERM)
    # A thread that forks is the child's main thread.
    if _children_end and callable(handler):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    elif handler is _on_term:
        signal.signal(signal.SIGTERM, _before if _before is not None else signal.SIG_DFL)
    _asked.clear()
    _let_through()
