"""Which trainer a space asks for."""

from __future__ import annotations

from tune_bn.data.cache import Progress
from tune_bn.protocols.trainer import Trainer
from tune_bn.space.space import Space
from tune_bn.trainers.builtin import builtin_trainer


def trainer_of(space: Space, *, progress: Progress | None = None) -> Trainer:
    """The trainer of a space, ready to be sent to workers.

    Args:
        space: of the study.
        progress: hears how far a long preparation is.

    Raises:
        DataError: data cannot be read.
        MethodError: a network cannot be imported.
    """
    return builtin_trainer(space.data, metric=space.claim.metric, archs=space.archs, progress=progress)
