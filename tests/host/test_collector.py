"""A process that ends quickly does all that is to be done at its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENDS = """
import atexit, os, sys
from tune_bn.host.collector import QuickEnd, collect_seldom
end = QuickEnd()
collect_seldom()

class Late:
    def __del__(self):
        print("taken apart", flush=True)

sys.late = Late()
atexit.register(print, "last words")
{fork}
print("without a line end", end="")
{end}
"""


def ended(end: str, fork: str = "") -> subprocess.CompletedProcess[str]:
    code = ENDS.format(end=end, fork=fork)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("status", [0, 3])
def test_what_is_registered_is_done_and_what_is_printed_comes(status: int) -> None:
    done = ended(f"end.status = {status}; sys.exit({status})")
    assert (done.returncode, done.stdout, done.stderr) == (status, "without a line endlast words\n", "")


def test_an_error_that_nobody_expected_ends_as_ever() -> None:
    done = ended("raise RuntimeError('unheard of')")
    assert done.returncode == 1
    assert "RuntimeError: unheard of" in done.stderr
    assert "last words" in done.stdout


def test_a_fork_has_its_own_end_and_status() -> None:
    fork = (
        "end.status = 0\nif os.fork() == 0:\n    sys.exit(5)\nprint('child', os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    done = ended("sys.exit(0)", fork)
    assert done.returncode == 0
    assert "child 5" in done.stdout
