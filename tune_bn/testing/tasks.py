"""Tasks that train nothing: a feed, a listener, and runs to which something happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tune_bn.protocols.runner import Point, RunResult, Task
from tune_bn.protocols.trainer import Place, PreemptedError
from tune_bn.records.score import MAX, MIN, Score
from tune_bn.testing.scripted import ScriptedTrainer

SCORE = Score("val_score", "test_score", MAX, 0.0, 200.0, diverged=0.0)
LOSS = Score("val_score", "test_score", MIN)


class Events:
    """A listener that keeps what it is told.

    Args:
        on_progress: called with each task that has new points.
    """

    def __init__(self, on_progress: Callable[[Task], None] | None = None) -> None:
        self.started: list[str] = []
        self.killed: list[str] = []
        self.points: dict[tuple[str, int], list[Point]] = {}
        self.on_progress = on_progress

    def task_started(self, task: Task) -> None:
        """See :class:`tune_bn.protocols.runner.Listener`, as for everything here."""
        self.started.append(task.key)

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """Keep the points."""
        for seed, points in curves.items():
            self.points.setdefault((task.key, seed), []).extend(points)
        if self.on_progress is not None:
            self.on_progress(task)

    def task_killed(self, task: Task) -> None:
        """Keep the key."""
        self.killed.append(task.key)


class Tasks:
    """A feed of given tasks that keeps their results."""

    def __init__(self, *tasks: Task) -> None:
        self.left = list(tasks)
        self.results: dict[str, list[RunResult]] = {}

    @property
    def exhausted(self) -> bool:
        """See :class:`tune_bn.protocols.runner.Feed`, as for everything here."""
        return not self.left

    def next(self) -> Task | None:
        """In their order."""
        return self.left.pop(0) if self.left else None

    def spares(self, task: Task) -> bool:
        """None."""
        return False

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        """Keep the results."""
        assert task.key not in self.results, "a task came back twice"
        self.results[task.key] = list(results)

    @property
    def ended(self) -> dict[int | None, tuple[str, int]]:
        """Status and steps of the first seed of every task, by its number."""
        numbers = {key: int(key.partition("-t")[2].partition("-")[0]) for key in self.results}
        return {numbers[key]: (results[0].status, results[0].epochs) for key, results in self.results.items()}


@dataclass(frozen=True)
class Work:
    """A configuration of the scripted trainer: what a run measures, and what happens to it."""

    level: float = 90.0
    """What the score comes close to."""
    steps: int = 3
    seconds: float = 0.0
    """Of a step."""
    diverges_at: int = 0
    raises: bool = False
    """Whether each of its steps raises."""
    once: str = ""
    """What happens once, before its fifth step: ``raise`` or ``preempt``."""
    folder: str = ""
    """Where it notes which steps it did, and what happened."""


def measured(config: Work, seed: int, step: int) -> Mapping[str, float]:
    """The metrics of a step, after what is to happen in it."""
    if config.raises:
        raise ValueError(f"the script is wrong\nin step {step}")
    if config.folder:
        _happen(config, Path(config.folder), seed, step)
    if config.seconds:
        time.sleep(config.seconds)
    if step == config.diverges_at:
        return {"val_score": float("nan")}
    return {"val_score": config.level * (1 - 1 / (step + 1)) + seed / 1000, "seed": float(seed)}


def _happen(config: Work, folder: Path, seed: int, step: int) -> None:
    with open(folder / f"steps-{seed}", "a", encoding="utf-8") as notes:
        notes.write(f"{step}\n")
    if step == 5 and config.once and not (folder / "happened").exists():
        # There is something to go on from by now, at the latest.
        until = time.monotonic() + 10
        while not any(path.is_file() for path in (folder / "checkpoints").rglob("*")) and time.monotonic() < until:
            time.sleep(0.01)
        (folder / "happened").touch()
        raise PreemptedError("elsewhere, please") if config.once == "preempt" else OSError("a disk hiccup")


def final_score(config: Work, seed: int) -> float:
    """The test score."""
    return config.level / 2 + seed / 1000


def steps_of(config: Work) -> int:
    """Of a whole run."""
    return config.steps


TRAINER = ScriptedTrainer(SCORE, measured, final_score, steps_of)
EIGHT = Work(steps=8)


def task(
    trial: int, *seeds: int, config: Work = Work(), test: bool = False, arm: str = "candidate", may_stop: bool = True
) -> Task:
    """A task of the search."""
    return Task("search", arm, trial, {}, config, seeds or (1,), SCORE.test if test else None, may_stop)


def alone(trainer: ScriptedTrainer, a_task: Task, seed: int) -> RunResult:
    """The same run without any runner, with its curve."""
    session = trainer.open(Place())
    session.add_test(trainer.test_part)
    with closing(session.start(a_task.config, seed, test=a_task.test_metric)) as run:
        while not run.done:
            run.advance()
        return replace(run.result(), curve=tuple(run.curve))
