"""A trainer that trains nothing: functions say what each run measures, so that whole studies take a moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_bn.protocols.trainer import COMPLETED, DIVERGED, Place, RunResult
from tune_bn.records.curves import Point
from tune_bn.records.diagnostics import Diagnostics
from tune_bn.records.score import MAX, Score

Measured = Callable[[Any, int, int], Mapping[str, float]]
"""The metrics of a configuration on a seed after a step; one that is not finite: the run diverged there."""
Tested = Callable[[Any, int], float]
"""The test score of a configuration on a seed."""

ACCURACY = Score("val_accuracy", "test_accuracy", MAX, 0.0, 100.0, "%", diverged=10.0)


def _nothing_measured(config: Any, seed: int, step: int) -> Mapping[str, float]:
    raise NotImplementedError("this trainer was given no function that says what is measured")


def _nothing_tested(config: Any, seed: int) -> float:
    raise NotImplementedError("this trainer was given no function that says what a test scores")


def _epochs(config: Any) -> int:
    return int(config.train.epochs)


@dataclass(frozen=True)
class ScriptedTrainer:
    """A :class:`tune_bn.protocols.trainer.Trainer`; to go to other processes its functions must be picklable.

    Args:
        score: what its runs are scored by.
        measured: the metrics after each step, the validation score among them.
        tested: the test score.
        count: steps of a configuration; those of the built-in trainer, where nothing else is said.
        data, data_names, told: what it says of data and versions.
    """

    score: Score = ACCURACY
    measured: Measured = _nothing_measured
    tested: Tested = _nothing_tested
    count: Callable[[Any], int] = _epochs
    data: Mapping[str, Any] = field(default_factory=dict)
    data_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=lambda: {"script": "1"})
    name: str = "scripted"
    data_words: str = "data"
    code: Sequence[Path] = ()

    def steps(self, config: Any) -> int:
        """See :class:`tune_bn.protocols.trainer.Trainer`, as for everything here."""
        return self.count(config)

    def versions(self, *configs: Any) -> Mapping[str, str]:
        """The same of all."""
        return self.told

    def without_test(self) -> ScriptedTrainer:
        """Its functions are no secret; the session withholds the test all the same."""
        return self

    @property
    def test_part(self) -> str:
        """A word."""
        return "test"

    def open(self, place: Place) -> ScriptedSession:
        """A session."""
        return ScriptedSession(self, place)


class ScriptedSession:
    """A :class:`tune_bn.protocols.trainer.Session`."""

    def __init__(self, trainer: ScriptedTrainer, place: Place) -> None:
        self.trainer = trainer
        self.device = place.device
        self.has_test = False

    def identity(self, config: Any) -> Mapping[str, Any]:
        """The configuration in words."""
        return {"config": repr(config), "versions": dict(self.trainer.told)}

    def add_test(self, part: Any) -> None:
        """From now on there is a test."""
        self.has_test = True

    def start(
        self,
        config: Any,
        seed: int,
        *,
        test: str | None = None,
        name: str = "run",
        folder: Path | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> ScriptedRun:
        """A run."""
        if test not in (None, self.trainer.score.test):
            raise ValueError(f"test must be {self.trainer.score.test} or None, but got {test!r}")
        if test is not None and not self.has_test:
            raise ValueError(f"the test part must be there for {test}, but this session was given none")
        return ScriptedRun(self, config, seed, test, state)

    def is_full(self, error: BaseException) -> bool:
        """Nothing is held."""
        return False

    def free(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


class ScriptedRun:
    """A :class:`tune_bn.protocols.trainer.Run`."""

    def __init__(
        self, session: ScriptedSession, config: Any, seed: int, test: str | None, state: Mapping[str, Any] | None
    ) -> None:
        self.trainer, self.device = session.trainer, session.device
        self.config, self.seed, self.test = config, seed, test
        self.curve: list[Point] = []
        if state is not None:
            if state["seed"] != seed:
                raise ValueError(f"the state must be of seed {seed}, but got seed {state['seed']}")
            self.curve = [Point(step, dict(metrics)) for step, metrics in state["curve"]]

    @property
    def steps(self) -> int:
        """Points so far."""
        return len(self.curve)

    @property
    def diverged(self) -> bool:
        """Whether the last metrics are not all finite."""
        return bool(self.curve) and not all(map(math.isfinite, self.curve[-1].metrics.values()))

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self.diverged or self.steps >= self.trainer.steps(self.config)

    def advance(self) -> Point:
        """Ask for the next metrics."""
        step = self.steps + 1
        self.curve.append(Point(step, dict(self.trainer.measured(self.config, self.seed, step))))
        return self.curve[-1]

    def state(self) -> Mapping[str, Any]:
        """Seed and curve."""
        return {"seed": self.seed, "curve": [(point.step, dict(point.metrics)) for point in self.curve]}

    def interim(self) -> RunResult:
        """What the curve says."""
        return self._result({})

    def result(self) -> RunResult:
        """With the test score, where one was asked for."""
        score = self.trainer.score
        if self.test is None or (self.diverged and score.diverged is None):
            return self._result({})
        tested = score.diverged if self.diverged and score.diverged is not None else None
        return self._result({self.test: self.trainer.tested(self.config, self.seed) if tested is None else tested})

    def _result(self, tested: Mapping[str, float]) -> RunResult:
        score, scores = self.trainer.score, dict[str, float]()
        if self.diverged and score.diverged is not None:
            scores[score.validation] = score.diverged
        elif self.curve and not self.diverged:
            values = [point[score.validation] for point in self.curve]
            scores[score.validation] = score.objective(score.objectives(values)[-1])
        return RunResult(
            seed=self.seed,
            status=DIVERGED if self.diverged else COMPLETED,
            reason=f"not finite in step {self.steps}" if self.diverged else f"reached step {self.steps}",
            epochs=self.steps,
            scores={**scores, **tested},
            curve=(),
            attempts=1,
            started_at="2026-01-01T00:00:00+00:00",
            duration_seconds=0.0,
            device=self.device,
            versions=dict(self.trainer.told),
        )

    def inspect(self) -> Diagnostics | None:
        """There is no network."""
        return None

    def close(self) -> None:
        """Nothing runs."""
