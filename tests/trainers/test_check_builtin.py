"""``tune_bn check`` on the built-in loop, and what it counts of a script's evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tune_bn.protocols.trainer import Place
from tune_bn.records.score import Score
from tune_bn.space.loading import load_space, parse_space
from tune_bn.trainers.check import Checker
from tune_bn.trainers.checked import OK, WRONG
from tune_bn.trainers.choose import trainer_of
from tune_bn.trainers.command.points import Points
from tune_bn.trainers.command.rows import Row

CONTENT: dict[str, Any] = {
    "name": "tiny",
    "model": {"arch": "resnet8"},
    "data": {"source": "digits", "train_size": 40, "val_size": 40, "test_size": 40},
    "train": {"epochs": 6, "batch_size": 20},
    "seeds": {"search": [101], "select": [201], "confirm": [1, 2, 3]},
}
SEARCH = {
    "search": {"gamma": {"log_uniform": [0.05, 1.0]}, "c": {"log_uniform": [1, 100]}, "lr": {"choice": [0.1, 0.01]}}
}
ARMS = {
    "model": {"arch": "resnet8", "norm": "scaled"},
    "claim": {
        "baseline": {"norm": "base", "gamma": 1, "c": 1},
        "arms": {
            "ours": {"gamma": 0.1, "c": 100},
            "frozen": {"gamma": 0.1, "freeze_gamma": True},
            "gate": {"norm": "rbn", "unit_gate": True},
        },
    },
}


@pytest.mark.parametrize("change", [SEARCH, ARMS], ids=["search", "arms"])
def test_the_built_in_loop_passes(change: dict[str, Any], tmp_path: Path) -> None:
    space = parse_space(CONTENT | change, "tiny")
    checked = Checker(space, trainer_of(space), Place(threads=1), tmp_path / "runs").run()
    assert [(finding.trap[:1], finding.verdict) for finding in checked.findings] == [
        *((mark, OK) for mark in ("i", "1", "2", "3", "4", "5")),
    ], checked.findings
    assert 0 < checked.seconds_per_step < 60
    assert not (tmp_path / "runs").exists()


def test_an_ema_is_checked_too(tmp_path: Path) -> None:
    train = CONTENT["train"] | {"ema": 0.9, "optimizer": "adamw", "lr": 0.003, "warmup_epochs": 2}
    space = parse_space(CONTENT | {"train": train, "search": {"gamma": {"log_uniform": [0.05, 1.0]}}}, "tiny")
    checked = Checker(space, trainer_of(space), Place(threads=1), tmp_path / "runs").run()
    assert checked.ok, checked.findings


SCRIPT = """
import json, os, random, sys
folder = os.environ["TUNE_BN_RUN"]
facts = json.load(open(folder + "/run.json"))
gamma, draw = facts["params"]["gamma"], random.Random(facts["seed"])
with open(f"{folder}/metrics.{facts['attempt']}.jsonl", "a") as rows:
    for step in range(facts["steps"]):
        value = gamma + draw.random()
        if EVERY or gamma == 1.0 or step % 3 == 0:
            rows.write(json.dumps({"step": step, "val": value}) + "\\n")
            rows.flush()
"""


@pytest.mark.parametrize("every", [True, False])
def test_arms_that_are_evaluated_more_often_are_found(every: bool, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.replace("EVERY", str(every)))
    content = {
        "name": "mine",
        "trainer": {
            "command": ["python", "train.py"],
            "code": ["train.py"],
            "steps": 4,
            "score": {"validation": "val", "test": "test", "goal": "max"},
            "meaning": {"gamma": "what is added"},
        },
        "search": {"gamma": {"uniform": [0.1, 1.0]}},
        "claim": {"about": ["gamma"], "baseline": {"gamma": 1.0}},
        "seeds": CONTENT["seeds"],
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(content))
    space = load_space(tmp_path / "space.yaml")
    found = Checker(space, trainer_of(space), Place(threads=1), tmp_path / "runs").run().findings
    effects = next(finding for finding in found if finding.trap.startswith("3"))
    assert effects.verdict == (OK if every else WRONG), found
    assert every or "another gamma is evaluated 2 times where the baseline is 4 times" in effects.words


def test_how_far_a_script_is_ahead_is_no_evaluation() -> None:
    points = Points(Score("val", "test", "max", 0.0, 9.0), 6)
    for step in (0, 2, 4, 5):
        points.take(Row(step, {"val": 1.0}), may_test=False)
    assert [points.evaluations(steps) for steps in range(7)] == [0, 1, 1, 2, 2, 3, 4]
