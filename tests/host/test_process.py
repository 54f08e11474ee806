"""A process that no person's shell started: its signals, its streams, its user, and that it may be process 1."""

from __future__ import annotations

import errno
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tune_bn.host.process import WAITING, out_of_processes, waiting

NAMESPACE = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc"]


def can_isolate() -> bool:
    return (
        shutil.which("unshare") is not None and not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
    )


in_namespace = pytest.mark.skipif(not can_isolate(), reason="unshare may not make namespaces here; run as root")


def python(program: str) -> list[str]:
    return [sys.executable, "-c", f"import os, signal, sys, time\nfrom tune_bn.host.process import *\n{program}"]


def run(program: str, *before: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([*before, *python(program)], text=True, timeout=60, check=False, **options)


def all_blocked_and_ignored() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def test_signals_that_are_blocked_come_in_and_a_child_that_fails_is_seen_to_fail() -> None:
    program = """
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
let_signals_in()
import subprocess
print(len(before) > 20, signal.pthread_sigmask(signal.SIG_BLOCK, ()), subprocess.run(["false"]).returncode)
print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
"""
    done = run(program, preexec_fn=all_blocked_and_ignored)
    # What is ignored on purpose, such as SIGHUP below nohup, stays so.
    assert done.stdout.split("\n") == ["True set() 1", "True", ""], done


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_no_file_is_taken_for_a_stream_that_was_closed(closed: tuple[int, ...], tmp_path: Path) -> None:
    program = f"""
open_standard_streams()
with open({str(tmp_path / "data")!r}, "w") as file:
    print("lost")
    print("lost", file=sys.stderr)
    assert sys.stdin.read() == ""
    assert file.fileno() > 2
    file.write("whole")
import subprocess
with open({str(tmp_path / "child")!r}, "w") as out:
    listing = "echo $(ls /proc/$$/fd | head -3) >&" + str(out.fileno())
    subprocess.run(["bash", "-c", listing], pass_fds=[out.fileno()], check=True)
"""

    def close() -> None:
        for number in closed:
            os.close(number)

    done = run(program, preexec_fn=close, stdin=subprocess.DEVNULL)
    assert (tmp_path / "data").read_text() == "whole", done
    assert (tmp_path / "child").read_text() == "0 1 2\n"


GONE = """
open_standard_streams()
print("γ \\udc80")
for number in range(5):
    print("line", "x" * 5000, flush=True)
print("line", file=sys.stderr, flush=True)
with open(sys.argv[1], "w") as told:
    told.write(f"{unread()} {output_error() and output_error().errno}")
"""


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
@pytest.mark.parametrize(("place", "told"), [("pipe", "True 32"), ("full", "False 28"), ("null", "False None")])
def test_what_cannot_be_printed_ends_nothing(place: str, told: str, unbuffered: dict[str, str], tmp_path: Path) -> None:
    if place == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(f"/dev/{place}", os.O_WRONLY)
    command = [*python(GONE), str(tmp_path / "told")]
    environment = {**os.environ, **unbuffered, "PYTHONIOENCODING": "ascii"}
    status = subprocess.run(command, stdout=writing, stderr=writing, env=environment, timeout=60, check=False)
    os.close(writing)
    assert status.returncode == 0
    assert (tmp_path / "told").read_text() == told


def test_a_terminal_that_was_closed_ends_nothing(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    program = GONE.replace("print(", "time.sleep(1)\nprint(", 1)
    process = subprocess.Popen(
        [*python(program), str(tmp_path / "told")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    os.close(slave)
    os.close(master)
    assert process.wait(60) == 0
    assert (tmp_path / "told").read_text() == "True 5"


def test_a_pipe_that_takes_no_more_for_a_while_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = subprocess.Popen(python("open_standard_streams()\nprint('x' * 300_000)"), stdout=writing)
    os.close(writing)
    time.sleep(0.3)
    with open(reading) as handle:
        assert len(handle.read()) == 300_001
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    "environment", [{}, {"HOME": "/root"}, {"USER": "me"}, {"HOME": "/home/me", "LOGNAME": "me"}], ids=str
)
def test_a_user_whom_the_system_does_not_know_has_a_name_and_a_home(environment: dict[str, str]) -> None:
    program = """
import pwd
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
name_user()
import getpass, pathlib
print(getpass.getuser(), pathlib.Path.home())
"""
    done = run(program, env=environment)
    user = environment.get("LOGNAME") or environment.get("USER") or f"uid{os.geteuid()}"
    assert done.stdout == f"{user} {environment.get('HOME', '/nonexistent')}\n", done


@in_namespace
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("os.kill(1, signal.SIGTERM); time.sleep(60)", 143),
    ],
)
def test_process_1_ends_as_its_child_ends(end: str, status: int) -> None:
    assert run(f"leave_first_process()\nassert os.getpid() != 1\n{end}", *NAMESPACE).returncode == status


@in_namespace
def test_process_1_hands_signals_on_once_and_collects_orphans() -> None:
    program = """
heard = []
leave_first_process()
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: heard.append(number))
    os.kill(1, number)
    while number not in heard:
        time.sleep(0.01)
if os.fork() == 0:
    # Its parent ends first, so that it falls to process 1.
    if os.fork() == 0:
        time.sleep(0.2)
    os._exit(0)
os.wait()
while True:
    states = [open(f"/proc/{p}/stat").read().split()[2] for p in os.listdir("/proc") if p.isdigit()]
    if len(states) == 2:
        break
    time.sleep(0.01)
print(len(heard), states.count("Z"))
"""
    done = run(program, *NAMESPACE)
    assert done.stdout == "4 0\n", done


APART = """
import subprocess
own = os.getpgrp()
let_signals_in()
signal.signal(signal.SIGTERM, lambda *_: told.append("TERM"))
told = []
with apart():
    helper = subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    helper.stdout.readline()
    {inside}
assert os.getpgrp() == own
{after}
while not told:
    time.sleep(0.01)
print(told, helper.poll(), os.getpgid(helper.pid) == own)
helper.stdin.close()
helper.wait()
"""


@pytest.mark.parametrize(
    ("inside", "after"), [("pass", "os.killpg(own, signal.SIGTERM)"), ("os.killpg(own, signal.SIGTERM)", "pass")]
)
def test_a_signal_for_the_group_ends_no_helper_and_is_not_lost(inside: str, after: str) -> None:
    program = APART.format(inside=inside, after=after)
    # Alone in its group, and one of several in that of another process.
    for before in ([], ["sh", "-c", "trap '' TERM; \"$@\" | cat", "sh"]):
        done = run(program, *before, process_group=0, stderr=subprocess.STDOUT)
        assert done.stdout == "['TERM'] None False\n", done


def test_the_leader_of_a_session_stays_where_it_is() -> None:
    done = run(
        "own = os.getpgrp()\nwith apart():\n    assert os.getpgrp() == own\nprint('done')", start_new_session=True
    )
    assert done.stdout == "done\n", done


def test_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        pytest.fail("it is not process 1")

    monkeypatch.setattr(os, "fork", fork)
    from tune_bn.host.process import leave_first_process

    leave_first_process()


STUDIES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "no environment": (["env", "-i"], {}),
    "no home": (["env", "-u", "HOME"], {}),
    "a home that is not there": (["env", "HOME=/nonexistent"], {}),
    "no terminal": (["env", "-u", "TERM"], {}),
    "the C locale": (["env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"], {}),
    "few files": (["sh", "-c", 'ulimit -n 32; exec "$@"', "sh"], {}),
    "all signals blocked and ignored": ([], {"preexec_fn": all_blocked_and_ignored}),
    "no streams": (["sh", "-c", 'exec "$@" <&- 2>&-', "sh"], {}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_verb_works_wherever_it_was_started(name: str, tmp_path: Path, synthetic_study: Callable[..., Any]) -> None:
    synthetic_study(n=3).write(tmp_path / "γ studies" / "one")
    before, options = STUDIES[name]
    command = [*before, sys.executable, "-P", "-m", "tune_bn", "status", "--output", str(tmp_path / "γ studies")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/", **options)
    assert done.returncode == 0, done.stderr
    assert "one" in done.stdout
    assert done.stderr == ""


VERBS = {
    "tune_bn": [["status", "--json"], ["--help"], ["paper"], ["validate", "--no-measure"]],
    "tune_bn.analysis": [["one"]],
}


@pytest.mark.parametrize(
    ("module", "arguments"), [(module, arguments) for module, verbs in VERBS.items() for arguments in verbs]
)
def test_a_full_disk_under_the_output_is_said_in_one_line(
    module: str, arguments: list[str], tmp_path: Path, synthetic_study: Callable[..., Any]
) -> None:
    synthetic_study(n=3).write(tmp_path / "one")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output: cannot be written (No space left on device), and is not whole; accepted: a place with "
        "room\n"
    )


def test_torch_leaves_no_empty_folder_behind(tmp_path: Path) -> None:
    for name in ("torchinductor_before", "torchinductor_other"):
        (tmp_path / name).mkdir()
    program = """
from pathlib import Path
place = Path(os.environ["TMPDIR"])
with without_empty_caches():
    for name in ("torchinductor_me", "torchinductor_full/compiled", "something_else"):
        (place / name).mkdir(parents=True)
    (place / "torchinductor_other").rmdir()
    (place / "torchinductor_other").mkdir()
"""
    done = run(program, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["something_else", "torchinductor_before", "torchinductor_full", "torchinductor_other"]


TOSTOP = """
import termios
settings = termios.tcgetattr(0)
settings[3] |= termios.TOSTOP
termios.tcsetattr(0, termios.TCSANOW, settings)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    with apart():
        os.write(1, b"told")
    os._exit(signal.SIGTTOU in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
_, status = os.waitpid(child, os.WUNTRACED)
if os.WIFSTOPPED(status):
    os.kill(child, signal.SIGKILL)
os._exit(7 if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status))
"""


def test_a_job_in_front_is_not_stopped_as_one_of_the_background() -> None:
    """Under ``stty tostop``: the shell could not let it go on, as it is in a group of its own meanwhile."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, python(TOSTOP))
    assert os.read(terminal, 4) == b"told"
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("limits", "signal_at"),
    [("-t 5", 3), ("-t 100", 90), ("-t 1", 1), ("-S -t 20", 20), ("-H -t 100; ulimit -S -t 30", 30)],
)
def test_the_limit_on_time_is_heard_of_before_the_system_kills(limits: str, signal_at: int) -> None:
    program = python("import resource; hear_of_limit_on_time(); print(resource.getrlimit(resource.RLIMIT_CPU)[0])")
    shell = ["bash", "-c", f'ulimit {limits}; exec "$@"', "sh"]
    found = subprocess.run([*shell, *program], capture_output=True, text=True, timeout=60, check=True)
    assert int(found.stdout) == signal_at


def test_a_machine_that_lets_no_further_process_begin_is_said_in_a_line() -> None:
    for error in (RuntimeError("can't start new thread"), OSError(errno.EAGAIN, "Resource temporarily unavailable")):
        said = out_of_processes(error)
        assert said is not None
        assert said.startswith("processes and threads of this user: no further one begins (")
    for error in (RuntimeError("so"), OSError(errno.ENOSPC, "so"), BlockingIOError(errno.EAGAIN, "so", 3)):
        assert out_of_processes(error) is None


def test_a_verb_that_finds_no_room_for_a_thread_ends_with_a_line(tmp_path: Path) -> None:
    program = """
import threading
from tune_bn.cli import app, main
@app.command()
def begin():
    raise RuntimeError("can't start new thread")
main(["begin"])
"""
    done = run(program)
    assert done.returncode == 2
    assert done.stderr.startswith("error: processes and threads of this user: no further one begins (")
    assert len(done.stderr.splitlines()) == 1


def test_whoever_states_how_threads_wait_states_all_of_it() -> None:
    assert waiting({"HOME": "/home/me"}) == WAITING
    assert waiting({"OMP_WAIT_POLICY": "ACTIVE"}) == {"OMP_WAIT_POLICY": "ACTIVE"}
    assert waiting({"GOMP_SPINCOUNT": "5"}) == {"GOMP_SPINCOUNT": "5"}
    assert waiting({}, WAITING) == WAITING
    assert waiting({"OMP_WAIT_POLICY": "ACTIVE"}, WAITING) == {"OMP_WAIT_POLICY": "ACTIVE"}
