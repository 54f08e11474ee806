"""The one place for what Optuna does not promise.

``tests/samplers/optuna/test_optuna_compat.py`` asks for each by its name.
"""

from __future__ import annotations

from typing import Any

import optuna

START_POINT = "fixed_params"
"""Attribute of a trial that waits: the values at which it was enqueued."""


def trial_of(study: optuna.Study, number: int) -> optuna.trial.Trial:
    """A trial that an earlier process began, to go on with; Optuna hands out new ones only."""
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    return optuna.trial.Trial(study, trial_id)


def start_point(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """The values at which a trial was enqueued, by their stored names; empty where it was not."""
    found: dict[str, Any] = trial.system_attrs.get(START_POINT, {})
    return found
