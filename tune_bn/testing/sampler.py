"""What every sampler must do, as tests of anybody's own.

A class of tests in which :meth:`SamplerContract.sampler` is given runs them all, under pytest or any other runner that
calls methods named ``test_…``::

    class TestMySampler(SamplerContract):
        def sampler(self, folder, distributions, **asked):
            return MySampler(folder / "journal", distributions, **asked)

Each call of it is a new process of the same search: what the sampler must remember lies in the folder. Nothing but the
standard library and the contract itself is needed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tune_bn.errors import StudyError
from tune_bn.protocols.distributions import Cases, Choice, Distribution, Range
from tune_bn.protocols.sampler import Outcome, Sampler
from tune_bn.records.record import COMPLETED, FAILED, PRUNED
from tune_bn.records.score import MAX, MIN

SPACE: Mapping[str, Distribution] = {
    "gamma": Range(0.01, 1.0, log=True),
    "c": Range(1.0, 1000.0, log=True),
    "epochs": Range(2, 9, integer=True),
    "lr": Choice((0.1, 0.01)),
}
CONDITIONAL: Mapping[str, Distribution] = {
    "gamma": Cases("lr", ((0.1, Range(0.05, 1.0, log=True)), (0.01, Range(0.001, 0.02, log=True)))),
    "lr": Choice((0.1, 0.01)),
}
POINTS: Sequence[Mapping[str, Any]] = ({"gamma": 0.05, "c": 100.0}, {"gamma": 1.0, "c": 100.0})


class SamplerContract:
    """The tests; see the text of this module."""

    exact = True
    """Whether a search that goes on in a new process proposes what the uninterrupted one would; every sampler's should.
    """
    seeded = True
    """Whether the seed decides the proposals."""
    spreads = True
    """Whether both values of a choice come within fourteen trials."""

    def sampler(
        self,
        folder: Path,
        distributions: Mapping[str, Distribution],
        *,
        seed: int,
        points: Sequence[Mapping[str, Any]],
        goal: str,
        finished: Mapping[int, Outcome] | None,
    ) -> Sampler:
        """The sampler of the search in this folder, opened anew.

        Args:
            folder: of the search; empty at its first opening.
            distributions: what is searched.
            seed: of the proposals.
            points: configurations to try first; keys that a point leaves out are proposed.
            goal: ``max`` or ``min``, of the score.
            finished: trials that the records hold, by number; None: nothing is known of records.
        """
        raise NotImplementedError

    def _open(
        self,
        folder: Path,
        distributions: Mapping[str, Distribution] = SPACE,
        *,
        seed: int = 0,
        points: Sequence[Mapping[str, Any]] = (),
        goal: str = MAX,
        finished: Mapping[int, Outcome] | None = None,
    ) -> Sampler:
        folder.mkdir(parents=True, exist_ok=True)
        return self.sampler(folder, distributions, seed=seed, points=points, goal=goal, finished=finished)

    def test_proposals_lie_in_the_space_and_are_numbered(self) -> None:
        with _folder() as folder:
            sampler = self._open(folder)
            assert (sampler.proposed, sampler.told) == (0, 0)
            for number in range(14):
                proposal = sampler.propose()
                assert proposal.trial == number
                assert set(proposal.overrides) == set(SPACE)
                for key, distribution in SPACE.items():
                    assert distribution.contains(proposal.overrides[key]), (key, proposal.overrides[key])
                assert (sampler.proposed, sampler.told) == (number + 1, number)
                sampler.tell(number, Outcome(COMPLETED, _score(proposal.overrides), 9))
                assert (sampler.proposed, sampler.told) == (number + 1, number + 1)

    def test_a_conditional_key_is_proposed_from_the_case_of_its_trial(self) -> None:
        with _folder() as folder:
            sampler = self._open(folder, CONDITIONAL, seed=1, points=({"lr": 0.01, "gamma": 0.005},))
            seen: list[Mapping[str, Any]] = []
            finished: dict[int, Outcome] = {}
            for number in range(14):
                proposal = sampler.propose()
                assert set(proposal.overrides) == set(CONDITIONAL)
                gamma, lr = CONDITIONAL["gamma"], proposal.overrides["lr"]
                assert isinstance(gamma, Cases)
                assert gamma.given(lr).contains(proposal.overrides["gamma"])
                seen.append(dict(proposal.overrides))
                if number < 13:
                    finished[number] = Outcome(COMPLETED, 100 - proposal.overrides["gamma"], 9)
                    sampler.tell(number, finished[number])
            assert seen[0] == {"lr": 0.01, "gamma": 0.005}
            assert self._open(folder, CONDITIONAL, seed=1, finished=finished).propose() == proposal
            if self.spreads:
                assert {overrides["lr"] for overrides in seen} == {0.1, 0.01}

    def test_the_seed_decides_the_proposals(self) -> None:
        with _folder() as folder:
            one, again, other = (
                self._open(folder / name, seed=seed).propose() for name, seed in (("a", 0), ("b", 0), ("c", 1))
            )
            assert one == again, "the same seed proposed two configurations"
            assert not self.seeded or one != other, "the seed changes nothing"

    def test_a_search_that_goes_on_proposes_what_the_uninterrupted_one_does(self) -> None:
        def search(folder: Path, processes: Sequence[int]) -> list[dict[str, Any]]:
            proposals, finished = list[dict[str, Any]](), dict[int, Outcome]()
            for trials in processes:
                sampler = self._open(folder, points=POINTS[:1], finished=finished)
                for _ in range(trials):
                    proposal = sampler.propose()
                    proposals.append(dict(proposal.overrides))
                    finished[proposal.trial] = Outcome(COMPLETED, _score(proposal.overrides), 9)
                    sampler.tell(proposal.trial, finished[proposal.trial])
            return proposals

        with _folder() as folder:
            whole, parts = search(folder / "whole", (15,)), search(folder / "parts", (1, 5, 9))
            assert len(parts) == len(whole)
            assert not self.exact or parts == whole

    def test_start_points_come_first_and_once(self) -> None:
        with _folder() as folder:
            sampler = self._open(folder, points=POINTS)
            first = sampler.propose()
            assert {key: first.overrides[key] for key in POINTS[0]} == POINTS[0]
            # Opened again with the same points, as every resume does.
            again = self._open(folder, points=POINTS, finished={})
            assert again.propose() == first, "an unfinished proposal was not handed out again"
            second = again.propose().overrides
            assert {key: second[key] for key in POINTS[1]} == POINTS[1]
            assert again.propose().overrides["gamma"] not in (0.05, 1.0)

    def test_proposals_that_a_process_left_unfinished_come_first_and_unchanged(self) -> None:
        with _folder() as folder:
            sampler = self._open(folder)
            proposals = [sampler.propose() for _ in range(4)]
            finished = {1: Outcome(COMPLETED, 90.0, 9)}
            sampler.tell(1, finished[1])
            again = self._open(folder, finished=finished)
            assert (again.proposed, again.told) == (1, 1)
            assert [again.propose() for _ in range(3)] == [proposals[0], *proposals[2:]]
            assert again.propose().trial == 4

    def test_any_outcome_can_be_told_and_counts(self) -> None:
        outcomes = (
            Outcome(COMPLETED, 97.0, 9, std=0.5, n=3),
            Outcome(PRUNED, 55.0, 3),
            Outcome(FAILED, None, 0),
            Outcome(COMPLETED, None, 9),
            Outcome(COMPLETED, math.nan, 9),
        )
        for goal in (MAX, MIN):
            with _folder() as folder:
                sampler = self._open(folder, goal=goal)
                for _ in outcomes:
                    sampler.propose()
                # In any order, as runs end.
                for number in (3, 0, 4, 2, 1):
                    sampler.tell(number, outcomes[number])
                assert (sampler.proposed, sampler.told) == (5, 5)
                assert sampler.propose().trial == 5

    def test_what_was_recorded_and_not_told_is_told_on_opening(self) -> None:
        with _folder() as folder:
            sampler = self._open(folder)
            proposals = [sampler.propose() for _ in range(3)]
            again = self._open(folder, finished={0: Outcome(COMPLETED, 90.0, 9), 2: Outcome(PRUNED, 40.0, 3)})
            assert (again.proposed, again.told) == (2, 2)
            assert again.propose() == proposals[1]
            assert again.propose().trial == 3

    def test_what_was_told_and_whose_record_was_lost_runs_again(self) -> None:
        with _folder() as folder:
            sampler = self._open(folder)
            proposals = [sampler.propose() for _ in range(3)]
            for number in (0, 1):
                sampler.tell(number, Outcome(COMPLETED, 90.0 + number, 9))
            again = self._open(folder, finished={0: Outcome(COMPLETED, 90.0, 9)})
            assert (again.proposed, again.told) == (1, 1)
            assert [again.propose() for _ in range(2)] == proposals[1:]
            again.tell(1, Outcome(COMPLETED, 91.0, 9))
            again.tell(2, Outcome(COMPLETED, 92.0, 9))
            assert (again.told, again.proposed, again.propose().trial) == (3, 3, 3)

    def test_trials_that_the_search_ends_without_do_not_count_and_do_not_come_again(self) -> None:
        points = [{"gamma": 0.05 + 0.01 * number} for number in range(8)]
        with _folder() as folder:
            sampler = self._open(folder, points=points)
            for _ in range(4):
                sampler.propose()
            finished = {1: Outcome(COMPLETED, 90.0, 9)}
            sampler.tell(1, finished[1])
            again = self._open(folder, points=points, finished=finished)
            assert again.propose().trial == 0
            assert sorted(again.end()) == [0, 2, 3]
            assert (again.told, again.proposed, again.end()) == (1, 1, [])
            # A search that goes on after all has its whole budget, and its other start points.
            later = self._open(folder, points=points, finished=finished)
            assert (later.told, later.proposed) == (1, 1)
            proposal = later.propose()
            assert (proposal.trial, proposal.overrides["gamma"], later.proposed) == (4, points[4]["gamma"], 2)

    def test_a_search_that_lacks_recorded_trials_is_refused(self) -> None:
        with _folder() as folder:
            try:
                self._open(folder, finished={0: Outcome(COMPLETED, 90.0, 9)})
            except StudyError:
                return
            raise AssertionError("a search went on with trials that it had never proposed")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _score(overrides: Mapping[str, Any]) -> float:
    return float(100 - abs(overrides["gamma"] - 0.2) * 30 + overrides["lr"])
