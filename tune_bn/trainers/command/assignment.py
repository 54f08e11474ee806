"""What a script is told of its run: what placeholders stand for, and the facts in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune_bn.script.folder import FORMAT
from tune_bn.trainers.command.folder import GoOn
from tune_bn.trainers.command.settings import CommandSettings, SealedTest


@dataclass(frozen=True)
class Assignment:
    """One run as its script is told of it.

    Args:
        settings: of the trainer.
        params: what the study has chosen.
        seed: of the run.
        sealed: what only the confirmation is told; None in every other stage.
    """

    settings: CommandSettings
    params: Mapping[str, Any]
    seed: int
    sealed: SealedTest | None

    @property
    def wants_test(self) -> bool:
        """Whether the script itself reports the test score."""
        return self.sealed is not None and not self.sealed.command

    def values(self, run: Path, going_on: GoOn | None = None) -> dict[str, Any]:
        """What placeholders stand for; ``run`` is the run's folder."""
        return {
            **self.settings.fixed,
            **self.params,
            "seed": self.seed,
            "steps": self.settings.steps,
            "checkpoint": "" if going_on is None else str(going_on.path),
            "run": str(run),
            # In every stage the same: what is trained on is no less than the code.
            "data": self.settings.search_data or "",
        }

    def facts(self, attempt: int, going_on: GoOn | None, *, first: int | None, hold: int | None) -> dict[str, Any]:
        """What an attempt finds in its folder, in the form of :data:`tune_bn.script.folder.FORMAT`.

        Args:
            attempt: its number, from 1 on.
            going_on: the checkpoint that it goes on from.
            first: the number that the script gives to its first step, where that is known.
            hold: the step at which it is held.
        """
        settings, sealed = self.settings, self.sealed
        return {
            "format": FORMAT,
            "params": {**settings.fixed, **self.params},
            "seed": self.seed,
            "steps": settings.steps,
            "attempt": attempt,
            "checkpoint": None if going_on is None else str(going_on.path),
            "start": 0 if going_on is None else going_on.done,
            "first": first,
            "data": settings.search_data,
            "wants_test": self.wants_test,
            "test_data": sealed.data if sealed is not None and self.wants_test else None,
            "score": settings.score.validation,
            "goal": settings.score.goal,
            "keep": settings.test_checkpoint if sealed is not None and sealed.command else None,
            "save_every": settings.save_every,
            "hold": hold,
        }
