"""A script as a run: what it is told, what it tells, and what its end means."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest

from tests.trainers.scripts import finish, start, trainer_of
from tune_bn.protocols.trainer import PreemptedError
from tune_bn.records.score import Score
from tune_bn.trainers.command.run import RunError
from tune_bn.trainers.command.settings import SealedTest


def test_a_script_with_the_helper_completes(tmp_path: Path) -> None:
    run = start(trainer_of(tmp_path), tmp_path / "run")
    curve = finish(run)
    result = run.result()
    assert len(curve) == 5
    assert curve == sorted(curve)
    assert (result.status, result.epochs, result.scores) == ("completed", 5, {"val": max(curve)})
    assert [sorted(point.metrics) for point in run.curve] == [["loss", "val"]] * 5
    assert not (tmp_path / "run/work").exists()
    assert (tmp_path / "run/metrics.1.jsonl").exists()


def test_the_seed_decides_and_runs_do_not_touch_each_other(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    together = [start(trainer, seed=seed) for seed in (1, 2, 1)]
    curves = [finish(run) for run in together]
    assert curves[0] == curves[2] != curves[1]


@pytest.mark.parametrize("way", ["a stop", "SIGTERM", "SIGKILL", "all of it"])
def test_a_run_that_was_ended_goes_on_bit_for_bit(tmp_path: Path, way: str) -> None:
    trainer = trainer_of(tmp_path)
    whole = finish(start(trainer))
    run = start(trainer, tmp_path / "run", hold=2)
    while run.steps < 2:
        run.advance()
    if way.startswith("SIG"):
        assert run.leader is not None
        os.kill(run.leader, getattr(signal, way))
        run.wait_for_end()
    run.close()
    again = start(trainer, tmp_path / "run", state=run.state())
    assert again.steps == 2
    assert [point["val"] for point in again.curve] == whole[:2]
    assert finish(again) == whole
    assert again.result().status == "completed"


def test_a_folder_of_another_run_is_not_taken_up(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    run = start(trainer, tmp_path / "run", seed=1)
    while run.steps < 3:
        run.advance()
    run.close()
    other = start(trainer, tmp_path / "run", seed=2)
    assert other.steps == 0
    assert finish(other) == finish(start(trainer, seed=2))


ENDS = {
    "early": ("for s in range(3): run.report(s, val=s)", "ended after 3 of 5 steps with exit status 0"),
    "nothing": ("pass", "ended with exit status 0, and reported nothing"),
    "raises": (
        "run.report(0, val=1); raise SystemExit('no such file: x')",
        "exit status 1 after 1 of 5 steps: no such file: x",
    ),
    "signal": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11 after 0 of 5 steps"),
    "twice": ("run.report(0, val=1.0); run.report(0, val=2.0)", "step 0 was reported twice, with val 1 and then 2"),
    "too many": ("for s in range(9): run.report(s, val=s)", "step 6 was reported; accepted: at most 4"),
    "no score": ("for s in range(5): run.report(s, loss=s)", "ended after 0 of 5 steps val with exit status 0"),
    "test": ("run.report(0, val=1.0, test=2.0)", "reports 'test', the test score, at step 0"),
    "test at the end": (
        "for s in range(5): run.report(s, val=s)\nrun.finish(test=1.0)",
        "reports 'test', the test score, at its end",
    ),
    "not early": ("run.report(0, val=1.0); run.finish(stopped_early=True)", "ended after 1 of 5 steps"),
    "garbage": (
        "run.report(0, val=1.0); open(run.folder / 'metrics.1.jsonl', 'a').write('{nonsense\\n')",
        "metrics.1.jsonl:2: no JSON",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_is_no_whole_run_fails_and_says_why(tmp_path: Path, case: str) -> None:
    body, words = ENDS[case]
    run = start(trainer_of(tmp_path, f"import tune_bn\nrun = tune_bn.current_run()\n{body}\n"), tmp_path / "run")
    with pytest.raises(RunError) as error:
        finish(run)
    assert words in str(error.value)
    assert str(tmp_path / "run/log") in str(error.value)
    run.close()


def test_the_same_step_twice_with_the_same_score_counts_once(tmp_path: Path) -> None:
    body = (
        "import tune_bn\nrun = tune_bn.current_run()\nfor s in range(5): run.report(s, val=s), run.report(s, val=s)\n"
    )
    assert finish(start(trainer_of(tmp_path, body))) == [0, 1, 2, 3, 4]


def test_a_script_may_count_from_one_and_evaluate_now_and_then(tmp_path: Path) -> None:
    body = "import tune_bn\nrun = tune_bn.current_run()\nfor s in (1, 3, 5): run.report(s, val=s / 10)\n"
    assert finish(start(trainer_of(tmp_path, body))) == [0.1, 0.1, 0.3, 0.3, 0.5]


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_score_that_is_not_finite_is_divergence(tmp_path: Path, value: str) -> None:
    body = "import tune_bn\nrun = tune_bn.current_run()\nfor s in range(5):\n    "
    body += f"run.report(s, val=float('{value}') if s == 2 else s, loss=float('nan'))\n"
    run = start(trainer_of(tmp_path, body, score=Score("val", "test", "max", 0, 100, diverged=0.0)))
    curve = finish(run)
    assert len(curve) == 3
    assert not math.isfinite(curve[-1])
    assert (run.result().status, run.result().scores) == ("diverged", {"val": 0.0})
    assert all("loss" not in point.metrics for point in run.curve)


def test_exit_status_75_begins_again_and_is_nobodys_fault(tmp_path: Path) -> None:
    body = """
    import sys, tune_bn
    run = tune_bn.current_run()
    for step in range(run.start, run.steps):
        run.report(step, save=lambda path: path.write_text("x"), val=step)
        if step == 2 and run.attempt == 1:
            sys.exit(75)
    """
    trainer = trainer_of(tmp_path, body)
    run = start(trainer, tmp_path / "run")
    with pytest.raises(PreemptedError):
        finish(run)
    run.close()
    again = start(trainer, tmp_path / "run")
    assert again.steps == 3
    assert finish(again) == [0, 1, 2, 3, 4]


def test_a_script_that_always_asks_for_another_start_fails_in_the_end(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, "raise SystemExit(75)")
    errors = []
    for _ in range(3):
        run = start(trainer, tmp_path / "run")
        with pytest.raises((PreemptedError, RunError)) as error:
            finish(run)
        errors.append(error.type)
    assert errors == [PreemptedError, PreemptedError, RunError]


def test_a_script_may_end_early_where_the_space_says_so(tmp_path: Path) -> None:
    body = "import tune_bn\nrun = tune_bn.current_run()\nrun.report(0, val=1.0)\nrun.finish(stopped_early=True)\n"
    run = start(trainer_of(tmp_path, body, ends_early=True))
    assert finish(run) == [1.0]
    assert run.result().epochs == 1


def test_a_timeout_ends_a_script_that_hangs(tmp_path: Path) -> None:
    run = start(trainer_of(tmp_path, "import time\nwhile True: time.sleep(1)", timeout=1.0, grace=0.2))
    with pytest.raises(RunError, match=r"as trainer.timeout says, at step 0 of 5"):
        finish(run)


def test_a_resume_that_differs_is_seen_and_starts_a_confirmed_run_again(tmp_path: Path) -> None:
    body = """
    import random, tune_bn
    run = tune_bn.current_run()
    for step in range(max(0, run.start - 1), run.steps):
        value = step + run.attempt / 10
        if not run.report(step, save=lambda path: path.write_text("x"), val=value): break
    if run.wants_test: run.finish(test=value)
    """
    trainer = trainer_of(tmp_path, body, sealed=SealedTest((), None))
    run = start(trainer, tmp_path / "run", test="test")
    while run.steps < 3:
        run.advance()
    run.close()
    again = start(trainer, tmp_path / "run", test="test")
    with pytest.raises(PreemptedError, match="did not go on as it was: step"):
        finish(again)
    fresh = start(trainer, tmp_path / "run", test="test")
    assert fresh.steps == 0
    assert finish(fresh) == [pytest.approx(step + 0.3) for step in range(5)]


def test_a_checkpoint_that_is_cut_is_not_gone_on_from(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    whole = finish(start(trainer))
    run = start(trainer, tmp_path / "run")
    while run.steps < 3:
        run.advance()
    run.close()
    saves = sorted((tmp_path / "run/checkpoint").glob("0*"))
    saves[-1].write_bytes(saves[-1].read_bytes()[:7])
    again = start(trainer, tmp_path / "run")
    assert int(saves[-2].name[:8]) + 1 == again.steps
    assert finish(again) == whole


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_has_a_size_and_no_input(terminal: bool, tmp_path: Path) -> None:
    script = """
    import os, sys, tune_bn
    for _ in range(3):
        assert sys.stdin.read() == "" and os.read(0, 9) == b""
    try:
        input("anybody? ")
    except EOFError:
        pass
    size = os.popen("stty size 2>/dev/null").read().split()
    assert size == (["24", "80"] if sys.stdout.isatty() else []), size
    run = tune_bn.current_run()
    for step in range(run.steps):
        run.report(step, val=sys.stdin.isatty() + sys.stdout.isatty())
    """
    run = start(trainer_of(tmp_path, script, terminal=terminal), tmp_path / "run")
    assert finish(run) == [2.0 * terminal] * 5
    run.close()
