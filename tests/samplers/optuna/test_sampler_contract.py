"""The contract suite on every sampler that a space may name, and on some that break it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tune_bn.protocols.distributions import Distribution
from tune_bn.protocols.sampler import Outcome, Proposal, Sampler
from tune_bn.protocols.samplers import SAMPLERS
from tune_bn.samplers.optuna.sampler import OptunaSampler
from tune_bn.testing.sampler import SamplerContract

pytestmark = pytest.mark.long


class TestOptuna(SamplerContract):
    @pytest.fixture(autouse=True, params=sorted(SAMPLERS))
    def _name(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def sampler(self, folder: Path, distributions: Mapping[str, Distribution], **asked: Any) -> Sampler:
        return OptunaSampler(folder / "optuna.journal", "study/candidate", distributions, name=self.name, **asked)


def suite_on(kind: type[OptunaSampler]) -> SamplerContract:
    class Suite(SamplerContract):
        def sampler(self, folder: Path, distributions: Mapping[str, Distribution], **asked: Any) -> Sampler:
            return kind(folder / "optuna.journal", "study/candidate", distributions, name="random", **asked)

    return Suite()


class Forgetful(OptunaSampler):
    """Begins anew what a process left unfinished."""

    def __init__(self, *given: Any, **asked: Any) -> None:
        super().__init__(*given, **asked)
        self._waiting.clear()


class Outside(OptunaSampler):
    """Proposes more than the space has."""

    def propose(self) -> Proposal:
        proposal = super().propose()
        return Proposal(proposal.trial, {**proposal.overrides, "gamma": 2.0})


class Deaf(OptunaSampler):
    """Counts what it is told on one day and not on the next."""

    def tell(self, trial: int, outcome: Outcome) -> None:
        if outcome.objective is not None:
            super().tell(trial, outcome)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Forgetful, "test_proposals_that_a_process_left_unfinished_come_first_and_unchanged"),
        (Forgetful, "test_start_points_come_first_and_once"),
        (Outside, "test_proposals_lie_in_the_space_and_are_numbered"),
        (Deaf, "test_any_outcome_can_be_told_and_counts"),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_found(kind: type[OptunaSampler], test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(suite_on(kind), test)()
