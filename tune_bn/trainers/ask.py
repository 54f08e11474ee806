"""Loops elsewhere as a trainer: what their runs are scored by, and what identifies them; nothing is started here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tune_bn.errors import ConfigError, SpecError
from tune_bn.protocols.trainer import Place, Session
from tune_bn.records.files import sha256_of
from tune_bn.records.score import Score
from tune_bn.space.space import Space
from tune_bn.trainers.command.from_space import data_identity
from tune_bn.training.versions import library_versions


@dataclass(frozen=True)
class AskTrainer:
    """A :class:`tune_bn.protocols.trainer.Trainer` that opens no session.

    Args:
        score: as the space file says.
        course: steps of a whole run.
        data: identity of the data of search and test, where the space names any.
        places: where that data is: ``search``, and ``test`` for the confirmation alone.
    """

    score: Score
    course: int
    data: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    name: str = "ask"

    @property
    def data_names(self) -> Mapping[str, Sequence[str]]:
        """None are known."""
        return {}

    @property
    def data_words(self) -> str:
        """Where the data is."""
        return f"trainer.data.search: {self.places['search']}" if "search" in self.places else "trainer.data"

    @property
    def code(self) -> Sequence[Path]:
        """Whoever asks has it."""
        return ()

    def steps(self, config: Mapping[str, Any]) -> int:
        """The same for every configuration."""
        del config
        return self.course

    def versions(self, *configs: Mapping[str, Any]) -> Mapping[str, str]:
        """Of this package and the libraries beside it, and a hash of what the space says of the runs."""
        del configs
        told = sha256_of({"score": self.score.to_json(), "steps": self.course})[:16]
        return {**library_versions(), "trainer": f"asked for ({told})"}

    def without_test(self) -> AskTrainer:
        """See :meth:`tune_bn.protocols.trainer.Trainer.without_test`."""
        keep = {key: value for key, value in self.places.items() if key != "test"}
        return replace(self, data={key: value for key, value in self.data.items() if key != "test"}, places=keep)

    @property
    def test_part(self) -> None:
        """Where the test data is stands in the runs that are asked for."""
        return None

    def open(self, place: Place) -> Session:
        """Nothing is trained here."""
        raise NotImplementedError("runs of this study are trained by whoever asks for them")


def ask_trainer(space: Space) -> AskTrainer:
    """The trainer of a space with ``trainer.ask``.

    Raises:
        SpecError: the space names another trainer, or data that is not there.
    """
    section = space.trainer
    if section is None or not section.ask:
        what = "the built-in loop" if section is None else "a command" if section.command else "a function"
        raise SpecError(
            f"trainer: got {what}, whose runs `tune_bn search` trains; accepted: {{ask: true, steps: …, score: …}}"
        )
    root = Path(section.root or ".").absolute()
    places = {key: str((root / place).absolute()) for key, place in section.data.items()}
    for key, place in places.items():
        if not Path(place).exists():
            error = ConfigError(f"trainer.data.{key}", section.data[key], f"a file or folder, such as one in {root}")
            raise SpecError(str(error))
    data = {key: data_identity(Path(place)) for key, place in places.items()}
    return AskTrainer(section.scored, section.steps, data, places)
