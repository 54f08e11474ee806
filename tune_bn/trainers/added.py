"""Trainers that installed packages add, as a study takes them: with the state of their code among their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from tune_bn.errors import ConfigError, SpecError, first_line
from tune_bn.host.extensions import added_code, code_of, load
from tune_bn.protocols.trainer import Place, Run, RunResult, Session, Trainer
from tune_bn.protocols.trainers import TRAINERS
from tune_bn.space.space import Space


def added_trainer(space: Space) -> Trainer:
    """The trainer that ``trainer.name`` names.

    Raises:
        SpecError: its package cannot make it of these options, or it breaks its contract in what can be seen at once.
    """
    section = space.trainer
    assert section is not None
    assert section.name is not None
    row = TRAINERS[section.name]
    try:
        trainer: Trainer = load(row.make)(options=dict(section.options), steps=section.steps)
    except ConfigError as error:
        raise SpecError(f"trainer.options.{error.key}: got {error.value!r}; accepted: {error.accepted}") from None
    # A package of somebody else's may raise anything.
    except Exception as error:
        accepted = f"options that {row.make} takes ({type(error).__name__}: {first_line(error)})"
        raise SpecError(f"trainer.options: got {dict(section.options)!r}; accepted: {accepted}") from error
    if trainer.score != row.score:
        accepted = f"a trainer that is scored as its row {row.name} says, by {row.score.to_json()}"
        raise SpecError(f"trainer.name: got {row.name!r}, scored by {trainer.score.to_json()}; accepted: {accepted}")
    steps = trainer.steps(space.run_config(space.baseline))
    if steps != section.steps:
        raise SpecError(f"trainer.steps: got {section.steps}; accepted: {steps}, as {row.name} says of the baseline")
    # The function that makes it may lie elsewhere than the row.
    told = f"{row.name} of {added_code(TRAINERS.group)}, made by {code_of(row.make)}"
    return cast(Trainer, _Told(trainer, told))


class _Around:
    """Passes on whatever it does not have itself."""

    def __init__(self, inner: Any, told: str) -> None:
        self._inner, self._told = inner, told

    def __getattr__(self, name: str) -> Any:
        # Pickle asks for its own methods before there is anything to pass on to.
        if name.startswith("__") or name in ("_inner", "_told"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def _with(self, versions: Mapping[str, str]) -> dict[str, str]:
        return {**versions, "trainer": self._told}


class _Told(_Around):
    """A trainer that tells which state of which package it is: a resume with another one must be seen."""

    def versions(self, *configs: Any) -> dict[str, str]:
        return self._with(self._inner.versions(*configs))

    def without_test(self) -> _Told:
        return _Told(self._inner.without_test(), self._told)

    def open(self, place: Place) -> _ToldSession:
        return _ToldSession(self._inner.open(place), self._told)


class _ToldSession(_Around):
    _inner: Session

    def identity(self, config: Any) -> dict[str, Any]:
        return {**self._inner.identity(config), "trainer": self._told}

    def start(self, config: Any, seed: int, **given: Any) -> Run:
        return cast(Run, _ToldRun(self._inner.start(config, seed, **given), self._told))


class _ToldRun(_Around):
    _inner: Run

    def interim(self) -> RunResult:
        return self._of(self._inner.interim())

    def result(self) -> RunResult:
        return self._of(self._inner.result())

    def _of(self, result: RunResult) -> RunResult:
        return replace(result, versions=self._with(result.versions))
