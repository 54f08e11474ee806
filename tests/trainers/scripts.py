"""Small scripts, and what trains them: the scripts need no torch."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tune_bn.protocols.trainer import Place
from tune_bn.records.score import Score
from tune_bn.trainers.command.code import freeze
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.settings import CommandSettings, SealedTest
from tune_bn.trainers.command.trainer import CommandTrainer, identity_of

SCORE = Score("val", "test", "max")
PARAMS = {"gamma": 0.5, "c": 10}

WALK = """
import json, random, sys, tune_bn
run = tune_bn.current_run(gamma=1.0, c=1.0)
rng = random.Random(run.seed)
value = 0.0
if run.checkpoint:
    state = json.loads(run.checkpoint.read_text())
    value = state["value"]
    rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))
for step in range(run.start, run.steps):
    value += rng.random() * run.gamma
    def save(path):
        path.write_text(json.dumps({"value": value, "rng": rng.getstate()}))
    if not run.report(step, save=save, val=value, loss=1 / (1 + value)):
        break
"""
"""A random walk, with all that the helper offers."""

TEST = """
import json, tune_bn
run = tune_bn.current_run()
run.finish(test=json.loads(run.checkpoint.read_text())["value"] * 2)
"""


def trainer_of(
    folder: Path,
    script: str = WALK,
    *,
    sealed: SealedTest | None = None,
    files: Mapping[str, str] | None = None,
    **settings: Any,
) -> CommandTrainer:
    """A trainer of a script that is written to ``folder``."""
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    for name, text in {"train.py": script, "test.py": TEST, **(files or {})}.items():
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(textwrap.dedent(text), encoding="utf-8")
    given: dict[str, Any] = {
        "command": (sys.executable, "train.py"),
        "function": "",
        "steps": 5,
        "score": SCORE,
        "folder": str(code),
        "grace": 2.0,
        "save_every": 0.0,
        **settings,
    }
    made = CommandSettings(**given)
    frozen = freeze(code, sorted(path.name for path in code.iterdir()))
    return CommandTrainer(made, frozen, {}, sealed, identity_of(made, frozen, sealed))


def start(trainer: CommandTrainer, folder: Path | None = None, *, seed: int = 1, **kwargs: Any) -> ScriptRun:
    """Begin a run."""
    params, session = kwargs.pop("params", PARAMS), trainer.open(Place())
    session.hold = kwargs.pop("hold", None)
    return session.start(params, seed, folder=folder, **kwargs)


def finish(run: ScriptRun, seconds: float = 60.0) -> list[float]:
    """Train it to its end; the curve of its validation score."""
    end = time.monotonic() + seconds
    while not run.done:
        run.advance()
        assert time.monotonic() < end, "the run does not end"
    return [point["val"] for point in run.curve]
