"""Which trainer a space asks for."""

from __future__ import annotations

from pathlib import Path

from tune_bn.data.cache import Progress
from tune_bn.errors import SpecError
from tune_bn.protocols.trainer import Trainer
from tune_bn.space.space import Space
from tune_bn.trainers.builtin import builtin_trainer


def trainer_of(space: Space, *, progress: Progress | None = None, study: Path | None = None) -> Trainer:
    """The trainer of a space, ready to be sent to workers.

    Args:
        space: of the study.
        progress: hears how far a long preparation is.
        study: the folder of a study that goes on.

    Raises:
        SpecError: what the section ``trainer`` names is not there, or does not fit.
        DataError: data cannot be read.
        MethodError: a network cannot be imported.
    """
    if space.trainer is not None and space.trainer.ask:
        raise SpecError(
            "trainer.ask: got true, a study whose runs are trained elsewhere; accepted: `tune_bn ask STUDY --space "
            "FILE` and `tune_bn tell STUDY RUN`, or a command or function"
        )
    if space.trainer is not None and space.trainer.name is not None:
        from tune_bn.trainers.added import added_trainer

        return added_trainer(space)
    if space.trainer is not None:
        from tune_bn.trainers.command.from_space import command_trainer

        return command_trainer(space, study=study)
    return builtin_trainer(space.data, metric=space.claim.metric, archs=space.archs, progress=progress)
