"""Scripts that do not behave, and workers that are killed: nothing lives on, and nothing is counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.kills import STEPS, doubled, storm, survivors
from tests.trainers.kills import train as train_ranks
from tests.trainers.scripts import finish, start, trainer_of
from tune_bn.protocols.trainer import PreemptedError
from tune_bn.records.files import sha256_of
from tune_bn.records.score import Score
from tune_bn.trainers.command.run import RunError, ScriptRun

HEAD = "import os, subprocess, sys, time, tune_bn\nrun = tune_bn.current_run()\n"
LOOP = "for step in range(run.start, run.steps):\n    time.sleep(0.01)\n    if not run.report(step, val=step): break\n"


def test_a_script_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    body = (
        HEAD + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nrun.report(0, val=1.0)\ntime.sleep(600)\n"
    )
    run = start(trainer_of(tmp_path, body, grace=0.3), tmp_path / "run")
    while run.steps < 1:
        run.advance()
    run.close()
    assert not survivors(tmp_path)


def test_what_forks_away_is_ended_too(tmp_path: Path) -> None:
    code = "import time; time.sleep(600)"
    body = (
        HEAD
        + f"subprocess.Popen([sys.executable, '-S', '-c', {code!r}], start_new_session=True, env=dict(os.environ))\n"
    )
    body += f"subprocess.Popen([sys.executable, '-S', '-c', {code!r}], start_new_session=True, env={{}})\n" + LOOP
    run = start(trainer_of(tmp_path, body), tmp_path / "run")
    assert finish(run) == [0, 1, 2, 3, 4]
    run.result()
    assert not survivors(tmp_path)


def test_a_pool_ends_its_workers_by_sigterm_and_does_not_hang(tmp_path: Path) -> None:
    body = HEAD + "import multiprocessing\nif __name__ == '__main__':\n"
    body += "    with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, 2]))\n"
    body += "".join(f"    {line}\n" for line in LOOP.splitlines())
    began = time.monotonic()
    assert finish(start(trainer_of(tmp_path, body), tmp_path / "run")) == [0, 1, 2, 3, 4]
    assert time.monotonic() - began < 60


def test_a_flood_of_words_leaves_a_short_log_with_its_end(tmp_path: Path) -> None:
    body = HEAD + "for _ in range(3000): sys.stdout.write('x' * 9999 + chr(10))\n" + LOOP + "print('the last word')\n"
    run = start(trainer_of(tmp_path, body), tmp_path / "run")
    finish(run)
    assert run.files.last_words() == "the last word"
    run.result()
    assert sum(path.stat().st_size for path in (tmp_path / "run").glob("log*")) < 16 * 2**20


def test_half_a_line_is_not_there(tmp_path: Path) -> None:
    body = HEAD + LOOP + "open(run.folder / 'metrics.1.jsonl', 'a').write('{\"step\": 4, \"val\": 99')\n"
    assert finish(start(trainer_of(tmp_path, body), tmp_path / "run")) == [0, 1, 2, 3, 4]


def test_sigterm_reaches_the_scripts_own_handler_as_well(tmp_path: Path) -> None:
    body = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: open('said', 'w').close())\n" + HEAD + LOOP
    run = start(trainer_of(tmp_path, body), tmp_path / "run", hold=2)
    while run.steps < 2:
        run.advance()
    assert run.leader is not None
    os.kill(run.leader, signal.SIGTERM)
    run.wait_for_end()
    assert (run.files.work / "said").exists()
    run.close()


def test_a_keeper_that_is_killed_takes_the_script_with_it(tmp_path: Path) -> None:
    body = (
        HEAD
        + "subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    )
    body += "run.report(0, val=1.0)\ntime.sleep(600)\n"
    run = start(trainer_of(tmp_path, body), tmp_path / "run")
    while run.steps < 1:
        run.advance()
    assert run.leader is not None
    with open(f"/proc/{run.leader}/stat", "rb") as handle:
        os.kill(int(handle.read().rpartition(b")")[2].split()[1]), signal.SIGKILL)
    with pytest.raises(RunError, match="what watched over it was killed"):
        finish(run)
    assert not survivors(tmp_path)


def test_nothing_survives_random_kills_of_worker_script_and_ranks(tmp_path: Path) -> None:
    whole = train_ranks(tmp_path / "whole")
    curve, killed = storm(tmp_path / "storm", kills=6, seed=5)
    assert curve == whole
    assert len(curve) == STEPS
    assert killed.total() == 6
    assert not survivors(tmp_path / "storm")
    assert not doubled(tmp_path / "storm")


# The same as functions, in the worker and in a process of their own.


@pytest.fixture(params=[False, True], ids=["in the worker", "isolated"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def function_of(folder: Path, body: str, **settings: Any) -> ScriptRun:
    name = f"hostile_{sha256_of(str(folder))[:8]}"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    files = {f"{name}.py": "import os, subprocess, sys, time, tune_bn\ndef train(run):\n" + lines}
    settings = {"command": (), "function": f"{name}:train", **settings}
    return start(trainer_of(folder, files=files, **settings), folder / "run")


FUNCTIONS = {
    "half a line": (LOOP + "open(run.folder / 'metrics.1.jsonl', 'a').write('{\"step\": 4, \"val\": 99')\n", None),
    "a pool": (
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool: pool.map(abs, [-1, 2])\n"
        + LOOP,
        None,
    ),
    "a rank that reports": (
        "pid = os.fork()\nif not pid:\n    for step in range(run.steps): run.report(step, val=step)\n    os._exit(0)\n"
        "os.waitpid(pid, 0)\n",
        None,
    ),
    "a flood": ("for _ in range(3000): sys.stdout.write('x' * 999 + chr(10))\n" + LOOP, None),
    "a step twice, alike": (LOOP + "run.report(4, val=4)\n", None),
    "a step twice": ("run.report(0, val=1.0)\nrun.report(0, val=2.0)\n", "step 0 was reported twice"),
    "nothing": ("pass\n", "ended with exit status 0, and reported nothing"),
    "early": ("run.report(0, val=0)\n", "ended after 1 of 5 steps with exit status 0"),
    "a test score": ("run.report(0, val=0, test=1.0)\n", "reports 'test', the test score, at step 0"),
    "garbage": ("run.report(0, val=0)\nopen(run.folder / 'metrics.1.jsonl', 'a').write('{no\\n')\n", "no JSON"),
}


@pytest.mark.parametrize("habit", FUNCTIONS)
def test_a_function_with_a_habit(habit: str, isolate: bool, tmp_path: Path) -> None:
    body, problem = FUNCTIONS[habit]
    run = function_of(tmp_path, body, isolate=isolate)
    if problem is None:
        assert finish(run) == [0, 1, 2, 3, 4]
        assert run.result().status == "completed"
    else:
        with pytest.raises(RunError, match=problem):
            finish(run)
    run.close()
    assert not survivors(tmp_path)


def test_a_function_that_reports_nan_has_diverged(isolate: bool, tmp_path: Path) -> None:
    score = Score("val", "test", "max", 0, 100, diverged=0.0)
    run = function_of(
        tmp_path, LOOP.replace("val=step", "val=[0, 1, float('nan'), 3, 4][step]"), isolate=isolate, score=score
    )
    assert len(finish(run)) == 3
    assert (run.result().status, run.result().scores) == ("diverged", {"val": 0.0})


def test_a_function_that_asks_to_be_started_again_is(isolate: bool, tmp_path: Path) -> None:
    body = "run.report(0, val=0)\nsys.exit(75)\n"
    run = function_of(tmp_path, body, isolate=isolate)
    with pytest.raises(PreemptedError):
        finish(run)
    run.close()


def test_a_function_that_hangs_is_ended(isolate: bool, tmp_path: Path) -> None:
    body = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if isolate else ""
    run = function_of(tmp_path, body + "while True: time.sleep(0.05)\n", isolate=isolate, timeout=2.0, grace=0.3)
    with pytest.raises(RunError, match=r"as trainer.timeout says"):
        finish(run)
    run.close()
    assert not survivors(tmp_path)


def test_what_an_isolated_function_leaves_is_ended(tmp_path: Path) -> None:
    code = "import time; time.sleep(600)"
    body = f"subprocess.Popen([sys.executable, '-S', '-c', {code!r}], start_new_session=True)\n" + LOOP
    run = function_of(tmp_path, body, isolate=True)
    assert finish(run) == [0, 1, 2, 3, 4]
    run.result()
    assert not survivors(tmp_path)


def test_what_a_function_in_a_killed_worker_leaves_is_ended_by_the_next_attempt(tmp_path: Path) -> None:
    rank = "[sys.executable, '-S', '-c', 'import time; time.sleep(600)'], start_new_session=True"
    body = f"if run.attempt == 1: subprocess.Popen({rank})\n{LOOP}    while run.attempt == 1: time.sleep(0.1)\n"
    worker = "import sys\nfrom pathlib import Path\nfrom tests.trainers import test_hostile_scripts as here\n"
    worker += f"here.finish(here.function_of(Path(sys.argv[1]), {body!r}), 600)\n"
    killed = subprocess.Popen([sys.executable, "-c", worker, str(tmp_path)])
    end = time.monotonic() + 60
    while not survivors(tmp_path):
        assert killed.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert survivors(tmp_path), "a rank lives on"
    again = function_of(tmp_path, body)
    assert not survivors(tmp_path)
    assert finish(again) == [0, 1, 2, 3, 4]
    again.close()
