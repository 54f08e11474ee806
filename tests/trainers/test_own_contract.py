"""The contract suite on a command, on a function in the worker, and on one in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.scripts import PARAMS, WALK, trainer_of
from tune_bn.protocols.trainer import Place
from tune_bn.records.score import MAX, Score
from tune_bn.testing.trainer import Case, TrainerContract
from tune_bn.trainers.command.run import RunError
from tune_bn.trainers.command.settings import SealedTest

BODY = "\n".join(
    f"    {line}" for line in WALK.replace("run = tune_bn.current_run(gamma=1.0, c=1.0)\n", "").splitlines()
)
FUNCTION = f"""
def train(run):
{BODY.replace("for step", "if run.gamma < 0: value = float('nan')" + chr(10) + "    for step")}
    if run.wants_test and run.steps == step + 1:
        run.finish(test=value * 2)
"""
SCORE = Score("val", "test", MAX, -100.0, 100.0, diverged=-100.0)


def case_of(folder: Path, **settings: object) -> Case:
    trainer = trainer_of(
        folder,
        settings.pop("script", WALK.replace("for step", "if run.gamma < 0: value = float('nan')\nfor step")),  # type: ignore[arg-type]
        score=SCORE,
        **settings,  # type: ignore[arg-type]
    )
    return Case(trainer, PARAMS, {**PARAMS, "gamma": 0.25}, {**PARAMS, "gamma": -1.0})


class TestCommand(TrainerContract):
    def case(self, folder: Path) -> Case:
        return case_of(folder, sealed=SealedTest(("python", "test.py"), None))


class TestFunction(TrainerContract):
    @pytest.fixture(autouse=True, params=[False, True], ids=["in the worker", "isolated"])
    def _isolate(self, request: pytest.FixtureRequest) -> None:
        self.isolate = request.param

    def case(self, folder: Path) -> Case:
        function = {"command": (), "function": "own_training:train", "isolate": self.isolate}
        return case_of(folder, script="", files={"own_training.py": FUNCTION}, sealed=SealedTest((), None), **function)


@pytest.mark.parametrize("gpus", [("0",), ()])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_script_s_last_words_tell_that_its_gpu_is_full(gpus: tuple[str, ...], share: float, tmp_path: Path) -> None:
    session = trainer_of(tmp_path).open(Place("cuda" if gpus else "cpu", 1, gpus, share))
    words = "exit status 1 after 0 of 5 steps: {} (log: log)"
    for full in ("torch.OutOfMemoryError: no room", "RuntimeError: CUDA error: out of memory"):
        # Whoever has a GPU to itself is told so, as by the built-in loop.
        assert session.is_full(RunError(words.format(full))) == bool(gpus)
    assert not session.is_full(RunError(words.format("ValueError: no")))
