"""Early stopping: the rules of Ray Tune, within each arm, whatever the speed of a worker and after any resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from tune_bn.data.config import DataConfig
from tune_bn.method.config import ModelConfig
from tune_bn.protocols.runner import PastTrial, RunResult, SchedulerConfig, Task
from tune_bn.records.record import BASELINE, CANDIDATE, COMPLETED, FAILED
from tune_bn.runners.stopping import EarlyStopping
from tune_bn.training.config import RunConfig, TrainConfig

CONFIG = RunConfig(ModelConfig(arch="resnet8"), DataConfig(source="digits"), TrainConfig(epochs=18))
RULES = ("asha", "median")


def config_of(name: str, **changed: int) -> SchedulerConfig:
    return SchedulerConfig(**{"name": name, "grace": 2, "reduction": 3, "max_epochs": 18, **changed})


def task(trial: int, arm: str = CANDIDATE, **changed: Any) -> Task:
    return replace(Task("search", arm, trial, {}, CONFIG, (101,), may_stop=True), **changed)


def past(trial: int, objective: float, arm: str = CANDIDATE, epochs: int = 18) -> PastTrial:
    return PastTrial(arm, trial, {epoch: objective + epoch for epoch in range(1, epochs + 1)})


def stops(rule: EarlyStopping, a_task: Task, epoch: int, objective: float, *, done: bool = False) -> bool:
    return rule.stops(a_task, {epoch: objective}, done=done)


@dataclass(frozen=True)
class ATrial:
    trial_id: str


class NobodyWaits:
    """Tune's controller, of which its median rule asks whether other trials wait for a worker."""

    def get_live_trials(self) -> list[Any]:
        return []


def of_ray(config: SchedulerConfig) -> Any:
    options = {"time_attr": "epoch", "metric": "objective", "mode": "max", "grace_period": config.grace}
    if config.name == "median":
        return MedianStoppingRule(**options)
    return AsyncHyperBandScheduler(**options, max_t=config.max_epochs, reduction_factor=config.reduction)


def interleaved(trials: int, seed: int) -> list[int]:
    """An order in which trials report, one of them after the other, up to four side by side."""
    generator, begun, running, order = np.random.default_rng(seed), 0, list[int](), list[int]()
    for _ in range(trials * 18):
        while len(running) < 4 and begun < trials:
            running.append(begun)
            begun += 1
        order.append(int(generator.choice(running)))
        if order.count(order[-1]) == 18:
            running.remove(order[-1])
    return order


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("grace", "reduction"), [(1, 2), (2, 3), (3, 4), (5, 2), (17, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_the_rules_decide_as_those_of_ray_tune(name: str, grace: int, reduction: int, seed: int) -> None:
    config = config_of(name, grace=grace, reduction=reduction)
    ours, theirs = EarlyStopping(config), of_ray(config)
    generator = np.random.default_rng(seed)
    best, epochs, ended, decisions = np.zeros(20), np.zeros(20, int), set[int](), list[tuple[bool, bool]]()
    for trial in range(20):
        theirs.on_trial_add(None, ATrial(str(trial)))
    for trial in interleaved(20, seed):
        if trial in ended:
            continue
        epochs[trial] += 1
        best[trial] = max(best[trial], epochs[trial] + generator.normal(scale=3))
        mine = stops(ours, task(trial), int(epochs[trial]), float(best[trial]), done=bool(epochs[trial] == 18))
        if epochs[trial] not in config.milestones:
            continue
        result = {"epoch": int(epochs[trial]), "objective": float(best[trial])}
        decision = theirs.on_trial_result(NobodyWaits(), ATrial(str(trial)), result)
        decisions.append((mine, decision == TrialScheduler.STOP))
        if mine:
            ended.add(trial)
    assert all(mine == wanted for mine, wanted in decisions)
    assert {mine for mine, _ in decisions} == {True, False}


@pytest.mark.parametrize("name", RULES)
def test_nothing_of_one_arm_decides_in_the_other(name: str) -> None:
    """Neither what ran beside it nor what an earlier process finished."""
    generator = np.random.default_rng(0)
    curves = {trial: np.maximum.accumulate(generator.normal(50, 5, 18)) for trial in range(12)}

    def decisions(*, beside: bool) -> list[tuple[int, int]]:
        history = [past(100 + n, 90.0, BASELINE) for n in range(5 * beside)]
        rule, stopped = EarlyStopping(config_of(name), [past(50 + n, 40.0) for n in range(4)] + history), []
        for trial, curve in curves.items():
            for epoch in range(1, 19):
                if beside:
                    assert not stops(rule, task(trial, BASELINE), epoch, 200.0 + trial + epoch)
                if stops(rule, task(trial), epoch, curve[epoch - 1]):
                    stopped.append((trial, epoch))
                    break
        return stopped

    assert decisions(beside=True) == decisions(beside=False) != []


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("finished", [1, 4])
@pytest.mark.parametrize(("objective", "stopped"), [(20.0, True), (99.0, False)])
def test_a_resumed_search_compares_with_the_trials_that_had_finished(
    name: str, finished: int, objective: float, stopped: bool
) -> None:
    rule = EarlyStopping(config_of(name), [past(number, 50.0 + number) for number in range(finished)])
    # The median rule asks for three trials to compare with.
    assert stops(rule, task(9), 2, objective) == (stopped and not (name == "median" and finished < 3))


@pytest.mark.parametrize("name", RULES)
def test_between_milestones_nothing_is_decided_or_compared(name: str) -> None:
    """A worker reports at milestones and besides as often as its speed has it."""
    rule = EarlyStopping(config_of(name), [past(number, 50.0) for number in range(4)])
    assert rule.milestones == ((2, 6) if name == "asha" else (2, 4, 6, 8, 10, 12, 14, 16))
    assert not stops(rule, task(9), 3, 0.0)
    assert not stops(rule, task(9), 18, 0.0, done=True)
    assert stops(rule, task(10), 6, 0.0)


@pytest.mark.parametrize("name", RULES)
def test_a_spared_trial_goes_on_and_the_others_are_compared_with_it(name: str) -> None:
    rule = EarlyStopping(config_of(name), (), lambda a_task: a_task.trial is not None and a_task.trial < 4)
    for trial, objective in enumerate((90.0, 10.0, 80.0, 20.0)):
        assert not any(stops(rule, task(trial), epoch, objective) for epoch in range(1, 19))
    assert stops(rule, task(4), 2, 40.0)
    assert not stops(rule, task(5), 2, 89.0)
    # With the spared ones left out there would be nothing to compare with.
    assert not stops(EarlyStopping(config_of(name)), task(4), 2, 40.0)


@pytest.mark.parametrize("name", RULES)
def test_what_was_let_pass_stands_where_its_worker_was_lost(name: str) -> None:
    rule = EarlyStopping(config_of(name), [past(number, 50.0) for number in range(4)])
    assert not stops(rule, task(9), 2, 53.0)
    # Better ones came by since; it begins again, in the same process.
    for number in range(10, 16):
        assert not stops(rule, task(number), 2, 80.0)
    assert not stops(rule, task(9), 2, 53.0)
    # In another process it goes on from a checkpoint beyond the milestone.
    resumed = EarlyStopping(config_of(name), [past(number, 80.0) for number in range(4)])
    assert not resumed.stops(task(9), {2: 53.0, 3: 54.0}, done=False)
    assert resumed.stops(task(9), {6: 55.0}, done=False)


def results(status: str) -> Sequence[RunResult]:
    return [RunResult(101, status, "", 6, {}, (), 1, "2026-01-01T00:00:00+00:00", 1.0, "cpu", {})]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("status", [COMPLETED, FAILED])
def test_a_trial_that_failed_is_no_rival_as_after_a_resume(name: str, status: str) -> None:
    rule = EarlyStopping(config_of(name))
    for number in range(4):
        stops(rule, task(number), 2, 60.0)
        rule.ended(task(number), results(status))
    assert stops(rule, task(9), 2, 20.0) == (status == COMPLETED)


def test_a_task_that_may_not_stop_and_a_stage_without_a_scheduler() -> None:
    history = [past(number, 50.0) for number in range(4)]
    assert not stops(EarlyStopping(config_of("asha"), history), task(9, may_stop=False), 2, 0.0)
    without = EarlyStopping(None, history)
    assert (without.name, without.milestones, stops(without, task(9), 2, 0.0)) == (None, (), False)


@pytest.mark.parametrize(("grace", "stopped"), [(2, True), (17, True), (18, False), (19, False), (100, False)])
def test_a_grace_as_long_as_the_training_stops_nothing(grace: int, stopped: bool) -> None:
    rule = EarlyStopping(config_of("asha", grace=grace), [past(number, 50.0) for number in range(4)])
    assert any(stops(rule, task(9), epoch, 0.0, done=epoch == 18) for epoch in range(1, 19)) == stopped
