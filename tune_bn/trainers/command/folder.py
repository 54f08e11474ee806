"""The folder of a run: made, taken up again, and where to go on from."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_bn.records.files import write_json
from tune_bn.script.checkpoints import Checkpoints
from tune_bn.script.folder import (
    ATTEMPT_VARIABLE,
    CHECKPOINT,
    LOG,
    RUN,
    STOP,
    TEST,
    WORK,
    append_row,
    metrics_file,
    notes_file,
)
from tune_bn.trainers.command import keeper
from tune_bn.trainers.command.code import FrozenCode
from tune_bn.trainers.command.environment import HELPER
from tune_bn.trainers.command.placeholders import fill
from tune_bn.trainers.command.settings import CommandSettings

ATTEMPTS = "attempts.jsonl"


@dataclass(frozen=True)
class GoOn:
    """A checkpoint that is whole."""

    path: Path
    done: int | None
    """Steps that lie behind it; None: only the script knows."""
    best: bool = False


class RunFolder:
    """The folder of one run over all its attempts.

    Args:
        path: the folder; made where it is not there, and emptied where it is another run's.
        run: what decides the run's result, as a hash.
        settings: of the trainer.
        code: the frozen code.
    """

    def __init__(self, path: Path, run: str, settings: CommandSettings, code: FrozenCode) -> None:
        self.path, self.run, self.settings, self.code = path.absolute(), run, settings, code
        if self._content().get("run") != run and self.path.exists():
            self.end_earlier()
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.attempts = self._attempts()

    @property
    def work(self) -> Path:
        """The current folder of the script."""
        return self.path / WORK

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.path / LOG

    @property
    def stop(self) -> Path:
        """Asks it to stop."""
        return self.path / STOP

    @property
    def test(self) -> Path:
        """Where the test is run."""
        return self.path / TEST

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads((self.path / RUN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _attempts(self) -> list[dict[str, Any]]:
        try:
            lines = (self.path / ATTEMPTS).read_text(encoding="utf-8").split("\n")[:-1]
            return [json.loads(line) for line in lines]
        except (OSError, ValueError):
            return []

    def end_earlier(self) -> list[int]:
        """End what an earlier attempt left on this machine; returns those that could not be."""
        left: list[int] = []
        for attempt in self._attempts():
            left += keeper.end_marked(ATTEMPT_VARIABLE, attempt["mark"])
        return left

    def begin(self, number: int, mark: str, facts: Mapping[str, Any]) -> None:
        """Write down that an attempt begins, and what it is asked for."""
        self.stop.unlink(missing_ok=True)
        attempt = {"number": number, "mark": mark, "at": time.time(), "start": facts.get("start")}
        append_row(self.path / ATTEMPTS, attempt)
        self.attempts.append(attempt)
        write_json(self.path / RUN, {"run": self.run, **facts})

    def fresh(self) -> None:
        """Nothing of an earlier attempt is in the way: checkpoints of its own may be cut, and a script may trip."""
        for name in (WORK, CHECKPOINT, TEST):
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.unpack(self.work)

    def unpack(self, folder: Path) -> None:
        """A copy of the frozen code."""
        self.code.unpack(folder)

    def fill_files(self, folder: Path, values: Mapping[str, Any]) -> None:
        """Write the configuration files into a copy of the code. Raises :class:`ConfigError`, ``OSError``."""
        for target, template in self.settings.files.items():
            text = fill((folder / template).read_text(encoding="utf-8"), values)
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # a link would lead out of the copy
            path.write_text(text, encoding="utf-8")

    def checkpoint(self, *, best: bool = False, told: int | None = None) -> GoOn | None:
        """The newest checkpoint that is whole and this run's own; the one before where it is not.

        Args:
            best: the best one, by the validation score.
            told: the step that was told of last. The helper saves before it tells: a script that is killed in between
                leaves a checkpoint whose step nobody has heard of, and would never hear of.
        """
        if self.settings.checkpoint is None:
            saves = Checkpoints(self.path / CHECKPOINT, self.run).whole()
            found = [save for save in saves if save["best"] or not best]
            found = [save for save in found if told is None or save["done"] <= told]
            return GoOn(self.path / CHECKPOINT / found[0]["name"], found[0]["done"], True) if found else None
        began = min((attempt["at"] for attempt in self.attempts), default=time.time())
        files = []
        for path in self.work.glob(self.settings.checkpoint):
            if is_whole(path) and path.stat().st_mtime >= began - 0.05:
                files.append((path.stat().st_mtime, path))
        return GoOn(max(files)[1], None) if files else None

    def metrics(self, attempt: int) -> Path:
        """Rows of an attempt."""
        return metrics_file(self.path, attempt)

    def notes(self, attempt: int) -> list[dict[str, Any]]:
        """What the package noted in an attempt."""
        return read_notes(notes_file(self.path, attempt))

    def last_words(self, lines: int = 1) -> str:
        """What the script printed last: the last line that says something, or so many lines."""
        return last_words(self.log, lines)

    def tidy(self) -> None:
        """The run is over: what is large goes, what was said stays."""
        for name in (WORK, CHECKPOINT, HELPER, f"{TEST}/{HELPER}"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        shutil.rmtree(self.test / WORK, ignore_errors=True)


def is_whole(path: Path) -> bool:
    """Whether a file is a whole archive, as torch and numpy write them; a folder, whether all archives in it are."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        archives = [file for file in files if file.suffix in (".pt", ".pth", ".ckpt", ".npz", ".bin")]
        return bool(files) and all(map(zipfile.is_zipfile, archives))
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except OSError:
        return False


def read_notes(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of notes."""
    found = []
    try:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            found.append(json.loads(line))
    except (OSError, ValueError):
        pass
    return found


def last_words(log: Path, lines: int = 1) -> str:
    """The last lines of a log that say something."""
    try:
        with open(log, "rb") as handle:
            handle.seek(max(0, handle.seek(0, 2) - (1 << 14)))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return ""
    said = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return "\n".join(said[-lines:])[: 400 * lines]
