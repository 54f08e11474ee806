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
    """What became of a trial; see :meth:`Sampler.tell`."""

    status: str
    objective: float | None
    epoch: int


class Sampler(Protocol):
    """Proposes configurations and learns from what became of them."""

    def propose(self) -> Proposal:
        """The next configuration. Proposals that an earlier process left unfinished come first, unchanged."""

    def tell(self, trial: int, status: str, objective: float | None, epoch: int) -> None:
        """What became of a trial.

        Args:
            trial: its number.
            status: ``completed``, ``pruned`` or ``failed``, as in :class:`tune_bn.records.Record`.
            objective: mean over the trial's seeds, higher is better; None for ``failed``.
            epoch: the epoch that was reached.
        """

    @property
    def told(self) -> int:
        """Number of trials whose end is known."""

    @property
    def proposed(self) -> int:
        """Number of trials begun in this or an earlier process, without those that will be handed out again."""
