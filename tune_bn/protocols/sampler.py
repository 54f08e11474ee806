"""The contract between a study and whoever proposes its configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Proposal:
    """One configuration to try."""

    trial: int
    """Number of the trial within its sampler, from 0."""
    overrides: Mapping[str, Any]
    """A value for every searched key."""


@dataclass(frozen=True)
class Outcome:
    """What became of a trial."""

    status: str
    """``completed``, ``pruned`` or ``failed``, as in :class:`tune_bn.records.record.Record`."""
    objective: float | None
    """Mean over the trial's seeds of the score, turned such that higher is better; None for ``failed``, and where a run
    diverged and has no score."""
    epoch: int
    """The epoch that was reached."""
    std: float | None = None
    """Standard deviation of the objective over the seeds (n − 1); None for one seed, and for ``failed``."""
    n: int = 1
    """Number of seeds."""


class Sampler(Protocol):
    """Proposes configurations and learns from what became of them."""

    def propose(self) -> Proposal:
        """The next configuration. Proposals that an earlier process left unfinished come first, unchanged."""

    def tell(self, trial: int, outcome: Outcome) -> None:
        """What became of the trial of this number."""

    def end(self) -> list[int]:
        """The search is over: give up the trials that were begun and never told, and return their numbers.

        Those that are known to have failed are told of instead.

        They count as failed and are not handed out again. They do not count as proposed, so that a search that goes on
        after all has its whole budget. Start points that were not reached stay: they would come next.
        """

    @property
    def told(self) -> int:
        """Number of trials of which :meth:`tell` said what became of them, in this or an earlier process."""

    @property
    def proposed(self) -> int:
        """Number of trials begun in this or an earlier process, without those that will be handed out again, and
        without those that :meth:`end` gave up."""
