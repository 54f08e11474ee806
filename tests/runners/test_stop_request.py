"""A stop that is asked for reaches every runner without a signal, and SIGTERM asks for one where it can be heard."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from test_runner_contract import CONFIG, Events, MakeRunner, Tasks, cluster, dataset, make_runner, task  # noqa: F401

from tune_bn.errors import Interrupted
from tune_bn.runners.base import Task
from tune_bn.runners.cluster_share import ClusterShare
from tune_bn.stop_request import StopRequest, unblock_signals

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


@pytest.mark.usefixtures("deaf")
def test_a_runner_stops_at_a_request_without_a_signal(make_runner: MakeRunner) -> None:  # noqa: F811
    long = replace(CONFIG, train=replace(CONFIG.train, epochs=100_000))
    feed, runner = Tasks(task(0), task(1, config=long)), make_runner()

    def ask(running: Task) -> None:
        if running.trial == 1 and task(0).key in feed.results:
            threading.Timer(0.1, runner.stop.ask).start()

    events = Events(ask)
    with pytest.raises(Interrupted):
        runner.run(feed, events)
    assert list(feed.results) == [task(0).key]
    assert events.killed == [task(1).key]
    # What was asked for holds for the stages to come.
    later = Tasks(task(2))
    with pytest.raises(Interrupted):
        runner.run(later, Events())
    assert later.results == {}


def test_a_study_that_waits_for_its_turn_stops_too(monkeypatch: pytest.MonkeyPatch) -> None:
    share, stop = ClusterShare(cpu=1, gpu=0), StopRequest()
    monkeypatch.setattr(ClusterShare, "own", 0)
    monkeypatch.setattr(ClusterShare, "my_turn", lambda self: stop.ask() or False)
    with pytest.raises(Interrupted):
        share.await_turn(stop.check)


def test_sigterm_asks_where_a_loop_looks_and_interrupts_elsewhere_or_the_second_time() -> None:
    stop, before = StopRequest(), signal.getsignal(signal.SIGTERM)
    with stop.on_sigterm():
        with stop.watched():
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted), stop.watched():
            pytest.fail("a loop began although a stop was asked for")
    other = StopRequest()
    with other.on_sigterm(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert other.asked
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("deaf")
def test_signals_that_are_ignored_or_blocked_are_heard_again() -> None:
    stop = StopRequest()
    unblock_signals()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & STOPPING
    with stop.on_sigterm(), stop.watched():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked
