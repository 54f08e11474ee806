"""``scheduler: {grace: auto}``: the epochs before a trial may be stopped, as the study's own whole trials say.

The first trials of each arm, its start points among them, run to their end. Once all of them have ended there is a
look, and where it finds no epoch from which on stopping is safe, all trials go on running to their end and there is
another look later (:mod:`tune_bn.analysis.early_order`). A look knows the trials up to a number and nothing of those
after it, whichever of them were faster. It depends on records and curves alone, in the order in which they were
written, so a resumed study finds what the uninterrupted one found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from statistics import fmean

from tune_bn.analysis.early_order import FEWEST_TRIALS, Curve, Look, look, sizes_of_looks, words
from tune_bn.protocols.runner import Point, RunResult, SchedulerConfig
from tune_bn.records.files import write_json
from tune_bn.records.record import BASELINE, CANDIDATE, DIVERGED, FAILED, PRUNED, SEARCH, Record
from tune_bn.records.score import Score
from tune_bn.space.space import Space
from tune_bn.study.folder import StudyFolder


def objective_by_epoch(runs: Sequence[tuple[str, Sequence[Point]]], score: Score) -> dict[int, float]:
    """The objective of a trial after each epoch, as its scheduler saw it.

    It is the mean over all seeds; see :meth:`tune_bn.records.score.Score.objectives`. From the epoch on in which it
    diverged, a run counts as the worst. Runs of one trial end together, except those that diverged.

    Args:
        runs: status and curve of the trial's run on each seed.
        score: what they are scored by.
    """
    seeds = [
        score.objectives(
            [point.metrics.get(score.validation, math.nan) for point in curve], diverged=status == DIVERGED
        )
        for status, curve in runs
    ]
    return dict(enumerate(map(fmean, zip_longest(*seeds, fillvalue=score.worst)), start=1))


def first_trials(space: Space, arm: str) -> int:
    """Trials of an arm that run to their end before the first look."""
    return min(max(FEWEST_TRIALS, len(space.start_points(arm))), space.trials_of(arm))


class AutoGrace:
    """Finds the grace of a search, and keeps how.

    Args:
        folder: of the study; :attr:`tune_bn.study.folder.StudyFolder.early_order` says what was found.
        space: its space.
        scheduler: whose milestones are in question.
        records: those that the study has by now.
        curves: by run.
        score: what runs are scored by.
    """

    def __init__(
        self,
        folder: StudyFolder,
        space: Space,
        scheduler: SchedulerConfig,
        records: Sequence[Record],
        curves: Mapping[str, Sequence[Point]],
        score: Score,
    ) -> None:
        self.folder = folder
        self._epochs, self._last, self._score = scheduler.milestones, scheduler.max_epochs, score
        searching = [arm for arm in (CANDIDATE, BASELINE) if space.trials_of(arm)]
        self._first = {arm: first_trials(space, arm) for arm in searching}
        self._spares_all = all(self._first[arm] == space.trials_of(arm) for arm in searching)
        self._sizes = {arm: sizes_of_looks(self._first[arm], space.trials_of(arm)) for arm in searching}
        self._ended: dict[str, dict[int, Curve | None]] = {arm: {} for arm in searching}
        """Curve of each trial that ran to its end, None of another one that ended."""
        self.looks: list[Look] = []
        trials: dict[tuple[str, int], dict[int, Record]] = {}
        for record in records:
            if record.stage == SEARCH and record.trial is not None and record.arm in self._ended:
                runs = trials.setdefault((record.arm, record.trial), {})
                runs[record.seed] = record
                if set(runs) == set(space.seeds.search):
                    found = [(run.status, curves.get(run.key, ())) for run in runs.values()]
                    self._end(record.arm, record.trial, found)
        self._keep()

    @property
    def epoch(self) -> int | None:
        """The epochs before a trial may be stopped; None as long as none is known to be enough."""
        return self.looks[-1].safe_from if self.looks else None

    @property
    def said(self) -> str | None:
        """The last look in one line; None before the first, and where all trials run to their end whatever it finds."""
        if not self.looks or self._spares_all:
            return None
        return words(self.looks[-1], next_at=self._next_size)

    def holds(self, arm: str, trial: int | None) -> bool:
        """Whether a trial is one of the first, which are never stopped."""
        return trial is not None and trial < self._first.get(arm, 0)

    def ended(self, arm: str, trial: int, results: Sequence[RunResult]) -> bool:
        """Take a trial that ended and is recorded; whether that led to a look."""
        before = len(self.looks)
        self._end(arm, trial, [(result.status, result.curve) for result in results])
        if len(self.looks) > before:
            self._keep()
        return len(self.looks) > before

    def _end(self, arm: str, trial: int, runs: Sequence[tuple[str, Sequence[Point]]]) -> None:
        # A study whose curves were lost knows of its trials no more than that they ended.
        whole = all(curve and status not in (FAILED, PRUNED) for status, curve in runs)
        curve = objective_by_epoch(runs, self._score) if whole else {}
        # A run that diverged has no later epochs; it is the worst there.
        filled = {epoch: curve.get(epoch, self._score.worst) for epoch in (*self._epochs, self._last)}
        self._ended[arm][trial] = filled if curve else None
        while self.epoch is None and self._is_due(len(self.looks)):
            number = len(self.looks)
            curves = {
                name: [found for trial in range(self._size(name, number)) if (found := ended[trial]) is not None]
                for name, ended in self._ended.items()
            }
            self.looks.append(look(number + 1, curves, self._epochs, self._last))

    def _size(self, arm: str, number: int) -> int:
        sizes = self._sizes[arm]
        return sizes[min(number, len(sizes) - 1)]

    def _is_due(self, number: int) -> bool:
        if number >= max(map(len, self._sizes.values())):
            return False
        return all(set(range(self._size(arm, number))) <= set(ended) for arm, ended in self._ended.items())

    @property
    def _next_size(self) -> int | None:
        number = len(self.looks)
        if number >= max(map(len, self._sizes.values())):
            return None
        return max(self._size(arm, number) for arm in self._sizes)

    def _keep(self) -> None:
        if self.looks:
            # What was found follows from the records; a full disk stops the study at the next one of them.
            with suppress(OSError):
                write_json(self.folder.early_order, {"looks": [found.to_json() for found in self.looks]})
