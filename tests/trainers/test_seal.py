"""The test: once, after completion, on that run's checkpoint, in a folder of its own, told alone where the data is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.trainers.scripts import TEST, WALK, finish, start, trainer_of
from tune_bn.trainers.command.run import RunError
from tune_bn.trainers.command.settings import SealedTest, Tap

SEALED = SealedTest(("python", "test.py", "{checkpoint}", "{data}"), "/sealed/data")


def test_the_test_command_scores_the_checkpoint_of_the_last_step(tmp_path: Path) -> None:
    run = start(trainer_of(tmp_path, sealed=SEALED, save_every=3600.0), tmp_path / "run", test="test")
    curve = finish(run)
    assert run.result().scores == {"val": curve[-1], "test": pytest.approx(2 * curve[-1])}
    told = json.loads((tmp_path / "run/test/run.json").read_text())
    assert (told["data"], told["wants_test"], told["seed"]) == ("/sealed/data", True, 1)
    training = json.loads((tmp_path / "run/run.json").read_text())
    assert (training["data"], training["wants_test"]) == (None, False)
    assert "/sealed" not in (tmp_path / "run/run.json").read_text()


def test_a_search_run_is_told_nothing_and_tests_nothing(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, sealed=SEALED).without_test()
    run = start(trainer, tmp_path / "run")
    finish(run)
    assert "test" not in run.result().scores
    assert not (tmp_path / "run/test").exists()
    with pytest.raises(ValueError, match="test part"):
        start(trainer, tmp_path / "other", test="test")


def test_the_best_checkpoint_may_be_tested(tmp_path: Path) -> None:
    script = WALK.replace("value += rng.random() * run.gamma", "value = [1.0, 5.0, 2.0, 3.0, 4.0][step]")
    run = start(
        trainer_of(tmp_path, script, sealed=SEALED, save_every=3600.0, test_checkpoint="best"),
        tmp_path / "run",
        test="test",
    )
    finish(run)
    assert run.result().scores["test"] == 10.0


PROBLEMS = {
    "fails": ("raise SystemExit('no GPU')", "the test command ended with exit status 1: no GPU"),
    "tells nothing": ("pass", "the test command reported no 'test'; it tells nothing"),
    "tells another name": (TEST.replace("test=", "accuracy="), "reported no 'test'; it tells accuracy"),
    "is not finite": ("import tune_bn; tune_bn.current_run().finish(test=float('nan'))", "test is nan; accepted"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_test_without_a_score_fails_the_run_by_name(tmp_path: Path, problem: str) -> None:
    body, words = PROBLEMS[problem]
    run = start(trainer_of(tmp_path, sealed=SEALED, files={"test.py": body}), tmp_path / "run", test="test")
    with pytest.raises(RunError, match=words.replace(".", r"\.")):
        finish(run)


def test_without_a_whole_checkpoint_nothing_is_tested(tmp_path: Path) -> None:
    script = "import tune_bn\nrun = tune_bn.current_run()\nfor step in range(5): run.report(step, val=step)\n"
    run = start(trainer_of(tmp_path, script, sealed=SEALED), tmp_path / "run", test="test")
    with pytest.raises(RunError, match="there is no whole checkpoint of its last step to test"):
        finish(run)


def test_an_evaluation_that_nobody_may_touch_leaves_its_score_in_a_file(tmp_path: Path) -> None:
    files = {"evaluate.py": "import json, sys\njson.dump({'acc': len(sys.argv[2])}, open('result.json', 'w'))\n"}
    sealed = SealedTest(("python", "evaluate.py", "{checkpoint}", "{data}"), "/four/")
    tap = Tap("json", "result.json", rename={"acc": "test"})
    run = start(trainer_of(tmp_path, sealed=sealed, files=files, test_metrics=tap), tmp_path / "run", test="test")
    finish(run)
    assert run.result().scores["test"] == 6.0


@pytest.mark.parametrize("place", [None, "/sealed/data"])
def test_a_script_that_tests_itself_is_told_the_test_data_beside_the_data_that_it_trains_on(
    place: str | None, tmp_path: Path
) -> None:
    script = """
        import sys, tune_bn
        run = tune_bn.current_run()
        for step in range(run.steps): run.report(step, val=step)
        print(sys.argv[1:], run.data, run.test_data)
        if run.wants_test: run.finish(test=1.0)
    """
    command = (sys.executable, "train.py", "{data}")
    trainer = trainer_of(tmp_path, script, sealed=SealedTest((), place), search_data="/rows", command=command)
    confirmed = start(trainer, tmp_path / "confirmed", test="test")
    finish(confirmed)
    assert confirmed.files.last_words() == f"['/rows'] /rows {place}"
    searched = start(trainer.without_test(), tmp_path / "searched")
    finish(searched)
    assert searched.files.last_words() == "['/rows'] /rows None"
    assert "/sealed" not in (tmp_path / "searched/run.json").read_text()


def test_a_script_that_ought_to_tell_its_test_score_and_does_not_fails(tmp_path: Path) -> None:
    run = start(trainer_of(tmp_path, sealed=SealedTest((), None)), tmp_path / "run", test="test")
    with pytest.raises(RunError, match=r"reported no 'test' by finish\(\), though run.wants_test"):
        finish(run)
