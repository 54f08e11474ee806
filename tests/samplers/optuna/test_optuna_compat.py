"""Each name that Optuna does not promise, asked of the Optuna that is installed."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from tune_bn.samplers.optuna import compat


def test_a_trial_that_was_begun_can_be_gone_on_with_by_its_number() -> None:
    study = optuna.create_study(direction="maximize")
    numbers = [study.ask().number for _ in range(3)]
    trial = compat.trial_of(study, numbers[1])
    assert trial.number == 1
    value = trial.suggest_float("gamma", 0.0, 1.0)
    study.tell(trial.number, 0.5)
    frozen = study.get_trials()[1]
    assert (frozen.params, frozen.value) == ({"gamma": value}, 0.5)
    assert [one.state for one in study.get_trials()] == [TrialState.RUNNING, TrialState.COMPLETE, TrialState.RUNNING]


def test_a_start_point_is_found_at_the_trial_that_waits() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"gamma": 0.5, "c": 8.0})
    study.ask()
    study.ask()
    assert [compat.start_point(trial) for trial in study.get_trials()] == [{"gamma": 0.5, "c": 8.0}, {}]
