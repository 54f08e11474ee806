"""Screens that are read, and what is shown on them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tune_bn.observers.console.observer import ConsoleObserver
from tune_bn.protocols.observer import StudyInfo
from tune_bn.protocols.runner import Point, Task
from tune_bn.records.record import Record
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.points import epoch_point

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
CONFIG = {"gamma": 0.2, "c": 100.0}
# Nowhere: whoever has searched in this clone has a studies/digits-1 with a plan.
INFO = StudyInfo("digits-1", "digits", Path("/nowhere/digits-1"), "0" * 64, None, {})


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(stage: str = "search", arm: str = "candidate", trial: int | None = 7, seed: int = 101, **fields: Any) -> Record:
    values: dict[str, Any] = {
        "config": CONFIG,
        "status": "completed",
        "reason": "all epochs done",
        "epochs": 40,
        "scores": {"val_accuracy": 97.166, "best_epoch": 31},
        **fields,
    }
    return Record(
        study="digits-1",
        stage=stage,
        arm=arm,
        trial=trial,
        seed=seed,
        epochs_planned=40,
        attempts=1,
        started_at="2026-01-01T00:00:00Z",
        duration_seconds=1.42,
        device="cpu",
        versions={},
        commit=None,
        space_sha256="0" * 64,
        **values,
    )


def scored(trial: int, accuracy: float, seed: int = 101, status: str = "completed", stage: str = "search") -> Record:
    scores = {"val_accuracy": accuracy, "best_epoch": 3}
    return run(stage, trial=trial, seed=seed, status=status, scores=scores, config={"gamma": trial / 100, "c": 10.0})


def confirmed(arm: str, seed: int, accuracy: float, metric: str = "test_accuracy") -> Record:
    return run("confirm", arm, None, seed, scores={"val_accuracy": 98.0, "best_epoch": 31, metric: accuracy})


def task(trial: int, seeds: tuple[int, ...] = (101,)) -> Task:
    return Task("search", "candidate", trial, CONFIG, RunConfig(train=TrainConfig(epochs=40)), seeds, steps=40)


def point(epoch: int, val_accuracy: float) -> Point:
    return epoch_point(epoch, 1.0, 50.0, 1.0, val_accuracy, 0.1)


class Screen:
    """An observer with a console in memory and a clock."""

    def __init__(self, *, terminal: bool) -> None:
        self.file = io.StringIO()
        self.clock = Clock()
        console = Console(
            file=self.file, force_terminal=terminal, width=110, height=30, _environ={"TERM": "xterm-256color"}
        )
        self.observer = ConsoleObserver(console, clock=self.clock)
        self.observer.study_started(INFO, [])

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()

    def last_frame(self) -> list[str]:
        """Close the observer and give back what its view showed last, without escape codes."""
        seen = len(self.file.getvalue())
        self.observer.close()
        plain = Text.from_ansi(self.file.getvalue()[seen:].replace("\r", "")).plain
        return [line.rstrip() for line in plain.splitlines() if line.strip()]
