"""A package that is not this one adds a trainer: a row and an entry point; a space names it, and gets a verdict."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import warm
from tune_bn.errors import SpecError
from tune_bn.protocols.trainer import Place
from tune_bn.protocols.trainers import TRAINERS
from tune_bn.space.loading import parse_space
from tune_bn.space.space import Space
from tune_bn.testing.trainer import Case, TrainerContract
from tune_bn.trainers.choose import trainer_of

PACKAGE = """
import random
from tune_bn.errors import ConfigError
from tune_bn.protocols.trainers import TrainerKind
from tune_bn.records.score import MIN, Score
from tune_bn.testing.scripted import ScriptedTrainer

SCORE = Score("val_loss", "test_loss", MIN, 0.0, None, step="round")


def loss(config, seed, what):
    luck = random.Random(f"{seed} {what} {config['gamma']}").gauss(0, 0.01)
    return 1.0 + config["lr"] / 10 + (config["gamma"] - 0.2) ** 2 + luck


def measured(config, seed, step):
    return {"val_loss": loss(config, seed, "val") + 1 / step}


def tested(config, seed):
    return loss(config, seed, "test")


def rounds(config):
    return ROUNDS


class Boosting(ScriptedTrainer):
    pass


def make(*, options, steps):
    global ROUNDS
    for key, value in options.items():
        if key not in ("depth", "raises", "other"):
            raise ConfigError(key, value, "depth")
        if key == "raises":
            raise RuntimeError("no such file")
    ROUNDS = steps
    score = Score("val_loss", "test_loss", "max") if "other" in options else SCORE
    count = rounds if options.get("depth") != 7 else deeper
    return Boosting(score, measured, tested, count, told={"boosting": "1.0"}, name="boosting")


def deeper(config):
    return ROUNDS + 1


ROUNDS = 4
kind = TrainerKind("boosting", "boosting that is made up", "boosted:make", SCORE)
"""
ENTRY_POINTS = """
[tune_bn.trainers]
boosting = boosted:kind
broken = boosted:nothing
"""
SPACE: dict[str, Any] = {
    "name": "own",
    "trainer": {"name": "boosting", "steps": 4, "params": {"lr": 0.1}, "options": {"depth": 3}},
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}},
    "claim": {"baseline": {"gamma": 1.0}},
    "sampler": {"points": "none"},
    "budget": {"trials": 4, "finalists": 2},
    "seeds": {"search": [101], "select": [201, 202, 203], "confirm": [1, 2, 3, 4, 5, 6]},
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "boosted.py").write_text(PACKAGE)
    info = tmp_path / "boosted-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boosted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    # The table of this process was read before there was such a package.
    rows = dict(TRAINERS._rows)
    TRAINERS.__dict__.pop("_added", None)
    yield tmp_path
    TRAINERS.__dict__.pop("_added", None)
    TRAINERS._rows = rows
    sys.modules.pop("boosted", None)


def space_with(**changes: Any) -> Space:
    trainer = {**SPACE["trainer"], **changes}
    return parse_space({**SPACE, "trainer": {k: v for k, v in trainer.items() if v is not None}}, "own.yaml")


def test_the_space_has_the_score_of_the_row_and_the_trainer_its_configurations(outside: Path) -> None:
    space = space_with()
    trainer = trainer_of(space)
    assert space.score == trainer.score
    assert (trainer.name, trainer.score.goal, trainer.score.step) == ("boosting", "min", "round")
    assert space.run_config({"gamma": 0.5}) == {"lr": 0.1, "gamma": 0.5}
    assert trainer.steps(space.run_config({"gamma": 0.5})) == 4
    assert parse_space(space.to_dict(), "again") == space


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"name": "boostin"},
            "trainer.name: got 'boostin'; accepted: a trainer of an installed package (boosting (",
        ),
        ({"name": "zzz"}, "(one of boosting, broken); or a command or a function"),
        ({"name": "broken"}, "trainer.name: got 'broken'; accepted: a TrainerKind of that name behind the entry point"),
        (
            {"score": {"validation": "a", "test": "b", "goal": "min"}},
            "no such key beside name: boosting is the",
        ),
        ({"command": ["python"]}, "trainer.command: got ['python']; accepted: no such key beside name"),
        ({"timeout": "2h"}, "trainer.timeout: got 7200.0; accepted: no such key beside name"),
        ({"steps": 0}, "trainer.steps: got 0; accepted: an integer ≥ 1"),
        ({"options": {"deep": 3}}, "trainer.options.deep: got 3; accepted: depth"),
        ({"options": {"raises": 1}}, "accepted: options that boosted:make takes (RuntimeError: no such file)"),
        ({"options": {"other": 1}}, "accepted: a trainer that is scored as its row boosting says"),
        ({"options": {"depth": 7}}, "trainer.steps: got 4; accepted: 5, as boosting says of the baseline"),
    ],
)
def test_what_is_wrong_is_one_line_at_the_door(outside: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(SpecError) as error:
        trainer_of(space_with(**changes))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_the_state_of_its_package_is_among_its_versions_in_every_process(
    outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_with()
    trainer = pickle.loads(pickle.dumps(trainer_of(space).without_test()))
    told = trainer.versions()["trainer"]
    assert told.startswith("boosting of boosted 1.0 (")
    session = trainer.open(Place())
    config = space.run_config({"gamma": 0.5})
    assert session.identity(config)["trainer"] == told
    run = session.start(config, 1)
    while not run.done:
        run.advance()
    assert run.result().versions == {"boosting": "1.0", "trainer": told}
    (outside / "boosted.py").write_text(PACKAGE + "\n# Another state of it, under the same version.\n")
    other = trainer_of(space).versions()["trainer"]
    assert other != told
    # Also where the row lies in another package than what it names.
    (outside / "elsewhere.py").write_text("from boosted import make\n")
    row = replace(TRAINERS["boosting"], make="elsewhere:make")
    monkeypatch.setitem(TRAINERS._rows, "boosting", row)
    before = trainer_of(space).versions()["trainer"]
    assert "made by elsewhere (" in before
    (outside / "elsewhere.py").write_text("from boosted import make  # another state\n")
    assert trainer_of(space).versions()["trainer"] != before


class TestAdded(TrainerContract):
    @pytest.fixture(autouse=True)
    def _outside(self, outside: Path) -> None:
        pass

    def case(self, folder: Path) -> Case:
        return Case(trainer_of(space_with()), {"lr": 0.1, "gamma": 0.5}, {"lr": 0.1, "gamma": 0.2})


def test_a_study_without_ray_reaches_a_verdict_and_a_resume_of_other_code_is_refused(outside: Path) -> None:
    (outside / "own.yaml").write_text(yaml.safe_dump(SPACE))
    search = ["search", "--space", "own.yaml", "--study", "own-1", "--local"]
    assert "was never checked" in typed(outside, 2, *search)
    checked = typed(outside, 0, "check", "--space", "own.yaml")
    assert "a worker without the test part finds no test_loss" in checked
    said = typed(outside, 0, *search)
    assert "verdict: supported" in said
    assert "lowers test loss by" in said
    folder = outside / "studies/own-1"
    verdict = json.loads((folder / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["score"]["goal"]) == ("supported", "min")
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert {record["versions"]["trainer"][:21] for record in records} == {"boosting of boosted 1"}
    (folder / "verdict.json").unlink()
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:-2]))
    (outside / "boosted.py").write_text(PACKAGE + "\n# Another state.\n")
    resume = ["search", "--study", "own-1", "--local", "--resume"]
    assert "boosting of boosted 1.0" in typed(outside, 2, *resume)
    (outside / "boosted.py").write_text(PACKAGE)
    assert "verdict: supported" in typed(outside, 0, *resume)
    again = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [record["scores"] for record in again] == [record["scores"] for record in records]


def typed(folder: Path, status: int, *words: str) -> str:
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = warm.run(list(words), cwd=folder, env=environment)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr
