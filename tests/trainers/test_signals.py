"""Training code that forks: its processes end by SIGTERM, whatever the process that they come from does about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FORKS = """
import os, signal, sys
from tune_bn.script import signals
signals.listen()
ended_by = set()
for _ in range(300):
    if not (pid := os.fork()):
        signal.sigtimedwait([], 20)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    ended_by.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if ended_by != {-signal.SIGTERM}:
        break
print(sorted(ended_by), signals.asked(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
os.kill(os.getpid(), signal.SIGTERM)
print(signals.asked())
"""


def test_a_child_that_is_ended_as_soon_as_it_is_there_ends() -> None:
    # 4 of the first few were lost, and waited for ever, when the handler was taken back without holding SIGTERM.
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n") == ["[-15] False set()", "True", ""], done.stderr


# The handler is Ray's, of its workers and drivers. What comes last is at work in the child when SIGTERM reaches it.
IN_A_WORKER = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
from tests.trainers.scripts import finish, start, trainer_of
files = {"forking.py": '''
import os, signal, time
def after_fork():
    os.kill(os.getpid(), signal.SIGTERM)
def train(run):
    os.register_at_fork(after_in_child=after_fork)
    if not (pid := os.fork()):
        signal.sigtimedwait([], 20)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for step in range(run.start, run.steps):
        run.report(step, val=status)
'''}
here = Path(sys.argv[1])
print(finish(start(trainer_of(here, files=files, command=(), function="forking:train"), here / "run")))
"""


def test_what_a_function_forks_in_a_worker_of_rays_is_ended_by_sigterm(tmp_path: Path) -> None:
    # SystemExit was forgotten where it was raised: of 86 pools 5 waited for ever for the end of a worker.
    worker = [sys.executable, "-c", IN_A_WORKER, str(tmp_path)]
    done = subprocess.run(worker, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[-15.0, -15.0, -15.0, -15.0, -15.0]\n", done.stderr
