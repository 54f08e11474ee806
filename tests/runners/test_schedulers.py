"""Schedulers that take over what an earlier process of the study saw."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from ray.tune.schedulers import TrialScheduler

from tune_bn.runners.base import SchedulerConfig
from tune_bn.runners.schedulers import METRIC, TIME, NoPausing, make_scheduler


@dataclass(frozen=True)
class ATrial:
    trial_id: str = "new"


@pytest.mark.parametrize("name", ["asha", "median"])
@pytest.mark.parametrize("finished", [1, 4])
@pytest.mark.parametrize(("objective", "stops"), [(20.0, True), (99.0, False)])
def test_a_resumed_search_compares_with_the_trials_that_had_finished(
    name: str, finished: int, objective: float, stops: bool
) -> None:
    history = [[(epoch, 50.0 + number + epoch) for epoch in range(1, 19)] for number in range(finished)]
    scheduler = make_scheduler(SchedulerConfig(name, grace=2, reduction=3, max_epochs=18), history)
    trial = ATrial()
    scheduler.on_trial_add(None, trial)
    decision = scheduler.on_trial_result(NoPausing(), trial, {TIME: 2, METRIC: objective})
    # The median rule asks for three trials to compare with.
    expected = stops and not (name == "median" and finished < 3)
    assert (decision == TrialScheduler.STOP) == expected


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_that_ended_without_a_result_is_nothing_to_compare_with(name: str) -> None:
    history = [[(epoch, 50.0 + epoch) for epoch in range(1, 19)] for _ in range(4)]
    scheduler = make_scheduler(SchedulerConfig(name, grace=2, reduction=3, max_epochs=18), history)
    for trial in (ATrial("out of memory"), ATrial()):
        scheduler.on_trial_add(None, trial)
    scheduler.on_trial_complete(None, ATrial("out of memory"), {"out_of_memory": "on GPU 0", "training_iteration": 1})
    assert scheduler.on_trial_result(NoPausing(), ATrial(), {TIME: 2, METRIC: 99.0}) == TrialScheduler.CONTINUE
