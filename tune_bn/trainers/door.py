"""A trainer's part of a space, looked at before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tune_bn.errors import DataError
from tune_bn.protocols.trainer import Cost, Described, Door
from tune_bn.protocols.trainers import TRAINERS
from tune_bn.space.space import Space


def door_of(space: Space, meanwhile: Callable[[], None] | None = None) -> Door:
    """The door of the trainer that a space asks for. Opens nothing.

    Args:
        space: what is asked.
        meanwhile: called by a check that takes seconds, once what is seen at once is good.
    """
    if space.trainer is not None:
        return OwnDoor(space)
    from tune_bn.trainers.builtin_door import BuiltinDoor

    return BuiltinDoor(space, meanwhile)


class OwnDoor:
    """A :class:`tune_bn.protocols.trainer.Door` of training code of the user's, or of another package's."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def check(self, remark: Callable[[str], None], *, single: Any = None) -> Sequence[str]:
        """See the protocol. What it names outside the space file must be there."""
        if single is not None:
            raise DataError(
                "trainer: got a trainer of your own; accepted: the built-in loop here; `tune_bn check` tries yours"
            )
        if self.space.trainer is not None and self.space.trainer.ask:
            from tune_bn.trainers.ask import ask_trainer

            ask_trainer(self.space)
            return ()
        from tune_bn.trainers.choose import trainer_of

        trainer_of(self.space)
        return ()

    def describe(self) -> Described:
        """See the protocol."""
        section, score = self.space.trainer, self.space.score
        assert section is not None
        what = f"function {section.function}" if section.command is None else f"command {' '.join(section.command)}"
        what = "loops elsewhere, by `tune_bn ask` and `tune_bn tell`" if section.ask else what
        what = what if section.name is None else f"{section.name}: {TRAINERS[section.name].doc}"
        return Described(
            what=(
                f"trainer    {what}; {section.steps} steps",
                f"score      {score.validation} ({score.goal}, {score.at}); in the confirmation {score.test}",
            ),
        )

    @property
    def steps(self) -> int:
        """See the protocol."""
        assert self.space.trainer is not None
        return self.space.trainer.steps

    def cost(self, measure: bool | None) -> Cost | None:
        """See the protocol. `tune_bn check` tries it."""
        return None

    def paced_as(self, other: Door) -> bool:
        """See the protocol. What decides it only the code knows."""
        return False

    def read(self, progress: Any) -> Sequence[str]:
        """See the protocol."""
        return ("images     only the script of the trainer knows its data",)
