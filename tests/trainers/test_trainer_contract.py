"""The contract suite on the trainers that this package has, and on one that breaks it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tune_bn.data.config import DataConfig
from tune_bn.data.dataset import Dataset, load_dataset
from tune_bn.method.config import ModelConfig
from tune_bn.records.curves import Point
from tune_bn.records.score import MIN, Score
from tune_bn.testing.scripted import ScriptedRun, ScriptedSession, ScriptedTrainer
from tune_bn.testing.trainer import Case, TrainerContract
from tune_bn.trainers.builtin import BuiltinTrainer
from tune_bn.training.config import RunConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = DataConfig(source="digits", train_size=40, val_size=40, test_size=40)
CONFIG = RunConfig(ModelConfig(arch="resnet8", gamma=0.2), DATA, TrainConfig(epochs=2, batch_size=20))


@cache
def dataset() -> Dataset:
    return load_dataset(DATA)


def through_a_file(state: Any) -> Any:
    """As a checkpoint takes it."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


class TestBuiltin(TrainerContract):
    def case(self, folder: Path) -> Case:
        return Case(
            BuiltinTrainer(dataset()),
            CONFIG,
            other=replace(CONFIG, model=replace(CONFIG.model, gamma=0.5)),
            diverging=replace(CONFIG, train=replace(CONFIG.train, lr=1e30)),
            encode=through_a_file,
        )


class TestBuiltinWithTheLastEpoch(TrainerContract):
    def case(self, folder: Path) -> Case:
        return Case(BuiltinTrainer(dataset(), "final_test_accuracy"), CONFIG, encode=through_a_file)


LOSS = Score("val_loss", "test_loss", MIN, step="step")


@dataclass(frozen=True)
class Knob:
    lr: float
    steps: int = 3


def falling(config: Knob, seed: int, step: int) -> Mapping[str, float]:
    return {"val_loss": math.inf if config.lr > 1 else config.lr + seed / 100 + 1 / step, "lr": config.lr}


def final(config: Knob, seed: int) -> float:
    return config.lr + seed / 100


def steps_of(config: Knob) -> int:
    return config.steps


SCRIPTED = ScriptedTrainer(LOSS, falling, final, steps_of)


class TestScripted(TrainerContract):
    def case(self, folder: Path) -> Case:
        return Case(SCRIPTED, Knob(0.1), other=Knob(0.2), diverging=Knob(2.0), encode=through_a_file)


class ForgetfulRun(ScriptedRun):
    """A run that goes on as if it began anew."""

    def state(self) -> Mapping[str, Any]:
        return {"seed": self.seed, "curve": [(1, {"val_loss": 7.0, "lr": 0.1})]}


class LeakingRun(ScriptedRun):
    """A run that tells its test score in every step."""

    def advance(self) -> Point:
        point = super().advance()
        self.curve[-1] = Point(point.step, {**point.metrics, "test_loss": 0.1})
        return self.curve[-1]


@dataclass(frozen=True)
class Broken(ScriptedTrainer):
    run: type[ScriptedRun] = ScriptedRun

    def open(self, place: Any) -> BrokenSession:
        return BrokenSession(self, place)


class BrokenSession(ScriptedSession):
    trainer: Broken

    def start(self, config: Any, seed: int, *, test: str | None = None, state: Any = None, **given: Any) -> ScriptedRun:
        return self.trainer.run(self, config, seed, test, state)


def suite_on(run: type[ScriptedRun]) -> TrainerContract:
    class Suite(TrainerContract):
        def case(self, folder: Path) -> Case:
            return Case(Broken(LOSS, falling, final, steps_of, run=run), Knob(0.1))

    return Suite()


def test_a_run_that_does_not_go_on_where_it_was_is_found() -> None:
    with pytest.raises(AssertionError):
        suite_on(ForgetfulRun).test_a_run_that_goes_on_from_a_state_equals_the_uninterrupted_one()


def test_a_test_score_in_the_curve_is_found() -> None:
    with pytest.raises(AssertionError):
        suite_on(LeakingRun).test_the_test_score_comes_where_it_was_asked_for_and_at_the_end_alone()


def test_a_session_that_has_no_seal_is_found() -> None:
    with pytest.raises(AssertionError, match="without the test part"):
        suite_on(ScriptedRun).test_what_workers_are_given_first_has_nothing_of_the_test()
