"""Scripts that do not behave, and workers that are killed: nothing lives on, and nothing is counted twice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.trainers.kills import STEPS, doubled, storm, survivors
from tests.trainers.kills import train as train_ranks
from tests.trainers.scripts import finish, start, trainer_of
from tune_bn.trainers.command.run import RunError

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
