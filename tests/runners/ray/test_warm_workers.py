"""Which waiting trial gets a warm worker, and when an idle one is let go: what a scheduler tells Tune's controller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from tune_bn.runners.ray.schedulers import Scheduler
from tune_bn.runners.stopping import EarlyStopping


class Controller:
    """As much of Tune's as the scheduler asks for."""

    def __init__(self, *trials: tuple[str, str, bool], cached: int = 0) -> None:
        self.trials = [SimpleNamespace(trial_id=name, status=status) for name, status, _ in trials]
        self._trial_to_actor = _Identities(
            trial for trial, (_, _, has_one) in zip(self.trials, trials, strict=True) if has_one
        )
        self._actor_cache = SimpleNamespace(num_cached_objects=cached)
        self.let_go: list[bool] = []

    def get_trials(self) -> list[Any]:
        return self.trials

    def _cleanup_cached_actors(self, force_all: bool) -> None:
        self.let_go.append(force_all)


class _Identities(list[Any]):
    def __contains__(self, trial: object) -> bool:
        return any(trial is one for one in self)


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        # The older one has a worker that is about to come up, which would be dropped for the warm one.
        ([("a", Trial.PENDING, True), ("b", Trial.PENDING, False)], "b"),
        ([("a", Trial.RUNNING, True), ("b", Trial.PENDING, True), ("c", Trial.PENDING, False)], "c"),
        ([("a", Trial.PENDING, False), ("b", Trial.PENDING, False)], "a"),
        # With none behind it, it takes the warm one.
        ([("a", Trial.TERMINATED, False), ("b", Trial.PENDING, True)], "b"),
        ([("a", Trial.RUNNING, True)], None),
        ([], None),
    ],
)
def test_a_warm_worker_goes_to_a_trial_that_has_none_coming(
    trials: list[tuple[str, str, bool]], chosen: str | None
) -> None:
    found = Scheduler(EarlyStopping(None)).choose_trial_to_run(Controller(*trials))
    assert (None if found is None else found.trial_id) == chosen


@pytest.mark.parametrize(
    ("trials", "cached", "others", "let_go"),
    [
        ([("a", Trial.RUNNING, True)], 1, True, [True]),
        ([("a", Trial.RUNNING, True)], 1, False, []),
        ([("a", Trial.RUNNING, True)], 0, True, []),
        ([("a", Trial.PENDING, False)], 1, True, []),
    ],
)
def test_beside_others_no_idle_worker_is_kept(
    trials: list[tuple[str, str, bool]], cached: int, others: bool, let_go: list[bool]
) -> None:
    controller = Controller(*trials, cached=cached)
    Scheduler(EarlyStopping(None), lambda: others).choose_trial_to_run(controller)
    assert controller.let_go == let_go
