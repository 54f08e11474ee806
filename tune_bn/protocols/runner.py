"""The contract between a study and whatever trains its runs.

A study hands out :class:`Task` objects through a :class:`Feed`; a :class:`Runner` trains them, tells a
:class:`Listener` what happens on the way, and returns each finished task to the feed. Nothing here loads Ray or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tune_bn.protocols.trainer import RunResult
from tune_bn.records.curves import Point
from tune_bn.records.record import run_key

__all__ = ["Feed", "History", "Listener", "PastTrial", "Point", "RunResult", "Runner", "SchedulerConfig", "Task"]


@dataclass(frozen=True)
class Task:
    """One configuration on one or more seeds: a trial of the search, or a single run of a later stage.

    The seeds of a task are trained side by side, epoch by epoch, so that its objective is the mean over all of them.
    """

    stage: str
    arm: str
    trial: int | None
    overrides: Mapping[str, Any]
    """What distinguishes this configuration within its study: gamma, c and searched keys."""
    config: Any
    """The whole configuration, in the form of whatever trains it: for the built-in loop a
    :class:`tune_bn.training.config.RunConfig`."""
    seeds: tuple[int, ...]
    test_metric: str | None = None
    """Name of the test score that is found at the end; None: the test data is not touched."""
    may_stop: bool = False
    """Whether a scheduler may stop it early, as long as its feed does not spare it (see :meth:`Feed.spares`)."""
    inspect: bool = False
    """Whether its results carry diagnostics of the trained network, where the trainer has any."""
    pair: str | None = None
    """Runs that are compared with each other share it, and are placed alike where devices differ."""
    beside: str | None = None
    """The type of device that a finished run of its pair had, as its record says."""
    steps: int = 0
    """Of a whole run, for those who show how far it is: epochs of the built-in loop. 0: nobody asked its trainer."""

    @property
    def key(self) -> str:
        """Name of the task, unique within its study."""
        return run_key(self.stage, self.arm, self.trial, self.seeds[0])

    def run_key(self, seed: int) -> str:
        """Name of the run of one seed of this task; equals the key of its record."""
        return run_key(self.stage, self.arm, self.trial, seed)


@dataclass(frozen=True)
class PastTrial:
    """A trial of the search that an earlier process of the study finished, as its scheduler saw it."""

    arm: str
    trial: int
    objectives: Mapping[int, float]
    """By step; see :meth:`tune_bn.records.score.Score.objectives`."""


History = Sequence[PastTrial]


class Feed(Protocol):
    """Where a runner gets its work."""

    def next(self) -> Task | None:
        """The next task, or None where there is none before others have finished (see :attr:`exhausted`)."""

    @property
    def exhausted(self) -> bool:
        """True once no further task will come, whatever finishes."""

    def finished(self, task: Task, results: Sequence[RunResult]) -> None:
        """Take back a task with one result per seed. Not called for a task that was interrupted.

        Raises:
            TuneBNError: the study cannot go on; the runner ends its work with this error.
        """

    def spares(self, task: Task) -> bool:
        """Whether this task must not be stopped, as far as is known now; asked where a scheduler would stop it."""


class Listener(Protocol):
    """Who is told what happens during the work. No method may raise, block for long, or change the study."""

    def task_started(self, task: Task) -> None:
        """The task was handed to a worker. It may come twice for one task: an interrupted task starts again."""

    def task_progress(self, task: Task, curves: Mapping[int, Sequence[Point]]) -> None:
        """New points of the learning curves, by seed."""

    def task_killed(self, task: Task) -> None:
        """The task was running and does not any more, for no end of its own: its worker was lost, gave it back, or the
        work was interrupted. It starts again, here or by a resume."""


class Runner(Protocol):
    """Trains tasks."""

    def run(
        self, feed: Feed, listener: Listener, *, scheduler: SchedulerConfig | None = None, history: History = ()
    ) -> None:
        """Work until the feed is exhausted and every task came back.

        A task that raises is tried again, from its last checkpoint, up to ``max_failures`` times; then it comes back
        with status ``failed``. Checkpoints that cannot be written are no error. Tasks that the scheduler stops, of
        those that ``may_stop`` and that the feed does not spare, come back as ``pruned``; it compares them with the
        others of their arm, those that an earlier process finished too, given as ``history``.

        Raises:
            Interrupted: on Ctrl-C, or where a stop is asked for, after the running tasks were stopped and reported as
                killed.
            RunnerError: the work cannot be run here.
        """

    def close(self) -> None:
        """Give back what the runner holds. May be called twice."""


GRACE_PARTS = 20
"""An automatic grace is a multiple of this part of the course: each epoch in question costs a report of every trial."""


@dataclass(frozen=True)
class SchedulerConfig:
    """Early stopping in the search stage."""

    name: str
    """``asha`` or ``median``."""
    grace: int | None
    """Epochs before a trial may be stopped; None: what ``found`` says."""
    reduction: int
    """ASHA keeps one in so many at each rung."""
    max_epochs: int
    found: Callable[[], int | None] | None = None
    """Asked wherever a decision may fall while ``grace`` is None: the epochs before a trial may be stopped, as far as
    is known by now; None: nothing may be stopped yet. What it once said stands."""

    @property
    def milestones(self) -> tuple[int, ...]:
        """Epochs at which a decision may fall, and which a worker must report on their own.

        Where ``grace`` is not known beforehand, these are all the epochs that it may turn out to be: each twentieth
        part of the longest course.
        """
        if self.grace is None:
            parts = (-(-self.max_epochs * part // GRACE_PARTS) for part in range(1, GRACE_PARTS))
            return tuple(dict.fromkeys(epoch for epoch in parts if epoch < self.max_epochs))
        return self.decisions(self.grace)

    @property
    def known_grace(self) -> int | None:
        """The epochs before a trial may be stopped, as far as is known by now."""
        return self.grace if self.grace is not None or self.found is None else self.found()

    def decisions(self, grace: int) -> tuple[int, ...]:
        """The epochs at which trials are stopped or let go on: ASHA's rungs, or every ``grace`` epochs for the median
        rule; of an automatic grace, the nearest milestones from there on."""
        if self.name == "median" and self.grace is not None:
            return tuple(range(grace, self.max_epochs, grace))
        if self.name == "median":
            return tuple(epoch for epoch in self.milestones if epoch >= grace)
        rungs, epoch = [], grace
        while epoch < self.max_epochs:
            rungs.append(epoch)
            epoch *= self.reduction
            if self.grace is None:
                epoch = next((one for one in self.milestones if one >= epoch), self.max_epochs)
        return tuple(rungs)
