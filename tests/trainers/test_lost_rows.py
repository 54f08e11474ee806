"""A script that is killed after it has saved a step and before it has told of it: the run comes to its end even so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.scripts import WALK, finish, start, trainer_of
from tune_bn.protocols.trainer import PreemptedError
from tune_bn.trainers.command.run import RunError
from tune_bn.trainers.command.settings import Tap
from tune_bn.trainers.command.trainer import CommandTrainer

KILLED = """
import os, signal, tune_bn.script.run as helper
def killed(path, row, append=helper.append_row):
    if run.attempt == 1 and row["step"] == STEP:
        os.kill(os.getpid(), signal.SIGKILL)
    append(path, row)
helper.append_row = killed
"""

SAVED_ALONE = """
import json, os, pathlib, sys, zipfile
first, value = 0, 0.0
if len(sys.argv) > 1:
    first, value = json.loads(zipfile.ZipFile(sys.argv[1]).read("state"))
for epoch in range(first, 5):
    value += epoch
    with zipfile.ZipFile("new.zip", "w") as out:
        out.writestr("state", json.dumps([epoch + 1, value]))
    pathlib.Path("new.zip").rename("last.zip")
    if epoch == STEP and json.load(open(os.environ["TUNE_BN_RUN"] + "/run.json"))["attempt"] == 1:
        os._exit(9)
    with open("log.csv", "MODE" if epoch == first else "a") as log:
        if "MODE" == "w" and epoch == first or not epoch:
            log.write("epoch,val\\n")
        log.write(f"{epoch},{value}\\n")
"""


def over_failures(trainer: CommandTrainer, folder: Path, most: int = 3) -> tuple[list[float], int]:
    """The curve of a run, and how often its script failed."""
    for failures in range(most):
        run = start(trainer, folder)
        try:
            return finish(run), failures
        except RunError:
            continue
        finally:
            run.close()
    raise AssertionError("each attempt fails")


@pytest.mark.parametrize("step", [0, 2, 4])
def test_the_helper_saves_before_it_tells(step: int, tmp_path: Path) -> None:
    whole, _ = over_failures(trainer_of(tmp_path / "a"), tmp_path / "a/run")
    script = WALK.replace("rng = random", KILLED.replace("STEP", str(step)) + "rng = random", 1)
    # No more is lost than that step.
    assert over_failures(trainer_of(tmp_path / "b", script), tmp_path / "b/run") == (whole, 1)
    attempt = start(trainer_of(tmp_path / "b", script), tmp_path / "b/run").files.attempts[1]
    assert attempt["start"] == step


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_checkpoint_of_a_script_s_own_is_let_go_where_rows_are_missing(step: int, mode: str, tmp_path: Path) -> None:
    def trainer(name: str, step: int) -> CommandTrainer:
        tap = {"metrics": Tap("csv", "log.csv", "epoch"), "checkpoint": "last.zip", "resume": ("{checkpoint}",)}
        return trainer_of(tmp_path / name, SAVED_ALONE.replace("STEP", str(step)).replace("MODE", mode), **tap)

    whole, _ = over_failures(trainer("a", 9), tmp_path / "a/run")
    assert len(whole) == 5
    folder = tmp_path / "b/run"
    with pytest.raises(AssertionError, match="each attempt fails"):
        over_failures(trainer("b", step), folder, 1)
    assert (folder / "work/last.zip").exists()
    with pytest.raises(PreemptedError):
        over_failures(trainer("b", step), folder)
    assert over_failures(trainer("b", step), folder) == (whole, 0)


def test_evaluations_that_are_not_even_are_no_gap(tmp_path: Path) -> None:
    script = WALK.replace("val=value, ", "**({'val': value} if step in (0, 4) else {}), ")
    whole, _ = over_failures(trainer_of(tmp_path / "a", script), tmp_path / "a/run")
    killed = script.replace("rng = random", KILLED.replace("STEP", "3") + "rng = random", 1)
    assert over_failures(trainer_of(tmp_path / "b", killed), tmp_path / "b/run") == (whole, 1)
