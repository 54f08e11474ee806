"""An attempt of a run: a process with the script's command line, or a thread that calls a function."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tune_bn.protocols.trainer import Place
from tune_bn.trainers.command.code import FrozenCode
from tune_bn.trainers.command.environment import script_environment
from tune_bn.trainers.command.folder import GoOn, RunFolder
from tune_bn.trainers.command.placeholders import fill, fill_all
from tune_bn.trainers.command.process import End, Process, printed_rows
from tune_bn.trainers.command.settings import CommandSettings


class Attempt(Protocol):
    """What trains: a process, or a thread of this one."""

    def poll(self, seconds: float = 0.0) -> End | None:
        """How it has ended, once it has; waits so long for something to happen."""

    def stop(self, reason: str) -> None:
        """Ask it to stop."""

    def end(self, reason: str) -> End:
        """Ask it to stop, and wait until nothing of it is left."""


def begin(
    settings: CommandSettings,
    code: FrozenCode,
    files: RunFolder,
    place: Place,
    values: Mapping[str, Any],
    going_on: GoOn | None,
    *,
    mark: str,
    alone: bool,
    audit: Path | None,
) -> Attempt:
    """Start the last attempt that stands in the run's folder.

    Args:
        settings, code: of the trainer.
        files: of the run.
        place: where it is trained.
        values: what placeholders stand for.
        going_on: the checkpoint to go on from.
        mark: by which its processes are known.
        alone: whether no other run is trained in this process: a function may then be called in it.
        audit: folder in which the script's Pythons note which files they open.
    """
    number = len(files.attempts)
    env = {name: fill(text, values) for name, text in settings.env.items()}
    if settings.function and alone and not settings.isolate:
        from tune_bn.trainers.command.function import FunctionThread

        return FunctionThread(settings.function, code, files, mark=mark, threads=place.threads, env=env)
    argv = fill_all(_argv(settings), values)
    if going_on is not None:
        argv += fill_all(settings.resume, values)
    return Process(
        argv,
        folder=files.work,
        env=script_environment(files.path, files.work, place, env, origin=code.origin, audit=audit),
        attempt=mark,
        log=files.log,
        stop=files.stop,
        helper=files.path / f"notes.{number}.jsonl",
        grace=settings.grace,
        timeout=settings.timeout,
        terminal=settings.terminal,
        printed=printed_rows(settings.metrics, files.metrics(number)),
    )


def _argv(settings: CommandSettings) -> Sequence[str]:
    """The command line, with its placeholders."""
    if settings.function:
        return (sys.executable, "-m", "tune_bn.trainers.command.function", settings.function)
    return settings.command
