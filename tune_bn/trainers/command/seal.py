"""The test command: once for a confirmed run, in a process and a folder of its own, told alone where the data is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_bn.protocols.trainer import Place
from tune_bn.records.files import write_json
from tune_bn.script.folder import FORMAT, LOG, RUN, STOP, WORK, metrics_file
from tune_bn.trainers.command.environment import script_environment
from tune_bn.trainers.command.folder import RunFolder, last_words
from tune_bn.trainers.command.placeholders import fill, fill_all, names_in
from tune_bn.trainers.command.process import End, Process, printed_rows
from tune_bn.trainers.command.rows import HelperRows, RowError
from tune_bn.trainers.command.settings import CommandSettings, SealedTest, tap_on_files
from tune_bn.trainers.command.taps import tap_rows


class TestError(Exception):
    """The test gave no score; the message is one line."""

    __test__ = False


class SealedRun:
    """A test that runs.

    Args:
        settings: of the trainer.
        sealed: the command, and where the test data is.
        files: of the run that is tested.
        values: what its placeholders stand for; ``data`` becomes that of the test.
        checkpoint: what is tested; None: the run left none that is whole.
        place: where.
    """

    def __init__(
        self,
        settings: CommandSettings,
        sealed: SealedTest,
        files: RunFolder,
        *,
        values: Mapping[str, Any],
        checkpoint: Path | None,
        place: Place,
    ) -> None:
        self.settings = settings
        self.folder = files.test
        self._process: Process | None = None
        self._end: End | None = None
        self._problem: str | None = None
        if checkpoint is None and "checkpoint" in names_in(sealed.command):
            kind = "of its best step" if settings.test_checkpoint == "best" else "of its last step"
            self._problem = f"there is no whole checkpoint {kind} to test (log: {files.log})"
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        work = self.folder / WORK
        files.unpack(work)
        told = {**values, "data": sealed.data or "", "checkpoint": "" if checkpoint is None else str(checkpoint)}
        files.fill_files(work, told)
        facts = {
            "format": FORMAT,
            "run": files.run,
            "params": {name: value for name, value in values.items() if name not in _OWN},
            "seed": values["seed"],
            "steps": values["steps"],
            "attempt": 1,
            "checkpoint": told["checkpoint"] or None,
            "start": values["steps"],
            "first": 0,
            "data": sealed.data,
            "wants_test": True,
            "test_data": sealed.data,
            "score": None,
            "goal": settings.score.goal,
            "keep": None,
            "save_every": settings.save_every,
        }
        write_json(self.folder / RUN, facts)
        env = {name: fill(text, told) for name, text in settings.env.items()}
        self._process = Process(
            fill_all(sealed.command, told),
            folder=work,
            env=script_environment(self.folder, work, place, env, origin=files.code.origin),
            attempt=os.urandom(8).hex(),
            log=self.folder / LOG,
            stop=self.folder / STOP,
            helper=self.folder / "notes.1.jsonl",
            grace=settings.grace,
            timeout=settings.timeout,
            terminal=settings.terminal,
            printed=printed_rows(settings.test_metrics, metrics_file(self.folder, 1), final=True),
        )

    def poll(self, seconds: float) -> bool:
        """Whether it has ended; waits so long for it."""
        if self._process is not None and self._end is None:
            self._end = self._process.poll(seconds)
        return self._process is None or self._end is not None

    def score(self) -> float:
        """The test score, once it has ended. Raises :class:`TestError`."""
        if self._problem is not None:
            raise TestError(self._problem)
        assert self._end is not None
        log = self.folder / LOG
        words = last_words(log)
        tail = f"{': ' + words if words else ''} (log: {log})"
        if self._end.status != 0 or self._end.reason is not None:
            how = "took too long" if self._end.reason == "timeout" else f"ended with exit status {self._end.status}"
            raise TestError(f"the test command {how}{tail}")
        if self._end.survivors:
            raise TestError(f"processes of the test command cannot be killed{tail}")
        found: dict[str, float] = {}
        tap = tap_on_files(self.settings.test_metrics)
        rows = HelperRows(metrics_file(self.folder, 1)) if tap is None else tap_rows(tap, self.folder / WORK, 0.0)
        try:
            for row in rows.read(last=True):
                found |= row.metrics
        except RowError as error:
            raise TestError(f"the test command: {error}{tail}") from None
        name = self.settings.score.test
        if name not in found:
            told = f"it tells {', '.join(sorted(found))}" if found else "it tells nothing"
            raise TestError(f"the test command reported no {name!r}; {told}{tail}")
        return found[name]

    def close(self) -> None:
        """End it where it runs."""
        if self._process is not None and self._end is None:
            self._end = self._process.end("stopped")


_OWN = ("seed", "steps", "checkpoint", "run", "data")
