"""The trainers that installed packages add, and that a space may name; one is loaded when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from tune_bn.host.extensions import Table
from tune_bn.records.score import Score

BUILTIN = "builtin"
"""Name of the built-in loop, which trains where a space has no section ``trainer``."""


@dataclass(frozen=True)
class TrainerKind:
    """A trainer of a package: a row of :data:`TRAINERS`."""

    name: str
    doc: str
    make: str
    """``package.module:function`` that returns a :class:`tune_bn.protocols.trainer.Trainer`. It is called once, where a
    study begins or goes on, with ``options`` (the mapping ``trainer.options`` of the space file) and ``steps`` (of a
    whole run), and raises :class:`tune_bn.errors.ConfigError` with the name of an option that it does not take. The
    configurations of its runs are mappings from the names of ``trainer.params`` and of what is searched to values."""
    score: Score
    """What its runs are scored by; that of the trainer itself is the same."""


TRAINERS = Table("tune_bn.trainers", TrainerKind)
"""By name. Packages add rows by entry points of the group ``tune_bn.trainers``."""
