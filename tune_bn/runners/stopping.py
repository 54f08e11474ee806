"""Which trials of a search are stopped early: decided in one place for every runner, and within each arm alone.

The two rules are those of Ray Tune, by whose schedulers they are tested. Its own compare all trials of an experiment
with each other, so that an arm that starts slowly would be cut by one that starts fast, and they see a report whenever
one comes, so that a decision would hang on the speed of a worker. Here a trial is compared with those of its arm, at
the milestones of the scheduler alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median

import numpy as np

from tune_bn.protocols.runner import History, RunResult, SchedulerConfig, Task
from tune_bn.records.record import FAILED

LEAST_OTHERS = 3
"""Trials that the median rule asks for before it compares, as in Ray Tune."""


class _Row(dict[int, float]):
    """The objectives of a trial by milestone; what it was let pass by stands, so their means are computed once."""

    def __init__(self) -> None:
        super().__init__()
        self._means: dict[int, float] = {}

    def mean(self, epoch: int, grace: int) -> float:
        """Of all milestones from the end of the grace up to this epoch."""
        found = self._means.get(epoch)
        if found is None:
            found = self._means[epoch] = fmean(objective for at, objective in self.items() if grace <= at <= epoch)
        return found


class EarlyStopping:
    """The scheduler of a search.

    Args:
        config: the rule; None: nothing is stopped.
        history: the trials that an earlier process of the study finished. Without them a resumed search would let the
            first trial at each milestone pass, however bad it is.
        spares: which tasks must run to their end. They are compared all the same, so that the others have something to
            be compared with.
    """

    def __init__(
        self,
        config: SchedulerConfig | None,
        history: History = (),
        spares: Callable[[Task], bool] = lambda task: False,
    ) -> None:
        self.config = config
        self._spares = spares
        self._seen: dict[str, dict[int | None, _Row]] = {}
        for past in history if config is not None else ():
            self._row(past.arm, past.trial).update(self._at_milestones(past.objectives))

    @property
    def name(self) -> str | None:
        """Name of the rule."""
        return None if self.config is None else self.config.name

    @property
    def milestones(self) -> tuple[int, ...]:
        """Epochs that a worker must report on their own."""
        return () if self.config is None else self.config.milestones

    def stops(self, task: Task, objectives: Mapping[int, float], *, done: bool) -> bool:
        """Whether a task ends here, by the epochs that are new in its report. Of milestones, the last one decides.

        A run that goes on from a checkpoint has milestones behind it; it was let pass there.
        """
        if self.config is None or not task.may_stop:
            return False
        row, new = self._row(task.arm, task.trial), self._at_milestones(objectives)
        due = max(objectives, default=0)
        decides = due not in row and not done and due in new
        for epoch, objective in new.items():
            # Where a worker was lost, the task comes by again; what it was let pass by stands.
            row.setdefault(epoch, objective)
        grace = self.config.known_grace if decides else None
        # Where it is not known yet from which epoch on an early order counts, everybody goes on.
        if grace is None or due not in self.config.decisions(grace) or self._spares(task):
            return False
        others = [seen for trial, seen in self._seen[task.arm].items() if trial != task.trial]
        return _RULES[self.config.name](self.config, row, others, due, grace)

    def ended(self, task: Task, results: Sequence[RunResult]) -> None:
        """A task came back. One that failed is compared with no more, as after a resume."""
        if any(result.status == FAILED for result in results):
            self._seen.get(task.arm, {}).pop(task.trial, None)

    def _row(self, arm: str, trial: int | None) -> _Row:
        return self._seen.setdefault(arm, {}).setdefault(trial, _Row())

    def _at_milestones(self, objectives: Mapping[int, float]) -> dict[int, float]:
        return {epoch: objective for epoch, objective in objectives.items() if epoch in self.milestones}


def _below_the_rung(config: SchedulerConfig, row: _Row, others: Sequence[_Row], epoch: int, grace: int) -> bool:
    """Asynchronous successive halving: worse than the best 1/reduction of those that came to this rung before."""
    rung = [other[epoch] for other in others if epoch in other]
    return bool(rung) and row[epoch] < float(np.percentile(rung, (1 - 1 / config.reduction) * 100))


def _below_the_median(config: SchedulerConfig, row: _Row, others: Sequence[_Row], epoch: int, grace: int) -> bool:
    """Its best so far is worse than the median of the others' means up to this epoch."""
    means = [other.mean(epoch, grace) for other in others if epoch in other]
    return len(means) >= LEAST_OTHERS and max(row[at] for at in row if at <= epoch) < median(means)


_RULES = {"asha": _below_the_rung, "median": _below_the_median}
