"""What strangers do in their scripts and functions: each works as by hand, or gets one clear line."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.scripts import finish, start, trainer_of
from tune_bn.trainers.command.run import RunError, ScriptRun
from tune_bn.trainers.command.settings import Tap

WHOLE = [0, 1, 2, 3, 4]
HEAD = "import os, sys, time, tune_bn\nrun = tune_bn.current_run()\n"
LOOP = "for step in range(run.start, run.steps):\n    if not run.report(step, val=step): break\n"


def indented(text: str, by: int = 1) -> str:
    return "".join(f"{'    ' * by}{line}\n" for line in text.splitlines())


def words(run: ScriptRun) -> str:
    """The line that a run fails with."""
    with pytest.raises(RunError) as error:
        finish(run)
    return str(error.value)


POOL = """
import multiprocessing
if __name__ == '__main__':
    pool = multiprocessing.get_context('spawn').Pool(1)
    assert pool.map(abs, [-1]) == [1]
    pool.terminate()
    pool.join()
"""
PROCESS = """
import multiprocessing
def wait():
    time.sleep(600)
if __name__ == '__main__':
    process = multiprocessing.get_context('METHOD').Process(target=wait)
    process.start()
    time.sleep(1)
    process.terminate()
    process.join()
"""


@pytest.mark.parametrize(
    "body", [POOL, PROCESS.replace("METHOD", "spawn"), PROCESS.replace("METHOD", "forkserver")], ids=["pool", "s", "fs"]
)
def test_a_process_that_reads_the_script_again_is_ended_by_sigterm(body: str, tmp_path: Path) -> None:
    run = start(trainer_of(tmp_path, HEAD + body + indented(LOOP)), tmp_path / "run")
    assert finish(run, 40.0) == WHOLE
    run.close()


@pytest.mark.parametrize(
    "body",
    [
        f"import os\nos.makedirs('else')\nos.chdir('else')\n{LOOP}",
        f"from threading import Thread\ndef train():\n{indented(LOOP)}t = Thread(target=train)\nt.start()\nt.join()\n",
        f"try:\n{indented(LOOP)}    sys.exit(3)\nexcept BaseException as error:\n    print('caught', error)\n",
        f"{LOOP}sys.stdout.write('last words')\nos._exit(0)\n",
        f"try:\n{indented(LOOP)}finally:\n    time.sleep(1)\n",
    ],
    ids=["changes its folder", "reports from a thread", "catches all", "os._exit", "is slow to end"],
)
def test_a_script_may(body: str, tmp_path: Path) -> None:
    run = start(trainer_of(tmp_path, HEAD + body, grace=0.2), tmp_path / "my runs ü" / "run")
    assert finish(run) == WHOLE
    run.close()


def test_a_log_that_is_written_at_the_end_and_on_windows_counts(tmp_path: Path) -> None:
    rows = "".join(f"{step},{step}\\r\\n" for step in range(5))
    body = f"open('log.csv', 'w', newline='').write('epoch,val\\r\\n{rows}')"
    run = start(trainer_of(tmp_path, body, metrics=Tap("csv", "log.csv", "epoch")), tmp_path / "run")
    assert finish(run) == WHOLE
    run.close()


def test_words_reach_the_script_as_they_are(tmp_path: Path) -> None:
    given = ("a b", "'c'", '"d"', "é 漢字", "\\", "%s", "{not one}", "")
    body = f"import sys\nassert sys.argv[1:] == {list(given)!r}, sys.argv\n" + HEAD + LOOP
    run = start(trainer_of(tmp_path, body, command=(sys.executable, "train.py", *given)), tmp_path / "run")
    assert finish(run) == WHOLE
    run.close()


CANNOT_START = {
    "a variable first": (("FOO=1", "python"), {}, "FOO=1: no program on the PATH; accepted: variables in trainer.env"),
    "a script alone": (("train.py",), {}, r"accepted: \[python, train.py\] or ./train.py"),
    "no such program": (("no-such-program",), {}, "no-such-program: no program on the PATH; accepted: one that is"),
    "no such path": (("/opt/no/bin/python", "train.py"), {}, "No such file or directory: '/opt/no/bin/python'"),
    "no right": (
        ("./go.sh",),
        {"go.sh": "#!/bin/sh\n"},
        r"may not be executed; accepted: chmod \+x, or .*\[sh, ./go.sh\]",
    ),
    "windows": (("./x.sh",), {"x.sh": "#!/bin/sh\r\nexit\r\n"}, "its lines end as those of Windows do"),
    "no first line": (("./x.sh",), {"x.sh": "exit 0\n"}, "no #! line; accepted: one, or its interpreter before it"),
    "too long": ((sys.executable, "train.py", "x" * 200_000), {}, "Argument list too long"),
    "no interpreter": (("./x.sh",), {"x.sh": "#!/no/such\n"}, "/no/such: no such interpreter"),
}


@pytest.mark.parametrize("name", CANNOT_START)
def test_what_cannot_be_started_says_why(name: str, tmp_path: Path) -> None:
    command, files, said = CANNOT_START[name]
    (tmp_path / "code").mkdir()
    for path, text in files.items():
        (tmp_path / "code" / path).write_bytes(text.encode())
        if path.startswith("x"):
            (tmp_path / "code" / path).chmod(0o755)
    line = words(start(trainer_of(tmp_path, command=command), tmp_path / "run"))
    assert re.search(said, line), line
    assert "\n" not in line


def test_a_shell_script_finds_the_python_of_an_environment_that_nobody_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    body = f"import sys\nassert sys.executable == {sys.executable!r}, sys.executable\n" + HEAD + LOOP
    trainer = trainer_of(tmp_path, body, files={"go.sh": "python train.py\n"}, command=("sh", "go.sh"))
    run = start(trainer, tmp_path / "run")
    assert finish(run) == WHOLE
    run.close()
    # Another environment that is active comes first.
    monkeypatch.setenv("CONDA_PREFIX", "/nowhere")
    said = words(start(trainer_of(tmp_path, "", files={"go.sh": "echo PATH=$PATH; exit 1\n"}, command=("sh", "go.sh"))))
    assert "PATH=/usr/bin:/bin" in said


def test_modules_are_found_in_the_copy_by_whichever_path_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    body = "import pathlib, mine, os\nassert pathlib.Path(mine.__file__).resolve().is_relative_to(os.getcwd())\n"
    files = {"src/mine.py": "", "scripts/go.py": body + HEAD + LOOP}
    for path in (str(code / "src"), "src"):
        monkeypatch.setenv("PYTHONPATH", path)
        trainer = trainer_of(tmp_path, files=files, command=(sys.executable, "scripts/go.py"))
        run = start(trainer, tmp_path / path.replace("/", "-"))
        assert finish(run) == WHOLE
        run.close()
    monkeypatch.delenv("PYTHONPATH")
    # A path in trainer.env does not hide the helper from a Python without this package.
    trainer = trainer_of(
        tmp_path,
        files=files,
        command=("/usr/bin/env", "python3", "scripts/go.py"),
        env={"PYTHONPATH": str(code / "src")},
    )
    run = start(trainer, tmp_path / "env")
    assert finish(run) == WHOLE
    run.close()


def function_of(folder: Path, body: str, **settings: Any) -> ScriptRun:
    """A run of a function in this process."""
    name = f"habit_{abs(hash((str(folder), body)))}"
    files = {f"{name}.py": "import os, sys, tune_bn\ndef train(run):\n" + indented(body), "data.txt": "seen"}
    trainer = trainer_of(folder, files=files, command=(), function=f"{name}:train", **settings)
    return start(trainer, folder / "run")


def test_a_function_has_the_copy_as_its_folder_and_leaves_the_workers_alone(tmp_path: Path) -> None:
    before = os.getcwd()
    body = "assert open('data.txt').read() == 'seen'\nos.makedirs('sub')\nos.chdir('sub')\nhere = os.getcwd()\n"
    # Slower than whoever waits for it asks again.
    body += LOOP.replace("    if not", "    time.sleep(0.3)\n    assert os.getcwd() == here\n    if not")
    run = function_of(tmp_path, f"import time\n{body}")
    while not run.done:
        if run.advance() is not None and run.steps < 5:
            time.sleep(0.1)
            assert os.getcwd() == before
    assert [point["val"] for point in run.curve] == WHOLE
    assert os.getcwd() == before
    run.close()


def test_a_function_finds_its_variables_and_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_BEFORE", "before")
    body = "assert (os.environ['OWN_GAMMA'], os.environ['OWN_BEFORE']) == ('0.5', 'mine')\n" + LOOP
    run = function_of(tmp_path, body, env={"OWN_GAMMA": "{gamma}", "OWN_BEFORE": "mine"})
    assert finish(run) == WHOLE
    assert "OWN_GAMMA" not in os.environ
    assert os.environ["OWN_BEFORE"] == "before"
    run.close()


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)", "exit_(0)"])
def test_a_function_that_ends_its_process_ends_its_run(leave: str, tmp_path: Path) -> None:
    line = words(function_of(tmp_path, f"from os import _exit as exit_\nrun.report(0, val=0)\n{leave}\n"))
    assert "ended after 1 of 5 steps with exit status 0" in line


def test_a_child_of_a_function_may_end_its_process(tmp_path: Path) -> None:
    body = (
        "child = os.fork()\nif not child: os._exit(7)\nassert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7\n"
    )
    run = function_of(tmp_path, body + LOOP)
    assert finish(run) == WHOLE
    run.close()


def test_the_last_words_of_a_function_are_told(tmp_path: Path) -> None:
    assert "exit status 1 after 1 of 5 steps: so sorry" in words(
        function_of(tmp_path, "run.report(0, val=0)\nsys.exit('so sorry')\n")
    )


def test_a_script_starts_another_that_reports(tmp_path: Path) -> None:
    body = "import subprocess, sys\nsubprocess.run([sys.executable, 'inner.py'], check=True)\n"
    run = start(trainer_of(tmp_path, body, files={"inner.py": HEAD + LOOP}), tmp_path / "run")
    assert finish(run) == WHOLE
    run.close()
