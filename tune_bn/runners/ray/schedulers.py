"""Early stopping as Tune asks for it: a scheduler that asks the study's own rule, and forgets what is over.

Tune keeps every trial until the experiment ends, for snapshots and analyses that nothing reads here. A scheduler is
where Tune hands out its controller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_bn.runners.ray import compat
from tune_bn.runners.ray.feed import DriverOnly
from tune_bn.runners.ray.trainable import REPORT, TASK
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.runners.worker import Report

_KEPT = 32
"""Ended trials that Tune's controller keeps, since it may not be through with the last ones yet."""


class Scheduler(DriverOnly, FIFOScheduler):  # type: ignore[misc]
    """Trials in the order in which they came; in a stage of many thousand the driver's memory does not grow with them.

    Args:
        stopping: which of them are stopped; another one for each stage.
        beside_others: whether other studies wait for what this one does not use.
    """

    def __init__(self, stopping: EarlyStopping, beside_others: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self.stopping = stopping
        self._beside_others = beside_others
        self._over: deque[Trial] = deque()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Stop the trial or go on with it."""
        return str(TrialScheduler.STOP if self._stops(trial, result) else TrialScheduler.CONTINUE)

    def _stops(self, trial: Any, result: Mapping[str, Any]) -> bool:
        report: Report | None = result.get(REPORT)
        # A trial that was out of memory has none.
        return report is not None and self.stopping.stops(trial.config[TASK], report.objectives, done=report.done)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """It ended, or was stopped."""
        # Tune does not ask about a last report.
        self._stops(trial, result)
        self._over.append(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """It raised once too often."""
        self._over.append(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """It never began."""
        self._over.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next trial."""
        while len(self._over) > _KEPT:
            compat.forget(tune_controller, self._over.popleft())
        # Tune gives a warm worker to the trial that is named here, and drops the worker that this one may be starting.
        # Runs shorter than a worker's start would never get a second worker so, and start one after each of them.
        waiting = (trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING)
        bare = next((trial for trial in waiting if not compat.has_worker(tune_controller, trial)), None)
        chosen: Trial | None = bare or super().choose_trial_to_run(tune_controller)
        # Tune asked for another trial just now. Where there is none to begin, it would keep one warm worker for the
        # next, and with it a slot that is another study's.
        if chosen is None and compat.warm_workers(tune_controller) and self._beside_others():
            compat.drop_warm_workers(tune_controller)
        return chosen
