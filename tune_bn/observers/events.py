"""What happens in a study, told to a Python function: for notebooks and for services that show progress themselves."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tune_bn.errors import first_line
from tune_bn.observers.console.observer import ConsoleObserver
from tune_bn.protocols.observer import StudyInfo
from tune_bn.records.plan import Plan
from tune_bn.records.record import Record


@dataclass(frozen=True)
class Event:
    """Something that happened in a study; ``str`` of it is a line for people."""

    kind: str
    """``stage``, ``run``, ``plan``, ``warning``, ``note`` or, at the end, ``verdict``."""
    text: str
    study: Path | None = None
    """The folder of the study, as soon as it has one."""
    record: Record | None = None
    """The run that finished, of a ``run``."""
    plan: Mapping[str, Any] | None = None
    """The plan that was locked, as its file has it, of a ``plan``."""

    def __str__(self) -> str:
        return self.text


class EventObserver(ConsoleObserver):
    """The console's lines, each as an :class:`Event` for a function; nothing is printed.

    The function is called from the thread that runs the study and from threads of its adapters, one call at a time. An
    error of it ends nothing: it is warned of, once.
    """

    def __init__(self, tell: Callable[[Event], object]) -> None:
        super().__init__(Console(file=io.StringIO(), force_terminal=False, force_jupyter=False, highlight=False))
        self._tell = tell
        self._telling = threading.RLock()
        self._about = threading.local()
        self._folder: Path | None = None
        self._warned = False

    def study_started(self, info: StudyInfo, records: Sequence[Record]) -> None:
        """See the protocol."""
        self._folder = info.folder
        super().study_started(info, records)

    def stage_started(self, stage: str, planned_runs: int, done_runs: int) -> None:
        """See the protocol."""
        with self._as("stage"):
            super().stage_started(stage, planned_runs, done_runs)

    def plan_locked(self, plan: Plan) -> None:
        """See the protocol."""
        with self._as("plan", plan=plan.to_json()):
            super().plan_locked(plan)

    def run_recorded(self, record: Record, curve: Sequence[Any]) -> None:
        """See the protocol."""
        with self._as("run", record=record):
            super().run_recorded(record, curve)

    def warn(self, message: str) -> None:
        """A warning."""
        with self._as("warning"):
            super().warn(message)

    def concluded(self, words: str) -> None:
        """The study has a verdict."""
        with self._as("verdict"):
            self._print(words)

    @contextmanager
    def _as(self, kind: str, **content: Any) -> Iterator[None]:
        before: tuple[str, dict[str, Any]] = getattr(self._about, "now", ("note", {}))
        self._about.now = (kind, content)
        try:
            yield
        finally:
            self._about.now = before

    def _print(self, line: str, *_: Any, **__: Any) -> None:
        kind, content = getattr(self._about, "now", ("note", {}))
        self._last_line = self._clock()
        try:
            with self._telling:
                self._tell(Event(kind, line, self._folder, **content))
        except Exception as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"on_event raised {type(error).__name__}: {first_line(error)}; the study goes on", stacklevel=2
                )
