"""A request to stop: who makes it, and who hears it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tune_bn.errors import Interrupted
from tune_bn.host.process import let_signals_in
from tune_bn.protocols.stop_request import StopRequest
from tune_bn.runners.ray.share import ClusterShare

STOPPING = {signal.SIGINT, signal.SIGTERM}


@pytest.fixture
def deaf() -> Iterator[None]:
    """The signals that stop a process are blocked and ignored, as in a job of Ray's or below `nohup`."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def test_a_study_that_waits_for_its_turn_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    share, stop = ClusterShare(cpu=1, gpu=0), StopRequest()
    monkeypatch.setattr(ClusterShare, "may_begin", lambda self, holds: stop.ask() or False)
    with pytest.raises(Interrupted):
        share.await_turn(stop.check)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_asks_where_a_loop_looks_and_interrupts_elsewhere(name: str) -> None:
    number = signal.Signals[name]
    stop, before = StopRequest(), signal.getsignal(number)
    reason = "interrupted" if name == "SIGINT" else f"interrupted by {name}"
    with stop.on_signals():
        with stop.watched():
            os.kill(os.getpid(), number)
            assert stop.reason.partition(":")[0] == reason
        with pytest.raises(Interrupted, match=reason), stop.watched():
            pytest.fail("a loop began although a stop was asked for")
    other = StopRequest()
    with other.on_signals(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert other.asked
    assert signal.getsignal(number) == before


def test_a_person_may_lose_patience_and_what_repeats_itself_disturbs_no_clean_end() -> None:
    stop = StopRequest()
    with stop.on_signals(), stop.watched():
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.reason == "interrupted by SIGHUP"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    # While what was interrupted cleans up, nobody looks any more.
    other = StopRequest()
    with other.on_signals():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
def test_what_is_to_be_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.on_signals(), stop.watched():
            stop.listen()
            os.kill(os.getpid(), number)
        assert not stop.asked
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_signals_that_a_library_took_are_heard_again() -> None:
    stop = StopRequest()
    with stop.on_signals():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda *_: pytest.fail("not ours"))
        stop.listen()
        with stop.watched():
            os.kill(os.getpid(), signal.SIGUSR1)
    assert stop.asked
    with StopRequest().watched():
        pass


@pytest.mark.usefixtures("deaf")
def test_signals_that_are_ignored_or_blocked_are_heard_again() -> None:
    stop = StopRequest()
    let_signals_in()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    with stop.on_signals(), stop.watched():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked


def test_a_limit_on_time_that_was_heard_of_does_not_end_the_process_afterwards() -> None:
    program = """
import resource, sys, time
from tune_bn.protocols.stop_request import StopRequest
resource.setrlimit(resource.RLIMIT_CPU, (1, 100))
stop = StopRequest()
with stop.on_signals(), stop.watched():
    while not stop.asked:
        pass
print(stop.reason, resource.getrlimit(resource.RLIMIT_CPU))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done
    assert done.stdout.startswith("interrupted by SIGXCPU: ")
    assert done.stdout.endswith(" (100, 100)\n")
