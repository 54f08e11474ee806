"""Ray Tune's schedulers, taught what an earlier process of the study already saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from tune_bn.runners.base import History, SchedulerConfig

TIME, METRIC = "epoch", "objective"


@dataclass(frozen=True)
class _PastTrial:
    """What a scheduler reads of a trial while it takes a result."""

    trial_id: str


class NoPausing:
    """Stands in for Tune's controller, of which the median rule asks whether other trials wait for a worker.

    It pauses a trial for those that wait as long as there are few to compare with.
    """

    def get_live_trials(self) -> list[Any]:
        """None of them waits."""
        return []


def make_scheduler(config: SchedulerConfig, history: History = ()) -> TrialScheduler:
    """The scheduler of a search, with the rungs that finished trials left behind.

    Without the history, a resumed search would let the first trial at each rung pass, however bad it is.
    """
    if config.name == "asha":
        scheduler: TrialScheduler = AsyncHyperBandScheduler(
            time_attr=TIME,
            metric=METRIC,
            mode="max",
            max_t=config.max_epochs,
            grace_period=config.grace,
            reduction_factor=config.reduction,
        )
    else:
        scheduler = MedianStoppingRule(time_attr=TIME, metric=METRIC, mode="max", grace_period=config.grace)
    for number, points in enumerate(history):
        _replay(scheduler, _PastTrial(f"past-{number}"), _at_milestones(points, config))
    return scheduler


def _at_milestones(points: Sequence[tuple[int, float]], config: SchedulerConfig) -> list[dict[str, Any]]:
    wanted = {*config.milestones, config.max_epochs}
    return [{TIME: epoch, METRIC: objective} for epoch, objective in points if epoch in wanted]


def _replay(scheduler: TrialScheduler, trial: _PastTrial, results: Sequence[Mapping[str, Any]]) -> None:
    scheduler.on_trial_add(None, trial)
    for result in results:
        scheduler.on_trial_result(NoPausing(), trial, result)
