"""A function ``package.module:name`` that trains: called with the run, in the worker or in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from tune_bn.script import run as script_run
from tune_bn.script.folder import ATTEMPT_VARIABLE, RUN_VARIABLE
from tune_bn.script.notes import forget, note
from tune_bn.script.signals import let_children_end
from tune_bn.trainers.command.code import FrozenCode
from tune_bn.trainers.command.folder import RunFolder
from tune_bn.trainers.command.process import End

_homes: dict[str, str] = {}
"""Where the frozen code of this process lies, by its hash."""


def find_function(name: str) -> Callable[[Any], Any]:
    """Import a function.

    Raises:
        ValueError: there is none of that name.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"trainer.function: got {name!r} ({error}); accepted: package.module:name") from error
    if not callable(found):
        raise ValueError(f"trainer.function: got {name!r}, a {type(found).__name__}; accepted: a function of one run")
    return found  # type: ignore[no-any-return]


class _RunThread(threading.Thread):
    """The thread of a function, which ends alone where the function ends its process: that is the worker."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self.process = os.getpid()


_exit = os._exit


def _exit_of_function(status: int) -> NoReturn:
    thread = threading.current_thread()
    if isinstance(thread, _RunThread) and thread.process == os.getpid():
        raise SystemExit(status)
    _exit(status)


class FunctionThread:
    """Calls the function in this process, where its imports stay warm, and lets it go on from report to report.

    As a command it has the copy of the code as its current folder, and the variables of ``trainer.env``; between its
    reports the process has its own folder back.

    Python cannot end a thread from outside: one that does not leave its loop when it is told to makes the worker give
    up, and ``isolate: true`` is for those.
    """

    def __init__(
        self,
        name: str,
        code: FrozenCode,
        files: RunFolder,
        *,
        mark: str,
        threads: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.code, self.files = name, code, files
        # What it starts is known by the mark: where its worker is killed, whoever tries the run again ends that first.
        # While the worker lives it may be what a library keeps for the next run, such as a pool that compiles.
        self._threads, self._env = threads, {**(env or {}), ATTEMPT_VARIABLE: mark}
        self._outside = os.getcwd()
        self._go, self._happened = threading.Event(), threading.Event()
        self._at_gate = False
        self._asked: str | None = None
        self._status: int | None = None
        self._started = time.monotonic()
        self._grace = files.settings.grace
        self._timeout = files.settings.timeout
        os._exit = _exit_of_function
        let_children_end()
        self._thread = _RunThread(self._call, f"run {name}")
        self._thread.start()

    def poll(self, seconds: float = 0.0) -> End | None:
        """See :class:`tune_bn.trainers.command.attempt.Attempt`. Being asked for more, the function goes on."""
        if seconds:
            # Let go before it has come there, it would not wait, and work in its own folder beside whoever asks.
            if self._at_gate:
                self._at_gate = False
                self._happened.clear()
                self._go.set()
            self._happened.wait(seconds)
        if self._status is not None:
            self._thread.join()
            return self._end()
        if self._timeout is not None and time.monotonic() - self._started > self._timeout:
            return self.end("timeout")
        return None

    def stop(self, reason: str) -> None:
        """Let the next report tell it to stop."""
        if self._status is None and self._asked is None:
            self._asked = reason
            self.files.stop.touch()
            self._go.set()

    def end(self, reason: str) -> End:
        """Wait until it has left its loop; a function that does not is interrupted where Python can do that."""
        self.stop(reason)
        self._thread.join(self._grace)
        if self._thread.is_alive():
            assert self._thread.ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(SystemExit))
            self._go.set()
            self._thread.join(self._grace)
        if self._thread.is_alive():
            raise RuntimeError(
                f"{self.name} does not end: it was asked to at a report, and interrupted; accepted: a function that "
                "leaves its loop when report() says so, or trainer.isolate: true"
            )
        return self._end()

    def _end(self) -> End:
        by = "itself" if self._asked is None else "the stop file"
        return End(self._status, self._asked, by, 0, (), time.monotonic() - self._started)

    def _gate(self) -> bool:
        if os.getpid() != self._thread.process:  # A rank that was forked off: nobody here lets it go on.
            return True
        try:
            inside = os.getcwd()
        except OSError:  # It has removed it.
            inside = str(self.files.path)
        os.chdir(self._outside)
        self._at_gate = True
        self._happened.set()
        if self._asked is None:
            self._go.wait()
            self._go.clear()
        os.chdir(inside)
        return self._asked is None

    def _call(self) -> None:
        forget()
        status = 1
        try:
            with _variables({RUN_VARIABLE: str(self.files.path), **self._env}):
                status = self._status_of_call()
        finally:
            with contextlib.suppress(OSError):
                os.chdir(self._outside)
            self._status = status
            self._happened.set()

    def _status_of_call(self) -> int:
        try:
            os.chdir(self.files.work)
            # Beside the helper's own note: whoever reads the notes sees that it was used.
            note("function", name=self.name)
            if self._threads is not None and "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(self._threads)
            function = _of_frozen(self.name, self.code)
            run = script_run.open_run(self.files.path)
            run._gate = self._gate
            script_run.enter(run)
            function(run)
        except SystemExit as error:
            if error.code is None or isinstance(error.code, int):
                return error.code or 0
            self._log(f"{error.code}\n")
            return 1
        except BaseException:
            self._log(traceback.format_exc())
            return 1
        finally:
            script_run.enter(None)
        return 0

    def _log(self, words: str) -> None:
        with contextlib.suppress(OSError), open(self.files.log, "a", encoding="utf-8") as log:
            log.write(words)


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set these variables of the environment, and put back what they were."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _of_frozen(name: str, code: FrozenCode) -> Callable[[Any], Any]:
    """The function as the study froze it, imported once in this process."""
    home = _homes.get(code.digest)
    if home is None:
        import tempfile

        home = tempfile.mkdtemp(prefix="tune_bn-code-")
        code.unpack(Path(home))
        _homes[code.digest] = home
    if home in sys.path:
        sys.path.remove(home)
    sys.path.insert(0, home)
    top = name.partition(":")[0].partition(".")[0]
    found = getattr(sys.modules.get(top), "__file__", None)
    other = {code.origin, *_homes.values()} - {home}
    if found is not None and any(Path(found).is_relative_to(place) for place in other):
        # Of another study's code, or of the folder that this one was frozen from.
        for loaded in [one for one in sys.modules if one.partition(".")[0] == top]:
            del sys.modules[loaded]
    importlib.invalidate_caches()
    return find_function(name)


def main(name: str) -> None:
    """Call a function with the run that this process is in."""
    sys.path.insert(0, os.getcwd())
    find_function(name)(script_run.current_run())


if __name__ == "__main__":
    main(sys.argv[1])
