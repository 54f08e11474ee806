"""Ray Tune's schedulers, taught what an earlier process of the study already saw, and to forget what is over."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tune_bn.runners.base import History, SchedulerConfig

TIME, METRIC = "epoch", "objective"
_KEPT = 32
"""Ended trials that Tune's controller keeps, since it may not be through with the last ones yet."""


@dataclass(frozen=True)
class _TrialKey:
    """What a scheduler reads of a trial while it takes a result; one that is past or at work."""

    trial_id: str


class _Forgetting:
    """Mixed into a scheduler of Tune's: in a stage of many thousand trials the driver's memory does not grow with them.

    Tune keeps every trial until the experiment ends, and the median rule every report, for snapshots and analyses that
    nothing reads here. A scheduler is where Tune hands out its controller.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._over: deque[Trial] = deque()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _TrialKey(trial.trial_id))  # type: ignore[misc]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        decision: str = super().on_trial_result(  # type: ignore[misc]
            tune_controller, _TrialKey(trial.trial_id), _compared(result)
        )
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        self._over.append(trial)
        # A trial without a result, out of memory for example, is nothing to compare with; the median rule would try.
        if compared := _compared(result):
            super().on_trial_complete(tune_controller, _TrialKey(trial.trial_id), compared)  # type: ignore[misc]

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._over.append(trial)
        super().on_trial_error(tune_controller, _TrialKey(trial.trial_id))  # type: ignore[misc]

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._over.append(trial)
        super().on_trial_remove(tune_controller, _TrialKey(trial.trial_id))  # type: ignore[misc]

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        while len(self._over) > _KEPT:
            _forget(tune_controller, self._over.popleft())
        return super().choose_trial_to_run(tune_controller)  # type: ignore[misc]


class _Fifo(_Forgetting, FIFOScheduler):  # type: ignore[misc]
    """Every trial to its end."""


class _Asha(_Forgetting, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving."""


class _Median(_Forgetting, MedianStoppingRule):  # type: ignore[misc]
    """The median rule."""


def _compared(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduler compares; nothing where a result lacks some of it."""
    return {TIME: result[TIME], METRIC: result[METRIC]} if TIME in result and METRIC in result else {}


def _forget(controller: Any, trial: Trial) -> None:
    for trials in (controller._stopped_trials, controller._failed_trials, controller._trials_to_cache):
        trials.discard(trial)
    if trial in controller._trials:
        controller._trials.remove(trial)
    controller._trial_metadata.pop(trial.trial_id, None)


class NoPausing:
    """Stands in for Tune's controller, of which the median rule asks whether other trials wait for a worker.

    It pauses a trial for those that wait as long as there are few to compare with.
    """

    def get_live_trials(self) -> list[Any]:
        """None of them waits."""
        return []


def make_scheduler(config: SchedulerConfig | None, history: History = ()) -> TrialScheduler:
    """The scheduler of a stage; None: no trial is stopped. One of a search has the rungs that finished trials left.

    Without the history, a resumed search would let the first trial at each rung pass, however bad it is.
    """
    if config is None:
        return _Fifo()
    if config.name == "asha":
        scheduler: TrialScheduler = _Asha(
            time_attr=TIME,
            metric=METRIC,
            mode="max",
            max_t=config.max_epochs,
            grace_period=config.grace,
            reduction_factor=config.reduction,
        )
    else:
        scheduler = _Median(time_attr=TIME, metric=METRIC, mode="max", grace_period=config.grace)
    for number, points in enumerate(history):
        _replay(scheduler, _TrialKey(f"past-{number}"), _at_milestones(points, config))
    return scheduler


def _at_milestones(points: Sequence[tuple[int, float]], config: SchedulerConfig) -> list[dict[str, Any]]:
    wanted = {*config.milestones, config.max_epochs}
    return [{TIME: epoch, METRIC: objective} for epoch, objective in points if epoch in wanted]


def _replay(scheduler: TrialScheduler, trial: _TrialKey, results: Sequence[Mapping[str, Any]]) -> None:
    scheduler.on_trial_add(None, trial)
    for result in results:
        scheduler.on_trial_result(NoPausing(), trial, result)
