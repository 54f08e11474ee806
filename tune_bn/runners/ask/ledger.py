"""Which runs of a study are out, with whom and until when, and what was told of them: ``asked.json`` in its folder.

Only whoever holds the study's lock reads and writes it. A run is out until its lease ends; then it is handed out again,
and the first answer counts. A run that was told stays here until all runs of its task are: then they become records.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tune_bn.errors import StudyError
from tune_bn.protocols.runner import Task
from tune_bn.records.files import read_bytes, write_json, writing
from tune_bn.records.times import utc_now

ASKED_FILE = "asked.json"
SCHEMA = 1


@dataclass(frozen=True)
class Out:
    """A run of a task that was begun."""

    seed: int
    attempts: int = 0
    """How often it was handed out."""
    began: str = ""
    """When it was handed out first, in UTC."""
    until: float = 0.0
    """When its lease ends, in seconds since 1970; 0: it is with nobody."""
    worker: str = ""
    """Who has it, in their own words."""
    failures: tuple[str, ...] = ()
    """Reasons of attempts that failed."""
    told: Mapping[str, Any] | None = None
    """What was told of it in the end."""


@dataclass
class Entry:
    """A task of which a run is, or was, out."""

    task: dict[str, Any]
    """Its fields but the configuration, which the space gives."""
    runs: dict[str, Out] = field(default_factory=dict)
    """By their keys."""

    @property
    def whole(self) -> bool:
        """Whether all of its runs are told."""
        return all(run.told is not None for run in self.runs.values())


class Ledger:
    """The file, read when it is opened and written by :meth:`save`.

    Args:
        folder: of the study.
        clock: seconds since 1970.

    Raises:
        StudyError: the file is damaged.
    """

    def __init__(self, folder: Path, clock: Any = time.time) -> None:
        self.path = folder / ASKED_FILE
        self.clock = clock
        self.entries: dict[str, Entry] = {}
        self.given_up: set[str] = set()
        """Tasks that failed more often than the budget allows."""
        try:
            content = json.loads(read_bytes(self.path))
            for key, entry in content["tasks"].items():
                runs = {name: Out(**run | {"failures": tuple(run["failures"])}) for name, run in entry["runs"].items()}
                self.entries[key] = Entry(entry["task"], runs)
            self.given_up = set(content["given_up"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StudyError(f"{self.path}: cannot be read ({error}); accepted: the file as it was written") from None

    def save(self) -> None:
        """Write it, as a whole or not at all."""
        tasks = {
            key: {"task": entry.task, "runs": {name: asdict(run) for name, run in entry.runs.items()}}
            for key, entry in self.entries.items()
        }
        with writing(self.path):
            write_json(self.path, {"schema_version": SCHEMA, "tasks": tasks, "given_up": sorted(self.given_up)})

    def find(self, run: str) -> tuple[Entry, Out] | None:
        """The entry of a run by its key."""
        return next(((entry, entry.runs[run]) for entry in self.entries.values() if run in entry.runs), None)

    def out(self) -> Iterator[tuple[str, Out]]:
        """Runs that were handed out and not told, with their keys."""
        for entry in self.entries.values():
            yield from ((key, run) for key, run in entry.runs.items() if run.told is None and run.attempts)

    def hand_out(self, task: Task, seconds: float, worker: str) -> tuple[str, Out] | None:
        """The next run of a task that nobody has, leased from now on; None where all are out or told."""
        entry = self.entries.get(task.key)
        if entry is None:
            told = {name: getattr(task, name) for name in _KEPT} | {"overrides": dict(task.overrides)}
            entry = Entry(told | {"seeds": list(task.seeds)}, {task.run_key(seed): Out(seed) for seed in task.seeds})
            self.entries[task.key] = entry
        now = self.clock()
        for key, run in entry.runs.items():
            if run.told is None and run.until <= now:
                began = run.began or utc_now()
                entry.runs[key] = replace(
                    run, attempts=run.attempts + 1, began=began, until=now + seconds, worker=worker
                )
                return key, entry.runs[key]
        return None

    def soonest(self) -> float | None:
        """Seconds until the first lease ends; None where nothing is out."""
        ends = [run.until - self.clock() for _, run in self.out()]
        return max(0.0, min(ends)) if ends else None


_KEPT = ("stage", "arm", "trial", "test_metric", "may_stop", "inspect", "pair", "beside", "steps")


def task_of(entry: Entry, config: Any) -> Task:
    """The task that an entry is of, with its configuration."""
    given = entry.task
    kept = {name: given[name] for name in _KEPT}
    return Task(overrides=given["overrides"], seeds=tuple(given["seeds"]), config=config, **kept)
